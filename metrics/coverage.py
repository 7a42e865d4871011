"""Clipped density and coverage of k-nearest-neighbour balls, for rows and for image features."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mmbench.api import TABLE, VOLUME, Card, Metric, Output, Score, Trial, param, stats

from ._image_space import whiten
from ._neighbours import capped, distances, kth_nearest
from ._scores import no_features, no_table, too_few, undefined, within
from ._table_space import TableSpace

_REFERENCE = (
    "Naeem, Oh, Uh, Choi, Yoo 2020, Reliable Fidelity and Diversity Metrics for Generative Models (ICML); "
    "Salvy, Talbot, Thirion 2026, Clipped Density and Coverage (ICLR; written anew from the formulas)"
)
# Chance that a ball with the 5 nearest of n other real records holds one of n synthetic ones drawn alike,
# for large n (Naeem et al. 2020, equation 8).
_PERFECT_COVERAGE = 1 - 2.0**-5


def _outputs(prefix: str, records: str, blind: str) -> tuple[Output, Output]:
    return (
        Output(
            f"{prefix}-density",
            f"{prefix.capitalize()} density",
            f"How densely synthetic {records} lie among real ones, relative to real ones among themselves.",
            f"{records.capitalize()} that are never generated; {blind}.",
            "higher",
            1.0,
            kind="fidelity",
        ),
        Output(
            f"{prefix}-coverage",
            f"{prefix.capitalize()} coverage",
            f"Share of real {records} with a synthetic one within reach of their fifth nearest real neighbour.",
            f"Unrealistic {records} beside the real ones; {blind}.",
            "higher",
            _PERFECT_COVERAGE,
        ),
    )


@dataclass
class TableCoverage(Metric):
    """Clipped density and coverage of table rows, in the rank and indicator space of the table metrics."""

    k: int = param(5, "neighbours that a ball holds", minimum=1, maximum=50)
    max_records: int = param(2000, "largest number of records of a sample that is used", minimum=50)
    repeats: int = param(40, "halves drawn for the interval", minimum=10)

    card = Card("Clipped density and coverage of table rows.", _REFERENCE)
    version = 1
    kind = "diversity"
    needs = TABLE
    null = "columns"
    outputs = _outputs("table", "rows", "copies of training rows look as good as new ones")

    def scores(self, trial: Trial) -> Iterable[Score]:
        sides = (trial.reference, trial.synthetic)
        if reason := no_table(*sides) or too_few(trial, 2 * self.k + 2):
            return undefined(self.outputs, reason)
        space = TableSpace.fit(trial.schema, trial.reference.cohort.rows)
        if space.empty:
            return undefined(self.outputs, "no column varies in the reference")
        real, synthetic = (
            space.embed(side.cohort.rows)[capped(len(side), self.max_records, trial.seed)] for side in sides
        )
        return _scores(self.outputs, [(real, synthetic)], self.k, trial.seed, self.repeats)


@dataclass
class ImageCoverage(Metric):
    """Clipped density and coverage of image features, averaged over the blocks of the extractor.

    Each block is standardised and whitened on the training records: on the reference, whose noise the
    whitening would fit, reference and fresh real volumes would not look alike.
    """

    k: int = param(5, "neighbours that a ball holds", minimum=1, maximum=50)
    dimensions: int = param(32, "most principal components of a block of features", minimum=1)
    max_records: int = param(2000, "largest number of records of a sample that is used", minimum=50)
    repeats: int = param(40, "halves drawn for the interval", minimum=10)

    card = Card("Clipped density and coverage of image features.", _REFERENCE)
    version = 1
    kind = "diversity"
    needs = VOLUME
    null = "noise"
    outputs = _outputs("image", "volumes", "what the feature extractor does not see")

    def scores(self, trial: Trial) -> Iterable[Score]:
        sides = (trial.reference, trial.synthetic, trial.train)
        if reason := no_features(*sides) or too_few(trial, 2 * self.k + 2):
            return undefined(self.outputs, reason)
        real, synthetic, train = (
            np.asarray(side.features)[capped(len(side), self.max_records, trial.seed)] for side in sides
        )
        blocks = []
        for b in range(real.shape[1]):
            points = whiten(real[:, b], train[:, b], self.dimensions)
            if points.shape[1]:
                blocks.append((points, whiten(synthetic[:, b], train[:, b], self.dimensions)))
        if not blocks:
            return undefined(self.outputs, "no image feature varies among the training records")
        return _scores(self.outputs, blocks, self.k, trial.seed, self.repeats)


def clipped_density(real_to_real: np.ndarray, real_to_synthetic: np.ndarray, k: int) -> float:
    """Return how densely synthetic records lie among real ones, from 0 to 1 (Salvy et al. 2026).

    A real record's ball reaches to its k-th nearest other one, but no further than the median of all such
    radii; a record's score is the number of balls around it over k, at most 1. The mean score of the
    synthetic records is divided by that of the real ones, in which no record counts its own ball: a fresh
    real record lies in its own ball neither.

    Args:
        real_to_real: Square distances, zero on the diagonal.
        real_to_synthetic: Distances of shape (real, synthetic).
        k: Neighbours.

    Returns:
        NaN where no real record lies in another's ball.
    """
    radii = kth_nearest(real_to_real, k)
    radii = np.minimum(radii, np.median(radii))[:, None]
    own = (real_to_real <= radii).sum(axis=0) - 1
    score = np.minimum((real_to_synthetic <= radii).sum(axis=0) / k, 1).mean()
    real_score = np.minimum(own / k, 1).mean()
    return float(min(score / real_score, 1)) if real_score > 0 else float("nan")


def coverage(real_to_real: np.ndarray, real_to_synthetic: np.ndarray, k: int) -> float:
    """Return the share of real records with a synthetic one in their k-nearest-neighbour ball.

    Naeem et al. 2020, equation 7, with the ball's surface included so that ties count.

    Args:
        real_to_real: Square distances, zero on the diagonal.
        real_to_synthetic: Distances of shape (real, synthetic).
        k: Neighbours.
    """
    return float((real_to_synthetic.min(axis=1) <= kth_nearest(real_to_real, k)).mean())


def _scores(
    outputs: Sequence[Output], spaces: list[tuple[np.ndarray, np.ndarray]], k: int, seed: int, repeats: int
) -> list[Score]:
    matrices = [(distances(real, real), distances(real, synthetic)) for real, synthetic in spaces]
    sizes = (len(spaces[0][0]), len(spaces[0][1]))

    def averaged(measure: Callable[[np.ndarray, np.ndarray, int], float]) -> stats.Estimate:
        def statistic(rows: np.ndarray, others: np.ndarray) -> float:
            return float(
                np.mean([measure(a[np.ix_(rows, rows)], b[np.ix_(rows, others)], k) for a, b in matrices])
            )

        return within(stats.half_subsampling(statistic, sizes, seed, repeats))

    results = []
    for output, measure in zip(outputs, (clipped_density, coverage), strict=True):
        estimate = averaged(measure)
        reason = "" if np.isfinite(estimate.value) else "no real record lies within reach of another"
        results.append(
            Score(output.name, estimate.value, "", estimate.low, estimate.high, estimate.method, reason)
        )
    return results
