"""Spaces in which training and reference records are alike: fitted on both, so that neither is told apart.

A space fitted on the training records alone would treat them otherwise than the reference, and a test that
exchanges the two labels would find that instead of memorisation.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.linalg import eigh

from mmbench.api import TABLE, VOLUME, Evidence, Trial

from ._image_space import standardise
from ._scores import no_features, no_table
from ._spaces import Points
from ._table_space import TableSpace

_RANK_TOLERANCE = 1e-12  # variance relative to the largest below which a direction is rounding noise


def real_table_points(trial: Trial) -> Points:
    """Return table rows in the rank and indicator space of all real rows; without a column where none varies."""

    def make() -> Points:
        real = pd.concat([trial.train.cohort.rows, trial.reference.cohort.rows], ignore_index=True)
        space = TableSpace.fit(trial.schema, real)
        return Points(*(space.embed(side.cohort.rows) for side in _sides(trial)))

    return trial.once("real-table-points", make)


def real_image_points(trial: Trial, dimensions: int) -> Points:
    """Return leading principal components of all blocks of image features, standardised on all real records.

    The components keep their variance: whitened ones would weigh what little a flip, a shift or noise changes as
    much as what tells subjects apart, and hide such a copy.

    Args:
        trial: The trial.
        dimensions: Most components.
    """

    def make() -> Points:
        sides = [np.asarray(side.features) for side in _sides(trial)]
        reference, _, train = sides
        real = np.concatenate([train, reference])
        scaled = [
            np.concatenate([standardise(side[:, b], real[:, b]) for b in range(real.shape[1])], axis=1)
            for side in sides
        ]
        directions = _principal_directions(np.concatenate([scaled[2], scaled[0]]), dimensions)
        return Points(*(side @ directions for side in scaled))

    return trial.once(("real-image-points", dimensions), make)


def real_joint_points(trial: Trial, dimensions: int) -> Points:
    """Return pairs of row and volume: both spaces side by side, either with expected squared real distance 1.

    Without a column where either modality does not vary.

    Args:
        trial: The trial.
        dimensions: Most components of the image features.
    """

    def make() -> Points:
        parts = real_table_points(trial), real_image_points(trial, dimensions)
        scaled = []
        for part in parts:
            # Two independent records differ by twice the variance in the mean square.
            scale = np.sqrt(2 * np.concatenate([part.train, part.reference]).var(axis=0).sum())
            if not scale > 0:
                return Points(*(np.empty((len(side), 0)) for side in _sides(trial)))
            scaled.append([getattr(part, side) / scale for side in ("reference", "synthetic", "train")])
        return Points(*(np.concatenate(pair, axis=1) for pair in zip(*scaled, strict=True)))

    return trial.once(("real-joint-points", dimensions), make)


def no_real_points(trial: Trial, needs: frozenset[str]) -> str:
    """Return why a trial has no points in the spaces of the modalities in ``needs``, or an empty text."""
    sides = _sides(trial)
    return (no_table(*sides) if needs >= TABLE else "") or (no_features(*sides) if needs >= VOLUME else "")


def _principal_directions(centred: np.ndarray, most: int) -> np.ndarray:
    """Return orthonormal leading directions, shape (d, at most ``most``), of points of shape (n, d)."""
    n, d = centred.shape
    kept = min(most, n, d)
    if not kept:
        return np.empty((d, 0))
    products = centred.T @ centred if d <= n else centred @ centred.T
    values, vectors = eigh(products, subset_by_index=[len(products) - kept, len(products) - 1])
    real = values > _RANK_TOLERANCE * values[-1]
    values, vectors = values[real], vectors[:, real]
    return vectors if d <= n else centred.T @ vectors / np.sqrt(values)


def _sides(trial: Trial) -> tuple[Evidence, Evidence, Evidence]:
    return trial.reference, trial.synthetic, trial.train
