"""What every report shows, read from finished runs and not yet formatted as HTML or Markdown."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats

from mmbench.api import CohortError, Evidence, Run, Schema

KINDS = ("fidelity", "diversity", "plausibility", "coherence", "utility", "privacy")
KIND_TITLES = {
    "fidelity": "Fidelity: do synthetic records look real?",
    "diversity": "Diversity: is the whole cohort covered?",
    "plausibility": "Plausibility: could these be volumes and rows of a person?",
    "coherence": "Coherence: do volume and row belong to the same person?",
    "utility": "Utility: can synthetic records stand in for real ones?",
    "privacy": "Privacy: are training subjects copied?",
}
REAL_NAME = "real (reference)"
NOTHING = "–"


# Numbers as text ----------------------------------------------------------------------------------


def number(value: Any, scale: float | None = None) -> str:
    """Return a number with three significant digits, a dash for a missing one.

    Args:
        value: The number.
        scale: Magnitude that sets the decimals, so that an interval's ends match its value.
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    size = abs(scale if scale is not None and math.isfinite(scale) else value)
    if size == 0:
        return "0"
    exponent = math.floor(math.log10(size))
    if (value and exponent < -4) or exponent > 6:
        return f"{value:.2e}".replace("-", "−")
    text = f"{value:.{min(max(2 - exponent, 0), 5)}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def estimate(value: float, low: float, high: float) -> tuple[str, str]:
    """Return a value and its interval ``[low, high]`` with the same decimals; the latter may be empty."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return number(value), ""
    scale = max(abs(value), (high - low) / 2) if math.isfinite(value) else max(abs(low), abs(high))
    return number(value, scale), f"[{number(low, scale)}, {number(high, scale)}]"


def scaled_text(scaled: float) -> str:
    """Return a scaled score with two decimals."""
    return f"{scaled:.2f}".replace("-", "−") if math.isfinite(scaled) else NOTHING


def duration(seconds: float | None) -> str:
    """Return seconds as text with units."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left:02d} min" if hours else f"{minutes} min {rest:02d} s"


def mebibytes(value: float | None) -> str:
    """Return mebibytes as text with their unit."""
    return NOTHING if value is None or not math.isfinite(value) else f"{value:,.0f} MiB".replace(",", " ")


def enumerated(words: Iterable[str]) -> str:
    """Return ``a, b and c``."""
    items = list(words)
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else "none"


def plural(n: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def status_text(status: str) -> str:
    """Return a status as words."""
    return status.replace("_", " ")


# Scores -------------------------------------------------------------------------------------------


def outputs(run: Run) -> list[dict[str, Any]]:
    """Return the description of every score of a run, in the order of their metrics.

    Scores that the run does not describe are described by what their rows say.
    """
    described = {output["name"]: dict(output) for output in run.info.get("outputs", [])}
    for row in _scores(run).drop_duplicates("score").itertuples():
        described.setdefault(
            str(row.score),
            {"name": row.score, "kind": row.kind, "metric": row.metric, "direction": row.direction},
        )
    return [
        {"title": name, "meaning": "", "blind": "", "unit": "", "kind": "fidelity", "direction": "higher"}
        | output
        for name, output in described.items()
    ]


def _scores(run: Run) -> pd.DataFrame:
    scores = run.scores.copy()
    scores["item"] = scores["item"].fillna("").astype(str)
    scores["reason"] = scores["reason"].fillna("").astype(str)
    return scores


def headlines(run: Run) -> pd.DataFrame:
    """Return one row for each planned cell, draw and score, also where nothing was recorded.

    The columns are those of the run's scores; a score without a record takes its cell's status and reason.
    ``scaled`` is NaN where the score cannot tell its own ceiling from its null.
    """
    scores = _scores(run)
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
    rows = found
    if absent:
        added = pd.DataFrame(absent).reindex(columns=found.columns)
        rows = added if found.empty else pd.concat([found, added.astype(found.dtypes, errors="ignore")])
    order = {name: position for position, name in enumerate(dict.fromkeys(c["generator"] for c in run.cells))}
    return (
        rows.assign(position=rows["generator"].map(order), scaled=rows["scaled"].where(_anchors_apart(rows)))
        .sort_values(["position", "fit_seed", "sample_seed"], kind="stable", ignore_index=True)
        .drop(columns="position")
    )


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


def findings(found: Sequence[Board], copying: set[str]) -> list[tuple[str, str]]:
    """Return a sentence for each kind of score: its name and what the scores say.

    Args:
        found: Leaderboards.
        copying: Generators whose samples are training records; they are no candidates for the best.
    """
    result = []
    for board in found:
        if board.kind == "coherence":
            sentences = [_against_null(board, output) for output in board.outputs]
        elif board.kind == "privacy":
            sentences = [_against_ceiling(board, output) for output in board.outputs]
        else:
            sentences = [_closest(board, copying)]
        result.append((board.kind, " ".join(sentence for sentence in sentences if sentence)))
    return [(kind, text) for kind, text in result if text]


def _against_null(board: Board, output: Mapping[str, Any]) -> str:
    scored = _with_interval(board, output)
    if not scored:
        return f"{output['title']}: no generator has a score with an interval."
    clear = [g for g, e in scored.items() if e.clear == e.scored]
    some = [f"{g} ({e.clear} of {e.scored})" for g, e in scored.items() if 0 < e.clear < e.scored]
    none = [g for g, e in scored.items() if e.clear == 0]
    parts = []
    if clear:
        parts.append(
            f"the 95 % interval is better than the null in every fit and draw for {enumerated(clear)}"
        )
    if some:
        parts.append(f"in some only for {enumerated(some)}")
    if none:
        parts.append(f"in none for {enumerated(none)}")
    if not clear:
        parts[0] = f"the 95 % interval is better than the null {parts[0]}"
    return f"{output['title']}: {'; '.join(parts)}."


def _against_ceiling(board: Board, output: Mapping[str, Any]) -> str:
    scored = _with_interval(board, output)
    if not scored:
        return f"{output['title']}: no generator has a score with an interval."
    worse = [f"{g} ({e.below} of {e.scored})" for g, e in scored.items() if e.below > 0]
    if not worse:
        return (
            f"{output['title']}: no generator's 95 % interval is worse than what fresh real subjects score."
        )
    return (
        f"{output['title']}: the 95 % interval is worse than what fresh real subjects score for "
        f"{enumerated(worse)} "
        "(fits and draws)."
    )


def _with_interval(board: Board, output: Mapping[str, Any]) -> dict[str, Entry]:
    entries = {generator: board.entries[generator, output["name"]] for generator in board.generators}
    return {generator: entry for generator, entry in entries.items() if entry.ok and math.isfinite(entry.low)}


def _closest(board: Board, copying: set[str]) -> str:
    standing = {g: board.mean_scaled(g) for g in board.generators}
    candidates = {g: (mean, n) for g, (mean, n) in standing.items() if n and g not in copying}
    if not candidates:
        return "No generator that makes new records has a scaled score."
    total = len(board.outputs)
    # Means over unlike sets of scores cannot be ranked: the best is named for each number of scores apart.
    sentences: list[str] = []
    for size in sorted({n for _, n in candidates.values()}, reverse=True):
        peers = {g: mean for g, (mean, n) in candidates.items() if n == size}
        best = max(peers, key=lambda g: peers[g])
        fewer = "of those with fewer scores, " if sentences else ""
        sentences.append(
            f"{fewer}{best} (mean scaled score {scaled_text(peers[best])} over {size} of {plural(total, 'score')})"
        )
    return f"Nearest to fresh real subjects, copies of training records aside: {'; '.join(sentences)}."


def worst_items(run: Run, most: int = 3) -> list[dict[str, Any]]:
    """Return the worst columns, pairs or quantities of each score and generator, means over fits and draws.

    Args:
        run: The run.
        most: Number of items of each score and generator.

    Returns:
        Records with ``score``, ``generator`` and ``items``, pairs of an item and its mean value, worst first.
    """
    scores = _scores(run)
    details = scores[
        (scores["item"] != "") & (scores["status"] == "ok") & np.isfinite(scores["value"].astype(float))
    ]
    result = []
    for output in outputs(run):
        of_score = details[details["score"] == output["name"]]
        for generator in dict.fromkeys(cell["generator"] for cell in run.cells):
            values = of_score[of_score["generator"] == generator].groupby("item")["value"].mean()
            if len(values):
                worst = values.sort_values(ascending=output["direction"] == "higher", kind="stable")[:most]
                result.append(
                    {"score": output["title"], "generator": generator, "items": list(worst.items())}
                )
    return result


# Records ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Group:
    """Records shown under one name: the real reference, or all fits and draws of one generator.

    Attributes:
        name: Name for readers.
        draws: Evidence of each draw, in order.
        private: Whether single records must not be shown.
        real: Whether the records are real subjects.
    """

    name: str
    draws: tuple[Evidence, ...]
    private: bool
    real: bool = False

    @property
    def has_volumes(self) -> bool:
        """Whether its records have volumes."""
        return any(draw.cohort.volumes is not None for draw in self.draws)

    def frame(self, quantities: Sequence[str]) -> pd.DataFrame:
        """Return table columns and measured quantities of all draws; quantities are prefixed by a space.

        The prefix keeps a quantity apart from a column of the same name.
        """
        frames = []
        for draw in self.draws:
            parts = []
            if draw.cohort.table is not None:
                parts.append(draw.cohort.table.reset_index(drop=True))
            if draw.composition is not None:
                measured = draw.composition.reset_index(drop=True).reindex(columns=list(quantities))
                parts.append(measured.add_prefix(" "))
            if parts:
                frames.append(pd.concat(parts, axis=1))
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def unmeasurable(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Return, for each group with volumes that could not be measured, how many and why.

    Returns:
        Rows with ``name``, ``n``, ``total`` and ``reasons``: up to three texts, the most frequent first. Numbers
        within a reason are left out of the comparison.
    """
    rows = []
    for group in groups:
        told = [draw.unmeasurable for draw in group.draws if draw.unmeasurable is not None]
        if not told:
            continue
        reasons = pd.concat(told)
        failed = reasons[reasons != ""]
        if len(failed):
            kinds = failed.groupby(failed.str.replace(r"[\d.]+", "#", regex=True), sort=False)
            common = sorted(kinds, key=lambda kind: -len(kind[1]))[:3]
            texts = [f"{of_kind.iloc[0]} ({len(of_kind)})" for _, of_kind in common]
            rows.append({"name": group.name, "n": len(failed), "total": len(reasons), "reasons": texts})
    return rows


def shows_real(run: Run) -> bool:
    """Return whether images and single rows of real subjects may be shown."""
    return bool(run.cohort.shareable or (run.info.get("config", {}).get("report") or {}).get("include_real"))


def copying_generators(run: Run) -> list[str]:
    """Return the generators whose samples hold training records."""
    return list(dict.fromkeys(cell["generator"] for cell in run.cells if cell.get("copies")))


def groups(run: Run) -> list[Group]:
    """Return the real reference and each generator that has samples, in the order of the plan."""
    guarded = not shows_real(run)
    copying = copying_generators(run)
    result = [Group(REAL_NAME, (run.real("reference"),), guarded, real=True)]
    for generator in dict.fromkeys(cell["generator"] for cell in run.cells):
        draws = []
        for cell in run.cells:
            if cell["generator"] == generator:
                for sample_seed in run.sample_seeds:
                    try:
                        evidence = run.synthetic(cell["id"], sample_seed)
                    except CohortError:
                        # A draw that was cut off has no readable samples; its cell's status tells so.
                        evidence = None
                    if evidence is not None:
                        draws.append(evidence)
        if draws:
            result.append(Group(generator, tuple(draws), guarded and generator in copying))
    return result


def quantities(run: Run) -> list[dict[str, Any]]:
    """Return the measured quantities: name, unit, meaning."""
    told = run.info.get("quantities")
    if told:
        return [{"unit": "", "meaning": ""} | dict(quantity) for quantity in told]
    composition = run.real("reference").composition
    return (
        [] if composition is None else [{"name": n, "unit": "", "meaning": ""} for n in composition.columns]
    )


def variables(run: Run) -> dict[str, str]:
    """Return the label with unit of each column of :meth:`Group.frame`."""
    labels = (
        {column.name: column.label for column in run.cohort.schema} if run.cohort.table is not None else {}
    )
    for quantity in quantities(run):
        unit = f" [{quantity['unit']}]" if quantity["unit"] else ""
        labels[f" {quantity['name']}"] = f"{quantity['name']}{unit}, measured"
    return labels


def ordered_variables(run: Run) -> set[str]:
    """Return the columns of :meth:`Group.frame` whose values have an order."""
    ordered = {column.name for column in run.cohort.schema if column.ordered}
    return ordered | {f" {quantity['name']}" for quantity in quantities(run)}


def associations(frame: pd.DataFrame, names: Sequence[str], ordered: set[str], schema: Schema) -> np.ndarray:
    """Return the association of each pair of columns, shape (k, k), NaN where it is not defined.

    Two ordered columns: Spearman's rank correlation in [-1, 1]. One ordered, one not: correlation ratio with
    the correction of Kelley (1935), in [0, 1]. Neither: Cramer's V with the correction of Bergsma (2013,
    Journal of the Korean Statistical Society 42), in [0, 1]. The corrections matter because the compared
    samples differ in size. Pairs use the records that have both values.

    Args:
        frame: Table columns and measured quantities; absent columns give NaN.
        names: Columns, in order.
        ordered: Names of the ordered columns.
        schema: Levels of the table's columns.
    """
    codes = np.full((len(frame), len(names)), np.nan)
    for j, name in enumerate(names):
        if name in frame:
            if name in schema.names and schema[name].discrete:
                position = pd.Categorical(frame[name], categories=list(schema[name].levels)).codes
                codes[:, j] = np.where(position < 0, np.nan, position)
            else:
                codes[:, j] = frame[name].to_numpy(float)
    result = np.full((len(names), len(names)), np.nan)
    for i in range(len(names)):
        for j in range(i + 1):
            result[i, j] = result[j, i] = _association(
                codes[:, i], codes[:, j], names[i] in ordered, names[j] in ordered
            )
    return result


def _association(a: np.ndarray, b: np.ndarray, a_ordered: bool, b_ordered: bool) -> float:
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    if a_ordered and b_ordered:
        return float(np.corrcoef(scipy_stats.rankdata(a), scipy_stats.rankdata(b))[0, 1])
    if a_ordered or b_ordered:
        values, levels = (a, b) if a_ordered else (b, a)
        _, level = np.unique(levels, return_inverse=True)
        counts = np.bincount(level)
        means = np.bincount(level, values) / counts
        eta2 = float(counts @ (means - values.mean()) ** 2 / np.sum((values - values.mean()) ** 2))
        n, k = len(values), len(counts)
        return math.sqrt(max(0.0, 1 - (1 - eta2) * (n - 1) / (n - k))) if n > k else math.nan
    table = pd.crosstab(a, b).to_numpy(float)
    n, (r, c) = table.sum(), table.shape
    expected = np.outer(table.sum(1), table.sum(0)) / n
    phi2 = max(0.0, float(((table - expected) ** 2 / expected).sum() / n) - (r - 1) * (c - 1) / (n - 1))
    smaller = min(r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)) - 1
    return math.sqrt(min(1.0, phi2 / smaller)) if smaller > 0 else math.nan


@dataclass(frozen=True)
class Line:
    """Least-squares line of a quantity over a column.

    Attributes:
        n: Records with both values.
        slope: Slope with the ends of its 95 % interval.
        slope_low: Lower end.
        slope_high: Upper end.
        intercept: Value at 0.
        correlation: Spearman's rank correlation.
    """

    n: int
    slope: float
    slope_low: float
    slope_high: float
    intercept: float
    correlation: float


def fit_line(x: np.ndarray, y: np.ndarray) -> Line | None:
    """Fit a line; ``None`` with fewer than four records or without spread."""
    both = np.isfinite(x) & np.isfinite(y)
    x, y = x[both], y[both]
    if len(x) < 4 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    fit = scipy_stats.linregress(x, y)
    half = float(scipy_stats.t.ppf(0.975, len(x) - 2)) * float(fit.stderr)
    rank = float(np.corrcoef(scipy_stats.rankdata(x), scipy_stats.rankdata(y))[0, 1])
    return Line(len(x), float(fit.slope), fit.slope - half, fit.slope + half, float(fit.intercept), rank)


def composition_axes(run: Run, real: pd.DataFrame, most: int = 3) -> tuple[str, list[str]] | None:
    """Choose what composition is plotted against, and which quantities.

    The column is ``bmi`` where there is one, otherwise the numeric column that is most associated with the
    quantities; the quantities are the ``most`` that are most associated with it, in their own order.

    Args:
        run: The run.
        real: Frame of the real reference.
        most: Largest number of quantities.

    Returns:
        Column and quantities as named in :meth:`Group.frame`; ``None`` where either is absent.
    """
    measured = [f" {q['name']}" for q in quantities(run) if f" {q['name']}" in real]
    numeric = [c.name for c in run.cohort.schema if not c.discrete and c.name in real]
    if not measured or not numeric:
        return None
    table = pd.DataFrame(
        {
            x: {y: abs(line.correlation) if (line := fit_line(*_pair(real, x, y))) else 0.0 for y in measured}
            for x in numeric
        }
    )
    bmi = next((name for name in numeric if name.lower() == "bmi"), None)
    x = bmi or str(table.max().idxmax())
    chosen = set(table[x].sort_values(ascending=False, kind="stable").index[:most])
    return x, [y for y in measured if y in chosen]


def _pair(frame: pd.DataFrame, x: str, y: str) -> tuple[np.ndarray, np.ndarray]:
    return frame[x].to_numpy(float), frame[y].to_numpy(float)


def describe(values: pd.Series) -> str:
    """Return mean and standard deviation of numbers with the share missing."""
    numbers = values.to_numpy(float)
    present = numbers[np.isfinite(numbers)]
    if len(present) == 0:
        return "all missing"
    mean, spread = present.mean(), present.std(ddof=1) if len(present) > 1 else 0.0
    text = f"{number(mean, max(abs(mean), spread))} ± {number(spread, max(abs(mean), spread))}"
    return text + _missing(1 - len(present) / len(numbers))


def _missing(share: float) -> str:
    return f", {100 * share:.0f} % missing" if share > 0 else ""


def level_shares(values: pd.Series, levels: Sequence[Any]) -> dict[str, float]:
    """Return the share of each level among all records, and of missing values as ``missing``."""
    counts = values.value_counts()
    shares = {str(level): float(counts.get(level, 0)) / max(len(values), 1) for level in levels}
    missing = float(values.isna().mean()) if len(values) else 0.0
    return shares | ({"missing": missing} if missing else {})
