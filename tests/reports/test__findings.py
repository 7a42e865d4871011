from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmbench.api import Run
from mmbench.reports._findings import copied
from mmbench.reports._scores import boards


@pytest.fixture
def told(shareable_run: Run, tmp_path: Path):
    """Return a function that changes the scores of a run and tells which generators copy."""

    def tell(change) -> list[str]:
        folder = tmp_path / "run"
        shutil.copytree(shareable_run.folder, folder)
        scores = change(pd.read_parquet(folder / "scores.parquet"))
        scores.to_parquet(folder / "scores.parquet")
        return copied(boards([Run.open(folder)]))

    return tell


def place(scores: pd.DataFrame, rows: pd.Series, scaled: float, half_width: float = 0.08) -> pd.DataFrame:
    """Put scores at a scaled value, with an interval of so much to either side."""
    scores = scores.copy()
    span = scores["ceiling"] - scores["null"]
    value = scores["null"] + scaled * span
    reach = half_width * span.abs()
    for name, numbers in (("value", value), ("ci_low", value - reach), ("ci_high", value + reach)):
        scores.loc[rows, name] = numbers[rows]
    scores.loc[rows, "scaled"] = scaled
    return scores


def of(scores: pd.DataFrame, generator: str, kind: str) -> pd.Series:
    return (scores["generator"] == generator) & (scores["kind"] == kind) & (scores["item"] == "")


def test_only_the_generator_that_copies_is_called_so(told):
    [sentence] = told(lambda scores: scores)
    assert sentence.startswith("copier looks as good as real subjects")


def test_the_rule_follows_the_scores_and_not_the_name_or_the_declaration(told):
    def swapped(scores):
        names = {"copier": "joint", "joint": "copier"}
        first = scores["fit_seed"] == 0
        moved = scores["generator"].where(~first, scores["generator"].replace(names))
        scores = scores.assign(generator=moved)
        return place(scores, of(scores, "joint", "privacy"), 0.0)

    sentences = told(swapped)
    assert [sentence.split()[0] for sentence in sentences] == ["joint"]


def test_broken_pairs_and_perfect_fidelity_are_no_copies(told):
    """A generator of new records may have every other score of copies: at the ceiling, or at a null."""

    def clean(scores):
        for kind, scaled in (("fidelity", 1.0), ("diversity", 1.0), ("coherence", 0.0), ("privacy", 1.0)):
            scores = place(scores, of(scores, "copier", kind), scaled)
        return scores

    assert told(clean) == []


@pytest.mark.parametrize(
    ("scaled", "half_width"),
    [
        (0.3, 0.1),  # worse than unseen subjects, far from copies
        (0.25, 0.3),  # wide enough to reach the null, but not near it
        (0.03, 1.2),  # so wide that it reaches the ceiling too
    ],
)
def test_uncertain_or_partial_signs_are_no_proof(told, scaled, half_width):
    assert told(lambda s: place(s, of(s, "copier", "privacy"), scaled, half_width)) == []


def test_copies_of_poor_fidelity_are_named_without_praise(told):
    [sentence] = told(lambda s: place(s, of(s, "copier", "fidelity"), 0.2))
    assert sentence.startswith("copier is exposed by Copied records")


def test_one_exposing_score_among_many_speaks_of_a_part(told):
    def more(scores):
        private = scores[scores["score"] == "copies"]
        added = [
            place(private.assign(score=name), private["generator"] == "copier", 1.0)
            for name in ("membership", "authenticity")
        ]
        return pd.concat([scores, *added], ignore_index=True)

    [sentence] = told(more)
    assert "a part of its records, or one modality" in sentence
    assert "the other 2 privacy scores do not agree" in sentence


def test_anchors_that_are_not_apart_expose_nobody(told):
    def blunt(scores):
        rows = scores["kind"] == "privacy"
        scores.loc[rows, ["ceiling", "ceiling_low", "ceiling_high"]] = np.array([99.0, 90.0, 110.0])
        return scores

    assert told(blunt) == []
