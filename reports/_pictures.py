"""Pictures of a run with what stands beside them: captions, texts for those who cannot see, and tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mmbench.api import Run

from . import _associations, _format, _records, figures
from ._format import number
from ._records import Group
from .figures import Curve, Picture


def montage(run: Run, groups: Sequence[Group], prefix: str) -> tuple[Picture | None, list[str]]:
    """Return mid-slices of the first volumes of each group, and which groups are left out and why."""
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
                f"{cell['generator']}: {_format.status_text(record['status'])}, "
                f"{record.get('reason') or 'no samples'}"
            )
    absent = list(dict.fromkeys(absent))
    if not rows or cohort.volumes is None:
        return None, absent
    geometry = cohort.images.geometry
    reference = run.real("reference").cohort.images
    # The window comes from real volumes even where none is shown: two numbers a channel tell of nobody.
    window = figures.windows([reference[i] for i in range(min(len(reference), 6))])
    planes = _format.enumerated(figures.planes(geometry))
    limits = "; ".join(
        f"{channel} {number(low)} to {number(high)}"
        for channel, (low, high) in zip(geometry.channels, window, strict=True)
    )
    columns = (
        ""
        if len(geometry.channels) == 1
        else f" For each subject the channels {_format.enumerated(geometry.channels)} stand side by side."
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
        f"Grey-level {planes} mid-slices, one row each for {_format.enumerated(name for name, _ in rows)}.",
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
    return _records.level_shares(text, levels)


def distributions(run: Run, curves: Sequence[Curve], prefix: str) -> Picture | None:
    """Return the distributions of all columns and quantities; ``None`` where there are none."""
    labels = _records.variables(run)
    shown = [
        (name, label, _levels(run, name))
        for name, label in labels.items()
        if any(name in c.frame for c in curves)
    ]
    if not shown:
        return None
    hidden = [curve.name for curve in curves if curve.private]
    smooth = (
        f" {_format.enumerated(hidden)}: through the 5 % quantiles only, so that no record can be read off."
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


def distribution_rows(run: Run, curves: Sequence[Curve]) -> list[tuple[str, list[str]]]:
    """Return the same in numbers: the label of each column or level, and a text for each group."""
    rows = []
    for name, label in _records.variables(run).items():
        levels = _levels(run, name)
        if not levels:
            texts = [_records.describe(c.frame[name]) if name in c.frame else _format.NOTHING for c in curves]
            rows.append((label, texts))
            continue
        told = [_shares(c.frame[name], levels) if name in c.frame else None for c in curves]
        shown = [*levels, *(["missing"] if any(share and "missing" in share for share in told) else [])]
        for level in shown:
            texts = [
                _format.NOTHING if share is None else f"{100 * share.get(level, 0.0):.0f} %" for share in told
            ]
            rows.append((f"{label}: {level}", texts))
    return rows


def association_maps(
    run: Run, curves: Sequence[Curve], prefix: str
) -> tuple[Picture | None, list[dict[str, Any]]]:
    """Return heat-maps of all associations, and the largest difference of each generator."""
    labels = _records.variables(run)
    names = list(labels)
    ordered = _records.ordered_variables(run)
    # A generator of volumes alone has no table to associate with: its row would be empty.
    matrices = [
        (curve.name, _associations.associations(curve.frame, names, ordered, run.cohort.schema))
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


def composition(
    run: Run, curves: Sequence[Curve], prefix: str
) -> tuple[Picture | None, list[dict[str, Any]]]:
    """Return measured composition against a column, and the lines through it as rows of a table."""
    axes = _associations.composition_axes(run, curves[0].frame)
    if axes is None:
        return None, []
    x, chosen = axes
    labels = _records.variables(run)
    lines = {
        (y, curve.name): _associations.fit_line(
            curve.frame[x].to_numpy(float), curve.frame[y].to_numpy(float)
        )
        for y in chosen
        for curve in curves
        if x in curve.frame and y in curve.frame
    }
    rows = []
    for y in chosen:
        quantity = next(q for q in _records.quantities(run) if f" {q['name']}" == y)
        per = run.cohort.schema[x].unit
        unit = f"{quantity['unit']} per {per}" if quantity["unit"] and per else quantity["unit"]
        rows += [
            {"quantity": labels[y], "name": curve.name, "unit": unit, "line": lines.get((y, curve.name))}
            for curve in curves
        ]
    hidden = [curve.name for curve in curves if curve.private]
    guard = f" {_format.enumerated(hidden)}: means of five bins instead of single records." if hidden else ""
    picture = Picture(
        f"{prefix}-composition.png",
        figures.composition(
            x, chosen, labels, [c for c in curves if x in c.frame and set(chosen) <= set(c.frame)], lines
        ),
        f"Measured composition against {labels[x]}",
        "Each dot is a record: what was measured on its volume against what its row says. Solid: the set's "
        "own least-squares line; "
        "dashed: that of the real reference. Shaded: the lines' 95 % intervals. Where volume and row belong to "
        f"the same person, the bands overlap and the dots scatter as the real ones do.{guard}",
        f"Scatter plots of {_format.enumerated(labels[y] for y in chosen)} against {labels[x]}; the table "
        "below gives the lines.",
    )
    return picture, rows


def training(run: Run, palette: dict[str, str], prefix: str) -> Picture | None:
    """Return the training curves; ``None`` where no generator recorded one."""
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
        f"Training curves of {_format.enumerated(dict.fromkeys(generator for generator, _ in collected))}.",
    )
