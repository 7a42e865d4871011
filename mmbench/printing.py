"""What the command line prints as tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmbench.cohort import Geometry
from mmbench.inspection import PERCENTILES, ChannelCard, CohortCard, ColumnCard
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
        f"measurer: {plan.measurer.name if plan.measurer else 'none'}; "
        f"extractor: {plan.extractor.name if plan.extractor else 'none'}",
        *_sweep_lines(plan),
        f"expected time and memory are those of earlier runs under {earlier}/ with the same parameters",
    ):
        console.print(line, markup=False, highlight=False)


def _sweep_lines(plan: Plan) -> Iterator[str]:
    for column in dict.fromkeys(given.column for given in plan.sweep):
        swept = [given for given in plan.sweep if given.column == column]
        values = ", ".join(
            f"{one.value:g}" if isinstance(one.value, float) else str(one.value) for one in swept
        )
        yield f"conditional cells are given {column}: {values}; {swept[0].records} records each"


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

    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    repeated = [f"{persons} of them with {n}" for n, persons in card.scans.items() if n > 1]
    line(f"{card.name}: {card.records} records of {card.subjects} subjects{', '.join(['', *repeated])}")
    line(f"fingerprint: {card.fingerprint[:12]}")
    if card.columns:
        console.print()
        _print_columns(console, card.columns)
    if card.geometry is not None:
        console.print()
        _print_volumes(console, card.geometry, card.channels)
    if card.truth:
        console.print()
        line("known composition:")
        _print_columns(console, card.truth)
    for title, entries in (
        ("left out", [f"{name}: {reason}" for name, reason in card.left_out.items()]),
        ("warnings", list(card.warnings)),
    ):
        if entries:
            console.print()
            line(f"{title} ({len(entries)}):")
            for entry in entries:
                line(f"  {entry}")


def _print_columns(console: Console, columns: Sequence[ColumnCard]) -> None:
    cells = [
        {
            "column": column.name,
            "kind": column.kind,
            "unit": column.unit,
            "missing": f"{column.missing:.1%}" if column.missing else "",
            "values": _values(column),
        }
        for column in columns
    ]
    headings = [heading for heading in cells[0] if any(cell[heading] for cell in cells)]
    table = Table(box=None)
    for heading in headings:
        table.add_column(heading, no_wrap=heading != "values")
    for cell in cells:
        # Text objects: what a file says of its columns is no markup.
        table.add_row(*(Text(cell[heading]) for heading in headings))
    console.print(table)


def _values(column: ColumnCard) -> str:
    if column.counts:
        values = ", ".join(f"{level}: {count}" for level, count in column.counts.items())
    else:
        values = f"{column.minimum:.5g} to {column.maximum:.5g}, median {column.median:.5g}"
    return f"{values}\n{column.description}" if column.description else values


def _print_volumes(console: Console, geometry: Geometry, channels: Sequence[ChannelCard]) -> None:
    shape = " x ".join(map(str, geometry.shape))
    spacing = " x ".join(f"{value:.4g}" for value in geometry.spacing)
    view = " x ".join(f"{value:.4g}" for value in geometry.field_of_view)
    tilt = f", oblique by {geometry.obliqueness:.1f} degrees" if geometry.obliqueness > 0.1 else ""
    lines = [
        f"volumes: {shape} voxels of {spacing} mm, field of view {view} mm, axes {geometry.orientation}{tilt}"
    ]
    lines += [
        f"{channel.name}: each volume was divided by its own scale, {channel.divisors['minimum']:.4g} to "
        f"{channel.divisors['maximum']:.4g}, median {channel.divisors['median']:.4g}"
        for channel in channels
        if channel.divisors
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    table = Table(box=None)
    table.add_column("intensities")
    for heading in ("lowest", "highest", "not 0", *(f"{percent}%" for percent in PERCENTILES)):
        table.add_column(heading, justify="right", no_wrap=True)
    for channel in channels:
        cells = [f"{channel.minimum:.3g}", f"{channel.maximum:.3g}", f"{channel.foreground:.0%}"]
        cells += [f"{channel.percentiles[percent]:.3g}" for percent in PERCENTILES]
        table.add_row(Text(channel.name), *cells)
    console.print(table)
    console.print(" percentiles are over the voxels that are not 0", markup=False, highlight=False)


def facts(plugin: type) -> dict[str, Any]:
    """Return what a plug-in class declares of itself, by label."""
    facts: dict[str, Any] = {}
    for name in (
        "modalities",
        "needs",
        "kind",
        "null",
        "version",
        "conditional",
        "persistent",
        "channels",
        "learns",
        "uses_composition",
    ):
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
