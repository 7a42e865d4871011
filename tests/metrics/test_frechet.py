import dataclasses

import numpy as np
import pytest
from monai.metrics.fid import get_fid_score
from scipy import linalg, stats

from mmbench.api import Cohort, Column, Evidence, Schema, Trial
from mmbench.metrics._frechet import Groups, Records, frechet_distance
from mmbench.metrics.frechet import Frechet

NAME = "frechet-distance"


def with_moments(n, d, mean, spread, seed):
    """Return a sample whose mean and (diagonal) covariance are exactly as given."""
    x = np.random.default_rng(seed).normal(size=(n, d))
    x -= x.mean(axis=0)
    x = np.linalg.qr(x)[0] * np.sqrt(n - 1)
    return x * spread + mean


def correlated(n, d, seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ np.random.default_rng(99).normal(size=(d, d)) + 3 * rng.normal(size=d)


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


def published(x, y):
    """Return the distance by the formula of pytorch-fid, with the root of the product of covariances."""
    first, second = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = linalg.sqrtm(first @ second).real
    gap = x.mean(axis=0) - y.mean(axis=0)
    return gap @ gap + np.trace(first) + np.trace(second) - 2 * np.trace(root)


def from_eigenvalues(x, y):
    """Return the distance by the formula of torch-fidelity, with the eigenvalues of that product."""
    first, second = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    roots = np.sqrt(np.linalg.eigvals(first @ second).astype(complex)).real
    gap = x.mean(axis=0) - y.mean(axis=0)
    return gap @ gap + np.trace(first) + np.trace(second) - 2 * roots.sum()


@pytest.mark.parametrize("d", [3, 40])
def test_published_implementations_agree_where_records_are_many(d):
    x, y = correlated(3 * d, d, 0), correlated(4 * d, d, 1)
    assert frechet_distance(x, y) == pytest.approx(published(x, y), rel=1e-5)
    assert frechet_distance(x, y) == pytest.approx(from_eigenvalues(x, y), rel=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_monai_agrees_where_records_are_many():
    torch = pytest.importorskip("torch")
    x, y = correlated(100, 20, 0), correlated(80, 20, 1)
    expected = float(get_fid_score(torch.tensor(x), torch.tensor(y)))
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-4)


def test_torch_fidelity_agrees_where_records_are_many():
    metric_fid = pytest.importorskip("torch_fidelity.metric_fid", reason="torch-fidelity needs torchvision")
    x, y = correlated(100, 20, 0), correlated(80, 20, 1)
    statistics = [{"mu": z.mean(axis=0), "sigma": np.cov(z, rowvar=False)} for z in (x, y)]
    found = metric_fid.fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"]
    assert frechet_distance(x, y) == pytest.approx(found, rel=1e-5)


@pytest.mark.parametrize(("n", "d"), [(40, 8), (40, 60)])
def test_records_and_groups_give_the_distance_of_their_subsets(n, d):
    x, y = correlated(n, d, 0), correlated(n, d, 1)
    both = np.concatenate([x, y])
    rng = np.random.default_rng(0)
    for _ in range(3):
        first, second = np.array_split(rng.permutation(2 * n)[:50], 2)
        expected = frechet_distance(both[first], both[second])
        for units in (Records.of(x, y), Groups.of(x, y)):
            assert units.distance(first, second) == pytest.approx(expected, rel=1e-6)


def test_groups_of_many_records_are_whole_samples():
    x, y = correlated(640, 6, 0), correlated(640, 6, 1)
    groups = Groups.of(x, y)
    assert len(groups) == 64
    distance = groups.distance(np.arange(32), np.arange(32, 64))
    assert distance == pytest.approx(frechet_distance(x, y), rel=1e-9)


@pytest.mark.parametrize(("n", "d"), [(40, 6), (12, 30)])
def test_potentials_are_derivatives(n, d):
    x, y = correlated(n, d, 0), correlated(n, d, 1)
    first, second = np.arange(n), np.arange(n, 2 * n)
    step = 1e-4

    def weighted(i):
        """Return the distance with more weight on record i, by the definition with population covariances."""
        weights = np.full(n, (1 - step) / n)
        weights[i] += step
        mean = weights @ x
        a = (x - mean) * np.sqrt(weights)[:, None]
        b = (y - y.mean(axis=0)) / np.sqrt(n)
        gap = mean - y.mean(axis=0)
        return gap @ gap + (a**2).sum() - 2 * np.linalg.svd(a @ b.T, compute_uv=False).sum()

    numeric = np.array([weighted(i) for i in range(n)])
    for units in (Records.of(x, y), Groups.of(x, y)):
        found = units.potentials(first, second)
        slope = np.polyfit(found - found.mean(), (numeric - numeric.mean()) / step, 1)[0]
        assert slope == pytest.approx(1, abs=0.1)
        assert np.corrcoef(found, numeric)[0, 1] > 0.999


def trial_of(x, y, train=None, seed=0):
    """Return a trial with features of shape (n, d) in one block."""
    if train is None:
        train = np.random.default_rng(99).normal(size=(4 * x.shape[1] + 200, x.shape[1]))
    schema = Schema((Column("c", "continuous"),))
    sides = [
        Evidence(Cohort("v", schema, np.arange(len(f)).astype(str)), features=f[:, None])
        for f in (x, y, train)
    ]
    return Trial(*sides, seed)


def by_item(trial, metric=None):
    return {score.item: score for score in (metric or Frechet(permutations=19)).scores(trial)}


@pytest.mark.parametrize("d", [8, 64])
def test_the_perfect_spread_is_best(d):
    scales = (0.7, 0.85, 1.0, 1.2)
    values = {scale: [] for scale in scales}
    for seed in range(4):
        x, y = np.random.default_rng(seed).normal(size=(2, 100, d))
        for scale in scales:
            values[scale].append(by_item(trial_of(x, scale * y, seed=seed))[""].value)
    means = [np.mean(values[scale]) for scale in scales]
    assert means[0] > means[1] > means[2] < means[3]
    assert abs(means[2]) < 3 * np.std(values[1.0]) / np.sqrt(4) + 0.05


def test_the_uncorrected_distance_prefers_too_little_spread():
    plug_ins = {1.0: [], 0.85: []}
    for seed in range(2):
        x, y = np.random.default_rng(seed).normal(size=(2, 100, 64))
        for scale, values in plug_ins.items():
            values.append(by_item(trial_of(x, scale * y))["plug-in"].value)
    assert np.mean(plug_ins[0.85]) < np.mean(plug_ins[1.0])


@pytest.mark.parametrize("factor", [0.5, 2, 10])
def test_sizes_may_differ(factor):
    values = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        x, y = rng.normal(size=(80, 10)), rng.normal(size=(int(80 * factor), 10))
        values.append(by_item(trial_of(x, y, seed=seed))[""].value)
    assert abs(np.mean(values)) < 3.5 * np.std(values) / np.sqrt(12)


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.8, 1.0), (0.0, 0.7)])
def test_interval_covers_what_another_sample_gives(shift, scale):
    found = []
    for seed in range(100):
        x, y = np.random.default_rng(seed).normal(size=(2, 60, 6))
        found.append(by_item(trial_of(x, scale * y + shift * np.eye(6)[0], seed=seed))[""])
    truth = np.mean([score.value for score in found])
    # 100 repetitions of a 95 % interval: 0.88 is three standard errors below.
    assert np.mean([score.low <= truth <= score.high for score in found]) >= 0.88


def test_p_values_are_uniform_between_equal_laws_and_small_between_others():
    p, moved = [], []
    for seed in range(80):
        x, y = np.random.default_rng(seed).normal(size=(2, 40, 4))
        metric = Frechet(permutations=39, splits=2)
        p.append(by_item(trial_of(x, y, seed=seed), metric)["p"].value)
        if seed < 10:
            moved.append(by_item(trial_of(x, y + 1, seed=seed), metric)["p"].value)
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert max(moved) < 0.03


def test_extrapolation_comes_closer_to_the_truth_than_the_uncorrected_distance():
    x, y = np.random.default_rng(0).normal(size=(2, 1000, 20))
    found = by_item(trial_of(x, y + 0.2))
    truth = 20 * 0.2**2
    assert abs(found["infinity"].value - truth) < abs(found["plug-in"].value - truth)
    assert found[""].value == pytest.approx(truth, abs=0.25)


def test_order_of_records_and_features_rotation_and_units_change_nothing():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 8)), rng.normal(size=(50, 8)) + 0.3
    turn = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    white = with_moments(200, 8, 0, 1, 5)
    value = by_item(trial_of(x, y, white))[""].value
    for changed in (
        trial_of(x[::-1], rng.permutation(y), white),
        trial_of(x[:, ::-1], y[:, ::-1], white[:, ::-1]),
        trial_of(x @ turn, y @ turn, white @ turn),
        trial_of(x * 100 - 7, y * 100 - 7, white * 100 - 7),
        trial_of(*(np.column_stack([f, np.ones(len(f))]) for f in (x, y, white))),
    ):
        assert by_item(changed)[""].value == pytest.approx(value, abs=1e-9)


def test_blocks_with_different_numbers_of_varying_features_are_averaged(headline):
    rng = np.random.default_rng(0)
    x, y, train = (rng.normal(size=(n, 2, 40)) for n in (50, 50, 200))
    for side in (x, y, train):
        side[:, 1, 4:] = 1
    schema = Schema((Column("c", "continuous"),))
    trial = Trial(
        *(Evidence(Cohort("v", schema, np.arange(len(f)).astype(str)), features=f) for f in (x, y, train)), 0
    )
    score = headline(Frechet(), trial)[NAME]
    assert score.low < 0 < score.high


def test_distortion_grows_the_score(people, headline):
    trial = people.trial()
    real = headline(Frechet(), trial)[NAME]
    assert real.low < 0 < real.high
    values = []
    for shift in (1, 2, 4):
        moved = dataclasses.replace(trial.synthetic, features=trial.synthetic.features + shift)
        values.append(headline(Frechet(), people.trial(moved))[NAME].value)
    assert real.high < values[0] < values[1] < values[2]


def test_copies_of_the_reference_have_no_uncorrected_distance(people):
    trial = people.trial()
    copies = dataclasses.replace(trial, synthetic=trial.reference)
    assert by_item(copies)["plug-in"].value == pytest.approx(0, abs=1e-8)
    assert by_item(copies)[""].value < 0


def test_the_same_seed_gives_the_same_scores():
    x, y = np.random.default_rng(0).normal(size=(2, 40, 6))
    assert by_item(trial_of(x, y)) == by_item(trial_of(x, y))
    assert by_item(trial_of(x, y))[""] != by_item(trial_of(x, y, seed=1))[""]


def test_degenerate_input_gives_a_reason(people, headline):
    trial = people.trial()
    flat = dataclasses.replace(trial.train, features=np.ones_like(trial.train.features))
    broken = dataclasses.replace(trial.synthetic, features=np.full_like(trial.synthetic.features, np.nan))
    far = dataclasses.replace(trial.synthetic, features=trial.synthetic.features * 1e200)
    for bad, reason in (
        (dataclasses.replace(trial, train=flat), "no image feature varies"),
        (people.trial(broken), "not finite"),
        (people.trial(far), "too far out"),
        (people.trial(people.draw(9, 1)), "9 records"),
        (people.trial(Evidence(trial.synthetic.cohort)), "no image features"),
    ):
        score = headline(Frechet(), bad)[NAME]
        assert np.isnan(score.value)
        assert reason in score.reason
    collapsed = np.ones_like(trial.synthetic.features) * trial.synthetic.features[:1]
    score = headline(Frechet(), people.trial(dataclasses.replace(trial.synthetic, features=collapsed)))[NAME]
    assert score.low > 0
