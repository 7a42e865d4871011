"""Which voxels of a volume show a body rather than air, and which volumes cannot be compared at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NoReturn

import numpy as np

from mmbench.api import Evidence, NotMeasurable

from ._threshold import otsu


def foreground(volume: np.ndarray) -> np.ndarray:
    """Return the mask of the voxels brighter than Otsu's threshold; of all voxels where all are alike.

    The threshold is that of the sum over the channels, each over its own root mean square, so that it follows
    neither their units nor an overall gain.

    Args:
        volume: Array of shape (channels, x, y, z).
    """
    scale = np.sqrt(np.mean(np.square(volume, dtype=float), axis=(1, 2, 3), keepdims=True))
    scale[scale == 0] = 1
    total = (volume / scale.astype(volume.dtype)).sum(axis=0)
    if total.min() == total.max():
        return np.ones(total.shape, dtype=bool)
    return np.asarray(total > otsu(total))


def usable(evidence: Evidence, order: Sequence[int] | np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Yield a sample's volumes, one at a time.

    Args:
        evidence: The sample.
        order: Positions of the records, repeats allowed; all of them in their order by default.

    Raises:
        NotMeasurable: A volume holds values that are not finite, or a channel with one value throughout; the
            message names the record.
    """
    images = evidence.cohort.images
    for index in range(len(evidence)) if order is None else order:
        name, volume = evidence.cohort.ids[index], images[index]
        low, high = volume.min(axis=(1, 2, 3)), volume.max(axis=(1, 2, 3))
        if not np.isfinite(low + high).all():
            _refuse(name, "holds values that are not finite")
        if (low == high).any():
            channel = images.geometry.channels[int(np.argmax(low == high))]
            _refuse(name, f"has one value throughout in channel '{channel}'")
        yield volume


def _refuse(name: str, why: str) -> NoReturn:
    raise NotMeasurable(f"the volume of '{name}' {why}")


def other_grid(reference: Evidence, synthetic: Evidence) -> str:
    """Return how the grid or channels of the synthetic volumes differ from the reference's, or an empty text."""
    real, other = reference.cohort.images.geometry, synthetic.cohort.images.geometry
    alike = real.shape == other.shape and real.channels == other.channels
    if alike and np.allclose(real.spacing, other.spacing, rtol=1e-3):
        return ""
    described = [
        f"{grid.shape} voxels of {' x '.join(f'{step:g}' for step in grid.spacing)} mm "
        f"with {', '.join(grid.channels)}"
        for grid in (other, real)
    ]
    return f"the synthetic volumes have {described[0]}, the reference's {described[1]}"
