"""Distances between records and to their nearest neighbours."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

_BLOCK = 512


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return Euclidean distances, float64 of shape (len(a), len(b)).

    Differences are taken coordinate by coordinate, not through |a|^2 + |b|^2 - 2ab: a copy is at distance
    exactly 0.
    """
    return cdist(np.asarray(a, float), np.asarray(b, float))


def nearest(
    queries: np.ndarray, points: np.ndarray, k: int, *, same: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return distances to the ``k`` nearest points and their positions, both of shape (queries, k), in order.

    Memory is bounded however many records there are.

    Args:
        queries: Points of shape (n, d).
        points: Points of shape (m, d).
        k: From 1 to m, or to m - 1 where ``same``.
        same: Whether both are the same records; a record is then no neighbour of itself, its copies are.
    """
    found = np.empty((len(queries), k)), np.empty((len(queries), k), dtype=int)
    for start in range(0, len(queries), _BLOCK):
        block = distances(queries[start : start + _BLOCK], points)
        rows = np.arange(len(block))
        if same:
            block[rows, start + rows] = np.inf
        order = np.argpartition(block, k - 1, axis=1)[:, :k]
        near = np.take_along_axis(block, order, axis=1)
        sort = near.argsort(axis=1, kind="stable")
        found[0][start : start + _BLOCK] = np.take_along_axis(near, sort, axis=1)
        found[1][start : start + _BLOCK] = np.take_along_axis(order, sort, axis=1)
    return found


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
