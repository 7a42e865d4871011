"""Leading components of image features, and spaces side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmbench.api import Trial

from ._spaces import Points, image_components

_SHARED = 32  # what other metrics of images ask for, so that they are made once


def leading_components(trial: Trial, dimensions: int) -> Points:
    """Return equally many leading components of each block of image features, whitened on the training records.

    Each is turned such that its training values are skewed to the right: which way a decomposition turns it
    depends on the order of the records.

    Args:
        trial: The trial.
        dimensions: Components in all, of which each block gives at least one.
    """
    blocks = image_components(trial, max(_SHARED, dimensions))
    if not blocks:
        return Points(*(np.empty((len(side), 0)) for side in (trial.reference, trial.synthetic, trial.train)))
    kept = max(dimensions // len(blocks), 1)
    parts = []
    for block in blocks:
        turn = np.where((block.train[:, :kept] ** 3).sum(axis=0) < 0, -1.0, 1.0)
        sides = (block.reference, block.synthetic, block.train)
        parts.append(Points(*(side[:, :kept] * turn for side in sides)))
    return beside(parts)


def beside(parts: Sequence[Points]) -> Points:
    """Return spaces of the same records as one."""
    sides = zip(*((part.reference, part.synthetic, part.train) for part in parts), strict=True)
    return Points(*(np.concatenate(side, axis=1) for side in sides))
