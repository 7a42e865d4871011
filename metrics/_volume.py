"""What every measurer asks of a volume before it measures."""

from __future__ import annotations

import numpy as np

from mmbench.api import Geometry, NotMeasurable

LEAST_COHERENCE = 0.5
"""Least correlation of neighbouring voxels of a trunk; noise has none, phantoms at 5.5 mm have 0.9."""


def channel(volume: np.ndarray, geometry: Geometry, name: str) -> np.ndarray:
    """Return one channel as float64.

    Raises:
        NotMeasurable: It holds values that are not finite, or only one value.
    """
    image = np.asarray(volume[geometry.channels.index(name)], dtype=float)
    broken = int((~np.isfinite(image)).sum())
    if broken:
        raise NotMeasurable(f"channel '{name}': {broken} of {image.size} voxels are not finite")
    if image.min() == image.max():
        raise NotMeasurable(f"channel '{name}': every voxel is {image.flat[0]:g}: blank")
    return image


def upright(image: np.ndarray, geometry: Geometry) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Return an image turned so that x grows to the right, y to the front and z to the head.

    Each voxel axis stands for the anatomical axis that it follows best, so that oblique grids are turned too.

    Args:
        image: Array of shape (x, y, z) on the grid of ``geometry``.
        geometry: Its affine says where right, front and head are.

    Returns:
        A view of the image, and its voxel spacing in millimetres.
    """
    along = geometry.matrix[:3, :3] / geometry.spacing
    strength, axes = np.abs(along), [0, 0, 0]
    for _ in range(3):
        anatomical, voxel = np.unravel_index(np.argmax(strength), strength.shape)
        axes[anatomical] = int(voxel)
        strength[anatomical], strength[:, voxel] = -1, -1
    flips = tuple(slice(None, None, -1 if along[row, axis] < 0 else 1) for row, axis in enumerate(axes))
    x, y, z = (geometry.spacing[axis] for axis in axes)
    return image.transpose(axes)[flips], (x, y, z)


def neighbour_correlation(image: np.ndarray, inside: np.ndarray | None = None) -> float:
    """Return the correlation of voxels with their next neighbours along x and y: 0 for white noise.

    Args:
        image: Array of shape (x, y, z).
        inside: Mask of the voxels that count; all of them by default.
    """
    left, right = [], []
    for lower, upper in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        both = np.s_[:] if inside is None else inside[lower] & inside[upper]
        left.append(image[lower][both].ravel())
        right.append(image[upper][both].ravel())
    a, b = np.concatenate(left), np.concatenate(right)
    if not a.size:
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else 0.0
