import numpy as np
import ot
import pytest
from scipy.special import logsumexp

from mmbench.api import Trial
from mmbench.metrics._table_space import TableSpace
from mmbench.metrics.sinkhorn import Sinkhorn, _transport


def dual(cost, strength):
    """Entropic transport cost from the dual potentials, in the log domain."""
    n, m = cost.shape
    f, g = np.zeros(n), np.zeros(m)
    for _ in range(5000):
        f = -strength * (logsumexp((g - cost) / strength, axis=1) - np.log(m))
        g = -strength * (logsumexp((f[:, None] - cost) / strength, axis=0) - np.log(n))
    return f.mean() + g.mean()


# The outlier makes the kernel underflow, which takes the other algorithm.
@pytest.mark.parametrize(("strength", "outlier"), [(1.0, 0.0), (0.1, 0.0), (2.0, 60.0)])
def test_transport_is_the_dual_optimum(strength, outlier):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 2)), rng.normal(size=(9, 2)) + 0.5
    x[0] += outlier
    cost = ot.dist(x, y)
    assert _transport(cost[None], strength)[0] == pytest.approx(dual(cost, strength), rel=1e-4)


def test_transport_tends_to_the_exact_one():
    rng = np.random.default_rng(0)
    cost = ot.dist(rng.normal(size=(10, 2)), rng.normal(size=(10, 2)))
    assert _transport(cost[None], 1e-3)[0] == pytest.approx(ot.emd2([], [], cost), rel=0.02)


def test_plug_in_is_pots_debiased_divergence(people):
    trial = people.trial()
    space = TableSpace.fit(people.schema, trial.reference.cohort.rows)
    x, y = (space.embed(side.cohort.rows) for side in (trial.reference, trial.synthetic))
    median = np.median(ot.dist(x, x)[np.triu_indices(len(x), 1)])
    expected = ot.solve_sample(x, y, reg=0.2 * median, debias=True, max_iter=5000, tol=1e-9).value
    plug_in = next(score for score in Sinkhorn().scores(trial) if score.item == "plug-in")
    assert plug_in.value == pytest.approx(expected, rel=1e-4)


def test_fresh_real_rows_are_at_nothing_and_permuted_columns_further(people, headline):
    trial = people.trial()
    real = headline(Sinkhorn(), trial)["sinkhorn"]
    assert real.low < 0 < real.high
    broken = headline(Sinkhorn(), people.trial(people.columns_permuted(trial.synthetic)))["sinkhorn"]
    assert broken.value > real.high / 2
    shifted = trial.synthetic.cohort.rows.assign(bmi=lambda rows: rows["bmi"] + 8)
    far = headline(Sinkhorn(), people.trial(people.with_table(trial.synthetic, shifted)))["sinkhorn"]
    assert far.low > real.high


def test_rows_that_vary_too_little_do_not_beat_fresh_real_ones(people, headline):
    perfect, shrunken = [], []
    for seed in range(0, 24, 3):
        trial = people.trial(seed=seed)
        rows = trial.synthetic.cohort.rows
        numbers = rows[["age", "bmi", "hba1c"]]
        calm = rows.assign(**(numbers.mean() + 0.6 * (numbers - numbers.mean())))
        perfect.append(headline(Sinkhorn(repeats=10), trial)["sinkhorn"].value)
        narrow = people.trial(people.with_table(trial.synthetic, calm), seed=seed)
        shrunken.append(headline(Sinkhorn(repeats=10), narrow)["sinkhorn"].value)
    assert np.mean(perfect) == pytest.approx(0, abs=0.01)
    assert np.mean(shrunken) > np.mean(perfect) + 0.005


def test_sizes_may_differ_and_degenerate_input_gives_a_reason(people, headline):
    assert abs(headline(Sinkhorn(), people.trial(people.draw(71, 9)))["sinkhorn"].value) < 0.1
    trial = people.trial()
    flat = people.with_table(trial.reference, trial.reference.cohort.rows.iloc[[0] * len(trial.reference)])
    for bad, reason in (
        (Trial(flat, trial.synthetic, trial.train, 0), "no column varies"),
        (people.trial(people.draw(12, 1)), "12 records"),
        (people.trial(people.with_table(trial.synthetic, None)), "no table"),
    ):
        score = headline(Sinkhorn(), bad)["sinkhorn"]
        assert np.isnan(score.value)
        assert reason in score.reason
