"""What every measurer asks of a volume before it measures."""

from __future__ import annotations

import numpy as np

from mmbench.api import Geometry, NotMeasurable


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


def neighbour_correlation(image: np.ndarray, inside: np.ndarray | None = None) -> float:
    """Return the correlation of voxels with their next neighbours along x and y: 0 for white noise.

    Args:
        image: Array of shape (x, y, z).
        inside: Mask of the voxels that count; all of them by default.
    """
    left, right = [], []
    for axis in (0, 1):
        a, b = (np.take(image, range(i, image.shape[axis] - 1 + i), axis) for i in (0, 1))
        if inside is not None:
            both = np.logical_and(
                *(np.take(inside, range(i, image.shape[axis] - 1 + i), axis) for i in (0, 1))
            )
            a, b = a[both], b[both]
        left.append(a.ravel())
        right.append(b.ravel())
    a, b = np.concatenate(left), np.concatenate(right)
    if a.size < 2 or a.std() == 0 or b.std() == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
