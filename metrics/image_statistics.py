"""First- and second-order statistics of voxels: distribution of intensities and power spectrum."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import fft

from mmbench.api import VOLUME, Card, Evidence, Metric, NotMeasurable, Output, Score, Trial, param, stats

from ._foreground import foreground, other_grid, usable
from ._scores import too_few, undefined

MIN_RECORDS = 4
_FLOOR = 1e-12  # relative power at which the rounding of float32 voxels begins to show
_DECIBELS = 10.0  # a bel is a factor of ten in power
_LOST = -20.0  # decibels below the real mean, far beyond what real subjects differ by


@dataclass
class ImageStatistics(Metric):
    """Distances of mean log power spectra and of mean intensity quantiles, neither with a feature extractor.

    Every subject is one curve a channel: its radially averaged power spectrum in decibels, its total power
    set to one, over spatial frequency in cycles per millimetre; or the quantiles of its foreground. For either
    curve the distance is the root mean square difference of the two samples' mean curves, over frequencies or
    quantile levels and over channels. The square of the difference is estimated without bias: see
    :func:`squared_gap`. That estimate is 0 in expectation for equal laws and negative as often as not; its
    root keeps the sign.

    In decibels a blur that takes a share of the power at a frequency counts as much as noise that adds the
    inverse share, and every frequency as much as any other, up to the corner of the spectrum where
    checkerboards live. No subject's power counts as less than a hundredth of the real mean: a frequency of
    which 99 % are lost is lost, and a strong blur is not infinitely worse than noise.

    The distance of mean quantile curves is the 2-Wasserstein distance between the barycentres of the subjects'
    distributions (on a line the mean quantile curve is the barycentre), in units of the standard deviation of
    the real foreground.
    """

    levels: int = param(64, "quantile levels of an intensity distribution", minimum=8, maximum=1024)

    card = Card(
        "Distances of mean log power spectra and of mean intensity distributions.",
        "log spectral distance: Gray, Markel 1976, Distance Measures for Speech Processing (IEEE Trans ASSP "
        "24); radial spectra of generated images: Durall, Keuper, Keuper 2020 (CVPR); quantile barycentre: "
        "Agueh, Carlier 2011 (SIAM J Math Anal 43); unbiased square and its variance: Chen, Qin 2010 (Ann "
        "Stat 38), sections 2 and 3; "
        "foreground: Otsu 1979",
    )
    version = 2
    kind = "fidelity"
    needs = VOLUME
    null = "noise"
    outputs = (
        Output(
            "power-spectrum",
            "Power spectrum distance",
            "Root mean square difference of mean log power over spatial frequencies: blur, noise, grid patterns.",
            "Where in the volume something is, its direction, overall gain, slow bias fields, and differences "
            "between subjects that leave the mean log spectrum as it is.",
            "lower",
            0.0,
            "dB",
            range=(-math.inf, math.inf),
        ),
        Output(
            "intensity-histogram",
            "Intensity distribution distance",
            "Distance of the mean quantile curves of foreground intensities, in standard deviations of the "
            "real foreground.",
            "Where in the volume an intensity is, the background, the size of the body, and differences between "
            "subjects that leave the mean quantiles as they are.",
            "lower",
            0.0,
        ),
    )

    def scores(self, trial: Trial) -> Iterable[Score]:
        if reason := too_few(trial, MIN_RECORDS) or other_grid(trial.reference, trial.synthetic):
            return undefined(self.outputs, reason)
        geometry = trial.reference.cohort.images.geometry
        shells = Shells.of(geometry.shape, geometry.spacing)
        try:
            real, synthetic = (
                _curves(side, shells, self.levels) for side in (trial.reference, trial.synthetic)
            )
        except NotMeasurable as error:
            return undefined(self.outputs, str(error))
        centre = real[0].mean(axis=0)
        log_power = [np.maximum(side[0] - centre, _LOST) for side in (real, synthetic)]
        # The spread over voxels of all subjects alike, as every subject has as many quantiles.
        spread = real[1].std(axis=(0, 2))[:, None]
        if not (spread > 0).all():
            return undefined(self.outputs, "the foreground of the reference has one intensity throughout")
        pairs = (log_power, (real[1] / spread, synthetic[1] / spread))
        results = []
        for output, (x, y) in zip(self.outputs, pairs, strict=True):
            results.append(Score.of(output.name, _distance(x, y)))
            for k, channel in enumerate(geometry.channels):
                gap = squared_gap(x[:, k], y[:, k])
                results.append(Score(output.name, _signed_root(gap), item=channel))
        upper = shells.frequencies >= shells.frequencies[-1] / 2
        excess = (log_power[1].mean(axis=0) - log_power[0].mean(axis=0))[:, upper].mean()
        results.append(Score("power-spectrum", float(excess), item="upper half, synthetic minus real"))
        return results


@dataclass(frozen=True)
class Shells:
    """Shells of equal spatial frequency in the Fourier transform of a real volume.

    Attributes:
        frequencies: Middle of each shell in cycles per millimetre, rising, shape (shells,); none is empty and
            the constant term belongs to none.
        members: Shell of each coefficient of the half transform, flat, shape (coefficients,); one past the
            last for the constant term.
        weights: How many coefficients of the full transform each one stands for, shape (coefficients,).
    """

    frequencies: np.ndarray
    members: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, shape: Sequence[int], spacing: Sequence[float]) -> Shells:
        """Return the shells of a grid, as wide as the finest step of frequency among its axes.

        They reach to the corner of the spectrum, beyond the highest frequency along an axis.

        Args:
            shape: Voxels along x, y, z.
            spacing: Voxel spacing in millimetres.
        """
        x, y = (fft.fftfreq(side, step) for side, step in zip(shape[:2], spacing[:2], strict=True))
        z = fft.rfftfreq(shape[2], spacing[2])
        radius = np.sqrt(x[:, None, None] ** 2 + y[:, None] ** 2 + z**2).ravel()
        width = 1 / max(side * step for side, step in zip(shape, spacing, strict=True))
        numbers = np.floor(radius / width + 0.5).astype(int)
        numbers[0] = numbers.max() + 1
        present, members = np.unique(numbers, return_inverse=True)
        twice = np.full(len(z), 2.0)
        twice[0] = 1
        if shape[2] % 2 == 0:
            twice[-1] = 1
        return cls(present[:-1] * width, members, np.tile(twice, len(x) * len(y)))

    def power(self, image: np.ndarray) -> np.ndarray:
        """Return the mean power of each shell over that of all coefficients but the constant one.

        Args:
            image: Array of the grid's shape that is not constant, without large values in float32.
        """
        transform = fft.rfftn(image).ravel()
        power = (transform.real**2 + transform.imag**2) * self.weights
        # The last entry of both sums is the constant term.
        total = np.bincount(self.members, power)[:-1]
        count = np.bincount(self.members, self.weights)[:-1]
        return np.asarray((total / count) / (total.sum() / count.sum()))


def _distance(x: np.ndarray, y: np.ndarray) -> stats.Estimate:
    x, y = (curves.reshape(len(curves), -1) for curves in (x, y))
    value = squared_gap(x, y)
    # The root rises with its argument: it takes the interval of the square to that of the distance.
    low, high = map(_signed_root, stats.score_interval(value, *gap_variance(x, y)))
    return stats.Estimate(_signed_root(value), low, high, "score interval of the U-statistic")


def squared_gap(x: np.ndarray, y: np.ndarray) -> float:
    """Return an unbiased estimate of the mean over entries of the squared difference of two mean vectors.

    The plug-in |mean(x) - mean(y)|^2 is too large by the variance of both means in expectation, the sum over
    entries of s_x^2 / n + s_y^2 / m, and that is taken off; the result is the U-statistic of Chen and Qin 2010
    (Annals of Statistics 38, section 2).

    Args:
        x: Sample of shape (n, d), n at least 2.
        y: Sample of shape (m, d), m at least 2.
    """
    noise = x.var(axis=0, ddof=1) / len(x) + y.var(axis=0, ddof=1) / len(y)
    return float(np.mean((x.mean(axis=0) - y.mean(axis=0)) ** 2 - noise))


def gap_variance(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Return the variance of :func:`squared_gap`: its slope over the gap, and what it is between equal laws.

    With S the covariance matrices, u the difference of the means and d the entries, it is

        [4 u'(S_x / n + S_y / m) u
            + 2 tr S_x^2 / (n (n - 1)) + 2 tr S_y^2 / (m (m - 1)) + 4 tr(S_x S_y) / (n m)] / d^2

    (Chen, Qin 2010, section 3). The first summand is proportional to the gap |u|^2 / d for one direction of u.
    Traces of squares are estimated without bias for Gaussian curves (Srivastava 2005, Journal of the Japan
    Statistical Society 35, equation 2.9).

    Args:
        x: Sample of shape (n, d), n at least 3.
        y: Sample of shape (m, d), m at least 3.
    """
    n, m, d = len(x), len(y), x.shape[1]
    difference = x.mean(axis=0) - y.mean(axis=0)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    squared = float(difference @ difference)
    along = 0.0
    if squared > 0:
        along = sum(float(((side @ difference) ** 2).sum()) / (k * (k - 1)) for side, k in ((x, n), (y, m)))
        along *= 4 / (squared * d)
    within = 2 * _squared_covariance(x) / (n * (n - 1)) + 2 * _squared_covariance(y) / (m * (m - 1))
    across = 4 * float(((x @ y.T) ** 2).sum()) / ((n - 1) * (m - 1)) / (n * m)
    return along, (within + across) / d**2


def _squared_covariance(centred: np.ndarray) -> float:
    """Return an estimate of the trace of the square of the covariance matrix."""
    n = len(centred)
    gram = centred @ centred.T / (n - 1)
    raw = float((gram**2).sum()) - float(np.trace(gram)) ** 2 / (n - 1)
    return max(raw, 0.0) * (n - 1) ** 2 / ((n - 2) * (n + 1))


def _curves(evidence: Evidence, shells: Shells, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return log spectra, shape (n, channels, shells), and quantiles, shape (n, channels, levels)."""
    spectra, quantiles = [], []
    middles = (np.arange(levels) + 0.5) / levels
    for volume in usable(evidence):
        inside = foreground(volume)
        values = np.sort(volume[:, inside], axis=1)
        quantiles.append(values[:, (middles * values.shape[1]).astype(int)].astype(float))
        peaks = np.abs(volume).max(axis=(1, 2, 3), keepdims=True)
        power = np.array([shells.power(image) for image in volume / peaks])
        spectra.append(_DECIBELS * np.log10(np.maximum(power, _FLOOR)))
    return np.array(spectra), np.array(quantiles)


def _signed_root(value: float) -> float:
    return float(np.sign(value) * np.sqrt(abs(value)))
