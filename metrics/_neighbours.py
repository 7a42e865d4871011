"""Distances between records and to their nearest neighbours."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist


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
