"""Unbiased squared maximum mean discrepancy of two samples, with its interval and its test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy.spatial.distance import pdist

from mmbench.api import stats

from ._neighbours import capped

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Takes points of shapes (n, d) and (m, d) and returns kernel values of shape (n, m)."""

TESTED_BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Bandwidths of :func:`equality_p`, in units of the median distance."""

_TILE = 512  # rows and columns of the kernel matrix that are in memory at a time
_MEDIAN_RECORDS = 1000  # the median over half a million pairs does not need more


def median_distance(points: np.ndarray, seed: int) -> float:
    """Return the median distance between two of ``points``; more than 1,000 are represented by so many.

    Where most pairs are alike, which takes discrete columns only, it is the root mean square distance.
    """
    between = pdist(points[capped(len(points), _MEDIAN_RECORDS, seed)])
    return float(np.median(between)) or float(np.sqrt((between**2).mean()))


def rbf_kernel(sigma: float) -> Kernel:
    """Return exp(-|x - y|^2 / (2 sigma^2))."""

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        squared = _squared_distances(a, b)
        return np.exp(np.divide(squared, -2 * sigma**2, out=squared), out=squared)

    return kernel


def gaussian_kernel(sigma: float) -> Kernel:
    """Return the mean of exp(-|x - y|^2 / (2 s^2)) over s = sigma / 2, sigma and 2 sigma."""
    widest = rbf_kernel(2 * sigma)

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        wide = widest(a, b)
        middle = wide**2
        middle *= middle
        narrow = middle**2
        narrow *= narrow
        return (wide + middle + narrow) / 3

    return kernel


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    # Seen from their own centre even points that lie far out and close together keep their distances.
    centre = b.mean(axis=0)
    a, b = a - centre, b - centre
    squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * (a @ b.T)
    return np.maximum(squared, 0, out=squared)


def distance_kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return -|x - y|: its squared discrepancy is the energy distance (Szekely, Rizzo 2013).

    That is 2 E|x - y| - E|x - x'| - E|y - y'|. The kernel is positive definite but for what belongs to one
    point alone, and that cancels.
    """
    # By one matrix product, five times as fast as by differences: a copy lies at 1e-8 of the coordinates, not at 0.
    squared = _squared_distances(a, b)
    return np.negative(np.sqrt(squared, out=squared), out=squared)


def cubic_kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return (x.y / d + 1)^3 for points of dimension d (Binkowski et al. 2018)."""
    base = a @ b.T / a.shape[1] + 1
    return base * base * base


def averaged(kernels: Sequence[Kernel], parts: Sequence[slice]) -> Kernel:
    """Return the mean of kernels, each on its own part of the coordinates."""

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        total = np.zeros((len(a), len(b)))
        for one, part in zip(kernels, parts, strict=True):
            total += one(a[:, part], b[:, part])
        return total / len(kernels)

    return kernel


def squared_mmd(x: np.ndarray, y: np.ndarray, kernel: Kernel, tile: int = _TILE) -> stats.Estimate:
    """Return the unbiased estimate of the squared maximum mean discrepancy, with its interval.

    The value is the mean of k(x_i, x_j) over i != j, plus that of k(y_i, y_j), less twice that of k(x_i, y_j)
    (Gretton et al. 2012, equation 3).

    The interval is a score interval in the manner of Wilson (1927): it holds every t for which the value lies
    within 1.96 standard deviations of t, where the variance of this U-statistic depends on t. In its
    Hoeffding decomposition k(x, x') = mean + a(x) + a(x') + c(x, x'), and alike for the other two pairs of
    samples. The parts are uncorrelated, so that the variance is, but for terms of order n^-2 in the first two
    summands,

        4 var(w(x)) / n + 4 var(w(y)) / m
            + 2 E[c_xx^2] / (n (n - 1)) + 2 E[c_yy^2] / (m (m - 1)) + 4 E[c_xy^2] / (n m),

    with the witness function w(z) = E k(z, x) - E k(z, y). For a given direction of w the first two summands
    are proportional to t, and 0 for equal laws; their ratio to t is that of their plug-in estimate to the
    biased statistic, the mean over all pairs. The others do not depend on t, decide for equal laws (where
    halves of the sample would give three times as much), and are estimated without bias: the squares of c_xx
    by U-centring (Szekely, Rizzo 2014, Partial Distance Covariance, Annals of Statistics 42) and those of
    c_xy as the residual of a two-way layout. A normal interval with the same variance is too short for small
    differences, where value and variance are low together.

    Args:
        x: Points of shape (n, d), n at least 4.
        y: Points of shape (m, d), m at least 4.
        kernel: Positive definite kernel, not fitted on ``y`` and no more than its bandwidth on ``x``.
        tile: Rows and columns of the kernel matrix in memory at a time. Time is O((n + m)^2).
    """
    n, m = len(x), len(y)
    x_rows, x_diagonal, x_squares = _within(x, kernel, tile)
    y_rows, y_diagonal, y_squares = _within(y, kernel, tile)
    x_across, y_across, squares = _across(x, y, kernel, tile)
    x_sum, y_sum, sum_across = x_rows.sum(), y_rows.sum(), x_across.sum()
    cross = 2 * sum_across / (n * m)
    value = x_sum / (n * (n - 1)) + y_sum / (m * (m - 1)) - cross
    biased = (x_sum + x_diagonal) / n**2 + (y_sum + y_diagonal) / m**2 - cross

    witness_x = x_rows / (n - 1) - x_across / m
    witness_y = y_across / n - y_rows / (m - 1)
    slope = 4 * (witness_x.var(ddof=1) / n + witness_y.var(ddof=1) / m) / biased if biased > 0 else 0.0
    residual = squares - (x_across**2).sum() / m - (y_across**2).sum() / n + sum_across**2 / (n * m)
    at_zero = (
        2 * _centred_squares(x_rows, x_squares) / (n * (n - 1))
        + 2 * _centred_squares(y_rows, y_squares) / (m * (m - 1))
        + 4 * residual / ((n - 1) * (m - 1)) / (n * m)
    )
    low, high = stats.score_interval(float(value), float(slope), float(max(at_zero, 0)))
    return stats.Estimate(float(value), low, high, "score interval of the U-statistic")


def equality_p(
    x: np.ndarray, y: np.ndarray, kernels: Sequence[Kernel], permutations: int, rng: np.random.Generator
) -> float:
    """Return the p-value of a permutation test for equal laws that uses several kernels at once.

    The statistic is the largest squared discrepancy over the kernels, each in standard deviations of its own
    over the relabellings (after Schrab et al. 2023, MMD Aggregated Two-Sample Test, JMLR 24). Labels of
    records are exchangeable under equal laws, so the level is exact.

    Args:
        x: Points of shape (n, d).
        y: Points of shape (m, d).
        kernels: Kernels; that of one of them need not see the difference.
        permutations: Number of random relabellings.
        rng: Source of the relabellings.
    """
    both, n, m = np.concatenate([x, y]), len(x), len(y)
    first = np.zeros((permutations + 1, n + m))
    first[0, :n] = 1
    for row in first[1:]:
        row[rng.permutation(n + m)[:n]] = 1
    second = 1 - first
    statistics = []
    for kernel in kernels:
        values = kernel(both, both)
        np.fill_diagonal(values, 0)
        at_first = first @ values
        own, across = (at_first * first).sum(axis=1), (at_first * second).sum(axis=1)
        other = values.sum() - own - 2 * across
        statistics.append(own / (n * (n - 1)) + other / (m * (m - 1)) - 2 * across / (n * m))
    found = np.array(statistics)
    spread = found.std(axis=1, keepdims=True)
    # A kernel that no relabelling changes tells nothing.
    largest = ((found - found.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, np.inf)).max(axis=0)
    # Rounding must not make equal statistics differ: ties count for equal laws.
    return float((1 + (largest[1:] >= largest[0] - 1e-9).sum()) / (1 + permutations))


def _centred_squares(rows: np.ndarray, squares: float) -> float:
    """Return the mean square of the doubly centred kernel of two independent records, without bias.

    Args:
        rows: Sums of the kernel over all other records, of shape (n,).
        squares: Sum of its squares over all pairs of different records.
    """
    n = len(rows)
    total = squares - 2 / (n - 2) * (rows**2).sum() + rows.sum() ** 2 / ((n - 1) * (n - 2))
    return float(total / (n * (n - 3)))


def _tiles(n: int, tile: int) -> Iterator[slice]:
    return (slice(start, min(start + tile, n)) for start in range(0, n, tile))


def _within(x: np.ndarray, kernel: Kernel, tile: int) -> tuple[np.ndarray, float, float]:
    """Return the kernel's sum over the other records for each record, its trace, and its squares off that."""
    rows, diagonal, squares = np.zeros(len(x)), 0.0, 0.0
    for i in _tiles(len(x), tile):
        for j in _tiles(len(x), tile):
            if j.start < i.start:
                continue
            values = kernel(x[i], x[j])
            if i == j:
                diagonal += float(np.trace(values))
                np.fill_diagonal(values, 0)
            else:
                rows[j] += values.sum(axis=0)
            rows[i] += values.sum(axis=1)
            squares += float(np.vdot(values, values)) * (1 if i == j else 2)
    return rows, diagonal, squares


def _across(x: np.ndarray, y: np.ndarray, kernel: Kernel, tile: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the kernel's sums over the records of the other sample, for each record, and of its squares."""
    rows, columns, squares = np.zeros(len(x)), np.zeros(len(y)), 0.0
    for i in _tiles(len(x), tile):
        for j in _tiles(len(y), tile):
            values = kernel(x[i], y[j])
            rows[i] += values.sum(axis=1)
            columns[j] += values.sum(axis=0)
            squares += float(np.vdot(values, values))
    return rows, columns, squares
