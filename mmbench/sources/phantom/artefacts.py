"""What goes wrong on a scanner: coil shading, slab steps, breathing, noise, and water taken for fat.

Every artefact is drawn from a stream of its own, so that switching one off leaves the others as they were; all
are laid out over the field of view in millimetres, so that they do not depend on the voxels' size. The strengths
are chosen to look like the images of large studies; no measured distribution of them was found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import erf

SLABS = 4  # acquired from neck to hip and stitched
BLEND_MM = 30.0  # overlap of two slabs, over which one fades into the other
WHOLE_SWAP = 0.25  # share of swaps that strike all slabs; otherwise it is one of them


@dataclass(frozen=True)
class Artefacts:
    """How strong the artefacts are; 0 switches one off.

    Attributes:
        noise: Median over subjects of the standard deviation of the real and of the imaginary part of each
            echo, relative to subcutaneous fat in phase. A subject's lies within 0.6 to 1.6 times this.
        bias_field: Expected standard deviation over the field of view of the logarithm of the receive gain.
            The gain also falls off towards the right, left, upper and lower end, at the last by twice this.
        slab_steps: Mean relative step of the gain between two slabs; a step lies within 0.55 to 1.45 times it.
        breathing: Mean over subjects of the standard deviation in millimetres by which what moves with the
            diaphragm is blurred along z. A subject's lies within two thirds to four thirds of this.
        swap: Probability that water and fat are swapped in a slab or in all slabs.
    """

    noise: float = 0.04  # signal-to-noise ratios of 15 to 40 in subcutaneous fat
    bias_field: float = 0.15
    slab_steps: float = 0.055  # steps of 3 to 8 %
    breathing: float = 7.5  # 5 to 10 mm
    swap: float = (
        0.018  # of participants of UK Biobank after correction: Langner et al. 2020, arXiv 2007.01251
    )


@dataclass(frozen=True)
class Shot:
    """The artefacts of one subject's scan.

    Attributes:
        gain: Factors of the receive gain that broadcast over (x, y, z).
        moving: Share to which each row and slice moves with breath, float32 of shape (y, z).
        kernel: Weights with which moving tissue spreads over slices, of odd length.
        noise: Standard deviation of the real and of the imaginary part.
        noises: Draw the noise of each acquisition.
        swapped: Slices in which water and fat are swapped, bool of shape (z,).
    """

    gain: tuple[np.ndarray, ...]
    moving: np.ndarray
    kernel: np.ndarray
    noise: float
    noises: tuple[np.random.Generator, ...]
    swapped: np.ndarray

    def spoil(self, image: np.ndarray, acquisition: int) -> np.ndarray:
        """Blur, shade and add noise to a complex image of shape (x, y, z), in place, and return it."""
        if len(self.kernel) > 1:
            _breathe(image, self.moving, self.kernel)
        for factor in self.gain:
            image *= factor
        if self.noise:
            parts = image.view(np.float32)
            noise = self.noises[acquisition].standard_normal(parts.shape, np.float32)
            noise *= np.float32(self.noise)
            parts += noise
        return image

    def swap(self, water: np.ndarray, fat: np.ndarray) -> None:
        """Exchange two images, in place, in the slices where they are swapped."""
        if self.swapped.any():
            kept = water[..., self.swapped]
            water[..., self.swapped] = fat[..., self.swapped]
            fat[..., self.swapped] = kept


def draw(
    artefacts: Artefacts,
    spacing: tuple[float, float, float],
    lungs: np.ndarray,
    spine: np.ndarray,
    rng: np.random.Generator,
) -> Shot:
    """Draw the artefacts of one scan.

    Args:
        artefacts: How strong they are.
        spacing: Voxel spacing in millimetres.
        lungs: Share of each voxel that is lung, shape (x, y, z): what lies at its base moves.
        spine: Share of each voxel that is marrow: what lies behind it does not.
        rng: Is split into a stream for each artefact.
    """
    streams = rng.spawn(8)
    shading, steps, breath, strength, swaps = streams[:5]
    gain: list[np.ndarray] = []
    if artefacts.bias_field:
        gain += _shading(lungs.shape, spacing, artefacts.bias_field, shading)
    if artefacts.slab_steps:
        gain.append(_slab_gain(lungs.shape[2], spacing[2], artefacts.slab_steps, steps))
    blur = artefacts.breathing * breath.uniform(2 / 3, 4 / 3)
    moving = np.zeros(lungs.shape[1:], np.float32)
    kernel = np.ones(1, np.float32)
    if blur and lungs.any():
        moving, kernel = _moving(lungs, spine, spacing), _spread(blur / spacing[2])
    slab = _slab_of(lungs.shape[2])
    struck = swaps.uniform() < artefacts.swap
    everywhere, which = swaps.uniform() < WHOLE_SWAP, int(swaps.integers(SLABS))
    return Shot(
        gain=tuple(gain),
        moving=moving,
        kernel=kernel,
        noise=artefacts.noise * float(np.exp(strength.uniform(-0.49, 0.49))),
        noises=tuple(streams[5:]),
        swapped=np.full(slab.shape, struck) & (everywhere | (slab == which)),
    )


def _slab_of(slices: int) -> np.ndarray:
    """Return the slab that each slice belongs to, from the feet up."""
    return np.arange(slices) * SLABS // slices


def _shading(
    shape: tuple[int, ...], spacing: tuple[float, float, float], strength: float, rng: np.random.Generator
) -> list[np.ndarray]:
    """Return factors of a smooth gain around 1: the exponential of a random quadratic, and its fall-off.

    The polynomial's cross terms are the reason for three factors, each over one plane: no exponential is taken
    of the full grid.
    """
    x, y, z = ((2 * np.arange(n) + 1) / n - 1 for n in shape)
    linear, square, cross = (
        rng.standard_normal((3, 3)) * strength / np.sqrt(1.6)
    )  # the terms' summed variance
    plane_xy = np.add.outer(linear[0] * x + square[0] * (x**2 - 1 / 3), linear[1] * y) + cross[0] * np.outer(
        x, y
    )
    plane_yz = np.add.outer(square[1] * (y**2 - 1 / 3), linear[2] * z) + cross[1] * np.outer(y, z)
    plane_xz = np.add.outer(0 * x, square[2] * (z**2 - 1 / 3)) + cross[2] * np.outer(x, z)
    edges = np.outer(
        _fall_off(shape[0], spacing[0], 60.0, 1.5 * strength * rng.uniform(0.5, 1.5, 2)),
        _fall_off(shape[2], spacing[2], 80.0, 2.0 * strength * rng.uniform(0.5, 1.5, 2)),
    )
    planes = np.exp(plane_xy)[:, :, None], np.exp(plane_yz)[None], (np.exp(plane_xz) * edges)[:, None]
    return [plane.astype(np.float32) for plane in planes]


def _fall_off(n: int, spacing: float, reach_mm: float, loss: np.ndarray) -> np.ndarray:
    """Return a gain along an axis that loses up to ``loss`` (at its low and high end) over the last millimetres."""
    inside = (np.arange(n) + 0.5) * spacing
    gain = np.ones(n)
    for distance, lost in zip((inside, inside[::-1]), np.minimum(loss, 0.8), strict=True):
        near = np.clip(1 - distance / reach_mm, 0, 1)
        gain *= 1 - lost * near**2 * (3 - 2 * near)
    return gain


def _slab_gain(slices: int, thickness: float, step: float, rng: np.random.Generator) -> np.ndarray:
    """Return the gain of each slice: constant in a slab, a step between two, blended over their overlap."""
    steps = step * rng.uniform(0.55, 1.45, SLABS - 1) * rng.choice((-1, 1), SLABS - 1)
    levels = np.concatenate([[0.0], np.cumsum(np.log1p(steps))])
    levels -= levels.mean()
    borders = np.arange(1, SLABS) * slices * thickness / SLABS
    at = (borders[:, None] + [-BLEND_MM / 2, BLEND_MM / 2]).ravel()
    # A thick slice sees the mean over its thickness.
    fine = (np.arange(8 * slices) + 0.5) * thickness / 8
    gain = np.exp(np.interp(fine, at, np.repeat(levels, 2)[1:-1])).reshape(slices, 8).mean(axis=1)
    return gain.astype(np.float32)


def _moving(lungs: np.ndarray, spine: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Return to which share each row and slice moves: most where the lungs end, not at the spine's depth."""
    cumulated = np.cumsum(lungs.sum(axis=(0, 1), dtype=float))
    heights = (np.arange(lungs.shape[2]) + 0.5) * spacing[2]
    dome = np.interp(0.1 * cumulated[-1], cumulated, heights)
    along_z = np.exp(-(((heights - dome) / 70.0) ** 2))
    along_z[along_z < 0.02] = 0
    at_dome = spine[..., along_z > 0.5].sum(axis=(0, 2), dtype=float)
    depths = np.arange(lungs.shape[1]) * spacing[1]
    behind = float(at_dome @ depths / at_dome.sum()) if at_dome.any() else -np.inf
    along_y = np.clip((depths - behind - 20.0) / 50.0, 0, 1)
    return np.outer(along_y, along_z).astype(np.float32)


def _spread(sigma: float) -> np.ndarray:
    """Return how a voxel's tissue spreads over slices when it moves by a Gaussian of ``sigma`` slices.

    This is the Gaussian convolved with the slice's own box and integrated over each slice, which holds for slices
    far thicker than the movement too.
    """
    reach = int(np.ceil(3 * sigma + 0.5))
    edges = np.arange(-reach - 1, reach + 2)

    # Second integral of the Gaussian; its second difference is the box convolved with it, integrated.
    twice = edges / 2 * (1 + erf(edges / (sigma * np.sqrt(2))))
    twice = twice + sigma / np.sqrt(2 * np.pi) * np.exp(-(edges**2) / (2 * sigma**2))
    kernel = twice[2:] - 2 * twice[1:-1] + twice[:-2]
    return (kernel / kernel.sum()).astype(np.float32)


def _breathe(image: np.ndarray, moving: np.ndarray, kernel: np.ndarray) -> None:
    """Blur an image along z where it moves, in place; the field of view's end slices repeat beyond it."""
    slices = np.flatnonzero(moving.any(axis=0))
    rows = np.flatnonzero(moving.any(axis=1))
    if not slices.size:
        return
    low, high, back = slices[0], slices[-1] + 1, rows[0]
    reach = len(kernel) // 2
    needed = np.clip(np.arange(low - reach, high + reach), 0, image.shape[2] - 1)
    source = image[:, back:, needed]
    window = image[:, back:, low:high]
    change = -window
    for shift, weight in enumerate(kernel):
        change += weight * source[..., shift : shift + high - low]
    change *= moving[back:, low:high]
    window += change
