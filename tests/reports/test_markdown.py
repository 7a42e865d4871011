from __future__ import annotations

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from mmbench.api import Run
from mmbench.reports import _coherence
from mmbench.reports.markdown import MarkdownReport, escape, table

from .conftest import OUTPUTS


@pytest.fixture(scope="module")
def summary(shareable_run: Run, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = MarkdownReport().write([shareable_run], tmp_path_factory.mktemp("report"))
    assert path.name == "summary.md"
    return path.read_text(encoding="utf-8")


def _tables(text: str) -> list[list[list[str]]]:
    """Cells of every table, split at unescaped pipes."""
    blocks = re.findall(r"(?:^\|.*\|$\n?)+", text, re.MULTILINE)
    return [[re.split(r"(?<!\\)\|", line)[1:-1] for line in block.splitlines()] for block in blocks]


def test_every_table_has_as_many_cells_in_each_row(summary: str):
    tables = _tables(summary)
    assert len(tables) >= len(OUTPUTS) + 3
    for rows in tables:
        assert {len(row) for row in rows} == {len(rows[0])}


def test_values_stand_with_interval_anchors_and_scaled_score(summary: str):
    # Coherence of joint's first fit: 0.8 of the way from 0 to 0.6, give or take 0.08 of it.
    row = next(line for line in summary.splitlines() if line.startswith("| joint | 0.480"))
    assert [cell.strip() for cell in row.split("|")[1:-1]] == [
        "joint",
        r"0.480 \[0.432, 0.528\]",
        r"0.600 \[0.570, 0.630\]",
        r"0.0000 \[−0.0300, 0.0300\]",
        "0.80",
        "p = 0.002",
        "1/2",
        "ok",
    ]


def test_findings_blind_spots_and_failed_validity_are_told(summary: str):
    assert summary.index("### In short") < summary.index("learned from 12 training subjects")
    assert "- **Copies.** copier looks as good as real subjects on fidelity" in summary
    for output in OUTPUTS:
        assert f"Blind to: {output['blind']}" in summary
    assert "Fails validity test V4: lowest at spread 0.7" in summary


def test_verdicts_are_those_of_the_page(judged_run: Run, tmp_path: Path):
    text = MarkdownReport().write([judged_run], tmp_path).read_text(encoding="utf-8")
    assert f"- **Coherence.** {escape(_coherence.verdict_text(_coherence.judged(judged_run)))}" in text
    section = text.split(f"### {_coherence.TITLE}")[1].split("\n### ")[0]
    verdicts, statistics = _tables(section)
    rows = [[cell.strip() for cell in row] for row in verdicts]
    assert ["joint", "1, 0", "INDETERMINATE", r"0.93 \[0.88, 0.98\]", "0.004"] in [row[:5] for row in rows]
    assert ["fresh real sample (ceiling)", "–", "INDETERMINATE", r"1.01 \[0.96, 1.06\]"] in [
        row[:4] for row in rows
    ]
    assert "the kappa test &lt;b&gt;rejects&lt;/b&gt; &amp; kappa lies beyond" in section
    assert statistics[2][0].strip() == "kappa"
    assert "open in 1 of 2" in statistics[2][3]
    assert all(len({len(row) for row in rows}) == 1 for rows in _tables(text))
    assert "Nothing is called coherent because nothing was found." in section


def test_a_run_from_before_there_were_verdicts_is_told_without(
    shareable_run: Run, summary: str, tmp_path: Path
):
    assert _coherence.TITLE not in summary
    shutil.copytree(shareable_run.folder, tmp_path / "run")
    path = tmp_path / "run" / "scores.parquet"
    pd.read_parquet(path).drop(columns=["verdict", "note"]).to_parquet(path)
    old = MarkdownReport().write([Run.open(tmp_path / "run")], tmp_path)
    assert old.read_text(encoding="utf-8") == summary


def test_every_status_keeps_its_reason(summary: str):
    assert "not applicable: needs volume" in summary
    assert "failed: LinAlgError: SVD did not converge" in summary
    assert r"| broken | 0 | failed | fit | ValueError: loss is NaN \| at &lt;step&gt; 3 |" in summary


def test_names_from_a_run_are_harmless(summary: str):
    assert "<script" not in summary
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in summary


def test_escape_keeps_text_on_one_line_and_legible():
    assert escape("a|b\n`c` *d* <e> & [f](http://g)") == r"a\|b \`c\` \*d\* &lt;e&gt; &amp; \[f\](http://g)"
    assert table(["x"], [["1|2"]]) == "| x |\n| --- |\n| 1\\|2 |"


def test_private_cohort_names_no_subject(private_run: Run, tmp_path: Path):
    text = MarkdownReport().write([private_run], tmp_path).read_text(encoding="utf-8")
    assert not any(name in text for name in private_run.cohort.ids)
    assert "neither volumes nor single records" in text


def test_runs_on_one_cohort_are_combined_and_output_is_deterministic(
    shareable_run: Run, private_run: Run, tmp_path: Path
):
    runs = [shareable_run, private_run]
    first = MarkdownReport().write(runs, tmp_path / "a").read_text(encoding="utf-8")
    assert "## Combined leaderboard: toy bodies" in first
    assert "joint · toy (1)" in first
    assert MarkdownReport().write(runs, tmp_path / "b").read_text(encoding="utf-8") == first
