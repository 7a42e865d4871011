"""The report for pull requests and job summaries: one Markdown file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mmbench.api import Card, Report, Run

from . import _coherence, _findings, _format, _records, _scores
from ._coherence import Judged, Ruling, Standing
from ._format import estimate, scaled_text
from ._scores import Board, Entry
from ._text import facts, overview_text, privacy_text, status_rows, write_whole


class MarkdownReport(Report):
    """Writes ``summary.md``."""

    card: ClassVar[Card] = Card("A Markdown summary: a table for each kind of score, and every failed cell.")

    def write(self, runs: Sequence[Run], folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        labels = _scores.run_labels(runs)
        parts = [f"# Benchmark report: {escape(', '.join(labels))}"]
        for members, names in _scores.same_cohort(runs):
            parts.append(f"## Combined leaderboard: {escape(members[0].cohort.name)}")
            parts += [
                _board(board, _scores.failed_validity(members)) for board in _scores.boards(members, names)
            ]
        for run, label in zip(runs, labels, strict=True):
            parts += _run(run, label)
        path = folder / "summary.md"
        write_whole(path, "\n\n".join(parts) + "\n")
        return path


def escape(text: Any) -> str:
    """Return a text that Markdown shows as it is, in a table cell too."""
    one_line = " ".join(str(text).split())
    escaped = re.sub(r"([\\`*_{}\[\]|~#])", r"\\\1", one_line)
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _run(run: Run, label: str) -> list[str]:
    found = _scores.boards([run])
    parts = [f"## {escape(label)}"]
    lost = _records.unmeasurable(_records.groups(run))
    judged = _coherence.judged(run)
    told = _findings.findings(run, found, set(_records.copying_generators(run)), lost, judged)
    if told:
        parts.append("### In short")
        parts.append("\n".join(f"- **{escape(one.title)}.** {escape(one.text)}" for one in told))
    parts.append(escape(overview_text(run)))
    parts += [_board(board, _scores.failed_validity([run])) for board in found]
    if judged:
        parts += _verdicts(run, judged)
    rows = status_rows(run)
    bad = [row for row in rows if row["status"] != "ok"]
    parts.append("### Cells that did not end well")
    if bad:
        head = ["Generator", "Fit seed", "Status", "Phase", "Reason"]
        parts.append(
            table(
                head,
                (
                    [
                        row["generator"],
                        row["fit_seed"],
                        _format.status_text(row["status"]),
                        row["phase"],
                        row["reason"],
                    ]
                    for row in bad
                ),
            )
        )
    else:
        parts.append(f"None: all {_format.plural(len(rows), 'cell')} ended well.")
    parts.append("### Time and memory")
    parts.append(
        table(
            ["Generator", "Fit seed", "Time of all phases", "Peak memory"],
            (
                [
                    r["generator"],
                    r["fit_seed"],
                    _format.duration(r["total"]),
                    _format.mebibytes(r["peak_rss_mb"]),
                ]
                for r in rows
            ),
        )
    )
    parts.append("### Environment, seeds and data")
    parts.append(table(["What", "Value"], facts(run)))
    parts.append(escape(privacy_text(run)))
    return parts


def _verdicts(run: Run, judged: Sequence[Judged]) -> list[str]:
    parts = [f"### {_coherence.TITLE}", escape(_coherence.PRINCIPLE)]
    rows = []
    if null := _coherence.null(run):
        rows.append(["broken pairs (null)", *_ruling(null)])
    for one in judged:
        name = f"{one.name} (ceiling)" if one.real else one.name
        rows += [[name, *_ruling(ruling)] for ruling in one.rulings]
    head = ["Sample", "Fit, draw", "Verdict", "kappa [95 % interval]", "Smallest p (Holm)", "Why"]
    parts.append(table(head, rows))
    parts.append("\n".join(f"- **{escape(word)}**: {escape(text)}" for word, text in _coherence.MEANING))
    if absent := _coherence.without_verdict(run, judged):
        parts.append(escape(absent))
    if told := _coherence.statistics(judged):
        names = [one.name for one in judged if not one.details.empty]
        parts.append(
            "Primary statistics: means over fits and draws with 95 % intervals, and how they stand against "
            "the margin in the worst draw (within: shown to lie within it; beyond: wholly outside; open: "
            "neither). Exploratory ones take no part."
        )
        parts.append(
            table(
                ["Statistic", "Margin", *names],
                (
                    [one.name, one.margin, *(_standing(one.standings.get(name)) for name in names)]
                    for one in (*told, *_coherence.readings(judged))
                ),
            )
        )
    return parts


def _ruling(ruling: Ruling) -> list[str]:
    kappa = " ".join(ruling.numbers).strip()
    return [ruling.place, ruling.label or _format.NOTHING, kappa, _format.p_value(ruling.p), ruling.why]


def _standing(standing: Standing | None) -> str:
    if standing is None:
        return _format.NOTHING
    numbers = estimate(standing.value, standing.low, standing.high)
    return " ".join(part for part in (*numbers, standing.word, standing.extent) if part)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table with every cell escaped."""
    lines = [head, ["---"] * len(head)]
    texts = [
        "| " + " | ".join(escape(cell) if i != 1 else cell for cell in line) + " |"
        for i, line in enumerate(lines)
    ]
    texts += ["| " + " | ".join(escape(cell) for cell in row) + " |" for row in rows]
    return "\n".join(texts)


def _board(board: Board, validity: Mapping[str, Sequence[str]]) -> str:
    parts = [f"### {escape(board.title)}"]
    head = ["Generator", "Value [95 % interval]", "Ceiling", "Null", "Scaled", "p", "Cells", "Status"]
    for output in board.outputs:
        unit = f" [{output['unit']}]" if output["unit"] else ""
        parts.append(
            f"**{escape(output['title'] + unit)}**, {escape(output['direction'])} is better. "
            f"{escape(output['meaning'])}".rstrip()
            + (f" Blind to: {escape(output['blind'])}" if output["blind"] else "")
            + "".join(
                f" Fails validity test {escape(failure)}." for failure in validity.get(output["name"], ())
            )
        )
        parts.append(table(head, ([g, *_entry(board.entries[g, output["name"]])] for g in board.generators)))
    return "\n\n".join(parts)


def _entry(entry: Entry) -> list[str]:
    anchors = entry.anchors
    problems = [
        f"{_format.status_text(status)}: {reason}" if reason else _format.status_text(status)
        for status, reason in entry.problems
    ]
    return [
        " ".join(estimate(entry.value, entry.low, entry.high)).strip(),
        " ".join(estimate(anchors.ceiling, anchors.ceiling_low, anchors.ceiling_high)).strip(),
        " ".join(estimate(anchors.null, anchors.null_low, anchors.null_high)).strip(),
        scaled_text(entry.scaled),
        _format.p_values(entry.p) if entry.p else _format.NOTHING,
        f"{entry.used}/{entry.planned}",
        "; ".join(problems) or "ok",
    ]
