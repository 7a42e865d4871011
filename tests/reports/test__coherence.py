from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmbench.api import Run
from mmbench.reports import _coherence
from mmbench.reports._coherence import Judged, Matrix, Ruling

from .conftest import HOSTILE, HOSTILE_COLUMN, judge


def ruling(label: str, kappa: float = 1.0, broken: float = math.nan, seed: int = 0) -> Ruling:
    return Ruling(seed, 0, label, kappa, kappa - 0.1, kappa + 0.1, 0.5, broken, "because")


def of(*rulings: Ruling, **more) -> Judged:
    return Judged("maker", rulings, pd.DataFrame(), **more)


def test_a_verdict_is_parted_from_its_subtype():
    partial = ruling("INCOHERENT (partially paired)")
    assert (partial.word, partial.subtype) == ("INCOHERENT", "partially paired")
    assert (ruling("COHERENT").word, ruling("COHERENT").subtype) == ("COHERENT", "")
    assert ruling("NOT ASSESSABLE").word == "NOT ASSESSABLE"


@pytest.mark.parametrize(
    ("labels", "majority", "worst"),
    [
        (["COHERENT"] * 2 + ["INDETERMINATE"], "COHERENT", "INDETERMINATE"),
        (["COHERENT", "INDETERMINATE"], "INDETERMINATE", "INDETERMINATE"),  # of a tie the worse
        (["NOT ASSESSABLE", "INDETERMINATE"], "NOT ASSESSABLE", "NOT ASSESSABLE"),
        (["COHERENT", "INCOHERENT (biased)", "COHERENT"], "COHERENT", "INCOHERENT (biased)"),
        (["INCOHERENT (biased)", "INCOHERENT (unpaired)", "COHERENT"], "INCOHERENT", "INCOHERENT (biased)"),
    ],
)
def test_majority_and_worst_case(labels, majority, worst):
    one = of(*map(ruling, labels))
    assert (one.majority, one.worst.label) == (majority, worst)


UNPAIRED, BIASED = "INCOHERENT (unpaired)", "INCOHERENT (biased)"
PARTIAL = "INCOHERENT (partially paired)"


@pytest.mark.parametrize(
    ("rulings", "text"),
    [
        ([ruling("COHERENT", 0.98)], "kappa 0.98 [0.88, 1.08]"),
        ([ruling(UNPAIRED, 0.0), ruling(UNPAIRED, 0.031)], "unpaired; kappa 0.00 to 0.03"),
        (
            [ruling(PARTIAL, 0.6, 0.38), ruling(PARTIAL, 0.6, 0.42)],
            "partially paired; kappa 0.60; about 40 % of the pairs broken",
        ),
        (
            [ruling("COHERENT"), ruling("COHERENT"), ruling(BIASED)],
            "in 2 of 3 fits and draws; at worst INCOHERENT (biased); kappa 1.00",
        ),
        (
            [ruling(BIASED, 0.5), ruling(UNPAIRED, 0.5), ruling("INDETERMINATE")],
            "biased or unpaired; in 2 of 3 fits and draws; kappa 0.50",
        ),
        ([ruling("NOT ASSESSABLE", math.nan)], "because"),
    ],
)
def test_a_generator_in_a_few_words(rulings, text):
    assert of(*rulings).summary() == f"maker ({text})"


def test_that_samples_are_copies_is_said_beside_their_verdict():
    text = of(ruling("COHERENT"), copies=True).summary()
    assert text == "maker (kappa 1.00 [0.90, 1.10]; its samples are training records)"


def test_verdicts_are_told_from_the_worst_and_beside_a_fresh_real_sample(judged_run: Run):
    text = _coherence.verdict_text(_coherence.judged(judged_run))
    assert text.startswith(f"INCOHERENT: {HOSTILE} (partially paired; kappa 0.70 [0.65, 0.75]; about 30 %")
    assert "INDETERMINATE: joint (in 1 of 2 fits and draws; kappa" in text
    assert "COHERENT: copier (kappa 1.00 [0.95, 1.05]; its samples are training records)." in text
    assert text.endswith("a fresh real sample is INDETERMINATE (kappa 1.01 [0.96, 1.06]).")
    assert "No generator is shown to be coherent" not in text


def test_that_nobody_is_coherent_is_said():
    assert "No generator is shown to be coherent." in _coherence.verdict_text([of(ruling("INDETERMINATE"))])


def test_real_subjects_come_first_and_generators_without_a_verdict_are_named(judged_run: Run):
    found = _coherence.judged(judged_run)
    assert [one.name for one in found] == ["fresh real sample", "joint", HOSTILE, "copier"]
    assert [one.real for one in found] == [True, False, False, False]
    assert [r.place for r in found[0].rulings + found[1].rulings] == ["–", "0, 0", "1, 0"]
    absent = _coherence.without_verdict(judged_run, found)
    assert "table-only (needs table and volume)" in absent
    assert "broken (ValueError" in absent
    null = _coherence.null(judged_run)
    assert null is not None
    assert (null.kappa, null.label, null.why) == (
        0.0,
        "",
        "pairs broken on purpose; mean and range over 20 draws",
    )


def test_the_other_direction_stands_beside_without_a_margin(judged_run: Run):
    (reading,) = _coherence.readings(_coherence.judged(judged_run))
    assert (reading.name, reading.margin) == ("slope of bmi on the volume", "exploratory")
    assert reading.standings["joint"].word == ""


def test_statistics_are_means_and_stand_where_the_worst_draw_does(judged_run: Run):
    told = {one.name: one for one in _coherence.statistics(_coherence.judged(judged_run))}
    assert list(told) == ["kappa", "slope of fat_l", "association of fat_l ~ bmi"]
    assert told["association of fat_l ~ bmi"].margin == "−0.2 to 0.2"
    joint = told["kappa"].standings["joint"]
    assert joint.value == pytest.approx((0.98 + 0.93) / 2)
    assert (joint.word, joint.extent) == ("open", "in 1 of 2")
    assert (told["kappa"].standings["copier"].word, told["kappa"].standings["copier"].extent) == (
        "within",
        "",
    )


def test_details_become_matrices_groups_and_ranks(judged_run: Run):
    found = _coherence.judged(judged_run)
    associations = _coherence.association_differences(found)
    assert (associations.rows, associations.columns) == (["fat_l", "lean_l"], ["bmi", "sex=M"])
    np.testing.assert_allclose(associations.values["joint"], 0.1)
    residual = _coherence.residual_correlation_differences(found)
    assert (residual.rows, residual.columns) == (["fat_l"], ["lean_l"])
    groups = _coherence.subgroups(found)
    assert groups.names == ["sex=F"]
    assert groups.absent == [f"{HOSTILE_COLUMN}=<i>high</i>"]
    np.testing.assert_allclose(groups.values["copier"], [[1.0, 0.95, 1.05]])
    assert _coherence.ranks(found)["fat_l"]["joint"] == pytest.approx(np.full(10, 0.1))


def test_a_wide_matrix_keeps_the_largest_differences_in_their_order():
    values = {"a": np.array([[0.1, 0.5, 0.2]]), "b": np.array([[0.0, math.nan, -0.9]])}
    reduced = Matrix(["q"], ["x", "y", "z"], values).reduced(2)
    assert reduced.columns == ["y", "z"]
    assert reduced.values["a"].tolist() == [[0.5, 0.2]]


def test_where_nothing_can_be_assessed_the_reason_stays(shareable_run: Run, tmp_path: Path):
    shutil.copytree(shareable_run.folder, tmp_path / "run")
    run = judge(
        tmp_path / "run", {("joint", 0): ("NOT ASSESSABLE", math.nan, "real pairs are like broken ones")}
    )
    scores = run.scores
    lost = (scores["score"] == "coherence") & (scores["generator"] == "joint") & (scores["item"] != "")
    scores = scores[~lost]
    scores.to_parquet(run.folder / "scores.parquet")
    found = _coherence.judged(Run.open(run.folder))
    assert "NOT ASSESSABLE: joint (real pairs are like broken ones)." in _coherence.verdict_text(found)
    assert math.isnan(found[1].rulings[0].p)
    assert "joint" not in _coherence.statistics(found)[0].standings


def test_runs_without_verdicts_or_anchors_have_none(shareable_run: Run, tmp_path: Path):
    assert _coherence.judged(shareable_run) == []
    assert _coherence.null(shareable_run) is None
    shutil.copytree(shareable_run.folder, tmp_path / "old")
    path = tmp_path / "old" / "scores.parquet"
    pd.read_parquet(path).drop(columns=["verdict", "note"]).to_parquet(path)
    assert _coherence.judged(Run.open(tmp_path / "old")) == []
