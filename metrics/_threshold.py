"""Thresholds between tissue classes."""

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


def otsu3(values: np.ndarray, bins: int = 128) -> tuple[float, float]:
    """Return the two thresholds that separate three classes best (Otsu 1979, section V).

    Args:
        values: Intensities of any shape, not all equal.
        bins: Histogram bins over their range.
    """
    counts, edges = np.histogram(values, bins)
    centres = (edges[:-1] + edges[1:]) / 2
    weight = np.concatenate([[0.0], np.cumsum(counts)])
    moment = np.concatenate([[0.0], np.cumsum(counts * centres)])
    # score[i, j]: squared moment over weight of the class of bins i to j - 1.
    weights = weight[None, :] - weight[:, None]
    moments = moment[None, :] - moment[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        score = np.where(weights > 0, moments**2 / weights, -np.inf)
    total = score[0, 1:bins, None] + score[1:bins, 1:bins] + score[None, 1:bins, bins]
    low, high = np.unravel_index(np.argmax(total), total.shape)
    return float(edges[1 + low]), float(edges[1 + high])
