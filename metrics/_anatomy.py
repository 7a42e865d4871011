"""What any body or head has, whatever the sequence: one piece, and two sides that are alike but not the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import ndimage

from mmbench.api import Evidence, Geometry

from ._foreground import foreground
from ._ssim import coarsened, halvings

CONNECTEDNESS = ("stray", "fragments", "hollow")
"""Share of the foreground outside its largest piece, logarithm of the number of pieces, and the enclosed
background as a share of the foreground."""
SYMMETRY = ("outline", "intensity")
"""How unlike its mirror image the foreground is (1 - Dice), and the intensities within both (share of their
sum)."""
_VOXELS = (
    32768  # of the grid on which shape is judged: voxel noise averages out, and a volume takes a millisecond
)


def shapes(evidence: Evidence, records: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return the quantities of :data:`CONNECTEDNESS` and :data:`SYMMETRY`, a row a record.

    Volumes are read one at a time. A volume that holds values that are not finite, or one value throughout a
    channel, gives NaN.

    Args:
        evidence: The sample.
        records: Positions of the records to look at.
    """
    images = evidence.cohort.images
    rows = [shape_of(images[int(index)], images.geometry) for index in records]
    return np.array(rows, dtype=float).reshape(len(rows), len(CONNECTEDNESS) + len(SYMMETRY))


def shape_of(volume: np.ndarray, geometry: Geometry) -> tuple[float, ...]:
    """Return the quantities of :func:`shapes` of one volume of shape (channels, x, y, z)."""
    image = coarsened(volume, list(_steps(geometry)))
    low, high = image.min(axis=(1, 2, 3)), image.max(axis=(1, 2, 3))
    if not np.isfinite(low + high).all() or (low == high).any():
        return (float("nan"),) * (len(CONNECTEDNESS) + len(SYMMETRY))
    mask = foreground(image)
    lateral = int(np.abs(geometry.matrix[0, :3] / geometry.spacing).argmax())
    return (
        *connectedness(mask),
        *asymmetry(np.moveaxis(image, lateral + 1, 1), np.moveaxis(mask, lateral, 0)),
    )


def connectedness(mask: np.ndarray) -> tuple[float, float, float]:
    """Return the quantities of :data:`CONNECTEDNESS` of a mask that is not empty; voxels touch by their faces.

    Background is enclosed where it does not reach the border of the grid.
    """
    pieces, count = ndimage.label(mask)
    sizes = np.bincount(pieces.ravel())[1:]
    caves, _ = ndimage.label(~mask)
    reaching = [np.take(caves, (0, -1), axis).ravel() for axis in range(caves.ndim)]
    enclosed = np.bincount(caves.ravel())
    enclosed[np.unique(np.concatenate([np.zeros(1, int), *reaching]))] = 0
    total = float(sizes.sum())
    return 1 - float(sizes.max()) / total, float(np.log(count)), float(enclosed.sum()) / total


def asymmetry(image: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """Return the quantities of :data:`SYMMETRY`: 0 for a mirror image of itself, at most 1.

    The mirror stands in the foreground's middle, to half a voxel, so that it matters little where a body lies.

    Args:
        image: Array of shape (channels, x, y, z), the first spatial axis running from side to side.
        mask: Its foreground, not empty, shape (x, y, z).
    """
    places = np.arange(len(mask))
    across = mask.sum(axis=(1, 2))
    opposite = round(2 * float(places @ across) / float(across.sum())) - places
    seen = (opposite >= 0) & (opposite < len(mask))
    mirrored = np.zeros_like(mask)
    mirrored[seen] = mask[opposite[seen]]
    outline = 1 - float((mask & mirrored).sum()) / float(mask.sum())
    both = (mask | mirrored)[seen]
    here, there = image[:, seen] * both, image[:, opposite[seen]] * both
    differences = np.abs(here - there).sum(axis=(1, 2, 3), dtype=float)
    sums = (np.abs(here) + np.abs(there)).sum(axis=(1, 2, 3), dtype=float)
    return outline, float(np.mean(differences / np.maximum(sums, np.finfo(float).tiny)))


def _steps(geometry: Geometry) -> Iterator[tuple[int, ...]]:
    """Yield the axes to halve, step by step, until the grid is coarse enough."""
    sides = np.array(geometry.shape)
    for axes in halvings(geometry.shape, geometry.spacing):
        if sides.prod() <= _VOXELS:
            return
        sides[list(axes)] //= 2
        yield axes
