"""What a row must obey: what the schema declares, and which levels never occur together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from mmbench.api import Column, Schema

_ROUNDING = 1e-9  # relative; binary fractions of decimal values
_CERTAINTY = 0.01  # chance that any pair of levels is called exclusive although its columns are independent
_MAX_DECIMALS = 6
_UNROUNDED = 10
"""Category of a value that has more decimals than are recorded; 0 to 9 are last digits."""


@dataclass(frozen=True)
class Rule:
    """A constraint on rows.

    Attributes:
        name: What it is, for readers.
        broken: Returns for each row of a table whether it breaks the rule, shape (n,); a missing value breaks
            none.
    """

    name: str
    broken: Callable[[pd.DataFrame], np.ndarray]


def rules(schema: Schema, train: pd.DataFrame) -> Iterator[Rule]:
    """Yield every rule for the rows of a table.

    Args:
        schema: Declares ranges, levels, whole numbers and formulas.
        train: Real rows, from which pairs of levels are learned that exclude each other.
    """
    for column in schema:
        if column.discrete:
            yield Rule(f"{column.name}: levels", _undeclared(column))
            continue
        if column.minimum is not None or column.maximum is not None:
            yield Rule(f"{column.name}: range", _beyond(column))
        if column.kind == "integer":
            yield Rule(f"{column.name}: whole numbers", _fractional(column.name))
        if column.formula is not None:
            yield Rule(f"{column.name}: formula", _contradicting(column, schema))
    yield from _exclusions(schema, train)


def last_digits(
    schema: Schema, train: pd.DataFrame, *tables: pd.DataFrame
) -> tuple[list[str], list[np.ndarray]]:
    """Return columns of numbers, and for each table their last recorded digits, shape (n, columns), NaN if missing.

    10 stands for a value with more decimals than are recorded. These are the schema's, 0 for whole numbers;
    where it declares none, those of the training rows. A column without a recorded precision is left out.

    Args:
        schema: Columns of the tables.
        train: Real rows.
        tables: Tables to read.
    """
    precision = {c.name: _decimals(c, train[c.name].to_numpy(float)) for c in schema if not c.discrete}
    recorded = {name: decimals for name, decimals in precision.items() if decimals is not None}
    digits = [
        [_digits(table[name].to_numpy(float), decimals) for name, decimals in recorded.items()]
        for table in tables
    ]
    return list(recorded), [np.column_stack(found) if found else np.empty((0, 0)) for found in digits]


def _decimals(column: Column, values: np.ndarray) -> int | None:
    if column.kind == "integer":
        return 0
    if column.decimals is not None:
        return column.decimals
    present = values[np.isfinite(values)]
    fits = (d for d in range(_MAX_DECIMALS) if len(present) and not _finer(present, d).any())
    return next(fits, None)


def _finer(values: np.ndarray, decimals: int) -> np.ndarray:
    """Return which values have more decimals than that."""
    scaled = values * 10.0**decimals
    return np.asarray(np.abs(scaled - np.round(scaled)) > _ROUNDING * np.maximum(np.abs(scaled), 1e3))


def _digits(values: np.ndarray, decimals: int) -> np.ndarray:
    present = np.isfinite(values)
    filled = np.where(present, values, 0)
    digits = np.round(np.abs(filled) * 10.0**decimals) % 10
    return np.where(present, np.where(_finer(filled, decimals), _UNROUNDED, digits), np.nan)


def _undeclared(column: Column) -> Callable[[pd.DataFrame], np.ndarray]:
    schema = Schema((column,))
    return lambda table: np.isnan(schema.codes(table)[:, 0]) & table[column.name].notna().to_numpy()


def _beyond(column: Column) -> Callable[[pd.DataFrame], np.ndarray]:
    low = -np.inf if column.minimum is None else column.minimum
    high = np.inf if column.maximum is None else column.maximum

    def broken(table: pd.DataFrame) -> np.ndarray:
        values = table[column.name].to_numpy(float)
        slack = _ROUNDING * np.maximum(np.abs(values), 1)
        return np.asarray((values < low - slack) | (values > high + slack))

    return broken


def _fractional(name: str) -> Callable[[pd.DataFrame], np.ndarray]:
    def broken(table: pd.DataFrame) -> np.ndarray:
        values = table[name].to_numpy(float)
        return np.isfinite(values) & _finer(np.where(np.isfinite(values), values, 0), 0)

    return broken


def _contradicting(column: Column, schema: Schema) -> Callable[[pd.DataFrame], np.ndarray]:
    """Compare a derived column with its formula.

    What the formula gives is uncertain by half a unit of the last decimal of every column in it, and the column
    itself by half a unit of its own.
    """
    # The other derived columns are taken as they stand: each answers for its own formula.
    alone = Schema(
        tuple(
            dataclasses.replace(c, formula=c.formula if c.name == column.name else None, decimals=None)
            for c in (
                dataclasses.replace(c, kind="continuous") if c.name == column.name else c for c in schema
            )
        )
    )
    parts = [c for c in schema if not c.discrete and c.name != column.name]

    def evaluated(table: pd.DataFrame) -> np.ndarray:
        return alone.derive(table)[column.name].to_numpy(float)

    def broken(table: pd.DataFrame) -> np.ndarray:
        expected, stated = evaluated(table), table[column.name].to_numpy(float)
        slack = _half_unit(column) + 1e-6 * np.maximum(np.abs(expected), 1)
        for part in parts:
            if half := _half_unit(part):
                moved = evaluated(table.assign(**{part.name: table[part.name].to_numpy(float) + half}))
                slack = slack + np.nan_to_num(np.abs(moved - expected))
        return np.asarray(np.abs(stated - expected) > slack)

    return broken


def _half_unit(column: Column) -> float:
    decimals = 0 if column.kind == "integer" else column.decimals
    return 0.0 if decimals is None else 0.5 * 10.0**-decimals


def _exclusions(schema: Schema, train: pd.DataFrame) -> Iterator[Rule]:
    """Yield the pairs of levels that never meet although chance would have brought them together.

    In independent columns a pair that is expected e times is absent with a chance of about exp(-e). It is called
    exclusive where that is less than 1 % over all pairs of levels.
    """
    columns = [c for c in schema if c.discrete]
    codes = Schema(tuple(columns)).codes(train)
    tested = sum(len(a.levels) * len(b.levels) for a, b in combinations(columns, 2))
    for i, j in combinations(range(len(columns)), 2):
        both = ~np.isnan(codes[:, i]) & ~np.isnan(codes[:, j])
        counts = np.zeros((len(columns[i].levels), len(columns[j].levels)))
        np.add.at(counts, (codes[both, i].astype(int), codes[both, j].astype(int)), 1)
        expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / max(counts.sum(), 1)
        for a, b in np.argwhere((counts == 0) & (expected > np.log(max(tested, 1) / _CERTAINTY))):
            yield _never_both(columns[i], int(a), columns[j], int(b))


def _never_both(first: Column, a: int, second: Column, b: int) -> Rule:
    schema = Schema((first, second))

    def broken(table: pd.DataFrame) -> np.ndarray:
        return np.asarray((schema.codes(table) == (a, b)).all(axis=1))

    return Rule(f"{first.name} = {first.levels[a]} with {second.name} = {second.levels[b]}", broken)
