import numpy as np
import pandas as pd
import pytest

from mmbench.api import Cohort, Column, Evidence, Schema, Trial
from mmbench.metrics.constraints import Constraints, excess

SCHEMA = Schema(
    (
        Column("height_cm", "continuous", minimum=120, maximum=220, decimals=1),
        Column("weight_kg", "continuous", minimum=30, decimals=1),
        Column("bmi", "continuous", decimals=1, formula="weight_kg / (height_cm / 100) ** 2"),
        Column("children", "integer", minimum=0),
        Column("sex", "categorical", levels=("F", "M")),
        Column("pregnant", "boolean", missing=True),
    )
)


def table(n, seed):
    rng = np.random.default_rng(seed)
    female = rng.random(n) < 0.5
    # The index of body mass is computed before anything is rounded.
    height, weight = rng.normal(170, 8, n), rng.normal(75, 10, n)
    return pd.DataFrame(
        {
            "height_cm": height.round(1),
            "weight_kg": weight.round(1),
            "bmi": (weight / (height / 100) ** 2).round(1),
            "children": rng.poisson(1.5, n).astype(float),
            "sex": np.where(female, "F", "M"),
            "pregnant": female & (rng.random(n) < 0.2),
        }
    )


def evidence(frame, schema=SCHEMA):
    # A table that no harness has coerced may hold what the schema forbids.
    return Evidence(Cohort("c", schema, np.arange(len(frame)).astype(str), frame))


def scores(synthetic, output, *, real=None, schema=SCHEMA, n=200):
    real, train = table(n, 1) if real is None else real, table(600, 2)
    trial = Trial(*(evidence(frame[schema.names], schema) for frame in (real, synthetic, train)), 0)
    return {score.item: score for score in Constraints().scores(trial) if score.output == output}


def test_real_rows_break_nothing_though_the_formula_was_applied_before_rounding():
    found = scores(table(200, 3), "constraint-violations")
    assert set(found) == {""}
    assert found[""].value == 0
    assert found[""].low < 0 < found[""].high


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"height_cm": 250.0}, "height_cm: range"),
        ({"weight_kg": 29.9}, "weight_kg: range"),
        ({"bmi": 40.3}, "bmi: formula"),
        ({"children": 1.5}, "children: whole numbers"),
        ({"sex": "X"}, "sex: levels"),
        ({"sex": "M", "pregnant": True}, "sex = M with pregnant = True"),
    ],
)
def test_every_rule_is_seen(change, rule):
    frame = table(200, 3)
    frame.loc[:49, list(change)] = pd.DataFrame(change, index=range(50)).astype(frame[list(change)].dtypes)
    found = scores(frame, "constraint-violations")
    assert found[rule].value == pytest.approx(0.25)
    assert found[""].value == pytest.approx(0.25)
    assert found[""].low < 0.25 < found[""].high


def test_real_violations_are_taken_off_and_missing_values_break_nothing():
    real, synthetic = table(200, 1), table(200, 3)
    real.loc[:19, "height_cm"] = 250.0
    synthetic.loc[:39, ["height_cm", "bmi", "children"]] = np.nan
    synthetic["pregnant"] = synthetic["pregnant"].astype(object).where(synthetic.index >= 40, None)
    found = scores(synthetic, "constraint-violations", real=real)
    assert found[""].value == pytest.approx(-0.1)


def test_levels_that_are_rare_apart_are_not_taken_to_exclude_each_other():
    schema = Schema(
        (Column("a", "categorical", levels=("x", "y")), Column("b", "categorical", levels=("u", "v")))
    )
    rng = np.random.default_rng(0)
    frames = []
    for n in (200, 200, 600):
        frame = pd.DataFrame(
            {"a": np.where(rng.random(n) < 0.05, "x", "y"), "b": np.where(rng.random(n) < 0.02, "u", "v")}
        )
        frames.append(frame[~((frame["a"] == "x") & (frame["b"] == "u"))].reset_index(drop=True))
    synthetic = frames[1].copy()
    synthetic.loc[0] = ["x", "u"]
    trial = Trial(*(evidence(frame, schema) for frame in (frames[0], synthetic, frames[2])), 0)
    found = {s.item: s for s in Constraints().scores(trial) if s.output == "constraint-violations"}
    assert found[""].value == 0
    assert set(found) == {""}


def test_heaping_and_unrounded_values_show_and_real_digits_do_not():
    values = [scores(table(200, seed), "rounding")[""].value for seed in range(3, 15)]
    assert np.mean(values) == pytest.approx(0, abs=0.03)
    heaped = table(200, 3).assign(weight_kg=lambda t: 5 * (t["weight_kg"] / 5).round())
    found = scores(heaped, "rounding")
    assert found["weight_kg"].value > 0.8
    assert found[""].low > 0.2
    assert found["p"].value == pytest.approx(0.005)
    fine = table(200, 3).assign(height_cm=lambda t: t["height_cm"] + 0.0123)
    assert scores(fine, "rounding")["height_cm"].value == 1


def test_a_precision_that_is_not_declared_is_that_of_the_training_rows():
    schema = Schema((Column("x", "continuous"), Column("free", "continuous")))
    rng = np.random.default_rng(0)
    frames = [
        pd.DataFrame({"x": rng.normal(size=200).round(2), "free": rng.normal(size=200)}) for _ in range(3)
    ]
    frames[1]["x"] += 0.001
    trial = Trial(*(evidence(frame, schema) for frame in frames), 0)
    found = {s.item: s for s in Constraints().scores(trial) if s.output == "rounding"}
    assert found["x"].value == 1
    assert "free" not in found


def test_nothing_to_check_gives_reasons(headline):
    schema = Schema((Column("x", "continuous"),))
    rng = np.random.default_rng(0)
    sides = [evidence(pd.DataFrame({"x": rng.normal(size=50)}), schema) for _ in range(3)]
    found = headline(Constraints(), Trial(*sides, 0))
    assert all(np.isnan(score.value) and score.reason for score in found.values())
    constant = [evidence(pd.DataFrame({"x": np.ones(50)}), schema) for _ in range(3)]
    assert "do not vary" in headline(Constraints(), Trial(*constant, 0))["rounding"].reason


def test_excess_is_newcombes_example():
    # Newcombe 1998, table II, contrast (a), method 10: 56/70 against 48/80.
    hits = [np.arange(n) < k for k, n in ((56, 70), (48, 80))]
    found = excess(*hits)
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
