"""Distances of two samples that are corrected by split halves, with the intervals that these need."""

from __future__ import annotations

import numpy as np
from scipy.stats import t

from mmbench.api import stats


def drawing_order(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a random order of the records that does not depend on the order they come in.

    They are first put in order of their distance from their mean, so that neither the order of the
    coordinates nor a rotation changes what is drawn either.

    Args:
        points: Points of shape (n, d).
        rng: Source of the order.
    """
    far = ((points - points.mean(axis=0)) ** 2).sum(axis=1)
    return rng.permutation(np.argsort(far, kind="stable"))


def halves(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return positions of two random disjoint halves of ``n`` records; an odd one sits out."""
    order = rng.permutation(n)
    return order[: n // 2], order[n // 2 : n // 2 * 2]


def interval(
    value: float, at_zero: float, plug_in: float, relabelled: np.ndarray, slope: float, noise: float
) -> stats.Estimate:
    """Return a corrected distance of two samples with its score interval.

    The first-order variance grows with the distance. Its plug-in estimate fits noise too, as the uncorrected
    distance does, so what relabelled records give is taken off both before one is divided by the other. Between
    laws that are close that ratio is itself little but noise; it is then at least that of the uncorrected
    variance to the uncorrected distance.

    Args:
        value: Corrected distance.
        at_zero: Its variance between equal laws.
        plug_in: Uncorrected distance.
        relabelled: Uncorrected distances of relabelled records.
        slope: First-order variance of the uncorrected distance.
        noise: The same of relabelled records, on average.
    """
    distance = max(value, float(plug_in - relabelled.mean()), np.sqrt(at_zero) / 3)
    growing = max((slope - noise) / distance, slope / plug_in) if min(distance, plug_in) > 0 else 0.0
    # Student's factor, as the variance is that of so few relabellings.
    widening = (t.ppf(0.975, len(relabelled) - 1) / stats.Z95) ** 2
    low, high = stats.score_interval(value, growing, at_zero * widening)
    return stats.Estimate(value, low, high, f"score interval, {len(relabelled)} relabellings")


def split_variance(whole: float, splits: int) -> float:
    """Return the variance between equal laws of a corrected distance, from that of the uncorrected one.

    To second order a distance between equal laws is a squared norm |x - y|^2 of means, and the corrected one
    is that less |x1 - x2|^2 / 4 + |y1 - y2|^2 / 4, which has half its variance and is independent of it; over
    several splits that half averages out.

    Args:
        whole: Variance of the uncorrected distance.
        splits: Number of splits that are averaged.
    """
    return whole * (1 + 1 / (2 * splits))


def equality_p(plug_in: float, relabelled: np.ndarray) -> float:
    """Return the share of relabellings with as large a distance, the observed labels among them."""
    # Rounding must not make equal statistics differ: ties count for equal laws.
    return float((1 + (relabelled >= plug_in - 1e-9 * abs(plug_in)).sum()) / (1 + len(relabelled)))
