"""Scores of finished runs as leaderboards, not yet formatted as HTML or Markdown."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mmbench.api import Run

KINDS = ("fidelity", "diversity", "plausibility", "coherence", "utility", "privacy")
P_VALUE = "p"
"""Item of the details that are p-values."""
KIND_TITLES = {
    "fidelity": "Fidelity: do synthetic records look real?",
    "diversity": "Diversity: is the whole cohort covered?",
    "plausibility": "Plausibility: could these be volumes and rows of a person?",
    "coherence": "Coherence: do volume and row belong to the same person?",
    "utility": "Utility: can synthetic records stand in for real ones?",
    "privacy": "Privacy: are training subjects copied?",
}


def outputs(run: Run) -> list[dict[str, Any]]:
    """Return the description of every score of a run, in the order of their metrics.

    Scores that the run does not describe are described by what their rows say.
    """
    described = {output["name"]: dict(output) for output in run.info.get("outputs", [])}
    for row in tidy(run.scores).drop_duplicates("score").itertuples():
        described.setdefault(
            str(row.score),
            {"name": row.score, "kind": row.kind, "metric": row.metric, "direction": row.direction},
        )
    return [
        {"title": name, "meaning": "", "blind": "", "unit": "", "kind": "fidelity", "direction": "higher"}
        | output
        for name, output in described.items()
    ]


def failed_validity(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Return, by the name of a score, the validity tests that it fails, each with the reason.

    A score that passes all has none; a score that was not tested is absent. The runs say so themselves.
    """
    return {
        str(name): [
            f"{failure['test']}: {failure['detail']}" if isinstance(failure, Mapping) else str(failure)
            for failure in failures
        ]
        for run in runs
        for name, failures in (run.info.get("validity") or {}).items()
    }


def tidy(scores: pd.DataFrame) -> pd.DataFrame:
    """Return scores whose texts are texts; those that a run of an earlier version lacks are empty."""
    texts = {
        name: scores[name].fillna("").astype(str) if name in scores else ""
        for name in ("item", "reason", "verdict", "note")
    }
    return scores.assign(**texts)


def headlines(run: Run) -> pd.DataFrame:
    """Return one row for each planned cell, draw and score, also where nothing was recorded.

    The columns are those of the run's scores and ``p``, the p-value that is among a score's details; a score
    without a record takes its cell's status and reason.
    ``scaled`` is NaN where the score cannot tell its own ceiling from its null.
    """
    scores = tidy(run.scores)
    found = scores[(scores["item"] == "") & scores["generator"].isin([c["generator"] for c in run.cells])]
    keys = ["generator", "fit_seed", "sample_seed", "score"]
    present = set(found[keys].itertuples(index=False, name=None))
    absent = []
    described = outputs(run)
    for cell in run.cells:
        record = run.status(cell["id"])
        ended_well = record.get("status") == "ok"
        for sample_seed in run.sample_seeds:
            for output in described:
                row = (cell["generator"], cell["fit_seed"], sample_seed, output["name"])
                if row not in present:
                    absent.append(
                        dict(zip(keys, row, strict=True))
                        | {
                            "metric": output.get("metric", ""),
                            "item": "",
                            "kind": output["kind"],
                            "direction": output["direction"],
                            "status": "interrupted" if ended_well else record.get("status", "interrupted"),
                            "reason": "no record" if ended_well else record.get("reason") or "",
                        }
                    )
    rows = found.merge(_p_values(scores), how="left", on=keys)
    if absent:
        added = pd.DataFrame(absent).reindex(columns=rows.columns)
        rows = added if rows.empty else pd.concat([rows, added.astype(rows.dtypes, errors="ignore")])
    order = {name: position for position, name in enumerate(dict.fromkeys(c["generator"] for c in run.cells))}
    return (
        rows.assign(position=rows["generator"].map(order), scaled=rows["scaled"].where(_anchors_apart(rows)))
        .sort_values(["position", "fit_seed", "sample_seed"], kind="stable", ignore_index=True)
        .drop(columns="position")
    )


def _p_values(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the p-value of each draw and score that has one."""
    rows = scores[(scores["item"] == P_VALUE) & (scores["status"] == "ok")]
    columns = ["generator", "fit_seed", "sample_seed", "score", "value"]
    return rows[columns].drop_duplicates(columns[:-1]).rename(columns={"value": "p"})


def _anchors_apart(rows: pd.DataFrame) -> pd.Series:
    """Whether the ceiling is better than the null and each lies outside the other's interval.

    Otherwise (null - value) / (null - ceiling) divides by noise, or by a span of the wrong sign.
    """
    sign = np.where(rows["direction"] == "higher", 1.0, -1.0)
    ceiling, null = rows["ceiling"], rows["null"]
    overlap = ceiling.between(rows["null_low"], rows["null_high"]) | null.between(
        rows["ceiling_low"], rows["ceiling_high"]
    )
    return (ceiling - null).mul(sign).gt(0) & ~overlap


@dataclass(frozen=True)
class Anchors:
    """What a score of real against real (ceiling) and of the destroyed reference (null) is."""

    ceiling: float
    ceiling_low: float
    ceiling_high: float
    null: float
    null_low: float
    null_high: float

    @classmethod
    def of(cls, rows: pd.DataFrame) -> Anchors:
        """Return the means over rows."""
        return cls(*(_mean(rows[field.name]) for field in dataclasses.fields(cls)))


@dataclass(frozen=True)
class Entry:
    """One generator's standing in one score: a mean over its fits and draws.

    Attributes:
        value: Mean over the cells used; NaN where none has a value.
        low: Mean of the lower ends of the 95 % intervals, which speak of the sampling of subjects.
        high: Mean of the upper ends.
        smallest: Smallest value of a cell.
        largest: Largest value of a cell.
        scaled: Mean of (null - value) / (null - ceiling): 0 at the null, 1 at the ceiling; NaN where these
            two cannot be told apart.
        anchors: Ceiling and null of the cells used.
        used: Number of cells that the mean is over: those that every generator with the score has.
        scored: Number of cells with a value.
        planned: Number of planned cells.
        problems: Status and reason of the cells without a value, most frequent first.
        clear: In how many of the cells with a value the interval lies beyond the null on the good side.
        below: In how many of them the interval lies beyond the ceiling on the bad side.
        at_null: In how many of them the interval, or the value where there is none, reaches the null's range.
        p: P-values of the cells used that have one.
    """

    value: float
    low: float
    high: float
    smallest: float
    largest: float
    scaled: float
    anchors: Anchors
    used: int
    scored: int
    planned: int
    problems: tuple[tuple[str, str], ...]
    clear: int
    below: int
    at_null: int
    p: tuple[float, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there is a value."""
        return self.used > 0


@dataclass(frozen=True)
class Board:
    """Leaderboard of one kind of score.

    Attributes:
        kind: Kind of the scores.
        outputs: Descriptions of the scores.
        generators: Rows, in the order of the plan.
        entries: Standing by generator and name of the score.
        anchors: Ceiling and null by name of the score.
    """

    kind: str
    outputs: list[dict[str, Any]]
    generators: list[str]
    entries: dict[tuple[str, str], Entry]
    anchors: dict[str, Anchors]

    @property
    def title(self) -> str:
        """Title for readers."""
        return KIND_TITLES.get(self.kind, self.kind.capitalize())

    def mean_scaled(self, generator: str) -> tuple[float, int]:
        """Return the mean scaled score over the scores that the generator has, and their number.

        Each is cut to [0, 1] first, so that one score far below its null does not hide the others.
        """
        scaled = [self.entries[generator, output["name"]].scaled for output in self.outputs]
        finite = [min(max(value, 0.0), 1.0) for value in scaled if math.isfinite(value)]
        return (float(np.mean(finite)), len(finite)) if finite else (math.nan, 0)


def boards(runs: Sequence[Run], labels: Sequence[str] = ()) -> list[Board]:
    """Return a leaderboard for each kind of score over runs on one cohort.

    Args:
        runs: One run, or several with the same cohort and split.
        labels: Name of each run, which its generators then carry; only with several runs.
    """
    described: dict[str, dict[str, Any]] = {}
    parts = []
    generators: list[str] = []
    for run, label in zip(runs, labels or [""] * len(runs), strict=True):
        for output in outputs(run):
            described.setdefault(output["name"], output)
        part = headlines(run)
        parts.append(part.assign(generator=[of_run(name, label) for name in part["generator"]]))
        generators += dict.fromkeys(of_run(cell["generator"], label) for cell in run.cells)
    rows = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    versions = rows["metric_version"].astype(float)
    outdated = versions < versions.groupby(rows["score"]).transform("max")
    rows.loc[outdated, "status"] = "no_value"
    rows.loc[outdated, "reason"] = "an older version of the metric: its numbers are not comparable"
    rows["usable"] = (rows["status"] == "ok") & np.isfinite(rows["value"].astype(float))
    kinds = [*KINDS, *sorted({output["kind"] for output in described.values()} - set(KINDS))]
    return [
        _board(kind, [output for output in described.values() if output["kind"] == kind], generators, rows)
        for kind in kinds
        if any(output["kind"] == kind for output in described.values())
    ]


def _board(kind: str, described: list[dict[str, Any]], generators: list[str], rows: pd.DataFrame) -> Board:
    entries, anchors = {}, {}
    for output in described:
        of_score = rows[rows["score"] == output["name"]]
        anchors[output["name"]] = Anchors.of(of_score)
        usable = of_score[of_score["usable"]]
        cells = [
            set(zip(g["fit_seed"], g["sample_seed"], strict=True)) for _, g in usable.groupby("generator")
        ]
        common = set.intersection(*cells) if cells else set()
        for generator in generators:
            entries[generator, output["name"]] = _entry(
                of_score[of_score["generator"] == generator], common, output["direction"]
            )
    return Board(kind, described, generators, entries, anchors)


def _entry(rows: pd.DataFrame, common: set[tuple[int, int]], direction: str) -> Entry:
    scored = rows[rows["usable"]]
    used = scored
    if common:
        keys = zip(scored["fit_seed"], scored["sample_seed"], strict=True)
        used = scored[np.array([key in common for key in keys], dtype=bool)]
    problems = rows[~rows["usable"]]
    told = problems.assign(status=problems["status"].replace("ok", "no_value")).groupby(
        ["status", "reason"], sort=False
    )
    higher = direction == "higher"
    sign = 1.0 if higher else -1.0
    pessimistic, optimistic = ("ci_low", "ci_high") if higher else ("ci_high", "ci_low")
    null_end = "null_high" if higher else "null_low"
    return Entry(
        value=_mean(used["value"]),
        low=_mean(used["ci_low"]),
        high=_mean(used["ci_high"]),
        smallest=float(used["value"].min()) if len(used) else math.nan,
        largest=float(used["value"].max()) if len(used) else math.nan,
        scaled=_mean(used["scaled"]),
        anchors=Anchors.of(used if len(used) else rows),
        used=len(used),
        scored=len(scored),
        planned=len(rows),
        problems=tuple(told.size().sort_values(ascending=False, kind="stable").index),
        clear=int((sign * scored[pessimistic] > sign * scored["null"]).sum()),
        below=int((sign * scored[optimistic] < sign * scored["ceiling"]).sum()),
        at_null=int(
            (
                sign * scored[pessimistic].fillna(scored["value"])
                <= sign * scored[null_end].fillna(scored["null"])
            ).sum()
        ),
        p=tuple(float(p) for p in used["p"] if math.isfinite(p)),
    )


def _mean(values: pd.Series) -> float:
    """Mean of the finite values, NaN where there is none."""
    array = values.to_numpy(float)
    present = array[np.isfinite(array)]
    return float(present.mean()) if len(present) else math.nan


def run_labels(runs: Sequence[Run]) -> list[str]:
    """Return names that tell runs apart."""
    names = [run.name for run in runs]
    return [name if names.count(name) == 1 else f"{name} ({i + 1})" for i, name in enumerate(names)]


def of_run(generator: str, label: str) -> str:
    """Return a generator's name with that of its run, if any."""
    return f"{generator} · {label}" if label else generator


def same_cohort(runs: Sequence[Run]) -> list[tuple[list[Run], list[str]]]:
    """Return the groups of two or more runs whose cohorts and splits are the same, with the runs' labels."""
    groups: dict[tuple[str, ...], tuple[list[Run], list[str]]] = {}
    for run, label in zip(runs, run_labels(runs), strict=True):
        fingerprint = run.info.get("cohort", {}).get("fingerprint")
        if fingerprint:
            split = [",".join(map(str, indices)) for _, indices in run.roles.items()]
            members, labels = groups.setdefault((fingerprint, *split), ([], []))
            members.append(run)
            labels.append(label)
    return [group for group in groups.values() if len(group[0]) > 1]


def worst_items(run: Run, most: int = 3) -> list[dict[str, Any]]:
    """Return the worst columns, pairs or quantities of each score and generator, means over fits and draws.

    Details that speak of something else, such as a p-value or a floor, are left out.

    Args:
        run: The run.
        most: Number of items of each score and generator.

    Returns:
        Records with ``score``, ``generator`` and ``items``, pairs of an item and its mean value, worst first.
    """
    scores = tidy(run.scores)
    details = scores[(scores["status"] == "ok") & np.isfinite(scores["value"].astype(float))]
    known = {*run.cohort.schema.names, *(quantity["name"] for quantity in run.info["quantities"])}
    names_something = [set(item.split(" ~ ")) <= known for item in details["item"]]
    details = details[np.array(names_something, dtype=bool)]
    result = []
    for output in outputs(run):
        of_score = details[details["score"] == output["name"]]
        for generator in dict.fromkeys(cell["generator"] for cell in run.cells):
            values = of_score[of_score["generator"] == generator].groupby("item")["value"].mean()
            if len(values):
                badness = values if output["direction"] == "higher" else -(values - output["ideal"]).abs()
                worst = values[badness.sort_values(kind="stable").index[:most]]
                result.append(
                    {"score": output["title"], "generator": generator, "items": list(worst.items())}
                )
    return result
