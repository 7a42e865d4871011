"""Intervals against known answers."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.special import ndtr
from sklearn.metrics import roc_auc_score

from mmbench import stats

INTERVALS = [stats.half_subsampling, stats.subsampling, stats.bootstrap, stats.bca_bootstrap]


def coverage(interval, repeats=120):
    hits = 0
    for seed in range(repeats):
        x = np.random.default_rng(seed).normal(3.0, 2.0, 80)
        estimate = interval(lambda rows, x=x: x[rows].mean(), (80,), seed, 200)
        hits += estimate.low <= 3.0 <= estimate.high
    return hits / repeats


@pytest.mark.parametrize("interval", INTERVALS)
def test_intervals_of_a_mean_cover_it_about_as_often_as_they_say(interval):
    # 120 repetitions of a 95 % interval: 0.88 is three standard errors below.
    assert 0.88 <= coverage(interval) <= 1.0


@pytest.mark.parametrize("interval", INTERVALS)
def test_intervals_are_seeded(interval):
    x = np.random.default_rng(0).normal(size=50)
    first, second = (interval(lambda rows: x[rows].mean(), (50,), 7) for _ in range(2))
    assert first == second
    assert first != interval(lambda rows: x[rows].mean(), (50,), 8)
    assert first.method


@pytest.mark.parametrize("interval", [stats.half_subsampling, stats.subsampling])
def test_too_few_records_give_no_interval(interval):
    estimate = interval(lambda rows: float(len(rows)), (4,), 0)
    assert estimate.value == 4
    assert np.isnan(estimate.low)


@pytest.mark.parametrize("interval", INTERVALS)
def test_an_undefined_statistic_gives_no_interval(interval):
    estimate = interval(lambda rows: float("nan"), (20,), 0)
    assert np.isnan(estimate.value)
    assert np.isnan(estimate.high)


def test_subsamples_of_large_samples_stay_small_and_give_the_same_width():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=20_000), rng.normal(size=10_000)
    seen = []

    def gap(a, b):
        seen.append((len(a), len(b)))
        return x[a].mean() - y[b].mean()

    estimate = stats.subsampling(gap, (20_000, 10_000), 0, 200, value=0.0)
    assert max(a for a, _ in seen) == 1000
    assert all(a == 2 * b for a, b in seen)
    assert (estimate.high - estimate.low) / 2 == pytest.approx(
        1.96 * np.sqrt(1 / 20_000 + 1 / 10_000), rel=0.2
    )


def test_the_interval_of_a_bounded_statistic_stays_inside_and_has_a_width_at_its_ends():
    estimate = stats.subsampling(lambda rows: 1.0, (50,), 0, least=0.0, most=1.0)
    assert estimate.high == 1
    assert estimate.low == pytest.approx(1 / (1 + 1.96**2 / 50), abs=1e-4)
    scaled = stats.subsampling(lambda rows: 3.0, (50,), 0, least=1.0, most=3.0)
    assert scaled.low == pytest.approx(1 + 2 * estimate.low)


def neighbour_coverage(within, across, k=5):
    def share(rows, others):
        radii = np.partition(within[np.ix_(rows, rows)], k, axis=1)[:, k]
        return float((across[np.ix_(rows, others)].min(axis=1) <= radii).mean())

    return share


# Interval of a 200-fold study is binomial: 0.95 +- 0.046 (three standard errors).
@pytest.mark.parametrize("shift", [0.0, 2.5])
def test_interval_of_a_neighbour_score_covers_its_expectation(shift):
    estimates = []
    for seed in range(200):
        x, y = np.random.default_rng(seed).normal(size=(2, 60, 4))
        y[:, 0] += shift
        statistic = neighbour_coverage(cdist(x, x), cdist(x, y))
        estimates.append(stats.subsampling(statistic, (60, 60), seed, 30, least=0.0, most=1.0))
    truth = np.mean([e.value for e in estimates])
    assert 0.9 <= np.mean([e.low <= truth <= e.high for e in estimates]) <= 0.995


def test_a_proportion_has_the_exact_interval():
    # Clopper and Pearson for 10 of 1000: the textbook interval.
    estimate = stats.proportion(10, 1000)
    assert (round(estimate.low, 4), round(estimate.high, 4)) == (0.0048, 0.0183)
    assert np.isnan(stats.proportion(0, 0).value)


def test_auc_is_sklearns_with_delongs_variance():
    rng = np.random.default_rng(0)
    x, y = np.round(rng.normal(0.5, 1, 40), 1), np.round(rng.normal(0, 1, 30), 1)
    estimate = stats.auc(x, y)
    assert estimate.value == pytest.approx(roc_auc_score([1] * 40 + [0] * 30, np.concatenate([x, y])))
    wins = (x[:, None] > y) + 0.5 * (x[:, None] == y)
    variance = wins.mean(axis=1).var(ddof=1) / 40 + wins.mean(axis=0).var(ddof=1) / 30
    # Wilson's ends are the values one and the same distance away: (p - t)^2 = z^2 t (1 - t) variance / p (1 - p).
    for t in (estimate.low, estimate.high):
        scale = variance / (estimate.value * (1 - estimate.value))
        assert abs(estimate.value - t) == pytest.approx(1.96 * np.sqrt(scale * t * (1 - t)), rel=1e-4)


@pytest.mark.parametrize(("shift", "n", "m"), [(0.0, 30, 30), (1.5, 30, 60), (2.5, 60, 60)])
def test_interval_of_an_auc_covers_it(shift, n, m):
    truth, hits = ndtr(shift / np.sqrt(2)), 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        estimate = stats.auc(rng.normal(shift, 1, n), rng.normal(0, 1, m))
        hits += estimate.low <= truth <= estimate.high
    assert 0.91 <= hits / 300 <= 0.985


def test_an_auc_without_errors_is_not_certain_and_one_without_scores_is_not_a_number():
    estimate = stats.auc(np.arange(20) + 100.0, np.arange(20.0))
    assert estimate.value == estimate.high == 1
    assert estimate.low < 0.9
    assert np.isnan(stats.auc(np.array([]), np.arange(3.0)).value)
    assert np.isnan(stats.auc(np.array([np.nan, 1]), np.arange(3.0)).value)


def test_bca_covers_a_skewed_statistic_more_often_than_percentiles():
    def spread(rows, x):
        return float(np.exp(x[rows]).mean())

    truth, found = np.exp(0.5), {stats.bootstrap: 0, stats.bca_bootstrap: 0}
    for seed in range(100):
        x = np.random.default_rng(seed).normal(size=40)
        for interval in found:
            estimate = interval(lambda rows, x=x: spread(rows, x), (40,), seed, 300)
            found[interval] += estimate.low <= truth <= estimate.high
    assert found[stats.bca_bootstrap] > found[stats.bootstrap]


def all_pairs(n):
    return np.array(np.triu_indices(n, 1)).T


def test_interval_of_a_mean_over_pairs_covers_it():
    pairs, truth, hits = all_pairs(40), 2 / np.sqrt(np.pi), 0
    for seed in range(300):
        x = np.random.default_rng(seed).normal(size=40)
        estimate = stats.pair_mean(np.abs(x[pairs[:, 0]] - x[pairs[:, 1]]), pairs, 40)
        hits += estimate.low <= truth <= estimate.high
    assert 0.91 <= hits / 300 <= 0.985


def test_jackknife_of_pairs_leaves_out_records_one_by_one():
    pairs = all_pairs(9)[::2]
    values = np.random.default_rng(0).normal(size=len(pairs))
    left = [values[(pairs != i).all(axis=1)].mean() for i in range(9)]
    estimate = stats.pair_mean(values, pairs, 9)
    error = np.sqrt(8 / 9 * ((left - np.mean(left)) ** 2).sum())
    assert (estimate.high - estimate.low) / 2 == pytest.approx(2.306 * error, rel=1e-3)
    assert np.isnan(stats.pair_mean(values[:0], pairs[:0], 9).value)
    assert np.isnan(stats.pair_mean(values[:1], pairs[:1], 9).low)


@pytest.mark.parametrize("value", [-0.4, 0.0, 0.1, 2.0])
def test_a_score_interval_holds_what_lies_within_its_own_standard_deviations(value):
    slope, at_zero = 0.3, 0.05
    low, high = stats.score_interval(value, slope, at_zero)
    for end in (low, high):
        assert abs(value - end) == pytest.approx(1.96 * np.sqrt(slope * max(end, 0) + at_zero), rel=1e-4)
