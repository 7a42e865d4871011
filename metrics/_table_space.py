"""A metric space for table rows, in which every column of the real data counts the same.

The squared distance of two rows is the mean over columns of a cost whose expectation is 1 for two
independent real rows:

* numbers are centred at the median and scaled by the robust standard deviation of the real values, beyond
  ``LINEAR_TO`` of which they go on logarithmically, up to ``LARGEST``: a heavy tail weighs hardly more than a
  light one, and a wild value is far out, however far it is. Gaps and clusters keep their shape. (Ranks would
  close a gap, so that values in the middle of it looked real, and stretch an outlying cluster, so that
  samples of it looked sparse.);
* ordinal levels become normal scores of their mid-ranks among the real values, because only their order is
  known;
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

LINEAR_TO = 3.0
LARGEST = 20.0
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
                    levels = len(column.levels)
                    scores = _normal_scores(values, levels) if column.discrete else _robust_scores(values)
                    encoders.append((index, scores))
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


def _robust_scores(real: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    present = real[~np.isnan(real)]
    low, median, high = np.quantile(present, [0.25, 0.5, 0.75])
    scale = (high - low) / _IQR_PER_SD or present.std()

    def score(values: np.ndarray) -> np.ndarray:
        z = np.clip((values - median) / scale, -LARGEST, LARGEST)
        far = LINEAR_TO * (1 + np.log(np.maximum(np.abs(z), LINEAR_TO) / LINEAR_TO))
        return np.where(np.abs(z) <= LINEAR_TO, z, np.sign(z) * far)

    return _scaled(score, real, median)


def _normal_scores(real: np.ndarray, levels: int) -> Callable[[np.ndarray], np.ndarray]:
    present = real[~np.isnan(real)].astype(int)
    counts = np.bincount(present, minlength=levels)
    # Half a record beyond either end leaves room for levels that no real record has.
    heights = ndtri((np.cumsum(counts) - counts / 2 + 0.5) / (len(present) + 1))
    return _scaled(lambda values: heights[values.astype(int)], real, np.median(present))


def _scaled(
    score: Callable[[np.ndarray], np.ndarray], real: np.ndarray, middle: float
) -> Callable[[np.ndarray], np.ndarray]:
    """Return the scores as one coordinate, with missing values in the middle.

    Two independent real values differ by twice the variance in the mean square.
    """

    def filled(values: np.ndarray) -> np.ndarray:
        return score(np.where(np.isnan(values), middle, values))

    spread = np.sqrt(2 * filled(real).var())
    return lambda values: (filled(values) / spread)[:, None]


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
