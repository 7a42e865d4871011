"""Scores: nothing that was planned vanishes, and the scaled value stands between its anchors."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from mmbench import plugins
from mmbench.api import TABLE, VOLUME, Card, Extractor, Measurer, Metric, Output, Quantity, Score
from mmbench.context import WorkContext
from mmbench.measuring import measure
from mmbench.plan import Plan, Planned
from mmbench.scoring import anchor_rows, as_scores, score_rows, why_not, with_anchors
from mmbench.testing import toy_cohort, toy_trial


@dataclass
class Two(Metric):
    """Promises two scores."""

    card = Card("two", "nobody")
    kind = "fidelity"
    needs = TABLE
    null = "columns"
    outputs = (
        Output("one", "One", "Means.", "Misses.", "lower", 0.0),
        Output("two", "Two", "Means.", "Misses.", "higher", 1.0, kind="privacy"),
    )

    def scores(self, trial):
        return []


def rows(found, status="ok", reason=""):
    return as_scores(score_rows(Two(), "two", found, status, reason, {"generator": "g"}))


def test_a_promised_score_that_is_absent_is_a_record():
    table = rows([Score("one", 0.5)])
    assert table["status"].tolist() == ["ok", "failed"]
    assert table["reason"].tolist() == ["", "the metric returned no such score"]
    assert table["kind"].tolist() == ["fidelity", "privacy"]


def test_a_value_that_is_no_number_is_a_record_with_its_reason():
    table = rows([Score("one", math.nan, reason="constant"), Score("two", math.inf)])
    assert table["status"].tolist() == ["failed", "failed"]
    assert table["reason"].tolist() == ["constant", "the value is not a finite number"]


def test_a_failed_metric_keeps_its_places():
    table = rows([], "not_applicable", "no volumes")
    assert table["status"].tolist() == ["not_applicable"] * 2
    assert table["value"].isna().all()


def test_a_score_that_was_not_declared_is_refused():
    with pytest.raises(ValueError, match="three"):
        rows([Score("three", 1.0)])


def test_the_scaled_value_is_one_at_the_ceiling_and_zero_at_the_null():
    scores = pd.concat([rows([Score("one", value), Score("two", value)]) for value in (0.1, 0.9, 0.5)])
    anchors = pd.concat(
        [
            rows([Score("one", 0.1), Score("two", 0.9)]).assign(generator="ceiling"),
            rows([Score("one", 0.9), Score("two", 0.9)]).assign(generator="null"),
        ]
    )
    result = with_anchors(scores.reset_index(drop=True), anchors)
    one = result[result["score"] == "one"]
    assert one["scaled"].tolist() == pytest.approx([1.0, 0.0, 0.5])
    assert result.loc[result["score"] == "two", "scaled"].isna().all()


def test_what_does_not_apply_says_what_it_needs():
    from dataclasses import replace

    trial = toy_trial(8)
    bare = replace(
        trial, synthetic=replace(trial.synthetic, cohort=replace(trial.synthetic.cohort, table=None))
    )
    assert "there is no table" in why_not(Two(), bare)
    assert why_not(Two(), trial) == ""


class Counting(Measurer):
    """Counts the volumes that it measures."""

    card = Card("counting")
    channels = ("c0",)
    quantities = (Quantity("mean", "1", "Mean intensity"),)
    measured = 0

    def measure(self, volume, geometry):
        Counting.measured += 1
        return {"mean": float(volume.mean())}


@dataclass
class Mean(Extractor):
    """Gives the mean of each volume, and of its quantities where it wants them."""

    card = Card("mean")

    def extract(self, volumes, composition=None):
        means = np.array([volume.mean(dtype=float) for volume in volumes])
        if self.uses_composition:
            means += composition["mean"].to_numpy()
        return means[:, None, None]

    def digest(self, geometry):
        return "0"


@dataclass
class Noticed(Metric):
    """Compares mean features."""

    card = Card("noticed", "nobody")
    kind = "fidelity"
    needs = VOLUME
    null = "noise"
    null_draws = 2
    outputs = (Output("noticed", "Noticed", "Means.", "Misses.", "lower", 0.0),)

    def scores(self, trial):
        yield Score("noticed", abs(trial.reference.features.mean() - trial.synthetic.features.mean()))


@pytest.mark.parametrize("uses", [False, True])
def test_destroyed_volumes_are_measured_only_where_somebody_asks_for_quantities(monkeypatch, tmp_path, uses):
    monkeypatch.setitem(plugins._from_files["measurers"], "counting", Counting)
    monkeypatch.setitem(plugins._from_files["metrics"], "noticed", Noticed)
    monkeypatch.setattr(Mean, "uses_composition", uses)
    context, planned = WorkContext(folder=tmp_path), Planned("counting", {})
    sides = {
        role: measure(toy_cohort(6, seed), planned, Mean(), context)
        for seed, role in enumerate(("train", "reference", "floor"))
    }
    Counting.measured = 0
    plan = Plan((), (Planned("noticed", {}),), (0,), planned, None)
    rows = anchor_rows(plan, sides, Mean(), 0, context, "toy")
    assert rows["status"].tolist() == ["ok", "ok"]
    assert Counting.measured == (12 if uses else 0)
