"""The report for reading: one HTML file that needs no network, with its figures beside it as files."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mmbench.api import Card, Report, Run

from . import (
    _coherence,
    _coherence_pictures,
    _findings,
    _format,
    _pictures,
    _records,
    _responses,
    _scores,
    figures,
)
from ._coherence import Judged
from ._format import number
from ._scores import Board
from ._text import facts, methods, overview_text, privacy_text, status_rows, write_whole
from .figures import Curve

SCORES_ACROSS = 6
"""Scores in one table, so that it fits a page."""
STANDINGS_ACROSS = 6
"""Generators in one table of primary statistics."""
REAL_COLOUR = figures.INK


class HtmlReport(Report):
    """Writes ``index.html`` and ``figures/``."""

    card: ClassVar[Card] = Card("A self-contained HTML report with leaderboard, figures, costs and methods.")

    def write(self, runs: Sequence[Run], folder: Path) -> Path:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        sections = []
        for position, (run, label) in enumerate(zip(runs, _scores.run_labels(runs), strict=True), start=1):
            section = _section(run, label, f"run{position}")
            for picture in section["pictures"]:
                (folder / "figures" / picture.name).write_bytes(picture.data)
            sections.append(section)
        combined = [
            {
                "id": f"combined{i}",
                "cohort": members[0].cohort.name,
                "boards": _shown_boards(members, labels),
                "validity": _scores.failed_validity(members),
                "copying": [
                    _scores.of_run(name, label)
                    for run, label in zip(members, labels, strict=True)
                    for name in _records.copying_generators(run)
                ],
            }
            for i, (members, labels) in enumerate(_scores.same_cohort(runs), start=1)
        ]
        path = folder / "index.html"
        write_whole(path, _render(sections, combined))
        return path


def _render(sections: list[dict[str, Any]], combined: list[dict[str, Any]]) -> str:
    templates = Path(__file__).parent / "templates"
    environment = Environment(
        loader=FileSystemLoader(templates),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "duration": _format.duration,
        "mebibytes": _format.mebibytes,
        "status_text": _format.status_text,
        "scaled": _format.scaled_text,
        "whole": _whole,
        "bar": _bar,
        "p_values": _format.p_values,
        "p_value": _format.p_value,
    }
    environment.globals |= {"estimate": _format.estimate, "nothing": _format.NOTHING}
    script = (templates / "sort.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Only the project's own files are marked as safe; everything that comes from a run is escaped.
    return environment.get_template("report.html").render(
        sections=sections,
        combined=combined,
        style=Markup((templates / "style.css").read_text(encoding="utf-8")),  # noqa: S704
        script=Markup(script),  # noqa: S704
        script_hash=Markup(f"'sha256-{digest}'"),  # noqa: S704
    )


def _bar(scaled: float) -> dict[str, Any] | None:
    """Width in per cent and class of a scaled score's bar, ``None`` where there is none."""
    if not math.isfinite(scaled):
        return None
    share = min(max(scaled, 0.0), 1.0)
    return {"width": round(100 * share), "step": min(int(share * 5), 4)}


def _whole(value: Any) -> str:
    return _format.NOTHING if pd.isna(value) else str(int(value))


@dataclass(frozen=True)
class _ShownBoard:
    """A leaderboard cut into tables that fit a page."""

    board: Board
    tables: list[list[dict[str, Any]]]


def _shown_boards(runs: Sequence[Run], labels: Sequence[str] = ()) -> list[_ShownBoard]:
    shown = []
    for board in _scores.boards(runs, labels):
        count = math.ceil(len(board.outputs) / SCORES_ACROSS)
        parts = np.array_split(np.arange(len(board.outputs)), count)
        shown.append(_ShownBoard(board, [[board.outputs[i] for i in part] for part in parts]))
    return shown


def _section(run: Run, label: str, prefix: str) -> dict[str, Any]:
    groups = _records.groups(run)
    names = list(dict.fromkeys(cell["generator"] for cell in run.cells))
    palette = figures.colours(names) | {_records.REAL_NAME: REAL_COLOUR}
    measured = [quantity["name"] for quantity in _records.quantities(run)]
    curves = [Curve(g.name, palette[g.name], g.frame(measured), g.private, g.real) for g in groups]
    found = _shown_boards([run])
    unmeasurable = _records.unmeasurable(groups)
    headlines = _scores.headlines(run)
    judged = _coherence.judged(run)
    section: dict[str, Any] = {
        "id": prefix,
        "label": label,
        "created": run.info.get("created", ""),
        "summary": overview_text(run),
        "findings": _findings.findings(
            run, [shown.board for shown in found], set(_records.copying_generators(run)), unmeasurable, judged
        ),
        "facts": facts(run),
        "boards": found,
        "copying": _records.copying_generators(run),
        "generators": names,
        "headlines": headlines.to_dict("records"),
        "worst": _scores.worst_items(run),
        "validity": _scores.failed_validity([run]),
        "titles": {output["name"]: output for output in _scores.outputs(run)},
        "unmeasurable": unmeasurable,
        "privacy": privacy_text(run),
        "status": status_rows(run),
        "phases": _phases(run),
        "methods": methods(run),
        "quantities": _records.quantities(run),
        "ruler": _coherence_pictures.ruler(run, headlines, palette, prefix),
        "coherence": _verdicts(run, judged, palette, prefix),
        "responses": _responses.picture(run, palette, prefix),
        "training": _pictures.training(run, palette, prefix),
        "distribution_rows": _pictures.distribution_rows(run, curves),
        "group_names": [curve.name for curve in curves],
    }
    section["montage"], section["montage_absent"] = _pictures.montage(run, groups, prefix)
    section["distributions"] = _pictures.distributions(run, curves, prefix)
    section["associations"], section["association_rows"] = _pictures.association_maps(run, curves, prefix)
    section["composition"], section["composition_rows"] = _pictures.composition(run, curves, prefix)
    kinds = ("ruler", "responses", "montage", "distributions", "associations", "composition", "training")
    section["pictures"] = [section[kind] for kind in kinds if section[kind] is not None]
    if section["coherence"]:
        section["pictures"] += section["coherence"]["pictures"]
    return section


def _verdicts(
    run: Run, judged: Sequence[Judged], palette: Mapping[str, str], prefix: str
) -> dict[str, Any] | None:
    """Return what the section on verdicts shows; ``None`` where there are none."""
    if not judged:
        return None
    shown = [one for one in judged if not one.details.empty]
    count = math.ceil(len(shown) / STANDINGS_ACROSS)
    return {
        "title": _coherence.TITLE,
        "principle": _coherence.PRINCIPLE,
        "meaning": _coherence.MEANING,
        "judged": judged,
        "absent": _coherence.without_verdict(run, judged),
        "null": _coherence.null(run),
        "statistics": [*_coherence.statistics(judged), *_coherence.readings(judged)],
        "tables": [[shown[i].name for i in part] for part in np.array_split(np.arange(len(shown)), count)]
        if shown
        else [],
        "pictures": _coherence_pictures.pictures(judged, _coherence.sample_sizes(run), palette, prefix),
    }


def _phases(run: Run) -> list[str]:
    return list(
        dict.fromkeys(phase for cell in run.cells for phase in run.status(cell["id"]).get("seconds") or {})
    )
