from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest

from mmbench.api import Run
from mmbench.reports import _responses
from mmbench.reports.html import HtmlReport

from .conftest import HOSTILE, HOSTILE_COLUMN


def answers(row: dict, shift: float) -> list[dict]:
    """Scores of a generator whose means lie ``shift`` above the real ones."""
    base = row | {"score": "response", "kind": "coherence", "status": "ok", "verdict": "", "note": ""}
    slope = {"value": 0.91, "ci_low": 0.8, "ci_high": 1.02, "verdict": "within", "note": "margin 0.8 to 1.2"}
    rows = [base | slope | {"item": item} for item in ("", "response to bmi")]
    for column, values in (("bmi", (24.5, 31.0, 9.0)), (HOSTILE_COLUMN, ("low", "<i>high</i>"))):
        for k, value in enumerate(values):
            for quantity in ("fat_l", "lean_l"):
                point = {"item": f"{quantity} at {column}={value}", "note": f"real {k}.5, {k}.25 to {k}.75"}
                rows.append(
                    base | point | {"value": k + shift, "ci_low": k + shift - 0.1, "ci_high": k + shift + 0.1}
                )
    return rows


@pytest.fixture(scope="module")
def answering_run(judged_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("answering") / "toy"
    shutil.copytree(judged_run.folder, folder)
    scores = pd.read_parquet(folder / "scores.parquet")
    heads = scores[(scores["score"] == "coherence") & (scores["item"] == "")].to_dict("records")
    rows = [
        row
        for head in heads
        if head["generator"] in ("joint", HOSTILE)
        for row in answers(head, 0.7 + head["fit_seed"])
    ]
    pd.concat([scores, pd.DataFrame(rows)]).to_parquet(folder / "scores.parquet")
    return Run.open(folder)


def test_curves_are_means_over_fits_with_numbers_in_order(answering_run: Run):
    found = {
        (c.label, c.quantity): c
        for c in _responses.curves(answering_run.scores.fillna({"item": "", "note": ""}), answering_run)
    }
    assert len(found) == 4
    curve = found["bmi [kg/m²]", "fat_l"]
    assert curve.values == ["9.0", "24.5", "31.0"]
    assert curve.real[:, 0].tolist() == [2.5, 0.5, 1.5]
    assert curve.drawn["joint"][:, 0] == pytest.approx(np.array([2, 0, 1]) + 1.2)
    assert curve.drawn[HOSTILE][:, 1] == pytest.approx(np.array([2, 0, 1]) + 0.6)
    assert found[HOSTILE_COLUMN, "lean_l"].values == ["low", "<i>high</i>"]


def test_the_report_shows_them_where_there_are_some(answering_run: Run, judged_run: Run, tmp_path):
    page = HtmlReport().write([answering_run], tmp_path / "with").read_text()
    assert "Response to given values" in page
    assert "joint 0.91 [0.80, 1.02] within (bmi 0.91 [0.80, 1.02] within)" in page
    assert HOSTILE not in page
    assert (tmp_path / "with" / "figures" / "run1-responses.svg").exists()
    assert _responses.picture(judged_run, {}, "run1") is None
