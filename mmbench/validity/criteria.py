"""What must hold of a curve of scores. Small pure functions; tolerances of Raisa et al. 2025 by default.

Curves are arrays of shape (points,), along a setting that grows; differences are in the unit of the score,
which is 1 for scores from 0 to 1. Where a score is NaN no criterion holds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

Values = Sequence[float] | np.ndarray

CLOSE = 0.05
DROP = 0.2
STRAY = 0.1
EXACT = 1e-10


def close(value: float, target: float, tolerance: float = CLOSE) -> bool:
    """Whether a value lies within a tolerance of a target."""
    return bool(abs(value - target) <= tolerance + 1e-12)


def unbiased(gaps: Values, tolerance: float = CLOSE) -> bool:
    """Whether differences between repetitions average to zero within a tolerance, and as much again for noise.

    Args:
        gaps: One difference for each repetition.
        tolerance: Allowed bias; two standard errors of the mean are allowed beside it, but no more than it.
    """
    y = np.asarray(gaps, float)
    error = y.std(ddof=1) / np.sqrt(len(y)) if len(y) > 1 else 0.0
    return close(float(y.mean()), 0, tolerance + min(2 * error, tolerance))


def flat(curve: Values, tolerance: float = CLOSE) -> bool:
    """Whether no two values of a curve differ by more than a tolerance."""
    return bool(np.ptp(np.asarray(curve, float)) <= tolerance + 1e-12)


def falling(curve: Values, drop: float = DROP, stray: float = STRAY) -> bool:
    """Whether a curve is high at its left end and low at its right end.

    The ends differ by at least ``drop`` and neither is further than ``stray`` from the curve's extreme.
    """
    y = np.asarray(curve, float)
    return bool(y[0] - y[-1] >= drop and y.max() - y[0] <= stray and y[-1] - y.min() <= stray)


def rising(curve: Values, drop: float = DROP, stray: float = STRAY) -> bool:
    """Whether a curve is low at its left end and high at its right end; see :func:`falling`."""
    return falling(np.asarray(curve, float)[::-1], drop, stray)


def bell(curve: Values, middle: int, drop: float = DROP, stray: float = STRAY) -> bool:
    """Whether a curve is high at position ``middle`` and low at both ends."""
    y = np.asarray(curve, float)
    high = y[middle] - max(y[0], y[-1]) >= drop and y.max() - y[middle] <= stray
    return bool(high and min(y[0], y[-1]) - y.min() <= stray)


def lowest_at(curve: Values, position: int, tolerance: float = 0.0) -> bool:
    """Whether no value of a curve lies below that at a position by more than a tolerance."""
    y = np.asarray(curve, float)
    return bool(np.isfinite(y).all() and y[position] - y.min() <= tolerance)


def ordered(curve: Values, least: float = 0.9) -> bool:
    """Whether a curve grows: Spearman's correlation with its position is at least ``least``."""
    # One swap of neighbours among five is 0.9 but for rounding.
    return rank_correlation(curve) >= least - 1e-9


def rank_correlation(curve: Values) -> float:
    """Return Spearman's correlation of a curve with its position; NaN where a value is NaN or none varies."""
    y = np.asarray(curve, float)
    if not np.isfinite(y).all() or np.ptp(y) == 0:
        return math.nan
    return float(np.corrcoef(rankdata(y), np.arange(len(y)))[0, 1])


def linear(curve: Values, shares: Values, tolerance: float = CLOSE) -> bool:
    """Whether a curve falls from its first value in proportion to a share that is spoilt."""
    y = np.asarray(curve, float)
    return bool(np.abs(y - y[0] * (1 - np.asarray(shares, float))).max() <= tolerance + 1e-12)


def same(a: float, b: float, tolerance: float = EXACT) -> bool:
    """Whether two values agree to a relative tolerance; NaN agrees with NaN."""
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    return abs(a - b) <= tolerance * max(1.0, abs(a), abs(b))


def visible(before: Values, after: Values, deviations: float = 2.0) -> bool:
    """Whether values moved, pair by pair, by more than so many standard errors and all to the same side.

    Args:
        before: One value for each seed.
        after: Likewise, of the same seeds.
        deviations: Standard errors of the mean difference.
    """
    change = np.asarray(after, float) - np.asarray(before, float)
    if not np.isfinite(change).all() or not change.any():
        return False
    error = change.std(ddof=1) / np.sqrt(len(change)) if len(change) > 1 else 0.0
    one_sided = (change > 0).all() or (change < 0).all()
    return bool(one_sided and abs(change.mean()) > deviations * error)
