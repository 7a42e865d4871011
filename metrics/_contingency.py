"""Associations of two unordered columns that depend on the direction."""

from __future__ import annotations

import numpy as np

from ._association import MIN_PAIRS


def theils_u(x: np.ndarray, y: np.ndarray) -> float:
    """Return Theil's U(x | y), the share of the entropy of ``x`` that ``y`` explains, corrected for bias.

    U = I(x; y) / H(x) (Theil 1970, Am J Sociol 76). Every entropy is the plug-in plus (K - 1) / 2n, with K the
    number of cells that are not empty (Miller 1955, Madow): without it independent columns would seem to explain
    one another. It may be slightly negative.

    Args:
        x: Dense codes of shape (n,), negative where missing.
        y: Dense codes of shape (n,).

    Returns:
        NaN for fewer than ``MIN_PAIRS`` complete pairs or where ``x`` does not vary over them.
    """
    both = (x >= 0) & (y >= 0)
    n = int(both.sum())
    if n < MIN_PAIRS:
        return float("nan")
    x, y = x[both], y[both]
    own = _entropy(np.bincount(x))
    if len(np.unique(x)) < 2:
        return float("nan")
    return float((own + _entropy(np.bincount(y)) - _entropy(np.bincount(x * (y.max() + 1) + y))) / own)


def _entropy(counts: np.ndarray) -> float:
    present = counts[counts > 0]
    shares = present / present.sum()
    return float(-(shares * np.log(shares)).sum() + (len(present) - 1) / (2 * present.sum()))
