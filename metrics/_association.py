"""Associations between columns of any kind, computed on ranks.

Columns enter as dense codes (:func:`dense_codes`): integers in the order of the values, -1 where missing.
Taking rows of the codes and computing anew gives the statistic of a resample without sorting again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mmbench.api import Schema

MIN_PAIRS = 5
"""Fewer complete pairs give no association."""


def dense_codes(values: np.ndarray) -> np.ndarray:
    """Return the order of each column's values, int of shape (n, p), -1 where missing.

    Args:
        values: Array of shape (n, p), NaN where missing.
    """
    codes = np.full(values.shape, -1, dtype=int)
    for j in range(values.shape[1]):
        present = ~np.isnan(values[:, j])
        codes[present, j] = np.unique(values[present, j], return_inverse=True)[1]
    return codes


def centred_ranks(codes: np.ndarray) -> np.ndarray:
    """Return mid-ranks of each column's present values less their mean; 0 where missing.

    Args:
        codes: Dense codes of shape (n, p).
    """
    n, p = codes.shape
    size = int(codes.max(initial=0)) + 2
    # Each column gets its own stretch of one long count, its missing values in front.
    slots = codes + 1 + size * np.arange(p)
    counts = np.bincount(slots.ravel(), minlength=size * p).reshape(p, size)
    counts[:, 0] = 0
    cumulative = counts.cumsum(axis=1)
    ranks = cumulative - counts / 2 - cumulative[:, -1:] / 2
    ranks[:, 0] = 0
    return ranks.ravel()[slots] if n else np.empty((0, p))


def rank_correlations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return Spearman's rho of every column of ``x`` with every column of ``y``, shape (p, q).

    For a column of two values this is the point-biserial correlation of the other's ranks with the indicator
    of the upper value. Where values are missing, a value's rank is that among all present values of its
    column, and the correlation is taken over the records in which both are present.

    Args:
        x: Dense codes of shape (n, p).
        y: Dense codes of shape (n, q).

    Returns:
        Correlations in [-1, 1]; NaN where a column does not vary or there are fewer than ``MIN_PAIRS`` pairs.
    """
    u, v = centred_ranks(x), centred_ranks(y)
    has_u, has_v = (x >= 0).astype(float), (y >= 0).astype(float)
    pairs = has_u.T @ has_v
    n = np.maximum(pairs, 1)
    sum_u, sum_v = u.T @ has_v, has_u.T @ v
    square_u, square_v = (u**2).T @ has_v, has_u.T @ v**2
    var_u, var_v = square_u - sum_u**2 / n, square_v - sum_v**2 / n
    # A constant column leaves only rounding of its sum of squares.
    defined = (pairs >= MIN_PAIRS) & (var_u > 1e-9 * square_u) & (var_v > 1e-9 * square_v)
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = (u.T @ v - sum_u * sum_v / n) / np.sqrt(var_u * var_v)
    return np.where(defined, np.clip(rho, -1, 1), np.nan)


def signed_epsilon(groups: np.ndarray, values: np.ndarray) -> float:
    """Return the signed root of epsilon squared between an unordered column and the ranks of an ordered one.

    epsilon^2 = 1 - (1 - eta^2)(n - 1)/(n - k) (Kelley 1935), where eta^2 is the share of the ranks' variance
    between the k levels. It is 0 in expectation for independent columns and may be negative; the root keeps
    the sign and brings it to the scale of a correlation.

    Args:
        groups: Dense codes of shape (n,).
        values: Dense codes of shape (n,).
    """
    both = (groups >= 0) & (values >= 0)
    n = int(both.sum())
    sizes = np.bincount(groups[both]) if n else np.zeros(0)
    k = int((sizes > 0).sum())
    ranks = centred_ranks(np.where(both, values, -1)[:, None])[both, 0]
    total = float(ranks @ ranks)
    if n < MIN_PAIRS or k < 2 or k >= n or total == 0:
        return float("nan")
    sums = np.bincount(groups[both], weights=ranks)
    between = float((sums[sizes > 0] ** 2 / sizes[sizes > 0]).sum())
    epsilon2 = 1 - (1 - between / total) * (n - 1) / (n - k)
    return float(np.sign(epsilon2) * np.sqrt(abs(epsilon2)))


def corrected_v(a: np.ndarray, b: np.ndarray) -> float:
    """Return the bias-corrected Cramer's V of two unordered columns (Bergsma 2013, J Korean Stat Soc 42).

    Args:
        a: Dense codes of shape (n,).
        b: Dense codes of shape (n,).
    """
    both = (a >= 0) & (b >= 0)
    n = int(both.sum())
    if n < MIN_PAIRS:
        return float("nan")
    counts = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(counts, (a[both], b[both]), 1)
    counts = counts[counts.any(axis=1)][:, counts.any(axis=0)]
    r, c = counts.shape
    if min(r, c) < 2:
        return float("nan")
    phi2 = (counts**2 / np.outer(counts.sum(axis=1), counts.sum(axis=0))).sum() - 1
    phi2 = max(0.0, phi2 - (r - 1) * (c - 1) / (n - 1))
    r_corrected, c_corrected = r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)
    room = min(r_corrected, c_corrected) - 1
    return float(np.sqrt(phi2 / room)) if room > 0 else float("nan")


@dataclass(frozen=True)
class MixedTable:
    """A table's dense codes, and which of its columns have an order.

    Attributes:
        codes: Shape (n, columns).
        ordered: Whether each column has an order. Two levels always have one, up to the sign, so that a
            flipped effect of sex shows.
    """

    codes: np.ndarray
    ordered: np.ndarray

    @classmethod
    def of(cls, schema: Schema, table: pd.DataFrame) -> MixedTable:
        """Read a table by its schema."""
        ordered = [column.ordered or len(column.levels) == 2 for column in schema]
        return cls(dense_codes(schema.codes(table)), np.array(ordered, dtype=bool))

    def associations(self, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return the association of every pair of columns, symmetric of shape (columns, columns).

        Spearman's rho between ordered columns, :func:`signed_epsilon` between an unordered and an ordered
        one, :func:`corrected_v` between unordered ones; over the records in which both are present. The
        diagonal is 1; NaN where a column does not vary or too few pairs are complete.

        Args:
            rows: Records to use; one may come more than once.
        """
        codes = self.codes[rows]
        result = np.eye(codes.shape[1])
        numbered = np.flatnonzero(self.ordered)
        result[np.ix_(numbered, numbered)] = rank_correlations(codes[:, numbered], codes[:, numbered])
        for i in np.flatnonzero(~self.ordered):
            for j in range(codes.shape[1]):
                if self.ordered[j]:
                    result[i, j] = result[j, i] = signed_epsilon(codes[:, i], codes[:, j])
                elif j < i:
                    result[i, j] = result[j, i] = corrected_v(codes[:, i], codes[:, j])
        np.fill_diagonal(result, 1.0)
        return result
