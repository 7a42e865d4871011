import dataclasses

import numpy as np
import ot
import pytest
from scipy import stats
from scipy.special import logsumexp

from mmbench.api import Trial
from mmbench.metrics._table_space import TableSpace
from mmbench.metrics.sinkhorn import Sinkhorn, transport

QUICK = Sinkhorn(permutations=19, splits=2)


def dual(cost, strength, rounds=5000):
    """Return the entropic transport cost and its dual potentials, solved in the log domain."""
    n, m = cost.shape
    f, g = np.zeros(n), np.zeros(m)
    for _ in range(rounds):
        f = -strength * (logsumexp((g - cost) / strength, axis=1) - np.log(m))
        g = -strength * (logsumexp((f[:, None] - cost) / strength, axis=0) - np.log(n))
    return f.mean() + g.mean(), f, g


def between(cost, strength):
    """Return the transport of the rows of ``cost`` to its columns."""
    n, m = cost.shape
    whole = np.zeros((n + m, n + m))
    whole[:n, n:] = cost
    return transport(whole, [(np.arange(n), np.arange(n, n + m))], strength)


# The outlier makes the kernel underflow, which takes the other algorithm.
@pytest.mark.parametrize(("strength", "outlier"), [(1.0, 0.0), (0.1, 0.0), (2.0, 60.0)])
def test_transport_is_the_dual_optimum(strength, outlier):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 2)), rng.normal(size=(9, 2)) + 0.5
    x[0] += outlier
    cost = ot.dist(x, y)
    value, f, g = dual(cost, strength)
    found = between(cost, strength)
    assert found.value[0] == pytest.approx(value, rel=1e-4)
    for potential, expected in ((found.first[0], f), (found.second[0], g)):
        gap = potential - expected
        assert gap - gap.mean() == pytest.approx(0, abs=1e-3 * (1 + np.ptp(expected)))


def test_transport_tends_to_the_exact_one():
    rng = np.random.default_rng(0)
    cost = ot.dist(rng.normal(size=(10, 2)), rng.normal(size=(10, 2)))
    assert between(cost, 1e-3).value[0] == pytest.approx(ot.emd2([], [], cost), rel=0.02)


def embedded(trial):
    space = TableSpace.fit(trial.schema, trial.train.cohort.rows)
    return [space.embed(side.cohort.rows) for side in (trial.reference, trial.synthetic)]


def details(trial, metric=QUICK):
    return {score.item: score for score in metric.scores(trial)}


def test_plug_in_is_pots_debiased_divergence(people):
    trial = people.trial()
    x, y = embedded(trial)
    median = np.median(ot.dist(x, x)[np.triu_indices(len(x), 1)])
    expected = ot.solve_sample(x, y, reg=0.2 * median, debias=True, max_iter=5000, tol=1e-9).value
    assert details(trial)["plug-in"].value == pytest.approx(expected, rel=1e-4)


def test_fresh_real_rows_are_at_nothing_and_permuted_columns_further(people, headline):
    trial = people.trial()
    real = headline(Sinkhorn(), trial)["sinkhorn"]
    assert real.low < 0 < real.high
    broken = headline(Sinkhorn(), people.trial(people.columns_permuted(trial.synthetic)))["sinkhorn"]
    assert broken.value > real.high / 2
    shifted = trial.synthetic.cohort.rows.assign(bmi=lambda rows: rows["bmi"] + 8)
    far = details(people.trial(people.with_table(trial.synthetic, shifted)), Sinkhorn())
    assert far[""].low > real.high
    assert far["p"].value <= 0.025
    assert far["wide"].value > 0


def test_rows_that_vary_too_little_do_not_beat_fresh_real_ones(people, headline):
    perfect, shrunken = [], []
    for seed in range(0, 24, 3):
        trial = people.trial(seed=seed)
        rows = trial.synthetic.cohort.rows
        numbers = rows[["age", "bmi", "hba1c"]]
        calm = rows.assign(**(numbers.mean() + 0.6 * (numbers - numbers.mean())))
        perfect.append(headline(QUICK, trial)["sinkhorn"].value)
        narrow = people.trial(people.with_table(trial.synthetic, calm), seed=seed)
        shrunken.append(headline(QUICK, narrow)["sinkhorn"].value)
    assert np.mean(perfect) == pytest.approx(0, abs=0.01)
    assert np.mean(shrunken) > np.mean(perfect) + 0.005


@pytest.mark.parametrize("moved", [False, True])
def test_interval_covers_what_another_sample_gives_and_p_is_uniform(people, moved):
    found = []
    for seed in range(0, 180, 3):
        trial = people.trial(n=40, seed=seed)
        if moved:
            rows = trial.synthetic.cohort.rows.assign(bmi=lambda rows: rows["bmi"] + 5)
            synthetic = people.with_table(trial.synthetic, rows)
            trial = dataclasses.replace(trial, synthetic=synthetic)
        found.append(details(trial))
    truth = np.mean([scores[""].value for scores in found])
    # 60 repetitions of a 95 % interval: 0.86 is three standard errors below.
    assert np.mean([scores[""].low <= truth <= scores[""].high for scores in found]) >= 0.86
    p = [scores["p"].value for scores in found]
    if moved:
        assert np.median(p) <= 0.1
    else:
        assert stats.kstest(p, "uniform").pvalue > 0.01


def test_order_of_rows_and_columns_changes_nothing(people, headline):
    trial = people.trial(n=60)
    value = headline(QUICK, trial)["sinkhorn"].value
    order = np.random.default_rng(0).permutation(60)
    mixed = Trial(trial.reference.take(order), trial.synthetic.take(order[::-1]), trial.train, trial.seed)
    assert headline(QUICK, mixed)["sinkhorn"].value == pytest.approx(value, abs=1e-8)
    turned = people.map_trial(trial, people.columns_reversed)
    assert headline(QUICK, turned)["sinkhorn"].value == pytest.approx(value, abs=1e-8)


def test_sizes_may_differ_and_large_samples_are_capped(people, headline):
    for n in (71, 240):
        score = headline(QUICK, people.trial(people.draw(n, 9)))["sinkhorn"]
        assert score.low < 0 < score.high
    capped = Sinkhorn(max_records=50, permutations=19)
    assert headline(capped, people.trial()) == headline(capped, people.trial())
    assert headline(capped, people.trial()) != headline(QUICK, people.trial())


def test_copies_have_no_uncorrected_divergence(people):
    trial = people.trial()
    found = details(dataclasses.replace(trial, synthetic=trial.reference))
    assert found["plug-in"].value == pytest.approx(0, abs=1e-8)
    assert found["p"].value == 1


def test_degenerate_input_gives_a_reason(people, headline):
    trial = people.trial()

    def alike(side):
        return people.with_table(side, side.cohort.rows.iloc[[0] * len(side)])

    for bad, reason in (
        (dataclasses.replace(trial, train=alike(trial.train)), "no column varies"),
        (dataclasses.replace(trial, reference=alike(trial.reference)), "reference rows are alike"),
        (people.trial(people.draw(12, 1)), "12 records"),
        (people.trial(people.with_table(trial.synthetic, None)), "no table"),
    ):
        score = headline(Sinkhorn(), bad)["sinkhorn"]
        assert np.isnan(score.value)
        assert reason in score.reason
    assert headline(QUICK, people.trial(alike(trial.synthetic)))["sinkhorn"].low > 0
