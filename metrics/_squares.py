"""Distances whose square is estimated without bias, so that real against real gives 0 in expectation."""

from __future__ import annotations

import numpy as np
from scipy.stats import chi2

from mmbench.api import stats


def signed_root(value: float) -> float:
    """Return the root of the absolute value, with the sign.

    An unbiased estimate of a squared distance is negative as often as not where there is none. Cut at 0 it would
    be too large in expectation; with its sign the root is 0 in the middle and the distance itself far away.
    """
    return float(np.sign(value) * np.sqrt(abs(value)))


def degrees_of_freedom(chance: float, variance: float) -> float:
    """Return the degrees of freedom of the scaled chi-square law with a mean and a variance (Satterthwaite 1946).

    Args:
        chance: Mean of the squared length of the difference where there is none.
        variance: Its variance.
    """
    return 2 * chance**2 / variance if variance > 0 else float("inf")


def root_estimate(
    square: float, variance: float, slope: float, freedom: float, method: str
) -> stats.Estimate:
    """Return a distance with its interval from an unbiased estimate of its square.

    A squared distance q is estimated with a variance v + b q: of second order where nothing differs, and of
    first order in proportion to q beyond. The interval holds every q for which the estimate is likely, as
    Wilson's does for a rate: with the variance at the estimate, which is large when that is, it would be too
    wide at 0. Likely is (square - q)^2 <= z^2 (v + b q) beyond 0; at 0 the square is that of a nearly
    normal vector and its law a scaled chi-square less its mean, which takes the place of the normal law. The
    signed root takes the interval to that of the distance.

    Args:
        square: Estimate of the squared distance; may be negative.
        variance: Its variance v where nothing differs.
        slope: Increase b of its variance with the squared distance.
        freedom: Degrees of freedom of its law where nothing differs.
        method: How the variance was found.
    """
    low, high = stats.score_interval(square, slope, variance)
    least, most = _chi_square_ends(freedom) * np.sqrt(variance)
    # The interval ends where the law at 0 would make the estimate too large or too small.
    if square <= most:
        low = square - most
    if square <= least:
        high = square - least
    return stats.Estimate(signed_root(square), signed_root(low), signed_root(high), method)


def _chi_square_ends(freedom: float) -> np.ndarray:
    """Return the 2.5 % and 97.5 % quantiles of a chi-square variable, standardised."""
    if not np.isfinite(freedom):
        return np.array([-stats.Z95, stats.Z95])
    return np.asarray((chi2.ppf([0.025, 0.975], freedom) - freedom) / np.sqrt(2 * freedom))
