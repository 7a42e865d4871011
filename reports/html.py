"""The report for reading: one HTML file that needs no network, with its figures beside it as files."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mmbench.api import Card, Report, Run

from . import _tables, figures
from ._tables import Board, Group, number
from ._text import facts, methods, overview_text, privacy_text, status_rows, write_whole
from .figures import Curve, Picture

SCORES_ACROSS = 6
"""Scores in one table, so that it fits a page."""
REAL_COLOUR = figures.INK


class HtmlReport(Report):
    """Writes ``index.html`` and ``figures/``."""

    card: ClassVar[Card] = Card("A self-contained HTML report with leaderboard, figures, costs and methods.")

    def write(self, runs: Sequence[Run], folder: Path) -> Path:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        sections = []
        for position, (run, label) in enumerate(zip(runs, _tables.run_labels(runs), strict=True), start=1):
            section = _section(run, label, f"run{position}")
            for picture in section["pictures"]:
                (folder / "figures" / picture.name).write_bytes(picture.data)
            sections.append(section)
        combined = [
            {
                "id": f"combined{i}",
                "cohort": members[0].cohort.name,
                "boards": _shown_boards(members, labels),
                "copying": [
                    _tables.of_run(name, label)
                    for run, label in zip(members, labels, strict=True)
                    for name in _tables.copying_generators(run)
                ],
            }
            for i, (members, labels) in enumerate(_tables.same_cohort(runs), start=1)
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
        "duration": _tables.duration,
        "mebibytes": _tables.mebibytes,
        "status_text": _tables.status_text,
        "scaled": _tables.scaled_text,
        "whole": _whole,
        "bar": _bar,
    }
    environment.globals |= {"estimate": _tables.estimate, "nothing": _tables.NOTHING}
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
    return _tables.NOTHING if pd.isna(value) else str(int(value))


@dataclass(frozen=True)
class _ShownBoard:
    """A leaderboard cut into tables that fit a page."""

    board: Board
    tables: list[list[dict[str, Any]]]


def _shown_boards(runs: Sequence[Run], labels: Sequence[str] = ()) -> list[_ShownBoard]:
    shown = []
    for board in _tables.boards(runs, labels):
        count = math.ceil(len(board.outputs) / SCORES_ACROSS)
        parts = np.array_split(np.arange(len(board.outputs)), count)
        shown.append(_ShownBoard(board, [[board.outputs[i] for i in part] for part in parts]))
    return shown


def _section(run: Run, label: str, prefix: str) -> dict[str, Any]:
    groups = _tables.groups(run)
    names = list(dict.fromkeys(cell["generator"] for cell in run.cells))
    palette = figures.colours(names) | {_tables.REAL_NAME: REAL_COLOUR}
    measured = [quantity["name"] for quantity in _tables.quantities(run)]
    curves = [Curve(g.name, palette[g.name], g.frame(measured), g.private, g.real) for g in groups]
    found = _shown_boards([run])
    headlines = _tables.headlines(run)
    section: dict[str, Any] = {
        "id": prefix,
        "label": label,
        "created": run.info.get("created", ""),
        "summary": overview_text(run),
        "findings": _tables.findings([shown.board for shown in found], set(_tables.copying_generators(run))),
        "facts": facts(run),
        "boards": found,
        "copying": _tables.copying_generators(run),
        "generators": names,
        "headlines": headlines.to_dict("records"),
        "worst": _tables.worst_items(run),
        "titles": {output["name"]: output for output in _tables.outputs(run)},
        "privacy": privacy_text(run),
        "status": status_rows(run),
        "phases": _phases(run),
        "methods": methods(run),
        "quantities": _tables.quantities(run),
        "ruler": _ruler(run, headlines, palette, prefix),
        "training": _training(run, palette, prefix),
        "distribution_rows": _distribution_rows(run, curves),
        "group_names": [curve.name for curve in curves],
    }
    section["montage"], section["montage_absent"] = _montage(run, groups, prefix)
    section["distributions"] = _distributions(run, curves, prefix)
    section["associations"], section["association_rows"] = _associations(run, curves, prefix)
    section["unmeasurable"] = _tables.unmeasurable(groups)
    section["composition"], section["composition_rows"] = _composition(run, curves, prefix)
    kinds = ("ruler", "montage", "distributions", "associations", "composition", "training")
    section["pictures"] = [section[kind] for kind in kinds if section[kind] is not None]
    return section


def _phases(run: Run) -> list[str]:
    return list(
        dict.fromkeys(phase for cell in run.cells for phase in run.status(cell["id"]).get("seconds") or {})
    )


def _ruler(run: Run, headlines: pd.DataFrame, palette: dict[str, str], prefix: str) -> Picture | None:
    scores = []
    for output in _tables.outputs(run):
        rows = headlines[(headlines["score"] == output["name"]) & (headlines["status"] == "ok")]
        rows = rows[np.isfinite(rows["value"].astype(float))]
        if output["kind"] == "coherence" and len(rows):
            unit = f" [{output['unit']}]" if output["unit"] else ""
            better = "right" if output["direction"] == "higher" else "left"
            scores.append((f"{output['title']}{unit} ({better} is better)", rows))
    if not scores:
        return None
    drawn = {name for _, rows in scores for name in rows["generator"]}
    without = [name for name in palette if name not in drawn and name != _tables.REAL_NAME]
    absent = f" No score: {_tables.enumerated(without)} (the table above says why)." if without else ""
    return Picture(
        f"{prefix}-coherence.svg",
        figures.rulers(scores, palette),
        "Coherence between its anchors",
        "Each dot is one draw of one fit with its 95 % interval. Red: what broken pairs score (null). "
        "Green: what fresh "
        f"real subjects score (ceiling). Shaded: the anchors' own 95 % intervals.{absent}",
        "Coherence score of every generator, fit and draw between null and ceiling; the same numbers are in "
        "the table "
        "of single fits and draws.",
    )


def _montage(run: Run, groups: Sequence[Group], prefix: str) -> tuple[Picture | None, list[str]]:
    absent = []
    rows = []
    cohort = run.cohort
    for group in groups:
        if not group.has_volumes:
            absent.append(f"{group.name}: samples no volumes")
        elif group.private:
            reason = "volumes of real subjects" if group.real else "its samples are copies of real subjects"
            absent.append(f"{group.name}: {reason}, not shown since this cohort may not be shared")
        else:
            volumes = next(draw.cohort.images for draw in group.draws if draw.cohort.volumes is not None)
            rows.append(
                (
                    group.name,
                    [volumes[i] for i in range(min(len(volumes), figures.tiles_across(volumes.geometry)))],
                )
            )
    sampled = {group.name for group in groups}
    for cell in run.cells:
        if cell["generator"] not in sampled:
            record = run.status(cell["id"])
            absent.append(
                f"{cell['generator']}: {_tables.status_text(record['status'])}, "
                f"{record.get('reason') or 'no samples'}"
            )
    absent = list(dict.fromkeys(absent))
    if not rows or cohort.volumes is None:
        return None, absent
    geometry = cohort.images.geometry
    reference = run.real("reference").cohort.images
    # The window comes from real volumes even where none is shown: two numbers a channel tell of nobody.
    window = figures.windows([reference[i] for i in range(min(len(reference), 6))])
    planes = _tables.enumerated(figures.planes(geometry))
    limits = "; ".join(
        f"{channel} {number(low)} to {number(high)}"
        for channel, (low, high) in zip(geometry.channels, window, strict=True)
    )
    columns = (
        ""
        if len(geometry.channels) == 1
        else f" For each subject the channels {_tables.enumerated(geometry.channels)} stand side by side."
    )
    sides = "R, L: the subject's right and left" + (
        "; A, P: front and back." if "sagittal" in planes else "."
    )
    spacing = " × ".join(f"{value:.4g}" for value in geometry.spacing)
    picture = Picture(
        f"{prefix}-montage.png",
        figures.montage(rows, geometry, window),
        "Volumes at their middle",
        f"Middle {planes} slices of the first records of each set, not selected.{columns} Voxels of "
        f"{spacing} mm "
        f"are drawn to scale; the grey window is the same for all ({limits}). {sides}",
        f"Grey-level {planes} mid-slices, one row each for {_tables.enumerated(name for name, _ in rows)}.",
    )
    return picture, absent


def _levels(run: Run, name: str) -> list[str]:
    schema = run.cohort.schema
    return (
        [str(level) for level in schema[name].levels]
        if name in schema.names and schema[name].discrete
        else []
    )


def _shares(values: pd.Series, levels: Sequence[str]) -> dict[str, float]:
    text = values.astype(object).map(str, na_action="ignore")
    return _tables.level_shares(text, levels)


def _distributions(run: Run, curves: Sequence[Curve], prefix: str) -> Picture | None:
    labels = _tables.variables(run)
    shown = [
        (name, label, _levels(run, name))
        for name, label in labels.items()
        if any(name in c.frame for c in curves)
    ]
    if not shown:
        return None
    hidden = [curve.name for curve in curves if curve.private]
    smooth = (
        f" {_tables.enumerated(hidden)}: through the 5 % quantiles only, so that no record can be read off."
        if hidden
        else ""
    )
    return Picture(
        f"{prefix}-distributions.svg",
        figures.distributions(shown, curves, _shares),
        "Distribution of every column and measured quantity",
        "Numbers: share of records at or below a value. Levels: share of records. All fits and draws of a "
        f"generator together.{smooth}",
        "Distributions of every column for real reference and generators; the table below gives them in "
        "numbers.",
    )


def _distribution_rows(run: Run, curves: Sequence[Curve]) -> list[tuple[str, list[str]]]:
    rows = []
    for name, label in _tables.variables(run).items():
        levels = _levels(run, name)
        if not levels:
            texts = [_tables.describe(c.frame[name]) if name in c.frame else _tables.NOTHING for c in curves]
            rows.append((label, texts))
            continue
        told = [_shares(c.frame[name], levels) if name in c.frame else None for c in curves]
        shown = [*levels, *(["missing"] if any(share and "missing" in share for share in told) else [])]
        for level in shown:
            texts = [
                _tables.NOTHING if share is None else f"{100 * share.get(level, 0.0):.0f} %" for share in told
            ]
            rows.append((f"{label}: {level}", texts))
    return rows


def _associations(
    run: Run, curves: Sequence[Curve], prefix: str
) -> tuple[Picture | None, list[dict[str, Any]]]:
    labels = _tables.variables(run)
    names = list(labels)
    ordered = _tables.ordered_variables(run)
    # A generator of volumes alone has no table to associate with: its row would be empty.
    matrices = [
        (curve.name, _tables.associations(curve.frame, names, ordered, run.cohort.schema))
        for curve in curves
        if any(name in curve.frame for name in run.cohort.schema.names)
    ]
    if len(names) < 2 or not matrices:
        return None, []
    real = matrices[0][1]
    rows = []
    for name, matrix in matrices[1:]:
        gap = np.abs(np.tril(matrix - real, -1))
        lower = np.tril(np.isfinite(gap), -1)
        if lower.any():
            i, j = np.unravel_index(np.argmax(np.where(lower, gap, -1)), gap.shape)
            rows.append(
                {
                    "name": name,
                    "pairs": int(lower.sum()),
                    "mean": float(gap[lower].mean()),
                    "pair": f"{labels[names[j]]} and {labels[names[i]]}",
                    "real": real[i, j],
                    "synthetic": matrix[i, j],
                }
            )
    picture = Picture(
        f"{prefix}-associations.png",
        figures.heatmaps(matrices, list(labels.values())),
        "Associations of all pairs",
        "Spearman's rank correlation for two ordered columns (−1 to 1), bias-corrected correlation ratio or "
        "Cramér's V where a column "
        "has no order (0 to 1). Beside each generator: generator minus real reference.",
        "Heat-maps of the associations in the real reference and in each generator, and their differences; "
        "the table "
        "below names the largest difference of each.",
    )
    return picture, rows


def _composition(
    run: Run, curves: Sequence[Curve], prefix: str
) -> tuple[Picture | None, list[dict[str, Any]]]:
    axes = _tables.composition_axes(run, curves[0].frame)
    if axes is None:
        return None, []
    x, chosen = axes
    labels = _tables.variables(run)
    lines = {
        (y, curve.name): _tables.fit_line(curve.frame[x].to_numpy(float), curve.frame[y].to_numpy(float))
        for y in chosen
        for curve in curves
        if x in curve.frame and y in curve.frame
    }
    rows = []
    for y in chosen:
        quantity = next(q for q in _tables.quantities(run) if f" {q['name']}" == y)
        per = run.cohort.schema[x].unit
        unit = f"{quantity['unit']} per {per}" if quantity["unit"] and per else quantity["unit"]
        rows += [
            {"quantity": labels[y], "name": curve.name, "unit": unit, "line": lines.get((y, curve.name))}
            for curve in curves
        ]
    hidden = [curve.name for curve in curves if curve.private]
    guard = f" {_tables.enumerated(hidden)}: means of five bins instead of single records." if hidden else ""
    picture = Picture(
        f"{prefix}-composition.png",
        figures.composition(
            x, chosen, labels, [c for c in curves if x in c.frame and set(chosen) <= set(c.frame)], lines
        ),
        f"Measured composition against {labels[x]}",
        "Each dot is a record: what was measured on its volume against what its row says. Solid: the set's "
        "own least-squares line; "
        f"dashed: that of the real reference.{guard}",
        f"Scatter plots of {_tables.enumerated(labels[y] for y in chosen)} against {labels[x]}; the table "
        "below gives the lines.",
    )
    return picture, rows


def _training(run: Run, palette: dict[str, str], prefix: str) -> Picture | None:
    collected: dict[tuple[str, str], list[tuple[int, pd.DataFrame]]] = {}
    for cell in run.cells:
        for name, frame in run.curves(cell["id"]).groupby("name", sort=False):
            # Trainers also log settings and counters that stay as they are; they are no curve.
            if frame["value"].nunique() > 1:
                collected.setdefault((cell["generator"], str(name)), []).append((cell["fit_seed"], frame))
    if not collected:
        return None
    return Picture(
        f"{prefix}-training.svg",
        figures.training([(*key, fits) for key, fits in collected.items()], palette),
        "Training curves",
        "One line for each fit seed: solid, dashed, dotted in the order of the seeds. Vertical axes are "
        "logarithmic where values span more than a factor of 30.",
        f"Training curves of {_tables.enumerated(dict.fromkeys(generator for generator, _ in collected))}.",
    )
