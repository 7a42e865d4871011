import dataclasses

import numpy as np
import pytest
from scipy import stats

from mmbench.api import Trial
from mmbench.metrics._spaces import table_points
from mmbench.metrics.sliced import Lines, SlicedWasserstein

NAME = "sliced-wasserstein"
QUICK = SlicedWasserstein(directions=40, permutations=19)


def test_distance_on_a_line_is_that_of_sorted_values():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=30), rng.gamma(2, size=30)
    lines = Lines.of(np.concatenate([x, y])[:, None])
    first, second = np.arange(30), np.arange(30, 60)
    assert lines.distance(first, second) == pytest.approx(np.mean((np.sort(x) - np.sort(y)) ** 2))
    root = np.sqrt(lines.distance(first, second))
    # Where all values move by as much, distances of first and second order are the same.
    moved = Lines.of(np.concatenate([x, x + 0.7])[:, None])
    assert np.sqrt(moved.distance(first, second)) == pytest.approx(stats.wasserstein_distance(x, x + 0.7))
    assert root >= stats.wasserstein_distance(x, y)


def test_potentials_are_derivatives():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=400), 1.5 * rng.normal(size=400) + 0.5
    potentials = Lines.of(np.concatenate([x, y])[:, None]).potentials(np.arange(400), np.arange(400, 800))
    # One normal law moved to the other: T(x) = 0.5 + 1.5 x, and the potential is x^2 less 2 times its integral.
    expected = x**2 - 2 * (0.5 * x + 0.75 * x**2)
    assert np.corrcoef(potentials, expected)[0, 1] > 0.99
    assert np.polyfit(expected, potentials, 1)[0] == pytest.approx(1, abs=0.15)


def details(trial, metric=QUICK):
    return {score.item: score for score in metric.scores(trial)}


def test_rows_moved_by_a_vector_are_at_its_squared_length(people):
    trial = people.trial()
    points = table_points(trial)
    gap = (points.train[0] - points.train[1]) / 2
    moved = dataclasses.replace(points, synthetic=points.reference + gap)
    changed = people.trial(trial.synthetic)
    changed.once("table-points", lambda: moved)
    value = details(changed, SlicedWasserstein(directions=2000, permutations=19))["plug-in"].value
    assert value == pytest.approx(gap @ gap, rel=0.1)


def test_fresh_real_rows_are_at_nothing_and_distorted_ones_further(people):
    found = {name: [] for name in ("real", "calm", "shifted", "far")}
    for seed in range(0, 30, 3):
        trial = people.trial(seed=seed)
        rows = trial.synthetic.cohort.rows
        numbers = rows[["age", "bmi", "hba1c"]]
        for name, table in (
            ("real", rows),
            ("calm", rows.assign(**(numbers.mean() + 0.6 * (numbers - numbers.mean())))),
            ("shifted", rows.assign(bmi=rows["bmi"] + 3)),
            ("far", rows.assign(bmi=rows["bmi"] + 8)),
        ):
            changed = people.trial(people.with_table(trial.synthetic, table), seed=seed)
            found[name].append(details(changed)[""].value)
    means = {name: np.mean(values) for name, values in found.items()}
    assert abs(means["real"]) < 3 * np.std(found["real"]) / np.sqrt(10) + 1e-3
    assert means["real"] < means["calm"]
    assert means["real"] < means["shifted"] < means["far"]


@pytest.mark.parametrize("moved", [False, True])
def test_interval_covers_what_another_sample_gives_and_p_is_uniform(people, moved):
    found = []
    for seed in range(0, 240, 3):
        trial = people.trial(n=40, seed=seed)
        if moved:
            rows = trial.synthetic.cohort.rows.assign(bmi=lambda rows: rows["bmi"] + 4)
            trial = dataclasses.replace(trial, synthetic=people.with_table(trial.synthetic, rows))
        found.append(details(trial))
    truth = np.mean([scores[""].value for scores in found])
    # 80 repetitions of a 95 % interval: 0.87 is three standard errors below.
    assert np.mean([scores[""].low <= truth <= scores[""].high for scores in found]) >= 0.87
    p = [scores["p"].value for scores in found]
    if moved:
        assert np.median(p) <= 0.1
    else:
        assert stats.kstest(p, "uniform").pvalue > 0.01


def test_order_of_rows_and_columns_changes_nothing(people, headline):
    trial = people.trial(n=60)
    value = headline(QUICK, trial)[NAME].value
    order = np.random.default_rng(0).permutation(60)
    mixed = Trial(trial.reference.take(order), trial.synthetic.take(order[::-1]), trial.train, trial.seed)
    assert headline(QUICK, mixed)[NAME].value == pytest.approx(value, abs=1e-10)
    turned = people.map_trial(trial, people.columns_reversed)
    assert headline(QUICK, turned)[NAME].value == pytest.approx(value, abs=1e-10)


def test_sizes_may_differ(people, headline):
    for n in (60, 240, 1200):
        score = headline(QUICK, people.trial(people.draw(n, 9)))[NAME]
        assert score.low < 0 < score.high


def test_copies_have_no_uncorrected_distance(people):
    trial = people.trial()
    found = details(dataclasses.replace(trial, synthetic=trial.reference))
    assert found["plug-in"].value == 0
    assert found["p"].value == 1


def test_degenerate_input_gives_a_reason(people, headline):
    trial = people.trial()

    def alike(side):
        return people.with_table(side, side.cohort.rows.iloc[[0] * len(side)])

    for bad, reason in (
        (dataclasses.replace(trial, train=alike(trial.train)), "no column varies"),
        (people.trial(people.draw(12, 1)), "12 records"),
        (people.trial(people.with_table(trial.synthetic, None)), "no table"),
    ):
        score = headline(SlicedWasserstein(), bad)[NAME]
        assert np.isnan(score.value)
        assert reason in score.reason
    both = dataclasses.replace(trial, reference=alike(trial.reference), synthetic=alike(trial.reference))
    assert headline(QUICK, both)[NAME].value == 0
