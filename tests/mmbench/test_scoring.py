"""Scores: nothing that was planned vanishes, and the scaled value stands between its anchors."""

import math
from dataclasses import dataclass

import pandas as pd
import pytest

from mmbench import plugins
from mmbench.api import TABLE, Card, Measurer, Metric, NotMeasurable, Output, Quantity, Score
from mmbench.context import WorkContext
from mmbench.evidence import load_measured, save_measured
from mmbench.plan import Planned
from mmbench.scoring import as_scores, measure, score_rows, why_not, with_anchors
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


class Picky(Measurer):
    """Measures bright volumes only."""

    card = Card("picky")
    channels = ("c0",)
    quantities = (Quantity("mean", "1", "Mean intensity"),)

    def measure(self, volume, geometry):
        if volume.mean() < toy_cohort(6).images.stack().mean():
            raise NotMeasurable("too dark")
        return {"mean": float(volume.mean())}


def test_why_a_volume_could_not_be_measured_is_kept(monkeypatch, tmp_path):
    monkeypatch.setitem(plugins._from_files["measurers"], "picky", Picky)
    cohort = toy_cohort(6)
    evidence = measure(cohort, Planned("picky", {}), None, WorkContext(folder=tmp_path))
    dark = evidence.composition["mean"].isna()
    assert 0 < dark.sum() < 6
    assert (evidence.unmeasurable[dark] == "too dark").all()
    assert (evidence.unmeasurable[~dark] == "").all()
    save_measured(evidence, tmp_path)
    again = load_measured(cohort, tmp_path)
    pd.testing.assert_series_equal(again.unmeasurable, evidence.unmeasurable, check_names=False)
    assert again.take([5, 0]).unmeasurable.tolist() == [evidence.unmeasurable.iloc[i] for i in (5, 0)]
