"""Associations of columns and quantities, and lines through them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats

from mmbench.api import Run, Schema

from ._records import quantities


def associations(frame: pd.DataFrame, names: Sequence[str], ordered: set[str], schema: Schema) -> np.ndarray:
    """Return the association of each pair of columns, shape (k, k), NaN where it is not defined.

    Two ordered columns: Spearman's rank correlation in [-1, 1]. One ordered, one not: correlation ratio with
    the correction of Kelley (1935), in [0, 1]. Neither: Cramer's V with the correction of Bergsma (2013,
    Journal of the Korean Statistical Society 42), in [0, 1]. The corrections matter because the compared
    samples differ in size. Pairs use the records that have both values.

    Args:
        frame: Table columns and measured quantities; absent columns give NaN.
        names: Columns, in order.
        ordered: Names of the ordered columns.
        schema: Levels of the table's columns.
    """
    codes = np.full((len(frame), len(names)), np.nan)
    for j, name in enumerate(names):
        if name in frame:
            if name in schema.names and schema[name].discrete:
                position = pd.Categorical(frame[name], categories=list(schema[name].levels)).codes
                codes[:, j] = np.where(position < 0, np.nan, position)
            else:
                codes[:, j] = frame[name].to_numpy(float)
    result = np.full((len(names), len(names)), np.nan)
    for i in range(len(names)):
        for j in range(i + 1):
            result[i, j] = result[j, i] = _association(
                codes[:, i], codes[:, j], names[i] in ordered, names[j] in ordered
            )
    return result


def _association(a: np.ndarray, b: np.ndarray, a_ordered: bool, b_ordered: bool) -> float:
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    if a_ordered and b_ordered:
        return float(np.corrcoef(scipy_stats.rankdata(a), scipy_stats.rankdata(b))[0, 1])
    if a_ordered or b_ordered:
        values, levels = (a, b) if a_ordered else (b, a)
        _, level = np.unique(levels, return_inverse=True)
        counts = np.bincount(level)
        means = np.bincount(level, values) / counts
        eta2 = float(counts @ (means - values.mean()) ** 2 / np.sum((values - values.mean()) ** 2))
        n, k = len(values), len(counts)
        return math.sqrt(max(0.0, 1 - (1 - eta2) * (n - 1) / (n - k))) if n > k else math.nan
    table = pd.crosstab(a, b).to_numpy(float)
    n, (r, c) = table.sum(), table.shape
    expected = np.outer(table.sum(1), table.sum(0)) / n
    phi2 = max(0.0, float(((table - expected) ** 2 / expected).sum() / n) - (r - 1) * (c - 1) / (n - 1))
    smaller = min(r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)) - 1
    return math.sqrt(min(1.0, phi2 / smaller)) if smaller > 0 else math.nan


@dataclass(frozen=True)
class Line:
    """Least-squares line of a quantity over a column.

    Attributes:
        n: Records with both values.
        slope: Slope with the ends of its 95 % interval.
        slope_low: Lower end.
        slope_high: Upper end.
        intercept: Value at 0.
        correlation: Spearman's rank correlation.
        centre: Mean of the column, where the line is known best.
        height_half: Half the 95 % interval of the line's height there.
    """

    n: int
    slope: float
    slope_low: float
    slope_high: float
    intercept: float
    correlation: float
    centre: float
    height_half: float

    def at(self, x: np.ndarray) -> np.ndarray:
        """Return the line's height."""
        return self.intercept + self.slope * x

    def half_band(self, x: np.ndarray) -> np.ndarray:
        """Return half the 95 % interval of the line's height, at each point by itself."""
        slope_half = (self.slope_high - self.slope_low) / 2
        return np.hypot(self.height_half, slope_half * (x - self.centre))


def fit_line(x: np.ndarray, y: np.ndarray) -> Line | None:
    """Fit a line; ``None`` with fewer than four records or without spread."""
    both = np.isfinite(x) & np.isfinite(y)
    x, y = x[both], y[both]
    if len(x) < 4 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    fit = scipy_stats.linregress(x, y)
    half = float(scipy_stats.t.ppf(0.975, len(x) - 2)) * float(fit.stderr)
    rank = float(np.corrcoef(scipy_stats.rankdata(x), scipy_stats.rankdata(y))[0, 1])
    # The slope's error is s / sqrt(sum of squares of x), that of the height at the mean s / sqrt(n).
    return Line(
        len(x),
        float(fit.slope),
        fit.slope - half,
        fit.slope + half,
        float(fit.intercept),
        rank,
        float(x.mean()),
        half * float(x.std()),
    )


def composition_axes(run: Run, real: pd.DataFrame, most: int = 3) -> tuple[str, list[str]] | None:
    """Choose what composition is plotted against, and which quantities.

    The column is ``bmi`` where there is one, otherwise the numeric column that is most associated with the
    quantities; the quantities are the ``most`` that are most associated with it, in their own order.

    Args:
        run: The run.
        real: Frame of the real reference.
        most: Largest number of quantities.

    Returns:
        Column and quantities as named in :meth:`Group.frame`; ``None`` where either is absent.
    """
    measured = [f" {q['name']}" for q in quantities(run) if f" {q['name']}" in real]
    numeric = [c.name for c in run.cohort.schema if not c.discrete and c.name in real]
    if not measured or not numeric:
        return None
    table = pd.DataFrame(
        {
            x: {y: abs(line.correlation) if (line := fit_line(*_pair(real, x, y))) else 0.0 for y in measured}
            for x in numeric
        }
    )
    bmi = next((name for name in numeric if name.lower() == "bmi"), None)
    x = bmi or str(table.max().idxmax())
    chosen = set(table[x].sort_values(ascending=False, kind="stable").index[:most])
    return x, [y for y in measured if y in chosen]


def _pair(frame: pd.DataFrame, x: str, y: str) -> tuple[np.ndarray, np.ndarray]:
    return frame[x].to_numpy(float), frame[y].to_numpy(float)
