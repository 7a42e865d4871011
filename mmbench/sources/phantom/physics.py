"""What a Dixon scan shows of tissue fractions: proton densities, relaxation and fat spectrum to images.

A tissue's complex signal at echo time TE, field map known, is (W + F c(TE)) exp(-TE / T2*), where W and F are
its water and fat under a spoiled gradient echo and c(TE) is the phasor of the six-peak fat spectrum. Tissues mix
in a voxel as complex numbers, so that water and fat cancel at their border in the opposed-phase image; water
and fat images come out of the two echoes as on a scanner, with the noise that this takes along.

Signals are relative to subcutaneous fat in phase, which is 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mmbench.cohort import Geometry

from .artefacts import Artefacts, Shot
from .artefacts import draw as draw_artefacts

CHANNELS = ("water", "fat", "in", "opposed", "t1")
"""Images that can be asked for: Dixon water and fat, the in-phase and opposed-phase echo, and a T1-weighted
breath-hold gradient echo in phase."""


@dataclass(frozen=True)
class Protocol:
    """A dual-echo spoiled gradient echo.

    Attributes:
        field_t: Field strength in tesla, 1.5 or 3.
        tr_ms: Repetition time.
        echoes_ms: Echo times, opposed phase and in phase.
        flip_deg: Flip angle in degrees.
    """

    field_t: float
    tr_ms: float
    echoes_ms: tuple[float, float]
    flip_deg: float

    @property
    def t1_weighted(self) -> Protocol:
        """The T1-weighted breath-hold gradient echo of the abdomen at the same field and echo times."""
        return replace(self, tr_ms=150.0, flip_deg=70.0)  # two-dimensional FLASH as in clinical practice


PROTOCOLS = {
    # Axial VIBE Dixon of the German National Cohort and neck-to-knee Dixon of UK Biobank.
    "nako": Protocol(field_t=3.0, tr_ms=4.36, echoes_ms=(1.23, 2.46), flip_deg=9.0),
    "ukb": Protocol(field_t=1.5, tr_ms=6.69, echoes_ms=(2.39, 4.77), flip_deg=10.0),
}
"""Protocols by the name of the study."""


@dataclass(frozen=True)
class Tissue:
    """What the signal of a tissue depends on, at 3 T.

    Attributes:
        density: Proton density relative to subcutaneous fat's.
        t1_ms: T1 of its water.
        t2star_ms: T2* of all of it.
        fat_fraction: Share of its proton density that is fat.
    """

    density: float
    t1_ms: float
    t2star_ms: float
    fat_fraction: float = 0.0


# T1: de Bazelaire et al. 2004 (Radiology 230), 3 T; blood and heart: Stanisz et al. 2005 (Magn Reson Med 54).
# Water in fat and marrow, of which they measured the whole, has muscle's T1. Chosen: proton densities, T2*, the
# fat fractions of pancreas and bowel, and T1 of bowel, bone, disc and fluid; bowel contents shine by their short T1.
TISSUES = {
    "subcutaneous": Tissue(1.00, 898, 30, 0.92),
    "visceral": Tissue(0.98, 898, 30, 0.88),
    "muscle": Tissue(0.82, 898, 28, 0.07),
    "liver": Tissue(0.79, 809, 20, 0.03),
    "spleen": Tissue(0.84, 1328, 35),
    "kidney": Tissue(0.87, 1142, 44),
    "pancreas": Tissue(0.82, 725, 30, 0.08),
    "bowel": Tissue(0.80, 900, 28, 0.02),
    "contents": Tissue(0.85, 750, 25),
    "fluid": Tissue(1.00, 3800, 500),
    "marrow": Tissue(0.62, 898, 13, 0.40),
    "disc": Tissue(0.80, 1200, 30),
    "heart": Tissue(0.82, 1471, 33),
    "blood": Tissue(0.98, 1932, 60),
    "lung": Tissue(0.20, 1300, 1.05),
    "bone": Tissue(0.20, 250, 0.5),
    "gas": Tissue(0.0, 1300, 1.0),
    "other_fat": Tissue(0.98, 898, 30, 0.88),
}
"""Every tissue that an anatomy may hold."""

FAT_T1_MS = 382.0  # de Bazelaire 2004: subcutaneous fat at 3 T
T1_RATIO = 1.21  # T1 at 3 T is 21 % longer than at 1.5 T: de Bazelaire 2004
T2STAR_RATIO = 1.6  # T2* at 1.5 T against 3 T: chosen; susceptibility's part of R2* is halved

# Hamilton et al. 2011 (NMR Biomed 24), table 1: shift in ppm and share of each peak of triglycerides.
FAT_PEAKS = np.array([(0.9, 0.0875), (1.3, 0.7001), (2.1, 0.1204), (2.75, 0.006), (4.2, 0.039), (5.3, 0.047)])
WATER_PPM = 4.7
GAMMA_MHZ_T = 42.577  # of the proton


def fat_phasors(protocol: Protocol) -> np.ndarray:
    """Return the six-peak fat spectrum's signal relative to water's at each echo, complex of shape (2,)."""
    shift_khz = GAMMA_MHZ_T * protocol.field_t * (FAT_PEAKS[:, 0] - WATER_PPM) * 1e-3
    return np.exp(2j * np.pi * np.outer(protocol.echoes_ms, shift_khz)) @ FAT_PEAKS[:, 1]


def spoiled_echo(protocol: Protocol, t1_ms: np.ndarray | float) -> np.ndarray | float:
    """Return the steady-state signal of a spoiled gradient echo (Ernst and Anderson 1966), without T2*."""
    flip = np.deg2rad(protocol.flip_deg)
    relaxed = np.exp(-protocol.tr_ms / t1_ms)
    return np.sin(flip) * (1 - relaxed) / (1 - np.cos(flip) * relaxed)


def tissue_signals(
    names: Sequence[str], protocol: Protocol, fat_fractions: Mapping[str, float] | None = None
) -> np.ndarray:
    """Return the water and the fat signal of tissues at the opposed-phase and the in-phase echo.

    Args:
        names: Tissues, of :data:`TISSUES`.
        protocol: How they are scanned.
        fat_fractions: Proton density fat fractions in [0, 1] that replace those of :data:`TISSUES`.

    Returns:
        float64 of shape (2 echoes, water and fat, tissues), relative to subcutaneous fat in phase.
    """
    signals = _raw_signals(names, protocol, fat_fractions or {})
    water, fat = _raw_signals(["subcutaneous"], protocol, {})[1, :, 0]
    return signals / abs(water + fat * fat_phasors(protocol)[1])


def _raw_signals(names: Sequence[str], protocol: Protocol, fat_fractions: Mapping[str, float]) -> np.ndarray:
    tissues = [TISSUES[name] for name in names]
    density, t1, t2star = np.array([(one.density, one.t1_ms, one.t2star_ms) for one in tissues]).T
    fat = np.array(
        [fat_fractions.get(name, one.fat_fraction) for name, one in zip(names, tissues, strict=True)]
    )
    t1, fat_t1 = (value if protocol.field_t == 3 else value / T1_RATIO for value in (t1, FAT_T1_MS))
    steady = density * np.stack(
        [(1 - fat) * spoiled_echo(protocol, t1), fat * spoiled_echo(protocol, fat_t1)]
    )
    decay = np.exp(-np.array(protocol.echoes_ms)[:, None] / _t2star(protocol, t2star))
    return decay[:, None] * steady


def _t2star(protocol: Protocol, at_3_t: np.ndarray | float) -> np.ndarray | float:
    return at_3_t if protocol.field_t == 3 else at_3_t * T2STAR_RATIO


def separate(opposed: np.ndarray, in_phase: np.ndarray, protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
    """Return complex water and fat from two echoes: two-point Dixon with the field map known.

    The two equations S = W + F c(TE) are solved for each voxel with all six peaks of fat. Two echoes do not show
    T2*: the one of fat is assumed everywhere, so that what decays faster between them seems to hold a little less
    fat than it does, as on a scanner.

    Args:
        opposed: Complex image at the first echo.
        in_phase: Complex image at the second.
        protocol: How they were scanned.
    """
    first, second = fat_phasors(protocol)
    early, late = np.exp(-np.array(protocol.echoes_ms) / _t2star(protocol, TISSUES["subcutaneous"].t2star_ms))
    # opposed * late / early = W + F first; in_phase = W + F second.
    fat = in_phase * np.complex64(1 / (second - first))
    fat -= opposed * np.complex64(late / early / (second - first))
    return in_phase - np.complex64(second) * fat, fat


@dataclass(frozen=True)
class Scanner:
    """Makes images of tissue fractions.

    Attributes:
        geometry: Grid and channels of the volumes; channels are of :data:`CHANNELS`.
        protocol: How it scans.
        artefacts: What goes wrong.
    """

    geometry: Geometry
    protocol: Protocol
    artefacts: Artefacts

    def scan(
        self,
        names: Sequence[str],
        shares: np.ndarray,
        fat_fractions: Mapping[str, float],
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, float]:
        """Return the images of one subject.

        Args:
            names: Tissues.
            shares: Their share of each voxel, float32 of shape (tissues, x, y, z).
            fat_fractions: Fat fractions of the subject's tissues, where they are its own.
            rng: Draws artefacts and noise, from streams of its own for each.

        Returns:
            The volume, float32 of shape (channels, x, y, z), non-negative, and the share of its slices in which
            water and fat are swapped.
        """
        lungs = shares[names.index("lung")]
        spine = shares[names.index("marrow")]
        shot = draw_artefacts(self.artefacts, self.geometry.spacing, lungs, spine, rng)
        signals = tissue_signals(names, self.protocol, fat_fractions)
        phasors = fat_phasors(self.protocol)
        images: dict[str, np.ndarray] = {}
        channels = self.geometry.channels
        wanted = set(channels)
        dixon = bool(wanted & {"water", "fat"})
        if dixon or "opposed" in wanted:
            images["opposed"] = _echo(shares, signals[0], phasors[0], shot, 0)
        if dixon or "in" in wanted:
            images["in"] = _echo(shares, signals[1], phasors[1], shot, 1)
        if dixon:
            images["water"], images["fat"] = separate(images["opposed"], images["in"], self.protocol)
            shot.swap(images["water"], images["fat"])
        if "t1" in wanted:
            weighted = tissue_signals(names, self.protocol.t1_weighted, fat_fractions)[1]
            images["t1"] = _echo(shares, weighted, phasors[1], shot, 2)
        volume = np.empty(self.geometry.full_shape, np.float32)
        for image, name in zip(volume, channels, strict=True):
            np.abs(images[name], out=image)
        return volume, float(shot.swapped.mean()) if dixon else 0.0


def _echo(
    shares: np.ndarray, signals: np.ndarray, phasor: complex, shot: Shot, acquisition: int
) -> np.ndarray:
    """Return one complex image, complex64 of shape (x, y, z); ``signals`` is water and fat of each tissue."""
    water, fat = (_mixed(shares, row) for row in signals.astype(np.float32))
    image = np.empty(water.shape, np.complex64)
    np.add(water, np.float32(phasor.real) * fat, out=image.real)
    np.multiply(fat, np.float32(phasor.imag), out=image.imag)
    return shot.spoil(image, acquisition)


def _mixed(shares: np.ndarray, signals: np.ndarray) -> np.ndarray:
    """Return the mean signal of each voxel."""
    image, part = np.zeros(shares.shape[1:], np.float32), np.empty(shares.shape[1:], np.float32)
    # Summed one by one: a matrix product would round differently on another machine's BLAS.
    for share, signal in zip(shares, signals, strict=True):
        if signal:
            np.multiply(share, signal, out=part)
            image += part
    return image
