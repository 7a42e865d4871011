"""Structural similarity of volumes within a mask, and the coarse grid on which anatomy is compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_K1, _K2 = 0.01, 0.03  # Wang, Bovik, Sheikh, Simoncelli 2004, section III.B
_SIGMA, _REACH = 1.5, 5  # their window: 11 taps of a Gaussian
_LEAST_SIDE = 2 * _REACH + 1
_ALIKE = 1.5  # spacings within this factor of the finest are halved together


@dataclass(frozen=True)
class Moments:
    """One volume with its local moments.

    Attributes:
        image: The volume, float64 of shape (channels, x, y, z).
        mean: Local means at the window centres, shape (channels, windows).
        variance: Local variances likewise.
    """

    image: np.ndarray
    mean: np.ndarray
    variance: np.ndarray


class StructuralSimilarity:
    """SSIM between volumes of one grid, averaged over the windows centred in a mask and over channels.

    Wang, Bovik, Sheikh, Simoncelli 2004, equation 13, with their Gaussian window in three dimensions, cut off
    at the borders of the grid. Local moments are computed once a volume (:meth:`moments`) and shared by all
    pairs that it is part of.

    Args:
        mask: Where windows are centred, boolean of shape (x, y, z).
        data_range: Range of the intensities of each channel, shape (channels,).
    """

    def __init__(self, mask: np.ndarray, data_range: np.ndarray) -> None:
        span = np.asarray(data_range, dtype=float)[:, None]
        self._luminance, self._contrast = (_K1 * span) ** 2, (_K2 * span) ** 2
        self._windows = tuple(_windows(side) for side in mask.shape)
        self._mask = mask

    def moments(self, volume: np.ndarray) -> Moments:
        """Return a volume of shape (channels, x, y, z) with its local moments."""
        image = np.asarray(volume, dtype=float)
        mean = self._average(image)
        return Moments(image, mean, np.maximum(self._average(image * image) - mean**2, 0))

    def similarity(self, a: Moments, b: Moments) -> float:
        """Return the SSIM of two volumes, from -1 to 1, and 1 for identical ones."""
        means = a.mean * b.mean
        covariance = self._average(a.image * b.image) - means
        luminance = (2 * means + self._luminance) / (a.mean**2 + b.mean**2 + self._luminance)
        structure = (2 * covariance + self._contrast) / (a.variance + b.variance + self._contrast)
        return float((luminance * structure).mean())

    def _average(self, image: np.ndarray) -> np.ndarray:
        x, y, z = self._windows
        local = (x @ np.moveaxis(y @ (image @ z.T), 1, 2)).swapaxes(1, 2)
        return local[:, self._mask]


def halvings(shape: Sequence[int], spacing: Sequence[float]) -> list[tuple[int, ...]]:
    """Return the axes to halve, step by step, until an axis would get shorter than the window of SSIM.

    Every step halves the finest axes, so that thick slices are merged only once the others have come to their
    thickness.

    Args:
        shape: Voxels along x, y, z.
        spacing: Voxel spacing in millimetres.
    """
    sides, steps = np.array(shape), np.array(spacing, dtype=float)
    found: list[tuple[int, ...]] = []
    while True:
        finest = steps <= _ALIKE * steps.min()
        if (sides[finest] < 2 * _LEAST_SIDE).any():
            return found
        found.append(tuple(int(axis) for axis in np.flatnonzero(finest)))
        sides[finest] //= 2
        steps[finest] *= 2


def coarsened(image: np.ndarray, steps: Sequence[tuple[int, ...]]) -> np.ndarray:
    """Return means of neighbouring voxels, halving axes step by step; a last odd voxel is left out.

    Args:
        image: Array whose last three axes are x, y, z.
        steps: What :func:`halvings` returned.
    """
    for axes in steps:
        for axis in axes:
            image = np.moveaxis(image, axis - 3, -1)
            even = image.shape[-1] // 2 * 2
            image = np.moveaxis((image[..., :even:2] + image[..., 1:even:2]) / 2, -1, axis - 3)
    return image


def _windows(side: int) -> np.ndarray:
    """Return the weights of the window around every voxel along an axis, shape (side, side)."""
    apart = np.arange(side) - np.arange(side)[:, None]
    weights = np.where(np.abs(apart) <= _REACH, np.exp(-((apart / _SIGMA) ** 2) / 2), 0.0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
