import numpy as np
import pytest
from scipy.spatial.distance import cdist

from mmbench.api import Trial
from mmbench.metrics._neighbours import kth_nearest
from mmbench.metrics.alpha_precision import (
    AlphaPrecision,
    Authenticity,
    alpha_precision,
    authentic,
    beta_recall,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_alpha_precision_is_one_for_equal_laws_and_falls_with_scale_and_shift(rng):
    real, fresh = rng.normal(size=(2, 2000, 4))
    value = alpha_precision(real, fresh)
    assert value == pytest.approx(1, abs=0.05)
    for other in (0.5 * fresh, 2 * fresh, fresh + 2):
        assert alpha_precision(real, other) < value - 0.2
    assert alpha_precision(real, fresh + 1000) == pytest.approx(0, abs=0.05)
    assert alpha_precision(real, real) == pytest.approx(1, abs=1e-3)


def test_beta_recall_is_one_half_for_equal_laws_and_one_for_copies(rng):
    real, fresh = rng.normal(size=(2, 1000, 4))
    nearest = kth_nearest(cdist(real, real), 1)
    assert beta_recall(nearest, cdist(real, fresh), fresh) == pytest.approx(0.5, abs=0.06)
    assert beta_recall(nearest, cdist(real, real), real) == pytest.approx(1, abs=1e-2)
    dropped = np.abs(fresh)
    assert beta_recall(nearest, cdist(real, dropped), dropped) < 0.3


def test_authenticity_matches_brute_force(rng):
    train, points = rng.normal(size=(60, 3)), rng.normal(size=(40, 3))
    result = authentic(points, train, kth_nearest(cdist(train, train), 1))
    for point, flag in zip(points, result, strict=True):
        gaps = [np.linalg.norm(point - other) for other in train]
        i = int(np.argmin(gaps))
        own = min(np.linalg.norm(train[i] - other) for j, other in enumerate(train) if j != i)
        assert flag == (gaps[i] > own)


def test_one_training_record_repeated_is_not_authentic(rng):
    train = rng.normal(size=(100, 3))
    assert not authentic(np.repeat(train[:1], 50, axis=0), train, kth_nearest(cdist(train, train), 1)).any()


def test_real_records_score_near_their_ideals_and_copies_have_no_authenticity(people, headline):
    draws = [
        headline(AlphaPrecision(), trial) | headline(Authenticity(), trial)
        for trial in (people.trial(seed=seed) for seed in range(0, 18, 3))
    ]
    means = {name: np.mean([draw[name].value for draw in draws]) for name in draws[0]}
    assert means["alpha-precision"] == pytest.approx(1, abs=0.15)
    assert means["beta-recall"] == pytest.approx(0.5, abs=0.1)
    assert means["authenticity"] == pytest.approx(1, abs=0.1)
    copies = headline(Authenticity(), people.trial(people.draw(360, 0).take(np.arange(120))))
    assert copies["authenticity"].value == 0


def test_sizes_and_orders_do_not_matter(people, headline):
    trial = people.trial(people.draw(200, 9))

    def both(trial):
        return headline(AlphaPrecision(), trial) | headline(Authenticity(), trial)

    first = both(trial)
    turned = both(people.map_trial(trial, people.columns_reversed))
    shuffled = people.map_trial(
        trial, lambda side: side.take(np.random.default_rng(1).permutation(len(side)))
    )
    for name, score in both(shuffled).items():
        assert np.isfinite(score.value)
        assert score.value == pytest.approx(first[name].value, abs=1e-9)
        assert turned[name].value == pytest.approx(first[name].value, abs=1e-9)


def test_degenerate_input_gives_a_reason(people, headline):
    trial = people.trial()
    flat = people.with_table(trial.reference, trial.reference.cohort.rows.iloc[[0] * len(trial.reference)])
    for score in headline(AlphaPrecision(), Trial(flat, trial.synthetic, trial.train, 0)).values():
        assert np.isnan(score.value)
        assert "no column varies" in score.reason
    alone = Trial(trial.reference, trial.synthetic, trial.train.take(np.array([0])), 0)
    score = headline(Authenticity(), alone)["authenticity"]
    assert np.isnan(score.value)
    assert "two training records" in score.reason
