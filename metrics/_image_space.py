"""Feature vectors of volumes as points of a whitened space, one for each block of an extractor."""

from __future__ import annotations

import numpy as np

_RANK_TOLERANCE = 1e-6  # relative singular value below which a direction is rounding noise
_RECORDS_PER_DIMENSION = 8  # a direction whitened on fewer records is mostly their noise


def standardise(features: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Return one block's features in units of their mean and standard deviation over real records.

    Features that do not vary over the real records are left out.

    Args:
        features: Array of shape (n, d).
        real: Array of shape (m, d).
    """
    mean, spread = real.mean(axis=0), real.std(axis=0, ddof=1)
    varies = spread > _RANK_TOLERANCE * np.abs(real).max(axis=0, initial=0)
    return (features[:, varies] - mean[varies]) / spread[varies]


def whiten(features: np.ndarray, real: np.ndarray, dimensions: int) -> np.ndarray:
    """Return one block's leading principal components, scaled to unit variance over real records.

    At most one component for eight real records is kept: more would be fitted to their noise, and new real
    records would look further out than they are.

    Args:
        features: Array of shape (n, d).
        real: Array of shape (m, d) that standardisation and components are fitted on.
        dimensions: Most components to keep.

    Returns:
        Array of shape (n, at most ``dimensions``), with no column where the real records do not vary.
    """
    scaled = standardise(real, real)
    if not scaled.size:
        return np.empty((len(features), 0))
    _, singular, directions = np.linalg.svd(scaled, full_matrices=False)
    kept = (singular > _RANK_TOLERANCE * singular[0]).sum()
    kept = min(kept, dimensions, max(len(real) // _RECORDS_PER_DIMENSION, 1))
    return standardise(features, real) @ (directions[:kept].T * (np.sqrt(len(real) - 1) / singular[:kept]))
