import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.metrics import r2_score

from mmbench.metrics._learners import learners, randomised_trees, ridge, ridge_penalty, ridge_without


def lesson(n, seed, dimensions=6):
    rng = np.random.default_rng(seed)
    known = rng.standard_normal((n, dimensions))
    answers = np.stack([known[:, 0] + known[:, 1] ** 2, 0.5 * known[:, 2]], axis=1)
    return known, answers + rng.standard_normal((n, 2))


@pytest.mark.parametrize("dimensions", [6, 90])
def test_ridge_is_sklearns_with_its_leave_one_out_penalty(dimensions):
    known, answers = lesson(60, 0, dimensions)
    fresh = lesson(9, 1, dimensions)[0]
    expected = RidgeCV(60 * np.logspace(-4, 2, 13)).fit(known, answers)
    assert ridge_penalty(known, answers) == pytest.approx(expected.alpha_ / 60)
    assert ridge(known, answers, fresh) == pytest.approx(expected.predict(fresh), abs=1e-8)


def test_leaving_out_a_group_is_fitting_anew_without_it():
    known, answers = lesson(60, 0)
    fresh = lesson(9, 1)[0]
    group = np.arange(60) % 7
    penalty = min(ridge_penalty(known, answers), 0.5)
    found = list(ridge_without(known, answers, fresh, group, 8))
    assert len(found) == 8
    for left, predicted in enumerate(found):
        kept = group != left
        expected = Ridge(penalty * kept.sum()).fit(known[kept], answers[kept]).predict(fresh)
        assert predicted == pytest.approx(expected, abs=1e-9)


def test_trees_are_as_good_as_sklearns_forest():
    known, answers = lesson(300, 0)
    fresh, truth = lesson(2000, 1)
    forest = ExtraTreesRegressor(100, min_samples_leaf=5, random_state=0).fit(known, answers)
    found = r2_score(truth, randomised_trees(known, answers, fresh, 100, 0))
    assert found == pytest.approx(r2_score(truth, forest.predict(fresh)), abs=0.02)


def test_trees_and_network_take_the_first_records_in_whatever_order():
    known, answers = lesson(100, 0)
    fresh = lesson(5, 1)[0]
    order = np.r_[np.random.default_rng(0).permutation(60), 99:59:-1]
    for name, learn in learners(5, True, 60, 3).items():
        first = learn(known, answers, fresh)
        assert first.shape == (5, 2)
        assert learn(known[order], answers[order], fresh) == pytest.approx(first, abs=1e-9), name
