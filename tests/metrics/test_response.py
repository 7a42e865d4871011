import dataclasses
import math

import numpy as np
import pandas as pd
import pytest

from mmbench.anchors import responses
from mmbench.api import Evidence, Response, Trial
from mmbench.metrics._curves import Curve, Group, slope
from mmbench.metrics.response import ResponseCurves
from mmbench.scoring import why_not
from mmbench.sweep import make_sweep
from mmbench.testing import toy_trial


def scored(trial, **parameters):
    """Return the scores of a trial by item; the headline has none."""
    return {score.item: score for score in ResponseCurves(**parameters).scores(trial)}


@pytest.fixture(scope="module")
def pool(people):
    return people.draw(6000, 7)


def answering(people, pool, *, n=40, seed=0, change=lambda rows, composition: composition):
    """Return a trial whose synthetic records at a value are people who have it, with a changed composition."""
    base = people.trial(n=120, seed=seed)
    rng = np.random.default_rng(seed)
    rows = pool.cohort.rows
    found = []
    for given in make_sweep("auto", base.train.cohort, 60):
        values = rows[given.column]
        if given.column == "sex":
            near = np.flatnonzero(values == given.value)
        else:
            near = np.argsort(np.abs(values.to_numpy(float) - given.value))[:400]
        side = pool.take(rng.choice(near, n, replace=False))
        table = side.cohort.rows.assign(**{given.column: given.value})
        cohort = dataclasses.replace(
            side.cohort,
            table=side.cohort.schema.coerce(table),
            ids=np.array([f"{given.column}={given.value}-{i}" for i in range(n)]),
            subjects=None,
        )
        composition = change(side.cohort.rows, side.composition).set_axis(cohort.ids)
        found.append(Response(given.column, given.value, Evidence(cohort, composition)))
    return dataclasses.replace(base, responses=tuple(found))


def ignoring(pool):
    """Return a change that gives every record the composition of somebody else."""
    rng = np.random.default_rng(1)

    def change(rows, composition):
        return pool.composition.iloc[rng.choice(len(pool), len(rows))].set_axis(rows.index)

    return change


def test_who_answers_as_people_do_has_a_slope_of_one(people, pool):
    trial = answering(people, pool, n=120)
    told = scored(trial)
    head = told[""]
    assert head.low < 1 < head.high
    assert head.verdict == "within"
    assert told["p"].value > 0.01
    assert told["response to bmi"].verdict in ("within", "open")
    assert told["response to sex"].note == "margin 0.8 to 1.2"


def test_who_ignores_what_is_given_has_a_slope_of_zero(people, pool):
    told = scored(answering(people, pool, change=ignoring(pool)))
    assert told[""].low < 0 < told[""].high
    assert told[""].verdict == "beyond"
    assert told["response to sex"].verdict == "beyond"
    assert told["p"].value < 1e-6


def test_damped_and_flipped_responses_are_told(people, pool):
    mean = pool.composition.mean()
    for factor in (0.5, -1.0, 1.5):
        told = scored(answering(people, pool, n=120, change=lambda _, c, f=factor: mean + f * (c - mean)))
        assert told[""].value == pytest.approx(factor, abs=0.15)
        assert told[""].verdict == "beyond"


def test_the_curve_stands_beside_the_real_one(people, pool):
    trial = answering(people, pool, n=120)
    told = scored(trial)
    points = {item: score for item, score in told.items() if item.startswith("fat_l at bmi=")}
    assert len(points) == 5
    values = [score.value for score in points.values()]
    assert values == sorted(values)
    for score in points.values():
        real, low, high = (
            float(part) for part in score.note.removeprefix("real ").replace(" to", ",").split(", ")
        )
        assert low < real < high
        assert score.value == pytest.approx(real, abs=0.4)
        assert score.low < score.value < score.high


@pytest.mark.parametrize("truth", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("people_known", [100, 300])
def test_intervals_hold_the_truth(truth, people_known):
    """With few real records and few synthetic ones: errors of both sides count, and neither flattens the slope."""
    rng = np.random.default_rng(3)

    def quantities(x, male, factor=1.0):
        noise = (
            rng.standard_normal((len(x), 1)) + rng.standard_normal((len(x), 2)) * (1 + 0.5 * male)[:, None]
        )
        moved = np.column_stack([0.6 * x + 0.2 * x**2 + male, 0.3 * x - 0.8 * male])
        return factor * moved + noise

    def group(column, value):
        x, male = rng.standard_normal(20), rng.integers(0, 2, 20).astype(float)
        x, male = (np.full(20, value), male) if column == "x" else (x, np.full(20, value))
        ids = np.array([f"{column}={value}-{i}" for i in range(20)])
        return Group(np.full(20, value), quantities(x, male, truth), ids)

    values, errors = [], []
    for _ in range(400):
        x, male = rng.standard_normal(people_known), rng.integers(0, 2, people_known).astype(float)
        real = quantities(x, male)
        found = slope(
            [
                (Curve.fit(x, real, False), [group("x", v) for v in np.linspace(-1.3, 1.3, 5)]),
                (Curve.fit(male, real, True), [group("male", v) for v in (0.0, 1.0)]),
            ]
        )
        values.append(found.value)
        errors.append(found.error)
    values, errors = np.array(values), np.array(errors)
    # Where the real curve is not clear there is no interval, and so none that misses.
    assert np.mean(np.abs(values - truth) > 1.96 * errors) < 0.08
    if people_known == 300:
        assert np.isfinite(values).mean() > 0.98
        assert np.nanmean(values) == pytest.approx(truth, abs=0.03)
        assert np.mean(np.abs(values - truth) < 1.96 * errors) == pytest.approx(0.95, abs=0.035)


def test_a_record_at_several_values_counts_once():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(200)
    curve = Curve.fit(x, x[:, None], False)
    ends = [(np.full(30, v), v + rng.standard_normal((30, 1))) for v in (-1.0, 1.0)]
    own = [Group(codes, y, np.array([f"{codes[0]}-{i}" for i in range(30)])) for codes, y in ends]
    once = slope([(curve, own)])
    # The same records under the same names in a second column add nothing that was not known.
    assert slope([(curve, own), (curve, own)]).error == pytest.approx(once.error, rel=1e-6)


def test_a_column_that_says_nothing_is_left_out(people, pool):
    trial = answering(people, pool)
    unseen = [
        Response("activity", level, responses[0].evidence)
        for level, responses in ((1.0, trial.responses), (3.0, trial.responses))
    ]
    noise = np.random.default_rng(0)

    def meaningless(side):
        return dataclasses.replace(
            side, composition=pd.DataFrame({"noise": noise.standard_normal(len(side))}, side.cohort.ids)
        )

    told = scored(
        Trial(
            meaningless(trial.reference),
            meaningless(trial.synthetic),
            meaningless(trial.train),
            0,
            tuple(dataclasses.replace(one, evidence=meaningless(one.evidence)) for one in unseen),
        )
    )
    assert math.isnan(told[""].value)
    assert "explains less than 2%" in told["response to activity"].reason


def test_real_people_near_the_values_are_the_ceiling_and_broken_pairs_the_null(people):
    trial = people.trial(people.draw(300, 2), n=300)
    sweep = make_sweep("auto", trial.train.cohort, 300)
    floor = trial.synthetic
    ceiling = scored(dataclasses.replace(trial, responses=responses(floor, sweep)))[""]
    assert ceiling.low < 1 < ceiling.high
    order = np.random.default_rng(0).permutation(len(floor))
    bad = dataclasses.replace(
        floor, composition=floor.composition.iloc[order].set_axis(floor.composition.index)
    )
    null = scored(dataclasses.replace(trial, responses=responses(bad, sweep)))[""]
    assert abs(null.value) < 0.25
    assert null.verdict == "beyond"


def test_without_answers_there_is_no_score_but_a_reason(people, pool):
    trial = dataclasses.replace(toy_trial(), responses=())
    assert "takes no conditions" in why_not(ResponseCurves(), trial)
    assert math.isnan(scored(trial)[""].value)
    answers = answering(people, pool, n=4)
    assert "fewer than two of its values" in scored(answers)[""].reason
    whole = answering(people, pool)
    lost = [
        dataclasses.replace(
            one, evidence=dataclasses.replace(one.evidence, composition=one.evidence.composition * np.nan)
        )
        for one in whole.responses
    ]
    assert "could not be measured" in scored(dataclasses.replace(whole, responses=tuple(lost)))[""].reason
