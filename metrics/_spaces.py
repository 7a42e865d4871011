"""A trial's records as points of the spaces that the metrics share, made once for all of them.

Every space is fitted on the training records: fitted on the reference it would fit the reference's own noise,
and put fresh real records further away than they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmbench.api import Evidence, Trial

from ._image_space import standardise, whiten
from ._table_space import TableSpace


@dataclass(frozen=True, eq=False)
class Points:
    """The three sides of a trial in one space, float64 of shape (records, dimensions) each.

    Without a column where nothing varies among the training records. Two are equal where they are the same
    object, which therefore serves as a key to what a trial keeps.
    """

    reference: np.ndarray
    synthetic: np.ndarray
    train: np.ndarray


def table_points(trial: Trial) -> Points:
    """Return table rows in the space of :class:`TableSpace`."""

    def make() -> Points:
        space = TableSpace.fit(trial.schema, trial.train.cohort.rows)
        return Points(*(space.embed(side.cohort.rows) for side in _sides(trial)))

    return trial.once("table-points", make)


def image_blocks(trial: Trial) -> list[Points]:
    """Return standardised image features, one space for each block of the extractor that varies."""

    def make() -> list[Points]:
        fit = np.asarray(trial.train.features)
        blocks = [
            Points(*(standardise(np.asarray(side.features)[:, b], fit[:, b]) for side in _sides(trial)))
            for b in range(fit.shape[1])
        ]
        return [block for block in blocks if block.train.shape[1]]

    return trial.once("image-blocks", make)


def image_components(trial: Trial, dimensions: int) -> list[Points]:
    """Return whitened principal components of image features, one space for each block that varies.

    Args:
        trial: The trial.
        dimensions: Most components of a block.
    """

    def make() -> list[Points]:
        fit = np.asarray(trial.train.features)
        blocks = [
            Points(
                *(whiten(np.asarray(side.features)[:, b], fit[:, b], dimensions) for side in _sides(trial))
            )
            for b in range(fit.shape[1])
        ]
        return [block for block in blocks if block.train.shape[1]]

    return trial.once(("image-components", dimensions), make)


def _sides(trial: Trial) -> tuple[Evidence, Evidence, Evidence]:
    return trial.reference, trial.synthetic, trial.train
