"""Intervals against known answers."""

import numpy as np
import pytest

from mmbench import stats


def coverage(interval, repeats=120):
    hits = 0
    for seed in range(repeats):
        x = np.random.default_rng(seed).normal(3.0, 2.0, 80)
        estimate = interval(lambda rows, x=x: x[rows].mean(), (80,), seed)
        hits += estimate.low <= 3.0 <= estimate.high
    return hits / repeats


@pytest.mark.parametrize("interval", [stats.half_subsampling, stats.bootstrap])
def test_intervals_of_a_mean_cover_it_about_as_often_as_they_say(interval):
    # 120 repetitions of a 95 % interval: 0.88 is three standard errors below.
    assert 0.88 <= coverage(interval) <= 1.0


@pytest.mark.parametrize("interval", [stats.half_subsampling, stats.bootstrap])
def test_intervals_are_seeded(interval):
    x = np.random.default_rng(0).normal(size=50)
    first, second = (interval(lambda rows: x[rows].mean(), (50,), 7) for _ in range(2))
    assert first == second
    assert first.method


def test_too_few_records_give_no_interval():
    estimate = stats.half_subsampling(lambda rows: float(len(rows)), (4,), 0)
    assert estimate.value == 4
    assert np.isnan(estimate.low)


def test_an_undefined_statistic_gives_no_interval():
    for interval in (stats.half_subsampling, stats.bootstrap):
        estimate = interval(lambda rows: float("nan"), (20,), 0)
        assert np.isnan(estimate.value)
        assert np.isnan(estimate.high)


def test_a_proportion_has_the_exact_interval():
    # Clopper and Pearson for 10 of 1000: the textbook interval.
    estimate = stats.proportion(10, 1000)
    assert (round(estimate.low, 4), round(estimate.high, 4)) == (0.0048, 0.0183)
    assert np.isnan(stats.proportion(0, 0).value)
