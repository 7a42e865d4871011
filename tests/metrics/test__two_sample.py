import numpy as np
import pytest
from scipy.stats import kstest
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from mmbench.metrics._classifiers import boosted_trees, discriminant, with_products
from mmbench.metrics._two_sample import (
    FOLDS,
    canonical,
    deal,
    holm,
    mean_area,
    near_copies,
    twins,
    two_sample_test,
)


def normal(n, seed, dimensions=5):
    return np.random.default_rng(seed).standard_normal((n, dimensions))


def test_the_area_is_the_mean_of_sklearns_over_folds():
    rng = np.random.default_rng(0)
    labels = [rng.permutation(np.repeat([0, 1], [7, 5])) for _ in range(3)]
    scores = [rng.integers(0, 5, 12).astype(float) for _ in range(3)]
    expected = np.mean([roc_auc_score(*fold) for fold in zip(labels, scores, strict=True)])
    assert mean_area(labels, scores) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shape", [(60, 4), (30, 90)])
def test_the_discriminant_is_sklearns_ridge_regression_of_the_labels(shape):
    known, fresh = normal(shape[0], 0, shape[1]), normal(9, 1, shape[1])
    labels = np.arange(len(known)) % 2
    penalty = known.var(axis=0).sum()
    expected = Ridge(penalty).fit(known, labels).predict(fresh)
    assert discriminant(known, labels, fresh) == pytest.approx(expected - 0.5, abs=1e-10)


def test_trees_are_as_good_as_a_plain_pipeline_of_sklearn():
    from sklearn.ensemble import HistGradientBoostingClassifier

    known, fresh = normal(600, 0), normal(600, 1)
    labels, truth = ((points[:, 0] ** 2 + 0.3 * points[:, 1] > 1).astype(int) for points in (known, fresh))
    plain = HistGradientBoostingClassifier(random_state=0).fit(known, labels).predict_proba(fresh)[:, 1]
    found = roc_auc_score(truth, boosted_trees(known, labels, fresh, 0))
    assert found == pytest.approx(roc_auc_score(truth, plain), abs=0.03)


def test_products_do_not_outweigh_coordinates_and_far_values_do_not_outweigh_near_ones():
    points = normal(300, 0, 6)
    features = with_products(points, points)
    assert features.shape == (300, 6 + 21)
    assert features[:, :6].var(axis=0).sum() == pytest.approx(features[:, 6:].var(axis=0).sum())
    points[0, 0] = 1e9
    wild = with_products(points, normal(300, 1, 6))
    assert wild[1:, 0].std() > 0.9 * features[:, 0].std()
    assert with_products(normal(50, 0, 100), normal(50, 1, 100)).shape == (50, 40 + 820)


def test_adjusted_p_values_are_holms():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.6]) == [1, 1]


def test_labels_are_spread_evenly_and_groups_stay_whole():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 50)
    groups = np.arange(100)
    groups[60:65] = groups[10:15]
    groups = np.unique(groups, return_inverse=True)[1]
    fold = deal(labels, groups, rng)
    assert (fold[60:65] == fold[10:15]).all()
    counts = np.array([np.bincount(labels[fold == k], minlength=2) for k in range(FOLDS)])
    assert (abs(counts - 10) <= 1).all()


def test_groups_that_would_leave_a_fold_without_a_label_are_divided():
    labels = np.repeat([0, 1], 20)
    groups = np.arange(40)
    groups[20:40] = groups[0:2].repeat(10)
    fold = deal(labels, np.unique(groups, return_inverse=True)[1], np.random.default_rng(0))
    assert all(labels[fold == k].sum() == 4 for k in range(FOLDS))


def test_copies_on_both_sides_are_found_and_only_these_are_kept_together():
    real, scale = normal(40, 0), normal(80, 1)
    synthetic = normal(40, 2)
    synthetic[:3] = real[:3] + 1e-4
    synthetic[10:14] = synthetic[10]
    copies = near_copies(np.concatenate([real, synthetic]), scale, 40)
    assert (copies[40:43] == copies[:3]).all()
    assert len(np.unique(copies[50:54])) == 1
    assert len(np.unique(copies)) == 80 - 3 - 3
    groups = twins(np.repeat([0, 1], 40), copies)
    assert (groups[40:43] == groups[:3]).all()
    assert len(np.unique(groups[50:54])) == 4


def test_coincidence_among_real_records_is_no_copying():
    levels = np.random.default_rng(0).integers(0, 3, (200, 2)).astype(float)
    assert len(np.unique(near_copies(levels[:80], levels[80:], 40))) == 80
    assert len(np.unique(near_copies(normal(10, 0), normal(1, 0), 5))) == 10


def test_values_set_the_order():
    points, scale = normal(30, 0), normal(50, 1)
    rng = np.random.default_rng(2)
    columns = rng.permutation(5)
    shuffled = canonical(points[rng.permutation(30)][:, columns], scale[rng.permutation(50)][:, columns])
    assert (shuffled == canonical(points, scale)).all()


def test_equal_laws_give_one_half_and_uniform_p_values():
    verdicts = [
        two_sample_test(normal(40, 3 * s), normal(40, 3 * s + 1), normal(80, 3 * s + 2), 199, s)
        for s in range(20)
    ]
    values = np.array([verdict.auc.value for verdict in verdicts])
    error = verdicts[0].standard_error
    assert values.mean() == pytest.approx(0.5, abs=4 * error / 20**0.5)
    assert values.std() == pytest.approx(error, rel=0.4)
    assert np.mean([v.auc.low <= 0.5 <= v.auc.high for v in verdicts]) >= 0.8
    assert kstest([verdict.p for verdict in verdicts], "uniform").pvalue > 0.01


def test_the_interval_covers_what_other_samples_give_where_laws_differ():
    def verdict(seed):
        return two_sample_test(
            normal(60, 3 * seed), 0.6 * normal(60, 3 * seed + 1), normal(99, 3 * seed + 2), 199, seed
        )

    verdicts = [verdict(seed) for seed in range(15)]
    mean = np.mean([verdict.auc.value for verdict in verdicts])
    assert mean > 0.65
    assert (
        np.mean([v.auc.low <= mean <= v.auc.high for v in verdicts]) >= 0.83
    )  # 3 standard errors below 95 %
    assert np.mean([v.p <= 0.05 for v in verdicts]) > 0.5
