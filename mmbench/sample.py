"""Samples of a fitted generator as a BIDS-like folder; what ``mmbench sample`` does."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from mmbench.api import Cohort, Generator
from mmbench.bids_writer import write_bids
from mmbench.cell import draw_seed, synthetic_cohort
from mmbench.context import WorkContext, seed_everything
from mmbench.display import Display
from mmbench.errors import CohortError, MmbenchError, SampleError, UsageError, did_you_mean
from mmbench.files import publish_folder
from mmbench.model import FittedModel
from mmbench.schema import Column, Level, Schema
from mmbench.sweep import Given, departure


def sample(
    model: FittedModel,
    n: int,
    seed: int,
    given: Sequence[str],
    out: Path,
    display: Display,
) -> Path:
    """Sample a fitted generator and write its records as a BIDS-like folder, which appears whole or not at all.

    The same model, number, seed and conditions give the same records; without conditions, and with as many records
    as a run's reference has, they are those that the run drew with this sample seed.

    Args:
        model: The fitted generator.
        n: Number of records.
        seed: Seed of every random draw.
        given: ``COLUMN=VALUE``, what every record has.
        out: The folder to write; absent or empty.
        display: Shows progress.

    Returns:
        The folder.

    Raises:
        UsageError: The folder cannot be written, the model cannot be loaded, or it cannot be given this.
        SampleError: The generator failed, or returned something else than was asked for.
    """
    if n < 1:
        raise UsageError(f"-n {n}: expected at least one record.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: exists already and is no empty folder; choose another --out.")
    label = model.cell.generator
    conditions = read_conditions(given, model)
    generator = model.load()
    for line in _remarks(model):
        display.say(line)
    task, start = f"sampling {label}", time.monotonic()
    display.begin(task)
    context = WorkContext(report=lambda *step: display.progress(task, *step))
    try:
        cohort = _drawn(model, generator, n, draw_seed(model.cell, seed, conditions), conditions)
        if out.exists():
            out.rmdir()
        with publish_folder(out) as temporary:
            write_bids(cohort, temporary, _about(model, n, seed, conditions), context)
    except BaseException as error:
        display.end(task, "stopped")
        if isinstance(error, MmbenchError) or not isinstance(error, Exception):
            raise
        if isinstance(error, OSError):
            raise UsageError(f"{out}: cannot be written ({error}).") from error
        raise SampleError(f"{label}: failed while sampling ({type(error).__name__}: {error}).") from error
    display.end(task, f"{n} records ({time.monotonic() - start:.0f} s)")
    return out


def read_conditions(given: Sequence[str], model: FittedModel) -> dict[str, Level]:
    """Return what every record is to have, by column, in the order of the table.

    Args:
        given: ``COLUMN=VALUE``.
        model: The fitted generator that is given it.

    Raises:
        UsageError: The generator takes no conditions, a column is unknown or given twice, or a value is none that
            the column can have.
    """
    if given and not model.plugin.conditional:
        raise UsageError(
            f"--given {given[0]}: '{model.cell.generator}' takes no conditions: its records cannot be asked to have a "
            "value; leave --given out, or sample a generator that `mmbench show` calls conditional."
        )
    found: dict[str, Level] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--given {text}: expected COLUMN=VALUE, e.g. sex=F.")
        if name not in model.schema.names:
            raise UsageError(
                f"--given {text}: there is no column '{name}'. {did_you_mean(name, model.schema.names)}"
            )
        if name in found:
            raise UsageError(f"--given {text}: '{name}' is given twice.")
        found[name] = _value(value, model.schema[name])
    return {name: found[name] for name in model.schema.names if name in found}


def _value(text: str, column: Column) -> Level:
    """Return a value that a column can have.

    Raises:
        UsageError: It can have no such value.
    """
    asked = Schema((dataclasses.replace(column, formula=None, missing=False),))
    try:
        frame = asked.coerce(pd.DataFrame({column.name: [text]}, dtype=object))
        value: Level | None = frame[column.name].tolist()[0]
    except CohortError:
        value = None
    low = -math.inf if column.minimum is None else column.minimum
    high = math.inf if column.maximum is None else column.maximum
    if value is None or (not column.discrete and not low <= float(value) <= high):
        what = f"one of {', '.join(map(str, column.levels))}" if column.discrete else "a number"
        what = "a whole number" if column.kind == "integer" else what
        bounds = [f"at least {low:g}"] * math.isfinite(low) + [f"at most {high:g}"] * math.isfinite(high)
        raise UsageError(
            f"--given {column.name}={text}: expected {', '.join([what, *bounds])}, as in the table that the model was "
            "fitted on."
        )
    return value


def _drawn(
    model: FittedModel, generator: Generator, n: int, seed: int, conditions: Mapping[str, Level]
) -> Cohort:
    seed_everything(seed)
    drawn = generator.sample(n, seed, dict(conditions)) if conditions else generator.sample(n, seed)
    cohort = synthetic_cohort(drawn, n, model.cell, model.schema, model.geometry)
    if cohort.table is not None:
        for name, value in conditions.items():
            if wrong := departure(Given(name, value, n), cohort.schema, cohort.table):
                raise SampleError(f"{model.cell.generator}: {wrong}.")
    return cohort


def _remarks(model: FittedModel) -> list[str]:
    """Return what a user should know of what will be written."""
    label, modalities = model.cell.generator, model.cell.modalities
    lines = []
    if "volume" not in modalities:
        lines.append(f"note: {label} samples rows only; no volumes are written.")
    if "table" not in modalities:
        lines.append(
            f"note: {label} samples volumes only; participants.tsv lists the subjects and has no columns."
        )
    if model.cell.copies:
        lines.append(
            f"note: {label} returns training records as they are; these are real people's data: keep them as safe."
        )
    return lines


def _about(model: FittedModel, n: int, seed: int, conditions: Mapping[str, Level]) -> dict[str, object]:
    cell = model.cell
    return {
        "synthetic": not cell.copies,
        "generator": cell.generator,
        "plugin": cell.plugin,
        "params": cell.params,
        "fit_seed": cell.fit_seed,
        "model_sha256": model.sha256,
        "records": n,
        "seed": seed,
        "given": dict(conditions),
    }
