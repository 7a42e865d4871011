"""What conditional generators are given: the values of the swept columns."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mmbench.cohort import Cohort
from mmbench.errors import CohortError, ConfigError, did_you_mean
from mmbench.schema import Column, Level, Schema

AUTO = "auto"
COLUMNS = ("age", "sex", "bmi")
"""Swept by default, where the table has them."""
QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
SHARE = 0.05
"""A level that fewer of the training records have is not swept by default."""
LEAST_RECORDS = 20
"""Records drawn at a value: a third of the reference, but no fewer than this."""
LEAST_REAL = 5
"""Training records that a level must have, or nobody knows what is real there."""


@dataclass(frozen=True)
class Given:
    """One value of one column, which a conditional generator is given.

    Attributes:
        column: The column.
        value: A number, or a level of the schema.
        records: How many records are drawn there.
    """

    column: str
    value: Level
    records: int


def make_sweep(
    wanted: str | Mapping[str, Sequence[Any]] | None, train: Cohort, reference: int
) -> tuple[Given, ...]:
    """Return the values that a conditional generator will be given, column by column.

    Args:
        wanted: ``auto``, the values of each column, or ``None`` for nothing.
        train: Real training records; what is real at a value is learned from them.
        reference: Records of the reference.

    Raises:
        ConfigError: A column or a level is unknown, a value is no number or lies outside what the training records
            have, or a column has fewer than two values.
    """
    if wanted is None:
        return ()
    if isinstance(wanted, str):
        if wanted != AUTO:
            raise ConfigError(f"sweep: '{wanted}' is no sweep; give auto, null, or values by column.")
        columns = [] if train.table is None else list(train.schema)
        chosen = {c.name: _usual(c, train) for c in columns if c.name.casefold() in COLUMNS}
    else:
        chosen = {name: _checked(name, values, train) for name, values in wanted.items()}
    records = max(LEAST_RECORDS, math.ceil(reference / 3))
    return tuple(
        Given(name, value, records) for name, values in chosen.items() if len(values) > 1 for value in values
    )


def _usual(column: Column, train: Cohort) -> list[Level]:
    present = train.rows[column.name].dropna()
    if column.discrete:
        return [level for level in column.levels if (present == level).sum() >= SHARE * len(train)]
    decimals = 0 if column.kind == "integer" else column.decimals
    values = np.quantile(present, QUANTILES) if len(present) else np.array([])
    return [float(value) for value in np.unique(values if decimals is None else values.round(decimals))]


def _checked(name: str, values: Sequence[Any], train: Cohort) -> list[Level]:
    where = f"sweep.{name}"
    if train.table is None or name not in train.schema.names:
        raise ConfigError(f"{where}: there is no such column. {did_you_mean(name, train.schema.names)}")
    column = dataclasses.replace(train.schema[name], formula=None, missing=False)
    try:
        read = Schema((column,)).coerce(pd.DataFrame({name: list(values)}, dtype=object), where)[name]
    except CohortError as error:
        raise ConfigError(str(error)) from None
    found: list[Level] = list(dict.fromkeys(read.tolist()))
    if len(found) < 2:
        raise ConfigError(f"{where}: a sweep needs at least two values, found {len(found)}.")
    real = train.rows[name].dropna()
    for value in found:
        if column.discrete and (count := int((real == value).sum())) < LEAST_REAL:
            raise ConfigError(f"{where}: {count} training records have {value!r}; {LEAST_REAL} are needed.")
        if not column.discrete and not real.min() <= float(value) <= real.max():
            raise ConfigError(
                f"{where}: {value:g} lies outside what the training records have "
                f"({real.min():g} to {real.max():g})."
            )
    return found


def departure(given: Given, schema: Schema, table: pd.DataFrame) -> str:
    """Return the first row that has not the given value, in words; empty where all have it.

    Numbers may differ by less than half of the last decimal that the column is recorded with: a derived column
    follows from others, which are rounded themselves.
    """
    column = schema[given.column]
    values = table[given.column]
    if column.discrete:
        wrong = (values != given.value).to_numpy() | values.isna().to_numpy()
    else:
        decimals = 0 if column.kind == "integer" else column.decimals
        rounding = 0.0 if decimals is None else 0.5 * 10.0**-decimals
        reach = max(rounding, 1e-6 * abs(float(given.value)))
        wrong = ~(np.abs(values.to_numpy(float) - float(given.value)) <= reach)
    if not wrong.any():
        return ""
    row = int(np.flatnonzero(wrong)[0])
    return f"was given {given.column} = {given.value}, but row {row + 1} has {values.iloc[row]}"
