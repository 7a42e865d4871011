"""Intervals that are valid for the statistic at hand. All are two-sided at 95 %.

Which one: a mean of a score a record has its bootstrap or jackknife; a rate :func:`proportion`; an area under
the curve :func:`auc`; a mean over pairs of records :func:`pair_mean`; what looks at neighbours
:func:`subsampling`; a squared distance of two samples that is 0 for equal laws :func:`score_interval`, because
its variance is of another order there than elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats as scipy_stats

Z95 = 1.959963984540054

_LARGEST = 1000
_GROUPS = 50  # of records that a jackknife leaves out at a time: the acceleration needs no more


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; the ends are NaN where there is none."""

    value: float
    low: float = float("nan")
    high: float = float("nan")
    method: str = ""


def subsampling(
    statistic: Callable[..., float],
    sizes: tuple[int, ...],
    seed: int,
    repeats: int = 40,
    *,
    largest: int = _LARGEST,
    least: float = -np.inf,
    most: float = np.inf,
    value: float | None = None,
) -> Estimate:
    """Interval from subsamples drawn without replacement, for statistics on which the bootstrap is invalid.

    Nearest-neighbour scores see the bootstrap's duplicated records as structure. The variance over subsamples
    of a share f of all records, times f / (1 - f), estimates that over whole samples (Politis, Romano, Wolf
    1999, Subsampling, section 2). That holds for statistics whose standard deviation falls with the root of
    the number of records; a distance between equal laws, whose own falls faster, gets an interval that is too
    wide.

    Where the range is finite the interval is Wilson's (1927) for a proportion, with the number of records
    that would give this variance: unlike the symmetric one it holds close to the ends of the range, where
    value and variance are low together.

    Args:
        statistic: Takes one index array for each sample and returns a number.
        sizes: Size of each sample.
        seed: Seed of the subsamples.
        repeats: Number of subsamples.
        largest: Most records of a sample that a subsample holds; half of them, where that is less.
        least: Least value that the statistic can take.
        most: Largest value that it can take.
        value: The statistic of the whole samples, where it is known already.
    """
    if value is None:
        value = float(statistic(*(np.arange(n) for n in sizes)))
    if min(sizes) < 8 or not np.isfinite(value):
        return Estimate(value)
    share = min(0.5, largest / max(sizes))
    taken = [max(int(n * share), 4) for n in sizes]
    rng = np.random.default_rng(seed)
    drawn = np.array(
        [
            statistic(*(np.sort(rng.choice(n, m, replace=False)) for n, m in zip(sizes, taken, strict=True)))
            for _ in range(repeats)
        ]
    )
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) < repeats / 2:
        return Estimate(value)
    variance = float(np.var(drawn, ddof=1)) * share / (1 - share)
    low, high = _ends(value, variance, min(sizes), least, most, typical=float(drawn.mean()))
    return Estimate(value, low, high, f"subsampling, {repeats} subsamples of {' and '.join(map(str, taken))}")


def half_subsampling(
    statistic: Callable[..., float], sizes: tuple[int, ...], seed: int, repeats: int = 40
) -> Estimate:
    """Symmetric interval from :func:`subsampling` with halves of the samples, however large these are."""
    return subsampling(statistic, sizes, seed, repeats, largest=max(sizes, default=0))


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
    value, draws = _resampled(statistic, sizes, np.random.default_rng(seed), repeats)
    if not len(draws):
        return Estimate(value)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(value, float(low), float(high), f"percentile bootstrap, {repeats} resamples")


def bca_bootstrap(
    statistic: Callable[..., float], sizes: tuple[int, ...], seed: int, repeats: int = 1000
) -> Estimate:
    """Bias-corrected and accelerated bootstrap over records (Efron 1987, JASA 82, section 4).

    It corrects the percentile bootstrap's ends for the bias and the skewness of a smooth statistic. The
    acceleration comes from a jackknife that leaves out one of at most 50 groups of a sample's records at a
    time.

    Args:
        statistic: Takes one index array for each sample and returns a number.
        sizes: Size of each sample.
        seed: Seed of the resamples and groups.
        repeats: Number of resamples; the ends are tail quantiles, so 1,000 or more.
    """
    rng = np.random.default_rng(seed)
    value, draws = _resampled(statistic, sizes, rng, repeats)
    if not len(draws):
        return Estimate(value)
    below = ((draws < value).mean() + (draws <= value).mean()) / 2
    shift = scipy_stats.norm.ppf(np.clip(below, 0.5 / len(draws), 1 - 0.5 / len(draws)))
    cubes, squares = 0.0, 0.0
    for side, n in enumerate(sizes):
        groups = np.array_split(rng.permutation(n), min(n, _GROUPS))
        others = [np.setdiff1d(np.arange(n), group) for group in groups]
        left = np.array(
            [
                statistic(*(kept if s == side else np.arange(k) for s, k in enumerate(sizes)))
                for kept in others
            ]
        )
        influence = (left.mean() - left) * (len(groups) - 1) / len(groups)
        cubes += float((influence**3).sum())
        squares += float((influence**2).sum())
    if not np.isfinite(cubes):
        return Estimate(value)
    acceleration = cubes / (6 * squares**1.5) if squares else 0.0
    z = shift + np.array([-Z95, Z95])
    low, high = np.quantile(draws, scipy_stats.norm.cdf(shift + z / (1 - acceleration * z)))
    return Estimate(value, float(low), float(high), f"BCa bootstrap, {repeats} resamples")


def proportion(successes: int, n: int) -> Estimate:
    """Exact interval of a rate (Clopper and Pearson 1934)."""
    if n == 0:
        return Estimate(float("nan"))
    interval = scipy_stats.binomtest(successes, n).proportion_ci(0.95, method="exact")
    return Estimate(successes / n, float(interval.low), float(interval.high), "Clopper-Pearson")


def auc(positive: np.ndarray, negative: np.ndarray) -> Estimate:
    """Return the area under the ROC curve of scores that do not depend on the records they are given to.

    The variance is that of DeLong, DeLong and Clarke-Pearson (1988, Biometrics 44), ties counted by half; the
    interval is Wilson's with the number of records that would give it, which holds near 0 and 1.

    Args:
        positive: Scores of the positive records, of shape (n,).
        negative: Scores of the negative ones, of shape (m,).
    """
    n, m = len(positive), len(negative)
    if not n or not m or not (np.isfinite(positive).all() and np.isfinite(negative).all()):
        return Estimate(float("nan"))
    ranks = scipy_stats.rankdata(np.concatenate([positive, negative]))
    above = (ranks[:n] - scipy_stats.rankdata(positive)) / m
    below = 1 - (ranks[n:] - scipy_stats.rankdata(negative)) / n
    value = float(above.mean())
    if min(n, m) < 2:
        return Estimate(value)
    variance = float(above.var(ddof=1) / n + below.var(ddof=1) / m)
    return Estimate(value, *_ends(value, variance, min(n, m), 0.0, 1.0), "DeLong, Wilson interval")


def pair_mean(values: np.ndarray, pairs: np.ndarray, records: int) -> Estimate:
    """Return the mean over pairs of records, with a jackknife over the records.

    The pairs of a record are not independent, so that an interval over pairs would be far too short. Leaving
    out one record leaves out all its pairs (Arvesen 1969, Annals of Mathematical Statistics 40). Not every
    pair needs to be there; records in no pair do not count.

    Args:
        values: Value of each pair, of shape (k,).
        pairs: Positions of both records of each pair, of shape (k, 2).
        records: Number of records.
    """
    if not len(values):
        return Estimate(float("nan"))
    value = float(values.mean())
    sums = np.bincount(pairs.ravel(), np.repeat(values, 2), records)
    counts = np.bincount(pairs.ravel(), minlength=records)
    used = (counts > 0) & (counts < len(values))
    n = int(used.sum())
    if n < 3:
        return Estimate(value)
    without = (values.sum() - sums[used]) / (len(values) - counts[used])
    spread = float(scipy_stats.t.ppf(0.975, n - 1) * np.sqrt((n - 1) * without.var()))
    return Estimate(value, value - spread, value + spread, "jackknife over records")


def score_interval(value: float, slope: float, at_zero: float) -> tuple[float, float]:
    """Return the ends of a score interval of an unbiased estimate of a squared distance.

    It holds every t for which the estimate lies within 1.96 standard deviations of t, where its variance is
    ``slope`` max(t, 0) + ``at_zero`` (in the manner of Wilson 1927). A normal interval with the same variance
    is too short for small distances, where value and variance are low together.

    Args:
        value: The estimate.
        slope: First-order variance over the squared distance. For one direction of the difference both are
            proportional, as the first-order variance of a squared norm |w|^2 is 4 var(w.x) / n.
        at_zero: Variance between equal laws.
    """
    still = Z95 * np.sqrt(at_zero)
    middle = value + Z95**2 * slope / 2
    reach = Z95 * np.sqrt(max(slope * value + Z95**2 * slope**2 / 4 + at_zero, 0.0))
    low = value - still if value <= still else middle - reach
    high = value + still if value <= -still else middle + reach
    return float(low), float(high)


def _resampled(
    statistic: Callable[..., float], sizes: tuple[int, ...], rng: np.random.Generator, repeats: int
) -> tuple[float, np.ndarray]:
    """Return the statistic and its finite values over resamples; none where most are not finite."""
    value = float(statistic(*(np.arange(n) for n in sizes)))
    draws = np.array(
        [statistic(*(rng.integers(0, n, n) for n in sizes)) for _ in range(repeats)], dtype=float
    )
    draws = draws[np.isfinite(draws)]
    return value, draws if np.isfinite(value) and len(draws) >= repeats / 2 else draws[:0]


def _ends(
    value: float, variance: float, n: int, least: float, most: float, typical: float | None = None
) -> tuple[float, float]:
    """Return the symmetric interval, or Wilson's where the range is finite.

    Args:
        value: The statistic.
        variance: Its variance.
        n: Records; where nothing varies each counts as one trial.
        least: Least value of the statistic.
        most: Its largest value.
        typical: Where the statistic usually lies with this variance, by default its value. A value at an end of the
            range says nothing of how many trials it is worth.
    """
    if not np.isfinite([least, most]).all():
        spread = Z95 * float(np.sqrt(variance))
        return max(value - spread, least), min(value + spread, most)
    share = np.clip((value - least) / (most - least), 0, 1)
    usual = share if typical is None else np.clip((typical - least) / (most - least), 0, 1)
    binomial = usual * (1 - usual) * (most - least) ** 2
    trials = binomial / variance if binomial and variance else n
    weight = Z95**2 / trials
    middle = (share + weight / 2) / (1 + weight)
    reach = np.sqrt(weight * (share * (1 - share) + weight / 4)) / (1 + weight)
    low, high = least + (most - least) * np.array([middle - reach, middle + reach])
    # Rounding must not put the value beside its interval where it lies at an end of the range.
    return min(max(float(low), least), value), max(min(float(high), most), value)
