"""Maximum mean discrepancy between real and synthetic records, for rows and for image features."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import pdist

from mmbench.api import TABLE, VOLUME, Card, Metric, Output, Score, Trial, param, stats

from ._image_space import standardise
from ._neighbours import capped
from ._scores import no_features, no_table, too_few, undefined
from ._table_space import TableSpace

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Takes points of shapes (n, d) and (m, d) and returns kernel values of shape (n, m)."""

_GRETTON = "Gretton, Borgwardt, Rasch, Schoelkopf, Smola 2012, A Kernel Two-Sample Test (JMLR 13), lemma 6"
_TILE = 256  # rows and columns of the kernel matrix that are in memory at a time
_MEDIAN_RECORDS = 1000  # the median over half a million pairs does not need more


@dataclass
class ImageMMD(Metric):
    """Unbiased squared maximum mean discrepancy of image features, with two kernels.

    ``image-mmd`` uses the Gaussian kernel exp(-|x - y|^2 / (2 sigma^2)) with sigma 1/2, 1 and 2 times the
    median distance between reference records, averaged. It lies between 0 and 2 but for sampling error, and
    is 0 for equal laws only. ``kid`` uses the kernel (x.y / d + 1)^3 of the kernel inception distance, has no
    upper end, and compares moments up to the third.

    Kernels are averaged over the extractor's blocks, which makes one kernel of them. Features are
    standardised, so that values do not depend on their units; published values on raw features of another
    network are on another scale. The training records set the scale: the reference's own would fit it better
    than it fits fresh real records, and put them at more than 0 where there are few.

    Both estimates are 0 in expectation for equal laws at any number of records, may be negative, and fall
    below 0 for copies of the reference itself. A single record far out moves ``image-mmd`` by no more than
    its share, but can dominate ``kid``.
    """

    max_records: int = param(5000, "largest number of records of a sample that is used", minimum=50)

    card = Card(
        "Unbiased maximum mean discrepancy of image features with Gaussian and cubic kernels.",
        f"{_GRETTON}; Binkowski, Sutherland, Arbel, Gretton 2018, Demystifying MMD GANs (ICLR), for the "
        "kernel inception distance; Sutherland, Deka 2019 (arXiv:1906.02104) on the variance",
    )
    version = 1
    kind = "fidelity"
    needs = VOLUME
    null = "noise"
    outputs = (
        Output(
            "image-mmd",
            "Image MMD",
            "Squared distance of the mean embeddings of real and synthetic image features under a Gaussian "
            "kernel, from 0 to 2.",
            "What the feature extractor does not see, differences much finer than half the median distance "
            "of two real records, and memorised volumes.",
            "lower",
            0.0,
        ),
        Output(
            "kid",
            "Kernel inception distance",
            "Squared distance of the mean embeddings of real and synthetic standardised image features under "
            "a cubic polynomial kernel, which compares their first three moments.",
            "Differences in moments beyond the third, and memorised volumes.",
            "lower",
            0.0,
        ),
    )

    def scores(self, trial: Trial) -> Iterable[Score]:
        sides = (trial.reference, trial.synthetic, trial.train)
        if reason := no_features(*sides) or too_few(trial):
            return undefined(self.outputs, reason)
        real, synthetic, train = (
            np.asarray(side.features)[capped(len(side), self.max_records, trial.seed)] for side in sides
        )
        blocks = [
            (standardise(real[:, b], train[:, b]), standardise(synthetic[:, b], train[:, b]))
            for b in range(real.shape[1])
        ]
        blocks = [(x, y) for x, y in blocks if x.shape[1]]
        if not blocks:
            return undefined(self.outputs, "no image feature varies among the training records")
        sigmas = [median_distance(x, trial.seed) for x, _ in blocks]
        if not all(sigmas):
            return undefined(self.outputs, "the image features of all reference records are alike")
        ends = np.cumsum([0, *(x.shape[1] for x, _ in blocks)])
        parts = [slice(start, end) for start, end in itertools.pairwise(ends)]
        x, y = (np.concatenate(side, axis=1) for side in zip(*blocks, strict=True))
        kernels = (
            averaged([gaussian_kernel(sigma) for sigma in sigmas], parts),
            averaged([cubic_kernel] * len(parts), parts),
        )
        return [_score(output, x, y, kernel) for output, kernel in zip(self.outputs, kernels, strict=True)]


@dataclass
class TableMMD(Metric):
    """Unbiased squared maximum mean discrepancy of table rows, in the rank and indicator space of the tables.

    The kernel is the Gaussian one of :class:`ImageMMD`, and the training rows set the scale here too. The
    energy distance, which needs no bandwidth, reacts less to rows whose columns do not belong together or
    vary too little: where the squared distance is a mean over many columns, the kernel -|x - y| is nearly
    linear in it and then compares little but means.
    """

    max_records: int = param(5000, "largest number of records of a sample that is used", minimum=50)

    card = Card(
        "Unbiased maximum mean discrepancy of table rows with Gaussian kernels.",
        f"{_GRETTON}; Sutherland, Deka 2019 (arXiv:1906.02104) on the variance",
    )
    version = 1
    kind = "fidelity"
    needs = TABLE
    null = "columns"
    outputs = (
        Output(
            "table-mmd",
            "Table MMD",
            "Squared distance of the mean embeddings of real and synthetic rows under a Gaussian kernel, "
            "from 0 to 2.",
            "Differences much finer than half the median distance of two real rows, and copied rows.",
            "lower",
            0.0,
        ),
    )

    def scores(self, trial: Trial) -> Iterable[Score]:
        sides = (trial.reference, trial.synthetic, trial.train)
        if reason := no_table(*sides) or too_few(trial):
            return undefined(self.outputs, reason)
        space = TableSpace.fit(trial.schema, trial.train.cohort.rows)
        if space.empty:
            return undefined(self.outputs, "no column varies among the training records")
        x, y = (
            space.embed(side.cohort.rows)[capped(len(side), self.max_records, trial.seed)]
            for side in sides[:2]
        )
        sigma = median_distance(x, trial.seed)
        if not sigma:
            return undefined(self.outputs, "all reference rows are alike")
        return [_score(self.outputs[0], x, y, gaussian_kernel(sigma))]


def median_distance(points: np.ndarray, seed: int) -> float:
    """Return the median distance between two of ``points``; more than 1,000 are represented by so many.

    Where most pairs are alike, which takes discrete columns only, it is the root mean square distance.
    """
    between = pdist(points[capped(len(points), _MEDIAN_RECORDS, seed)])
    return float(np.median(between)) or float(np.sqrt((between**2).mean()))


def gaussian_kernel(sigma: float) -> Kernel:
    """Return the mean of exp(-|x - y|^2 / (2 s^2)) over s = sigma / 2, sigma and 2 sigma."""

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        # Seen from their own centre even points that lie far out and close together keep their distances.
        centre = b.mean(axis=0)
        a, b = a - centre, b - centre
        squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * (a @ b.T)
        wide = np.exp(np.maximum(squared, 0, out=squared) / (-8 * sigma**2))
        middle = wide**2
        middle *= middle
        narrow = middle**2
        narrow *= narrow
        return (wide + middle + narrow) / 3

    return kernel


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
    low, high = _score_interval(float(value), float(slope), float(max(at_zero, 0)))
    return stats.Estimate(float(value), low, high, "score interval of the U-statistic")


def _centred_squares(rows: np.ndarray, squares: float) -> float:
    """Return the mean square of the doubly centred kernel of two independent records, without bias.

    Args:
        rows: Sums of the kernel over all other records, of shape (n,).
        squares: Sum of its squares over all pairs of different records.
    """
    n = len(rows)
    total = squares - 2 / (n - 2) * (rows**2).sum() + rows.sum() ** 2 / ((n - 1) * (n - 2))
    return float(total / (n * (n - 3)))


def _score_interval(value: float, slope: float, at_zero: float) -> tuple[float, float]:
    """Return the least and largest t with |value - t| <= 1.96 (slope max(t, 0) + at_zero)^1/2."""
    still = stats.Z95 * np.sqrt(at_zero)
    middle = value + stats.Z95**2 * slope / 2
    reach = stats.Z95 * np.sqrt(max(slope * value + stats.Z95**2 * slope**2 / 4 + at_zero, 0.0))
    low = value - still if value <= still else middle - reach
    high = value + still if value <= -still else middle + reach
    return float(low), float(high)


def _score(output: Output, x: np.ndarray, y: np.ndarray, kernel: Kernel) -> Score:
    with np.errstate(over="ignore", invalid="ignore"):
        estimate = squared_mmd(x, y, kernel)
    if not np.isfinite([estimate.value, estimate.low, estimate.high]).all():
        return undefined([output], "the synthetic records lie too far out for the kernel to be computed")[0]
    return Score.of(output.name, estimate)


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
