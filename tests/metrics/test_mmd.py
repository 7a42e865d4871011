import dataclasses
import tracemalloc

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist, pdist
from sklearn.metrics import pairwise

from mmbench.api import Cohort, Column, Evidence, Schema, Trial
from mmbench.metrics._mmd import (
    averaged,
    cubic_kernel,
    distance_kernel,
    equality_p,
    gaussian_kernel,
    median_distance,
    rbf_kernel,
    squared_mmd,
)
from mmbench.metrics._table_space import TableSpace
from mmbench.metrics.mmd import ImageMMD, TableMMD

IMAGE = ("image-mmd", "kid")


def brute(xx, yy, xy):
    """Return the unbiased estimate from whole kernel matrices."""
    n, m = xy.shape
    own = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return own - 2 * xy.mean()


def reference_rbf(a, b, sigma):
    return np.mean([pairwise.rbf_kernel(a, b, gamma=1 / (2 * (f * sigma) ** 2)) for f in (0.5, 1, 2)], axis=0)


def reference_cubic(a, b):
    return pairwise.polynomial_kernel(a, b, degree=3, gamma=1 / a.shape[1], coef0=1)


def trial_of(x, y, train=None):
    """Return a trial with features of shape (n, blocks, d); the training records are normal by default."""
    if train is None:
        train = np.random.default_rng(99).normal(size=(3 * len(x), *x.shape[1:]))
    schema = Schema((Column("c", "continuous"),))
    sides = [Evidence(Cohort("v", schema, np.arange(len(f)).astype(str)), features=f) for f in (x, y, train)]
    return Trial(*sides, 0)


def normal(seed, n=80, m=60, d=5, shift=0.0, scale=1.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), scale * rng.normal(size=(m, d)) + shift


def test_estimate_is_that_of_whole_kernel_matrices():
    x, y = normal(0, shift=0.4)
    expected = brute(*(reference_rbf(a, b, 3.0) for a, b in ((x, x), (y, y), (x, y))))
    assert squared_mmd(x, y, gaussian_kernel(3.0)).value == pytest.approx(expected, abs=1e-10)
    expected = brute(*(reference_cubic(a, b) for a, b in ((x, x), (y, y), (x, y))))
    assert squared_mmd(x, y, cubic_kernel).value == pytest.approx(expected, abs=1e-10)


def test_torch_fidelity_gives_the_same_kernel_distance():
    metric_kid = pytest.importorskip("torch_fidelity.metric_kid", reason="torch-fidelity needs torchvision")
    x, y = normal(0, 50, 50, shift=0.4)
    xx, yy, xy = (reference_cubic(a, b) for a, b in ((x, x), (y, y), (x, y)))
    expected = metric_kid.mmd2(xx, xy, yy, mmd_est="unbiased")
    assert squared_mmd(x, y, cubic_kernel).value == pytest.approx(expected, rel=1e-6)


def test_energy_distance_is_the_definition_and_scipys_on_a_line():
    x, y = normal(3, 40, 30, 4, shift=0.6)
    mean = 2 * cdist(x, y).mean() - pdist(x).mean() - pdist(y).mean()
    assert squared_mmd(x, y, distance_kernel).value == pytest.approx(mean, rel=1e-10)
    # scipy's is the root of the biased one, in which each record's distance of 0 from itself counts.
    x, y = x[:, :1], y[:, :1]
    biased = squared_mmd(x, y, distance_kernel).value + pdist(x).mean() / 40 + pdist(y).mean() / 30
    assert biased == pytest.approx(stats.energy_distance(x[:, 0], y[:, 0]) ** 2, rel=1e-10)


@pytest.mark.parametrize("shift", [0.0, 0.6])
def test_interval_of_the_energy_distance_covers_it(shift):
    found = [squared_mmd(*normal(seed, 60, 60, 3, shift), distance_kernel) for seed in range(200)]
    truth = np.mean([e.value for e in found])
    assert np.mean([e.low <= truth <= e.high for e in found]) >= 0.9


def test_p_values_are_uniform_between_equal_laws_and_small_between_others():
    kernels = [rbf_kernel(3.0 * factor) for factor in (0.25, 1, 4)]
    p = [equality_p(*normal(seed, 25, 30), kernels, 99, np.random.default_rng(seed)) for seed in range(200)]
    assert stats.kstest(p, "uniform").pvalue > 0.01
    for shift, scale in ((1.0, 1.0), (0.0, 0.5)):
        x, y = normal(0, 40, 40, shift=shift, scale=scale)
        assert equality_p(x, y, kernels, 99, np.random.default_rng(0)) <= 0.02


def test_p_needs_only_one_kernel_that_sees_the_difference():
    x, y = normal(1, 60, 60, 2)
    y = np.round(y)  # a lattice: seen by a narrow kernel alone
    wide, narrow = [rbf_kernel(10.0)], [rbf_kernel(10.0), rbf_kernel(0.1)]
    rng = np.random.default_rng(0)
    assert equality_p(x, y, wide, 99, rng) > 0.05
    assert equality_p(x, y, narrow, 99, rng) <= 0.02
    assert equality_p(x, x[:30], [lambda a, b: np.ones((len(a), len(b)))], 99, rng) == 1


def test_image_scores_are_those_of_the_mean_kernel_over_blocks(headline):
    rng = np.random.default_rng(0)
    x, y, train = (rng.gamma(shape, size=(n, 3, 6)) for shape, n in ((2, 50), (3, 40), (2, 90)))
    z, w = ((f - train.mean(axis=0)) / train.std(axis=0, ddof=1) for f in (x, y))
    scores = headline(ImageMMD(), trial_of(x, y, train))
    for name, kernel in (
        ("image-mmd", lambda a, b, block: reference_rbf(a, b, np.median(pdist(z[:, block])))),
        ("kid", lambda a, b, block: reference_cubic(a, b)),
    ):
        expected = np.mean(
            [brute(*(kernel(a[:, i], b[:, i], i) for a, b in ((z, z), (w, w), (z, w)))) for i in range(3)]
        )
        assert scores[name].value == pytest.approx(expected, abs=1e-10)


def test_table_score_is_that_of_the_rbf_kernel_on_the_table_space(people, headline):
    trial = people.trial(people.draw(70, 9))
    space = TableSpace.fit(people.schema, trial.train.cohort.rows)
    x, y = (space.embed(side.cohort.rows) for side in (trial.reference, trial.synthetic))
    sigma = np.median(pdist(x))
    expected = brute(*(reference_rbf(a, b, sigma) for a, b in ((x, x), (y, y), (x, y))))
    assert headline(TableMMD(), trial)["table-mmd"].value == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("tile", [1, 7, 33])
def test_tiles_change_nothing(tile):
    x, y = normal(1, shift=0.3)
    kernel = averaged([gaussian_kernel(2.0), cubic_kernel], [slice(0, 2), slice(2, 5)])
    whole, tiled = squared_mmd(x, y, kernel), squared_mmd(x, y, kernel, tile)
    assert [tiled.value, tiled.low, tiled.high] == pytest.approx(
        [whole.value, whole.low, whole.high], abs=1e-12
    )


def test_memory_does_not_grow_with_the_square_of_the_sample():
    x, y = normal(0, 3000, 3000, 2)
    tracemalloc.start()
    squared_mmd(x, y, gaussian_kernel(1.0), tile=128)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.05 * 8 * 3000**2


@pytest.mark.parametrize("kernel", [gaussian_kernel(2.5), cubic_kernel])
@pytest.mark.parametrize(("n", "m"), [(20, 20), (20, 55)])
def test_unbiased_at_any_number_of_records(kernel, n, m):
    values = [squared_mmd(*normal(seed, n, m), kernel).value for seed in range(300)]
    assert min(values) < 0
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(300)


@pytest.mark.parametrize(("n", "m"), [(20, 20), (60, 30)])
def test_scores_of_equal_laws_are_nothing_on_average(headline, n, m):
    rng = np.random.default_rng(0)
    draws = [
        headline(ImageMMD(), trial_of(*(rng.normal(size=(size, 2, 24)) for size in (n, m, 2 * n))))
        for _ in range(200)
    ]
    for name in IMAGE:
        values = [scores[name].value for scores in draws]
        assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(200)


def test_expectation_does_not_depend_on_the_number_of_records():
    kernel = gaussian_kernel(2.5)
    small = [squared_mmd(*normal(seed, 20, 20, shift=0.5), kernel).value for seed in range(200)]
    large = [squared_mmd(*normal(seed, 200, 200, shift=0.5), kernel).value for seed in range(40)]
    error = np.hypot(np.std(small) / np.sqrt(200), np.std(large) / np.sqrt(40))
    assert abs(np.mean(small) - np.mean(large)) < 3 * error


# Expectations under normal laws of variance I and s^2 I with means apart by ``shift`` in every coordinate.
@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.15, 1.0), (0.5, 1.0), (0.0, 0.7)])
@pytest.mark.parametrize(("n", "m"), [(60, 60), (80, 40)])
def test_interval_covers_the_closed_form(n, m, shift, scale):
    d, sigma, repeats = 5, 2.5, 400

    def expected(variance, gap):
        terms = []
        for s in (sigma / 2, sigma, 2 * sigma):
            total = s**2 + variance
            terms.append((s**2 / total) ** (d / 2) * np.exp(-d * gap**2 / (2 * total)))
        return np.mean(terms)

    truth = expected(2, 0) + expected(2 * scale**2, 0) - 2 * expected(1 + scale**2, shift)
    estimates = [
        squared_mmd(*normal(seed, n, m, d, shift, scale), gaussian_kernel(sigma)) for seed in range(repeats)
    ]
    covered = np.mean([e.low <= truth <= e.high for e in estimates])
    assert 0.91 <= covered <= 0.98


def test_interval_has_the_true_width_where_records_differ_much():
    estimates = [squared_mmd(*normal(seed, shift=0.8), gaussian_kernel(2.5)) for seed in range(150)]
    spread = np.std([e.value for e in estimates], ddof=1)
    assert np.mean([e.high - e.low for e in estimates]) / (2 * 1.96) == pytest.approx(spread, rel=0.15)


def test_a_growing_shift_grows_the_scores(headline):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(100, 2, 16)), rng.normal(size=(100, 2, 16))
    scores = [headline(ImageMMD(), trial_of(x, y + shift)) for shift in (0, 0.25, 0.5, 1, 2, 4)]
    for name in IMAGE:
        assert (np.diff([s[name].value for s in scores]) > 0).all()
        assert scores[0][name].low < 0 < scores[0][name].high
        assert scores[2][name].low > 0
    assert 0.8 < scores[-1]["image-mmd"].value < 2


def test_the_perfect_spread_is_best(headline):
    rng = np.random.default_rng(0)
    scales = (0.5, 0.7, 0.85, 1.0, 1.2, 1.5)
    values = {(name, s): [] for name in IMAGE for s in scales}
    for _ in range(5):
        x, y = rng.normal(size=(2, 100, 1, 64))
        for s in scales:
            for name, score in headline(ImageMMD(), trial_of(x, s * y)).items():
                values[name, s].append(score.value)
    for name in IMAGE:
        means = [np.mean(values[name, s]) for s in scales]
        assert np.argmin(means) == scales.index(1.0)
        assert (np.diff(means[:4]) < 0).all()
        assert (np.diff(means[3:]) > 0).all()


def test_rows_that_vary_too_little_or_are_shifted_or_broken_do_not_beat_fresh_ones(people, headline):
    found = {name: [] for name in ("real", "calm", "shifted", "far", "broken")}
    for seed in range(0, 30, 3):
        trial = people.trial(seed=seed)
        rows = trial.synthetic.cohort.rows
        numbers = rows[["age", "bmi", "hba1c"]]
        for name, table in (
            ("real", rows),
            ("calm", rows.assign(**(numbers.mean() + 0.6 * (numbers - numbers.mean())))),
            ("shifted", rows.assign(bmi=rows["bmi"] + 3)),
            ("far", rows.assign(bmi=rows["bmi"] + 8)),
            ("broken", people.columns_permuted(trial.synthetic).cohort.rows),
        ):
            changed = people.trial(people.with_table(trial.synthetic, table), seed=seed)
            found[name].append(headline(TableMMD(), changed)["table-mmd"].value)
    means = {name: np.mean(values) for name, values in found.items()}
    assert abs(means["real"]) < 3 * np.std(found["real"]) / np.sqrt(10) + 1e-4
    assert means["real"] < min(means["calm"], means["broken"])
    assert means["real"] < means["shifted"] < means["far"]


def test_order_of_rows_and_columns_and_units_change_nothing(people, headline):
    trial = people.trial()
    image, table = headline(ImageMMD(), trial), headline(TableMMD(), trial)["table-mmd"]
    order = np.random.default_rng(0).permutation(120)
    mixed = Trial(trial.reference.take(order), trial.synthetic.take(order[::-1]), trial.train, trial.seed)
    assert headline(TableMMD(), mixed)["table-mmd"].value == pytest.approx(table.value, abs=1e-10)
    for name in IMAGE:
        assert headline(ImageMMD(), mixed)[name].value == pytest.approx(image[name].value, abs=1e-10)

    def turned(side):
        return dataclasses.replace(side, features=side.features[:, ::-1, ::-1] * 1000 - 7)

    for name in IMAGE:
        score = headline(ImageMMD(), people.map_trial(trial, turned))[name]
        assert score.value == pytest.approx(image[name].value, abs=1e-9)

    schema = Schema(tuple(people.schema)[::-1])

    def reordered(side):
        rows = side.cohort.rows.assign(bmi=lambda r: r["bmi"] * 1000)[[c.name for c in schema]]
        return dataclasses.replace(side, cohort=dataclasses.replace(side.cohort, schema=schema, table=rows))

    score = headline(TableMMD(), people.map_trial(trial, reordered))["table-mmd"]
    assert score.value == pytest.approx(table.value, abs=1e-10)


def test_a_constant_feature_and_a_constant_column_change_nothing(headline):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 60, 2, 5))
    wider = [np.concatenate([f, np.full((60, 2, 1), 3.0)], axis=2) for f in (x, y)]
    plain = headline(ImageMMD(), trial_of(x, y, x))
    for name, score in headline(ImageMMD(), trial_of(*wider, wider[0])).items():
        assert score.value == pytest.approx(plain[name].value, abs=1e-12)


def test_sizes_may_differ(people, headline):
    trial = people.trial(n=100)
    for n in (12, 50, 200, 1000):
        other = dataclasses.replace(trial, synthetic=people.draw(n, 9))
        for metric in (ImageMMD(), TableMMD()):
            for score in headline(metric, other).values():
                assert score.low < score.value < score.high
                assert score.low < 0.2 * score.high


def test_one_outlier_moves_bounded_kernels_little(people, headline):
    trial = people.trial()
    features = trial.synthetic.features.copy()
    features[0] += 1e4
    rows = trial.synthetic.cohort.rows
    rows = rows.assign(bmi=rows["bmi"].where(np.arange(120) > 0, 1e6))
    moved = people.with_table(dataclasses.replace(trial.synthetic, features=features), rows)
    for metric, name in ((ImageMMD(), "image-mmd"), (TableMMD(), "table-mmd")):
        before = headline(metric, trial)[name].value
        after = headline(metric, dataclasses.replace(trial, synthetic=moved))[name].value
        assert abs(after - before) < 0.05


def test_duplicates_count_as_records():
    x, y = normal(2, 40, 30)
    kernel = gaussian_kernel(2.5)
    twice = np.repeat(y, 2, axis=0)
    own = kernel(y, y)
    mean = (own.sum() - 30) / (30 * 29)
    with_copies = (4 * 30 * 29 * mean + 2 * 30) / (60 * 59)
    gap = squared_mmd(x, twice, kernel).value - squared_mmd(x, y, kernel).value
    assert gap == pytest.approx(with_copies - mean, abs=1e-12)


def test_copies_of_the_reference_fall_below_zero_by_a_known_amount():
    x, _ = normal(2, 40)
    kernel = gaussian_kernel(2.5)
    mean = (kernel(x, x).sum() - 40) / (40 * 39)
    estimate = squared_mmd(x, x.copy(), kernel)
    assert estimate.value == pytest.approx(2 / 40 * (mean - 1), abs=1e-12)
    assert estimate.low <= estimate.value <= estimate.high


def test_collapsed_synthetic_records_score_badly_also_far_out(headline):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2, 8))
    for place in (0.0, 1e6):
        collapsed = np.full((60, 2, 8), place) + rng.normal(size=8)
        score = headline(ImageMMD(), trial_of(x, collapsed))["image-mmd"]
        assert score.low > 0.1
    # Far out and all alike: the kernel is 1 among the synthetic records and 0 across.
    close = headline(ImageMMD(), trial_of(x, x + 1e6))["image-mmd"].value / 2
    assert score.value == pytest.approx(1 + close, abs=1e-6)


def test_median_is_that_of_all_pairs_and_falls_back_where_most_are_alike():
    x, _ = normal(0, 300)
    assert median_distance(x, 0) == pytest.approx(np.median(pdist(x)))
    rare = np.zeros((40, 1))
    rare[0] = 1
    assert median_distance(rare, 0) == pytest.approx(np.sqrt(39 / (40 * 39 / 2)))


def test_large_samples_are_capped_by_the_seed(people, headline):
    trial = people.trial(n=150)
    capped = headline(TableMMD(max_records=60), trial)["table-mmd"]
    assert capped == headline(TableMMD(max_records=60), trial)["table-mmd"]
    other = dataclasses.replace(trial, seed=5)
    assert capped != headline(TableMMD(max_records=60), other)["table-mmd"]
    assert list(ImageMMD().scores(trial)) == list(ImageMMD().scores(trial))


@pytest.mark.parametrize("metric", [ImageMMD(), TableMMD()])
def test_too_few_records_give_a_reason(metric, people, headline):
    for n in (0, 1, 2, 7):
        trial = people.trial()
        short = dataclasses.replace(trial, synthetic=trial.synthetic.take(np.arange(n)))
        for score in headline(metric, short).values():
            assert np.isnan(score.value)
            assert f"{n} records" in score.reason
    fewest = dataclasses.replace(trial, synthetic=trial.synthetic.take(np.arange(8)))
    assert all(np.isfinite(score.value) for score in headline(metric, fewest).values())


def test_degenerate_input_gives_a_reason(people, headline):
    trial = people.trial()

    def with_features(side, features):
        return dataclasses.replace(side, features=features)

    flat = np.ones_like(trial.reference.features)
    holes = trial.synthetic.features.copy()
    holes[3, 0, 0] = np.nan
    huge = with_features(trial.synthetic, trial.synthetic.features * 1e120)
    no_train = with_features(trial.train, np.ones_like(trial.train.features))
    for bad, reason in (
        (
            dataclasses.replace(trial, reference=with_features(trial.reference, flat)),
            "reference records are alike",
        ),
        (dataclasses.replace(trial, train=no_train), "no image feature varies"),
        (people.trial(with_features(trial.synthetic, holes)), "not finite"),
        (people.trial(Evidence(trial.synthetic.cohort)), "no image features"),
    ):
        for score in headline(ImageMMD(), bad).values():
            assert np.isnan(score.value)
            assert reason in score.reason
    far = headline(ImageMMD(), people.trial(huge))["kid"]
    assert np.isnan(far.value)
    assert "too far out" in far.reason

    def alike(side):
        return people.with_table(side, side.cohort.rows.iloc[[0] * len(side)])

    for bad, reason in (
        (dataclasses.replace(trial, reference=alike(trial.reference)), "reference rows are alike"),
        (dataclasses.replace(trial, train=alike(trial.train)), "no column varies"),
        (people.trial(people.with_table(trial.synthetic, None)), "no table"),
    ):
        score = headline(TableMMD(), bad)["table-mmd"]
        assert np.isnan(score.value)
        assert reason in score.reason
