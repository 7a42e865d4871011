"""What the command line prints as tables."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from mmbench.inspection import CohortCard
from mmbench.plan import Plan
from mmbench.runner import estimate


def print_plan(console: Console, plan: Plan, earlier: Path) -> None:
    """Print what a run will do, with what the runs in the folder ``earlier`` took for the same."""
    table = Table(box=None)
    for heading in ("cell", "samples", "draws", "expected time", "expected memory", "note"):
        table.add_column(heading)
    for cell in plan.cells:
        known = estimate(cell, earlier)
        time_text = f"{known[0]:.0f} s" if known else "not known yet"
        memory_text = f"{known[1]:.0f} MiB" if known else "not known yet"
        samples, draws = " + ".join(cell.modalities), str(len(plan.sample_seeds))
        table.add_row(cell.id, samples, draws, time_text, memory_text, cell.not_applicable)
    console.print(table)
    metrics = ", ".join(metric.name for metric in plan.metrics)
    for line in (
        f"metrics: {metrics}",
        f"measurer: {plan.measurer.name if plan.measurer else 'none'}; extractor: {plan.extractor or 'none'}",
        f"expected time and memory are those of earlier runs under {earlier}/ with the same parameters",
    ):
        console.print(line, markup=False, highlight=False)


def print_scores(console: Console, scores: pd.DataFrame) -> None:
    """Print the mean scaled score of every generator."""
    heads = scores[(scores["item"] == "") & (scores["status"] == "ok")]
    means = heads.groupby(["score", "generator"])["scaled"].mean()
    table = Table(box=None, title="scaled scores: 1 = real against real, 0 = destroyed reference")
    table.add_column("score", no_wrap=True)
    labels = list(dict.fromkeys(scores["generator"]))
    for label in labels:
        table.add_column(label, justify="right", overflow="fold")
    for name in dict.fromkeys(heads["score"]):
        values = [means.get((name, label), math.nan) for label in labels]
        table.add_row(name, *("-" if math.isnan(value) else f"{value:.2f}" for value in values))
    console.print(table)


def print_card(console: Console, card: CohortCard) -> None:
    """Print what is in a cohort."""
    console.print(f"{card.name}: {card.records} records of {card.subjects} subjects", markup=False)
    table = Table(box=None)
    for heading in ("column", "kind", "unit", "missing", "values", "description"):
        table.add_column(heading)
    for column in card.columns:
        if column.counts:
            values = ", ".join(f"{level}: {count}" for level, count in column.counts.items())
        else:
            values = f"{column.minimum:g} to {column.maximum:g}, median {column.median:g}"
        missing = f"{column.missing:.0%}" if column.missing else ""
        table.add_row(column.name, column.kind, column.unit, missing, values, column.description)
    console.print(table)
    if card.geometry is not None:
        shape = " x ".join(map(str, card.geometry.shape))
        spacing = " x ".join(f"{value:g}" for value in card.geometry.spacing)
        console.print(f"volumes: {shape} voxels of {spacing} mm", markup=False, highlight=False)
    for channel in card.channels:
        parts = ", ".join(f"{percent} %: {value:.3g}" for percent, value in channel.percentiles.items())
        console.print(
            f"  {channel.name}: {channel.minimum:.3g} to {channel.maximum:.3g}; foreground "
            f"{channel.foreground:.0%} of the voxels, its percentiles {parts}",
            markup=False,
            highlight=False,
        )
    if card.truth:
        names = ", ".join(quantity.name for quantity in card.truth)
        console.print(f"known composition: {names}", markup=False, highlight=False)


def facts(plugin: type) -> dict[str, Any]:
    """Return what a plug-in class declares of itself, by label."""
    facts: dict[str, Any] = {}
    for name in ("modalities", "needs", "kind", "null", "version", "conditional", "persistent", "channels"):
        value = getattr(plugin, name, None)
        if value is not None:
            facts[name] = ", ".join(sorted(value)) if isinstance(value, frozenset | tuple) else value
    for quantity in getattr(plugin, "quantities", ()):
        facts[f"measures {quantity.name}"] = f"[{quantity.unit}] {quantity.meaning}"
    for output in getattr(plugin, "outputs", ()):
        facts[f"score {output.name}"] = (
            f"{output.direction} is better, ideal {output.ideal:g}: {output.meaning}"
        )
    return facts
