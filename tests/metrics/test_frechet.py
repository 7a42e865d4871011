import dataclasses

import numpy as np
import pytest

from mmbench.api import Cohort, Column, Evidence, Schema, Trial
from mmbench.metrics.frechet import Frechet, _cross_by_features, _cross_by_records, frechet_distance

NAME = "frechet-distance"


def with_moments(n, d, mean, spread, seed):
    """Return a sample whose mean and (diagonal) covariance are exactly as given."""
    x = np.random.default_rng(seed).normal(size=(n, d))
    x -= x.mean(axis=0)
    x = np.linalg.qr(x)[0] * np.sqrt(n - 1)
    return x * spread + mean


@pytest.mark.parametrize("n", [12, 200])
def test_closed_form_for_diagonal_covariances(n):
    d = 10
    rng = np.random.default_rng(0)
    mean, first, second = rng.normal(size=d), rng.uniform(0.5, 2, d), rng.uniform(0.5, 2, d)
    x, y = with_moments(n, d, 0, first, 1), with_moments(n, d, mean, second, 2)
    expected = (mean**2).sum() + ((first - second) ** 2).sum()
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("n", [20, 300])
def test_identical_samples_are_at_nothing(n):
    x = np.random.default_rng(0).normal(size=(n, 64))
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-8)


def test_both_forms_agree_and_so_do_both_orders():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(80, 30)) / 9, (rng.normal(size=(60, 30)) @ rng.normal(size=(30, 30))) / 30
    assert _cross_by_records(a, b) == pytest.approx(_cross_by_features(a, b), rel=1e-8)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)


def trial_of(x, y):
    schema = Schema((Column("c", "continuous"),))
    sides = [
        Evidence(Cohort("v", schema, np.arange(len(f)).astype(str)), features=f[:, None]) for f in (x, y)
    ]
    return Trial(sides[0], sides[1], sides[0], 0)


def test_a_generator_that_varies_too_little_does_not_beat_a_perfect_one(headline):
    rng = np.random.default_rng(0)
    scales = (1.0, 0.85)
    corrected, plug_in = ({scale: [] for scale in scales} for _ in range(2))
    for _ in range(4):
        x, y = rng.normal(size=(2, 100, 64))
        for scale in scales:
            whole, naive = list(Frechet(repeats=10).scores(trial_of(x, scale * y)))
            corrected[scale].append(whole.value)
            plug_in[scale].append(naive.value)
    assert np.mean(plug_in[0.85]) < np.mean(plug_in[1.0])
    assert np.mean(corrected[1.0]) == pytest.approx(0, abs=0.6)
    assert np.mean(corrected[0.85]) > np.mean(corrected[1.0]) + 0.5


def test_value_does_not_depend_on_units_of_features_and_grows_with_distortion(people, headline):
    trial = people.trial()
    real = headline(Frechet(), trial)[NAME]
    assert real.low < 0 < real.high
    scaled = people.map_trial(trial, lambda side: dataclasses.replace(side, features=side.features * 100 - 7))
    assert headline(Frechet(), scaled)[NAME].value == pytest.approx(real.value, abs=1e-6)
    values = []
    for shift in (1, 2, 4):
        moved = dataclasses.replace(trial.synthetic, features=trial.synthetic.features + shift)
        values.append(headline(Frechet(), people.trial(moved))[NAME].value)
    assert real.high < values[0] < values[1] < values[2]


def test_sizes_may_differ_and_degenerate_input_gives_a_reason(people, headline):
    trial = people.trial()
    assert abs(headline(Frechet(), people.trial(people.draw(61, 9)))[NAME].value) < 3
    flat = dataclasses.replace(trial.reference, features=np.ones_like(trial.reference.features))
    broken = dataclasses.replace(trial.synthetic, features=np.full_like(trial.synthetic.features, np.nan))
    for bad, reason in (
        (Trial(flat, trial.synthetic, trial.train, 0), "no image feature varies"),
        (people.trial(broken), "not finite"),
        (people.trial(people.draw(9, 1)), "9 records"),
        (people.trial(Evidence(trial.synthetic.cohort)), "no image features"),
    ):
        score = headline(Frechet(), bad)[NAME]
        assert np.isnan(score.value)
        assert reason in score.reason
