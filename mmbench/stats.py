"""Intervals that are valid for the statistic at hand. All are two-sided at 95 %."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats as scipy_stats

Z95 = 1.959963984540054


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; the ends are NaN where there is none."""

    value: float
    low: float = float("nan")
    high: float = float("nan")
    method: str = ""


def half_subsampling(
    statistic: Callable[..., float], sizes: tuple[int, ...], seed: int, repeats: int = 40
) -> Estimate:
    """Interval from halves drawn without replacement, for statistics on which the bootstrap is invalid.

    Frechet distances, nearest-neighbour scores and optimal transport see the bootstrap's duplicated records
    as structure. The spread over halves estimates that over whole samples:
    sd = sd(half) * sqrt(m/n) / sqrt(1 - m/n), which is sd(half) itself at m = n/2
    (Politis, Romano and Wolf 1999, Subsampling, section 2).

    Args:
        statistic: Takes one index array for each sample and returns a number.
        sizes: Size of each sample.
        seed: Seed of the halves.
        repeats: Number of halves.
    """
    value = float(statistic(*(np.arange(n) for n in sizes)))
    if min(sizes) < 8 or not np.isfinite(value):
        return Estimate(value)
    rng = np.random.default_rng(seed)
    halves = [
        float(statistic(*(np.sort(rng.choice(n, n // 2, replace=False)) for n in sizes)))
        for _ in range(repeats)
    ]
    spread = Z95 * float(np.std(halves, ddof=1))
    return Estimate(value, value - spread, value + spread, f"half-subsampling, {repeats} halves")


def bootstrap(
    statistic: Callable[..., float], sizes: tuple[int, ...], seed: int, repeats: int = 400
) -> Estimate:
    """Percentile bootstrap over records, for smooth statistics such as correlations and means.

    Args:
        statistic: Takes one index array for each sample and returns a number.
        sizes: Size of each sample.
        seed: Seed of the resamples.
        repeats: Number of resamples.
    """
    value = float(statistic(*(np.arange(n) for n in sizes)))
    rng = np.random.default_rng(seed)
    draws = np.array(
        [statistic(*(rng.integers(0, n, n) for n in sizes)) for _ in range(repeats)], dtype=float
    )
    draws = draws[np.isfinite(draws)]
    if not np.isfinite(value) or len(draws) < repeats / 2:
        return Estimate(value)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(value, float(low), float(high), f"percentile bootstrap, {repeats} resamples")


def proportion(successes: int, n: int) -> Estimate:
    """Exact interval of a rate (Clopper and Pearson 1934)."""
    if n == 0:
        return Estimate(float("nan"))
    interval = scipy_stats.binomtest(successes, n).proportion_ci(0.95, method="exact")
    return Estimate(successes / n, float(interval.low), float(interval.high), "Clopper-Pearson")
