"""The threshold between two tissue classes."""

from __future__ import annotations

import numpy as np


def otsu(values: np.ndarray, bins: int = 256) -> float:
    """Return the threshold that separates two classes best (Otsu 1979, IEEE Trans SMC 9, equation 12).

    Args:
        values: Intensities of any shape, not all equal.
        bins: Histogram bins over their range.
    """
    counts, edges = np.histogram(values, bins)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1].astype(float)
    above = below[-1] + counts[-1] - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = sums[:-1] / below - (sums[-1] - sums[:-1]) / above
    return float(edges[1:-1][np.nanargmax(below * above * gap**2)])
