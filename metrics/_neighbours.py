"""Nearest neighbours of records, with bounded memory, and made once for all metrics of a trial.

Candidates are found through |a|^2 + |b|^2 - 2ab, which runs at the speed of matrix multiplication but loses
small distances to cancellation. Its rounding error is bounded, so that no neighbour is missed, and whatever
decides a result is computed again coordinate by coordinate: a copy is at distance exactly 0.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from scipy.spatial.distance import cdist

from mmbench.api import Trial

from ._spaces import Points

Side = Literal["reference", "synthetic", "train"]

_SEARCHED = 512
_QUERIES, _POINTS = 512, 4096  # a block of float64 squared distances takes 16 MiB
_CANDIDATES = 2**22  # coordinates of candidates that are compared at a time
_LISTED = 5  # neighbours that a list made for one metric keeps ready for the others
_TIE = 1e-10  # relative difference of squared distances below which they are equal but for rounding


class Neighbours(NamedTuple):
    """The nearest points of each query, nearest first, those at equal distances in the order of the points."""

    distances: np.ndarray
    """float64 of shape (queries, k)."""
    positions: np.ndarray
    """Integers of shape (queries, k)."""


class Counts(NamedTuple):
    """Who lies in whose ball."""

    around: np.ndarray
    """Number of balls around each query, of shape (queries,) or (queries, s)."""
    inside: np.ndarray
    """Number of queries inside the ball of each point, of shape (points,) or (points, s)."""


def neighbour_lists(trial: Trial, space: Points, queries: Side, points: Side, k: int) -> Neighbours:
    """Return the ``k`` nearest records of one side of a trial for those of another, made once for a trial.

    Args:
        trial: The trial.
        space: What :mod:`._spaces` gave for this very trial; another object is another space.
        queries: Side whose records look for neighbours.
        points: Side that the neighbours come from. Where it is the same side, a record is no neighbour of
            itself, but its copies are.
        k: From 1 to the number of records that can be neighbours.
    """
    same = queries == points
    available = len(getattr(space, points)) - same
    listed = min(max(k, _LISTED), available)
    found = trial.once(
        ("neighbours", space, queries, points, listed),
        lambda: nearest(getattr(space, queries), getattr(space, points), listed, same=same),
    )
    return Neighbours(found.distances[:, :k], found.positions[:, :k])


def nearest(queries: np.ndarray, points: np.ndarray, k: int, *, same: bool = False) -> Neighbours:
    """Return distances to the ``k`` nearest points and their positions.

    Memory is bounded however many records there are.

    Args:
        queries: Points of shape (n, d).
        points: Points of shape (m, d).
        k: From 1 to m, or to m - 1 where ``same``.
        same: Whether both are the same records; a record is then no neighbour of itself, its copies are.

    Raises:
        ValueError: There are fewer than ``k`` points.
    """
    if not 1 <= k <= len(points) - same:
        raise ValueError(f"{len(points) - same} points have no {k} nearest")
    screen = _Screen.of(queries, points)
    squares = np.full((len(queries), k), np.inf)
    positions = np.full((len(queries), k), -1)
    for start in range(0, len(queries), _QUERIES):
        stop = min(start + _QUERIES, len(queries))
        best, where = squares[start:stop], positions[start:stop]
        width = max(_POINTS, k + 1)
        for left in range(0, len(points), width):
            least = screen.least_squares(slice(start, stop), slice(left, left + width))
            if same:
                own = np.arange(max(start, left), min(stop, left + width))
                least[own - start, own - left] = np.inf
            # The nearest k of the first block lie no further than the k-th least bound from above.
            limit = best[:, -1] * (1 + _TIE) if left else screen.kth_from_above(least, start, k)
            rows, columns = np.divmod(np.flatnonzero(least <= limit[:, None]), least.shape[1])
            columns += left
            exact = screen.squares(rows + start, columns)
            _keep_nearest(best, where, rows, columns, exact)
    return Neighbours(np.sqrt(squares), positions)


def counts_within(queries: np.ndarray, points: np.ndarray, radii: np.ndarray) -> Counts:
    """Count which points have which queries within their own radius, the surface included.

    Args:
        queries: Points of shape (n, d).
        points: Points of shape (m, d).
        radii: Radius of each point, of shape (m,), or of shape (m, s) for s counts in one pass.
    """
    screen = _Screen.of(queries, points)
    limits = np.square(radii.reshape(len(points), -1)) * (1 + _TIE)
    around = np.zeros((len(queries), limits.shape[1]), dtype=int)
    inside = np.zeros(limits.shape, dtype=int)
    for start in range(0, len(queries), _QUERIES):
        stop = min(start + _QUERIES, len(queries))
        for left in range(0, len(points), _POINTS):
            right = min(left + _POINTS, len(points))
            least = screen.least_squares(slice(start, stop), slice(left, right))
            for index, limit in enumerate(limits.T):
                found = np.flatnonzero(least <= limit[left:right])
                rows, columns = np.divmod(found, right - left)
                lower = least.ravel()[found]
                rows, columns = rows + start, columns + left
                margin = screen.query_margins[rows] + screen.point_margins[columns]
                unsure = np.flatnonzero(lower + 2 * margin > limit[columns])
                outside = screen.squares(rows[unsure], columns[unsure]) > limit[columns[unsure]]
                rows, columns = np.delete(rows, unsure[outside]), np.delete(columns, unsure[outside])
                around[start:stop, index] += np.bincount(rows - start, minlength=stop - start)
                inside[left:right, index] += np.bincount(columns - left, minlength=right - left)
    shape = radii.shape[1:]
    return Counts(around.reshape(len(queries), *shape), inside.reshape(len(points), *shape))


def reaches(radii: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Return where a radius is as large as a distance, or equal to it but for rounding."""
    return np.square(distances) <= np.square(radii) * (1 + _TIE)


class _Screen(NamedTuple):
    """Bounds of squared distances from below by one matrix product, and exact ones for the few that matter."""

    queries: np.ndarray
    points: np.ndarray
    query_margins: np.ndarray
    point_margins: np.ndarray
    left: np.ndarray
    right: np.ndarray

    @classmethod
    def of(cls, queries: np.ndarray, points: np.ndarray) -> _Screen:
        """Prepare the factors, centred because cancellation grows with the distance from the origin.

        Higham 2002, Accuracy and Stability of Numerical Algorithms, section 3.1: sums of d products err by d
        units of rounding at most, whatever their order. Centring adds one of the centre's magnitude; the factor
        of four leaves room for both.
        """
        queries, points = np.asarray(queries, dtype=float), np.asarray(points, dtype=float)
        centre = points.mean(axis=0)
        relative = 4 * (points.shape[1] + 8) * np.finfo(float).eps
        parts = []
        for side in (queries - centre, points - centre):
            squares = np.square(side).sum(axis=1)
            parts.append((side, squares, relative * (squares + np.linalg.norm(centre) * np.sqrt(squares))))
        (a, squares_a, margins_a), (b, squares_b, margins_b) = parts
        left = np.column_stack([-2 * a, np.ones(len(a)), squares_a - margins_a])
        right = np.column_stack([b, squares_b - margins_b, np.ones(len(b))])
        return cls(queries, points, margins_a, margins_b, left, right)

    def least_squares(self, rows: slice, columns: slice) -> np.ndarray:
        """Return squared distances or less, by no more than twice the sum of both margins."""
        return self.left[rows] @ self.right[columns].T

    def kth_from_above(self, least: np.ndarray, start: int, k: int) -> np.ndarray:
        """Return no less than the ``k``-th least squared distance of each query to the first points.

        A few hundred of them at even steps suffice: a search among all takes longer than a few more candidates.
        """
        step = max(least.shape[1] // max(_SEARCHED, 2 * k), 1)
        most = least[:, ::step] + 2 * self.point_margins[: least.shape[1] : step]
        kth = np.partition(most, k - 1, axis=1)[:, k - 1]
        return kth + 2 * self.query_margins[start : start + len(least)]

    def squares(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return exact squared distances of pairs."""
        found = np.empty(len(rows))
        step = max(_CANDIDATES // max(self.queries.shape[1], 1), 1)
        for i in range(0, len(rows), step):
            part = slice(i, i + step)
            found[part] = np.square(self.queries[rows[part]] - self.points[columns[part]]).sum(axis=1)
        return found


def _keep_nearest(
    best: np.ndarray, where: np.ndarray, rows: np.ndarray, columns: np.ndarray, exact: np.ndarray
) -> None:
    """Merge candidates (row, column, squared distance) into the nearest k of each row, in place."""
    n, k = best.shape
    rows = np.concatenate([np.repeat(np.arange(n), k), rows])
    columns = np.concatenate([where.ravel(), columns])
    exact = np.concatenate([best.ravel(), exact])
    order = np.lexsort((columns, exact, rows))
    kept = order[np.searchsorted(rows[order], np.arange(n))[:, None] + np.arange(k)]
    best[:], where[:] = exact[kept], columns[kept]


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return Euclidean distances, float64 of shape (len(a), len(b)).

    Differences are taken coordinate by coordinate, not through |a|^2 + |b|^2 - 2ab: a copy is at distance
    exactly 0.
    """
    return cdist(np.asarray(a, float), np.asarray(b, float))


def kth_nearest(within: np.ndarray, k: int) -> np.ndarray:
    """Return each record's distance to its ``k``-th nearest other record.

    Args:
        within: Square matrix of distances within one sample, zero on the diagonal.
        k: From 1 to one less than the sample's size.
    """
    return np.partition(within, k, axis=1)[:, k]


def capped(n: int, limit: int, seed: int) -> np.ndarray:
    """Return positions of at most ``limit`` of ``n`` records, drawn without replacement and in order.

    Distance matrices grow with the square of the sample; the cap bounds their memory.
    """
    if n <= limit:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, limit, replace=False))
