"""A metric space for table rows, in which every column of the real data counts the same.

The squared distance of two rows is the mean over columns of a cost whose expectation is 1 for two
independent real rows:

* numbers and ordinal levels become normal scores of their mid-ranks among the real values, interpolated
  between them, so that any increasing transformation of a column changes nothing and a heavy tail weighs no
  more than a light one. Beyond the real range a value goes on at the slope of a robust standard deviation, at
  most ``MAX_BEYOND`` of them: it is far out, and how far matters no more;
* categorical and boolean columns become scaled indicators: a mismatch costs 1 / (1 - sum p^2), at most
  ``MAX_MISMATCH``, so that one rare level does not outweigh the rest of the row. A missing value is a level
  of its own;
* a missing number is put at the real median, and whether it was missing counts as a column of its own.

Columns that do not vary in the real data carry no distance and are left out. Nothing depends on the order of
columns, levels or rows, nor on units.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtri

from mmbench.api import Schema

MAX_BEYOND = 3.0
MAX_MISMATCH = 10.0

_IQR_PER_SD = 1.3489795003921634  # interquartile range of a standard normal variable


@dataclass(frozen=True)
class TableSpace:
    """Maps table rows to points; made by :meth:`fit`."""

    schema: Schema
    encoders: tuple[tuple[int, Callable[[np.ndarray], np.ndarray]], ...]

    @classmethod
    def fit(cls, schema: Schema, table: pd.DataFrame) -> TableSpace:
        """Learn scales and ranks from real rows.

        Args:
            schema: Columns of the table.
            table: Real rows, at least two.
        """
        codes = schema.codes(table)
        encoders = []
        for index, column in enumerate(schema):
            values = codes[:, index]
            if column.ordered:
                if len(np.unique(values[~np.isnan(values)])) > 1:
                    encoders.append((index, _normal_scores(values)))
                if 0 < np.isnan(values).sum() < len(values):
                    encoders.append((index, _missing_indicator(values)))
            elif len(np.unique(values, equal_nan=True)) > 1:
                encoders.append((index, _indicators(values, len(column.levels))))
        return cls(schema, tuple(encoders))

    @property
    def empty(self) -> bool:
        """Whether no column varied in the rows that the space was fitted on."""
        return not self.encoders

    def embed(self, table: pd.DataFrame) -> np.ndarray:
        """Return points of rows, float64 of shape (n, dimensions)."""
        codes = self.schema.codes(table)
        parts = [encode(codes[:, index]) for index, encode in self.encoders]
        if not parts:
            return np.empty((len(table), 0))
        return np.concatenate(parts, axis=1) / np.sqrt(len(parts))


def _normal_scores(real: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    present = real[~np.isnan(real)]
    knots, counts = np.unique(present, return_counts=True)
    heights = ndtri((np.cumsum(counts) - counts / 2) / len(present))
    low, high = np.quantile(present, [0.25, 0.75])
    scale = (high - low) / _IQR_PER_SD or present.std()
    median = np.median(present)

    def score(values: np.ndarray) -> np.ndarray:
        filled = np.where(np.isnan(values), median, values)
        above = np.clip((filled - knots[-1]) / scale, 0, MAX_BEYOND)
        below = np.clip((knots[0] - filled) / scale, 0, MAX_BEYOND)
        return np.interp(filled, knots, heights) + above - below

    # Two independent real values differ by twice the variance in the mean square.
    spread = np.sqrt(2 * score(real).var())
    return lambda values: (score(values) / spread)[:, None]


def _missing_indicator(real: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    share = np.isnan(real).mean()
    cost = min(1 / (2 * share * (1 - share)), MAX_MISMATCH)
    return lambda values: np.sqrt(cost) * np.isnan(values)[:, None]


def _indicators(real: np.ndarray, levels: int) -> Callable[[np.ndarray], np.ndarray]:
    def one_hot(values: np.ndarray) -> np.ndarray:
        return np.eye(levels + 1)[np.where(np.isnan(values), levels, values).astype(int)]

    shares = one_hot(real).mean(axis=0)
    cost = min(1 / (1 - (shares**2).sum()), MAX_MISMATCH)
    # Two different indicators are at squared distance 2.
    return lambda values: np.sqrt(cost / 2) * one_hot(values)
