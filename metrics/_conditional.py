"""What real people's measured quantities are given their table row: a regression with its residual law."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from mmbench.api import Schema

REACH = 4.0
"""Standardised numbers are cut here, so that no single row bends a regression."""
BENDS = 0.3
"""Scale of bends and products against that of effects. Among 0.3, 0.5 and 1, with and without each of them, this set
predicted the phantoms' composition best at 200, 600 and 2,000 training records."""
PENALTIES = np.geomspace(1e-3, 1e5, 33)
"""Ridge penalties among which generalised cross-validation chooses; columns are standardised, rows summed."""


@dataclass(frozen=True)
class Design:
    """Turns table rows into regressors; fitted on real rows, so that both sides are read the same way.

    Numbers and ordinal levels are centred and scaled, missing ones put at the mean with an indicator beside;
    other columns become one indicator a level. Beside these *effects* stand bends of numbers (square, saturation, hinge)
    and the products of two numbers and of an indicator with a number: a slope that differs between women and men.

    Attributes:
        schema: Columns of the table.
        labels: Name of each effect, such as ``age`` or ``sex=M``.
    """

    schema: Schema
    labels: tuple[str, ...]
    _parts: tuple[tuple[int, float, float, int], ...]  # code column, centre, scale, level (-1 number, -2 gap)
    _thirds: np.ndarray  # shape (columns, 2)
    _centre: np.ndarray
    _scale: np.ndarray

    @classmethod
    def fit(cls, schema: Schema, table: pd.DataFrame) -> Design:
        """Learn centres and scales from real rows."""
        codes = schema.codes(table)
        labels, parts = [], []
        for index, column in enumerate(schema):
            values = codes[:, index]
            present = values[~np.isnan(values)]
            if column.ordered:
                if len(np.unique(present)) > 1:
                    low, middle, high = np.quantile(present, [0.25, 0.5, 0.75])
                    spread = (high - low) / 1.349 or present.std()
                    labels.append(column.name)
                    parts.append((index, float(middle), float(spread), -1))
                if 0 < len(present) < len(values):
                    labels.append(f"{column.name} missing")
                    parts.append((index, float(np.isnan(values).mean()), 1.0, -2))
            else:
                seen = [code for code in range(len(column.levels)) if (values == code).sum() > 1]
                # The indicators of two levels mirror each other.
                for code in seen[1:] if len(seen) == 2 and len(present) == len(values) else seen:
                    labels.append(f"{column.name}={column.levels[code]}")
                    parts.append((index, float((values == code).mean()), 1.0, code))
        thirds = np.nanquantile(codes, [1 / 3, 2 / 3], axis=0).T
        blank = cls(schema, tuple(labels), tuple(parts), thirds, np.zeros(0), np.ones(0))
        raw = blank._expanded(codes)
        scale = raw.std(axis=0)
        kept = np.where(scale > 1e-9, scale, np.inf)
        return dataclasses.replace(blank, _centre=raw.mean(axis=0), _scale=kept)

    def regressors(self, table: pd.DataFrame) -> np.ndarray:
        """Return standardised effects, their squares and products, float64 of shape (n, regressors)."""
        standardised = (self._expanded(self.schema.codes(table)) - self._centre) / self._scale
        # A smaller scale is a larger penalty: effects first.
        standardised[:, len(self.labels) :] *= BENDS
        return np.asarray(standardised)

    def effects(self, table: pd.DataFrame) -> np.ndarray:
        """Return the standardised effects alone, float64 of shape (n, len(labels))."""
        return self.regressors(table)[:, : len(self.labels)]

    def partition(self, table: pd.DataFrame) -> Iterator[tuple[str, np.ndarray]]:
        """Yield groups of rows: every level of a column, and thirds of a number as the fitted rows have them.

        Yields:
            Name, such as ``sex=F`` or ``age to 52``, and whether each row belongs, boolean of shape (n,).
        """
        codes = self.schema.codes(table)
        for index, column in enumerate(self.schema):
            values, (low, high) = codes[:, index], self._thirds[index]
            if column.discrete:
                for code, level in enumerate(column.levels):
                    yield f"{column.name}={level}", values == code
            elif low < high:
                yield f"{column.name} to {low:.4g}", values <= low
                yield f"{column.name} {low:.4g} to {high:.4g}", (values > low) & (values <= high)
                yield f"{column.name} over {high:.4g}", values > high

    def _expanded(self, codes: np.ndarray) -> np.ndarray:
        effects, numbers, indicators = [], [], []
        for index, centre, scale, level in self._parts:
            values = codes[:, index]
            if level == -1:
                z = np.clip(np.nan_to_num((values - centre) / scale), -REACH, REACH)
                effects.append(z)
                numbers.append(z)
            else:
                # About its mean: which of two levels has the indicator must not matter to its products.
                flag = (np.isnan(values) if level == -2 else values == level) - centre
                effects.append(flag)
                indicators.append(flag)
        bends = [bend(z) for z in numbers for bend in (np.square, np.tanh, lambda z: np.maximum(z - 1, 0))]
        bends += [a * b for a, b in combinations(numbers, 2)]
        bends += [flag * z for flag in indicators for z in numbers]
        return np.column_stack([*effects, *bends]) if effects else np.zeros((len(codes), 0))


@dataclass(frozen=True)
class Ridge:
    """A linear regression of several targets whose penalty each target chose for itself.

    Attributes:
        intercept: Shape (targets,).
        coefficients: Shape (regressors, targets).
        residuals: Leave-one-out residuals of the records that it was fitted on, shape (n, targets).
    """

    intercept: np.ndarray
    coefficients: np.ndarray
    residuals: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray, y: np.ndarray) -> Ridge:
        """Fit by ridge regression with generalised cross-validation (Golub, Heath, Wahba 1979, Technometrics 21).

        Args:
            x: Regressors of shape (n, p).
            y: Targets of shape (n, q).
        """
        n = len(x)
        x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
        u, d, vt = np.linalg.svd(x - x_mean, full_matrices=False)
        projected = u.T @ (y - y_mean)
        total = ((y - y_mean) ** 2).sum(axis=0)
        best = np.full(y.shape[1], np.inf)
        kept = np.zeros((len(d), y.shape[1]))
        for penalty in PENALTIES * n / 100:
            shrink = (d**2 / (d**2 + penalty))[:, None]
            rss = total - ((2 * shrink - shrink**2) * projected**2).sum(axis=0)
            score = rss / (n - 1 - shrink.sum()) ** 2
            better = score < best
            best = np.where(better, score, best)
            kept[:, better] = shrink
        inverse = np.divide(1.0, d, out=np.zeros_like(d), where=d > 1e-10 * max(d.max(initial=0.0), 1e-300))
        coefficients = vt.T @ (inverse[:, None] * kept * projected)
        fitted = u @ (kept * projected)
        leverage = 1 / n + u**2 @ kept
        residuals = (y - y_mean - fitted) / np.maximum(1 - leverage, 0.05)
        return cls(y_mean - x_mean @ coefficients, coefficients, residuals)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return predictions of shape (n, targets)."""
        return self.intercept + x @ self.coefficients


@dataclass(frozen=True)
class Scale:
    """Puts measured quantities on a scale on which their scatter is even: logarithms of positive, skewed ones.

    Attributes:
        logs: Whether each quantity is taken as a logarithm, shape (q,).
        centre: Shape (q,).
        spread: Shape (q,).
        floor: Least value whose logarithm is taken, shape (q,).
    """

    logs: np.ndarray
    centre: np.ndarray
    spread: np.ndarray
    floor: np.ndarray

    @classmethod
    def fit(cls, values: np.ndarray) -> Scale:
        """Learn from real quantities of shape (n, q) without missing values."""
        positive = values.min(axis=0) > 0
        floor = np.where(positive, values.min(axis=0) / 10, 1.0)
        logarithms = np.log(np.maximum(values, floor))
        logs = positive & (np.abs(_skewness(logarithms)) < np.abs(_skewness(values)))
        chosen = np.where(logs, logarithms, values)
        spread = chosen.std(axis=0)
        return cls(logs, chosen.mean(axis=0), np.where(spread > 1e-12, spread, np.inf), floor)

    def of(self, values: np.ndarray) -> np.ndarray:
        """Return standardised quantities of shape (n, q)."""
        chosen = np.where(self.logs, np.log(np.maximum(values, self.floor)), values)
        return np.asarray((chosen - self.centre) / self.spread)


def _skewness(values: np.ndarray) -> np.ndarray:
    centred = values - values.mean(axis=0)
    return np.asarray((centred**3).mean(axis=0) / np.maximum((centred**2).mean(axis=0), 1e-300) ** 1.5)
