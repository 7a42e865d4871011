import numpy as np
import pytest

from mmbench.metrics._conformal import p_stranger, p_values, share_within, strangeness


@pytest.mark.parametrize("m", [10, 33, 120])
@pytest.mark.parametrize("steps", [None, 2])
def test_fresh_real_records_lie_within_at_the_declared_rate(m, steps):
    rng = np.random.default_rng(m)

    def draw(n):
        values = np.abs(rng.standard_normal(n))
        return values if steps is None else np.round(values * steps)

    shares = [share_within(draw(m), draw(50)).value for _ in range(1500)]
    assert np.mean(shares) == pytest.approx(0.95, abs=4 * np.std(shares) / np.sqrt(len(shares)))


@pytest.mark.parametrize(("spread", "shift"), [(1, 0), (1.5, 0), (1, 1.5), (1, 3)])
def test_interval_covers_what_other_samples_give(spread, shift):
    rng = np.random.default_rng(0)
    found = [
        share_within(np.abs(rng.standard_normal(120)), np.abs(spread * rng.standard_normal(100) + shift))
        for _ in range(400)
    ]
    expected = np.mean([estimate.value for estimate in found])
    covered = np.mean([estimate.low <= expected <= estimate.high for estimate in found])
    assert 0.92 <= covered <= 0.995


def test_share_falls_in_proportion_to_records_that_are_far_out():
    rng = np.random.default_rng(1)
    real = np.abs(rng.standard_normal(200))
    near = np.sort(np.abs(rng.standard_normal(200)))
    base = share_within(real, near).value
    for share in (0.2, 0.5, 1.0):
        mixed = np.concatenate([np.full(round(200 * share), np.inf), rng.permutation(near)])[:200]
        assert share_within(real, mixed).value == pytest.approx(base * (1 - share), abs=0.05)


def test_p_values_rank_strangeness():
    p = p_values(np.array([1.0, 2.0, 2.0, 3.0]), np.array([0.0, 2.0, 9.0, np.inf]))
    np.testing.assert_allclose(p, [4.5 / 5, 2.5 / 5, 0.5 / 5, 0.5 / 5])


def test_rank_test_is_uniform_for_equal_laws_and_small_for_stranger_records():
    rng = np.random.default_rng(2)
    p = np.array([p_stranger(rng.random(60), rng.random(60)) for _ in range(400)])
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.035)
    assert np.median(p) == pytest.approx(0.5, abs=0.08)
    assert p_stranger(rng.random(60), rng.random(60) + 0.5) < 1e-4
    assert p_stranger(np.zeros(9), np.zeros(9)) == 1


def test_strangeness_is_that_of_the_strangest_quantity_and_keeps_to_its_side():
    train = np.column_stack([np.concatenate([-np.arange(1.0, 101), 10 * np.arange(1.0, 101)]), np.zeros(200)])
    deviations, strange = strangeness(np.array([[90.0, 0], [-90.0, 0], [0.0, 1], [np.nan, 0]]), train)
    assert deviations[1, 0] == pytest.approx(10 * deviations[0, 0], rel=0.1)
    np.testing.assert_array_equal(deviations[:, 1], [0, 0, np.inf, 0])
    np.testing.assert_array_equal(strange[2:], np.inf)


def test_scaling_or_shifting_a_quantity_changes_nothing():
    rng = np.random.default_rng(3)
    values, train = rng.standard_normal((30, 2)), rng.standard_normal((90, 2))
    before = strangeness(values, train)[1]
    after = strangeness(values * [1e3, 1] + [5, 0], train * [1e3, 1] + [5, 0])[1]
    np.testing.assert_allclose(after, before, rtol=1e-9)


def test_a_quantity_that_training_records_lack_may_be_lacking():
    rng = np.random.default_rng(4)
    train = rng.standard_normal((100, 1))
    assert strangeness(np.array([[np.nan]]), train)[1][0] == np.inf
    train[:10] = np.nan
    assert strangeness(np.array([[np.nan]]), train)[1][0] == 0
