"""The report for pull requests and job summaries: one Markdown file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mmbench.api import Card, Report, Run

from . import _tables
from ._tables import Board, Entry, estimate, scaled_text
from ._text import facts, overview_text, privacy_text, status_rows, write_whole


class MarkdownReport(Report):
    """Writes ``summary.md``."""

    card: ClassVar[Card] = Card("A Markdown summary: a table for each kind of score, and every failed cell.")

    def write(self, runs: Sequence[Run], folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        labels = _tables.run_labels(runs)
        parts = [f"# Benchmark report: {escape(', '.join(labels))}"]
        for members, names in _tables.same_cohort(runs):
            parts.append(f"## Combined leaderboard: {escape(members[0].cohort.name)}")
            parts += [_board(board) for board in _tables.boards(members, names)]
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
    found = _tables.boards([run])
    parts = [f"## {escape(label)}", escape(overview_text(run))]
    told = _tables.findings(found, set(_tables.copying_generators(run)))
    if told:
        parts.append("\n".join(f"- **{escape(kind.capitalize())}.** {escape(text)}" for kind, text in told))
    parts += [_board(board) for board in found]
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
                        _tables.status_text(row["status"]),
                        row["phase"],
                        row["reason"],
                    ]
                    for row in bad
                ),
            )
        )
    else:
        parts.append(f"None: all {_tables.plural(len(rows), 'cell')} ended well.")
    parts.append("### Time and memory")
    parts.append(
        table(
            ["Generator", "Fit seed", "Time of all phases", "Peak memory"],
            (
                [
                    r["generator"],
                    r["fit_seed"],
                    _tables.duration(r["total"]),
                    _tables.mebibytes(r["peak_rss_mb"]),
                ]
                for r in rows
            ),
        )
    )
    parts.append("### Environment, seeds and data")
    parts.append(table(["What", "Value"], facts(run)))
    parts.append(escape(privacy_text(run)))
    return parts


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table with every cell escaped."""
    lines = [head, ["---"] * len(head)]
    texts = [
        "| " + " | ".join(escape(cell) if i != 1 else cell for cell in line) + " |"
        for i, line in enumerate(lines)
    ]
    texts += ["| " + " | ".join(escape(cell) for cell in row) + " |" for row in rows]
    return "\n".join(texts)


def _board(board: Board) -> str:
    parts = [f"### {escape(board.title)}"]
    head = ["Generator", "Value [95 % interval]", "Ceiling", "Null", "Scaled", "Cells", "Status"]
    for output in board.outputs:
        unit = f" [{output['unit']}]" if output["unit"] else ""
        parts.append(
            f"**{escape(output['title'] + unit)}**, {escape(output['direction'])} is better. "
            f"{escape(output['meaning'])}".rstrip()
        )
        parts.append(table(head, ([g, *_entry(board.entries[g, output["name"]])] for g in board.generators)))
    return "\n\n".join(parts)


def _entry(entry: Entry) -> list[str]:
    anchors = entry.anchors
    problems = [
        f"{_tables.status_text(status)}: {reason}" if reason else _tables.status_text(status)
        for status, reason in entry.problems
    ]
    return [
        " ".join(estimate(entry.value, entry.low, entry.high)).strip(),
        " ".join(estimate(anchors.ceiling, anchors.ceiling_low, anchors.ceiling_high)).strip(),
        " ".join(estimate(anchors.null, anchors.null_low, anchors.null_high)).strip(),
        scaled_text(entry.scaled),
        f"{entry.used}/{entry.planned}",
        "; ".join(problems) or "ok",
    ]
