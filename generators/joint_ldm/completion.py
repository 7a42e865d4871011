"""What is known of a row: reading it, and making a generated row agree with it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mmbench.api import CohortError, Column, PluginError, Schema

HALVINGS = 60
"""Bisections of a source column's range: enough for every bit that rounding leaves."""
NUDGES = [sign * step for step in range(1, 41) for sign in (1, -1)]
"""Steps of the last decimal by which a second source column may move so that rounded values fit the formula."""


def partial_rows(
    rows: pd.DataFrame | Mapping[str, Any], schema: Schema, n: int | None = None
) -> pd.DataFrame:
    """Return rows with all columns of a schema, missing where nothing is known.

    Args:
        rows: A table with some or all of the columns, or values that every row has.
        schema: Schema of the rows.
        n: Number of rows, where ``rows`` are values.

    Raises:
        PluginError: A column is unknown, or a value is none that the column takes.
    """
    if isinstance(rows, Mapping):
        rows = pd.DataFrame({name: [value] * (n or 0) for name, value in rows.items()}, dtype=object)
        rows.index = pd.RangeIndex(n or 0)
    if unknown := [str(name) for name in rows.columns if name not in schema.names]:
        raise PluginError(
            f"given: there is no column '{unknown[0]}'; the model knows {', '.join(schema.names)}."
        )
    known = Schema(
        tuple(dataclasses.replace(schema[str(name)], formula=None, missing=True) for name in rows.columns)
    )
    try:
        read = known.coerce(rows.reset_index(drop=True), "given")
    except CohortError as error:
        raise PluginError(str(error)) from error
    empty = {
        column.name: pd.Categorical([None] * len(read), list(column.levels), column.kind == "ordinal")
        if column.discrete
        else np.full(len(read), np.nan)
        for column in schema
    }
    return pd.DataFrame(empty | {name: read[name] for name in read}, index=read.index)[schema.names]


def sources(column: Column, schema: Schema) -> list[str]:
    """Return the columns that a derived column is made of, in the order of its formula, down to underived ones."""
    formula = column.formula or ""
    places = {name: re.search(rf"\b{re.escape(name)}\b", formula) for name in schema.names}
    found = sorted((match.start(), name) for name, match in places.items() if match and name != column.name)
    names: list[str] = []
    for _, name in found:
        names += [name] if schema[name].formula is None else sources(schema[name], schema)
    return list(dict.fromkeys(names))


def needed(known: pd.DataFrame, schema: Schema) -> np.ndarray:
    """Return where a value must be there, shape (n, columns): known ones, and those that known derived ones need."""
    there = known.notna().to_numpy()
    for column in schema.derived:
        for name in sources(column, schema):
            there[:, schema.names.index(name)] |= known[column.name].notna().to_numpy()
    return there


def settle(
    table: pd.DataFrame, known: pd.DataFrame, schema: Schema, ranges: Mapping[str, Any]
) -> pd.DataFrame:
    """Return a generated table with every known value in its place and every formula kept.

    A known derived value is reached through the first column of its formula that is not known itself: the formula
    is solved for it, row by row. Where its rounding misses the value, the next unknown column of the
    formula moves by as few of its last decimals as will do; where there is none, the first keeps more decimals than it
    is recorded with.

    Args:
        table: Generated rows.
        known: What is known of each, as from :func:`partial_rows`.
        schema: Schema of both.
        ranges: Smallest and largest value of each column of numbers, where the schema has none.

    Raises:
        PluginError: Known values contradict a formula, or no value within the ranges meets it.
    """
    settled = table.copy()
    known = known.set_axis(table.index)
    fixed = known.notna()
    for name in schema.names:
        settled[name] = settled[name].where(~fixed[name], known[name])
    for column in schema.derived:
        rows = fixed.index[fixed[column.name]]
        parts = sources(column, schema)
        patterns = fixed.loc[rows, parts].apply(tuple, axis=1) if len(rows) else pd.Series(dtype=object)
        for pattern in dict.fromkeys(patterns):
            here = rows[[found == pattern for found in patterns]]
            free = [name for name, taken in zip(parts, pattern, strict=True) if not taken]
            equation = _Equation(column, schema, ranges)
            solved = equation.solve(settled.loc[here], free, known.loc[here, column.name].to_numpy(float))
            settled.loc[here, free] = solved[free]
            fixed.loc[here, free] = True
    derived = schema.derive(settled)
    for column in schema.derived:
        # A value with more decimals than the column has stays as it was given.
        settled[column.name] = derived[column.name].where(known[column.name].isna(), known[column.name])
    return settled


@dataclasses.dataclass(frozen=True)
class _Equation:
    """A derived column's formula, to be solved for one of its sources."""

    column: Column
    schema: Schema
    ranges: Mapping[str, Any]

    def solve(self, rows: pd.DataFrame, free: list[str], target: np.ndarray) -> pd.DataFrame:
        """Return rows whose free sources give the target within half of the derived column's last decimal."""
        rows = rows.copy()
        wanted = target.copy()
        open_ = ~self._met(rows, wanted)
        for name in free:
            others = [other for other in free if other != name]
            for step in [0, *(NUDGES if others else [])]:
                if not open_.any():
                    return rows
                trial = rows[open_].copy()
                if step:
                    moved = trial[others[0]] + step * _unit(self.schema[others[0]])
                    trial[others[0]] = moved.round(8)
                root, inside = self._root(trial, name, wanted[open_])
                if not inside.any():
                    break
                trial[name] = np.round(root / _unit(self.schema[name])) * _unit(self.schema[name])
                trial[name] = trial[name].round(8)
                good = inside & self._met(trial, wanted[open_])
                rows.loc[trial.index[good], free] = trial.loc[good, free]
                open_[np.flatnonzero(open_)[good]] = False
        if open_.any() and free:
            root, inside = self._root(rows[open_], free[0], wanted[open_])
            rows.loc[rows.index[open_][inside], free[0]] = root[inside]
            open_[np.flatnonzero(open_)[inside]] = False
        if open_.any():
            value = wanted[open_][0]
            raise PluginError(
                f"given: {self.column.name} = {value:g} contradicts '{self.column.formula}' with "
                + ("what else is given." if not free else f"{', '.join(free)} within their ranges.")
            )
        return rows

    def _values(self, rows: pd.DataFrame) -> np.ndarray:
        exact = Schema(
            tuple(
                dataclasses.replace(c, kind="continuous", decimals=None) if c.formula is not None else c
                for c in self.schema
            )
        )
        return exact.derive(rows)[self.column.name].to_numpy(float)

    def _met(self, rows: pd.DataFrame, target: np.ndarray) -> np.ndarray:
        found = self.schema.derive(rows)[self.column.name].to_numpy(float)
        decimals = 0 if self.column.kind == "integer" else self.column.decimals
        rounding = 0.0 if decimals is None else 0.5 * 10.0**-decimals
        # The tolerance of a recorded number, and of float64 where none is recorded.
        return np.abs(found - target) <= np.maximum(0.999 * rounding, 1e-7 * np.abs(target))

    def _root(self, rows: pd.DataFrame, name: str, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where the formula has the target value along one source, and whether it does within the range."""
        column = self.schema[name]
        least, most = self.ranges[name]
        low = np.full(len(rows), least if column.minimum is None else column.minimum, dtype=float)
        high = np.full(len(rows), most if column.maximum is None else column.maximum, dtype=float)
        at_low, at_high = (self._values(rows.assign(**{name: end})) for end in (low, high))
        inside = (at_low - target) * (at_high - target) <= 0
        rising = at_high > at_low
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            above = (self._values(rows.assign(**{name: middle})) > target) == rising
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        return (low + high) / 2, inside


def _unit(column: Column) -> float:
    """Return the step between recorded values of a column of numbers."""
    decimals = 0 if column.kind == "integer" else column.decimals
    return 10.0 ** -(8 if decimals is None else decimals)
