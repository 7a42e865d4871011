"""Whether a synthetic record's volume and row belong together as those of real people do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from mmbench.api import BOTH, Card, Evidence, Metric, Output, Schema, Score, Trial, param, stats

from ._association import MIN_PAIRS, dense_codes, rank_correlations
from ._scores import no_composition, too_few, undefined, within

RIDGE = 0.3
"""Added to the diagonal of correlations before they are inverted: directions that hold less than a third of a
quantity's variance are little but noise at some hundred subjects."""


@dataclass
class Coherence(Metric):
    """Share of the real association between measured composition and table that synthetic pairs carry.

    Let a(.) be the vector of associations of every measured quantity with every column: Spearman's rho for
    ordered columns and columns of two levels, and for each level of another column the correlation of the
    quantity's ranks with the level's indicator, weighted by one over the number of levels. Then

        coherence = <w, a(synthetic)> / <w, a(reference)>,    w = C^-1 a(train) T^-1,

    with a(train) shrunk, and C and T the rank correlations among quantities and among columns, plus a ridge: what
    several quantities or columns have in common counts once, as in generalised least squares (Aitken 1936), and the
    chance association of broken pairs, which they share, weighs less.

    Breaking a random share f of the pairs leaves every marginal distribution as it is and multiplies each
    expected rank correlation by 1 - f, and with it the score: 1 for real pairs, 0 for broken ones. The weights
    come from a third sample, so neither side fits its own noise; each association is shrunk by the positive-part
    factor 1 - 1/(n a^2), which drops those within one standard error of none, so that copies of the training
    records gain little from its noise.

    A constant or missing column or quantity carries no association and counts as 0. Records without one of
    the two values are left out pair by pair. Where more than a fifth of a side's volumes could not be measured
    there is no score, nor where the interval of the denominator includes 0.

    ``coherence-difference`` is the mean of |a(synthetic) - a(reference)| over all pairs; its details, such as
    ``fat_l ~ bmi``, are the signed differences.
    """

    resamples: int = param(400, "bootstrap resamples for the interval", minimum=50)
    repeats: int = param(40, "halves drawn for the interval of the difference", minimum=10)

    card = Card(
        "Share of the real association between measured composition and table that synthetic pairs carry.",
        "mmbench; rank correlation: Spearman 1904 (Am J Psychol 15); positive-part shrinkage: James, Stein "
        "1961, Estimation with Quadratic Loss (Berkeley Symposium 4); the claim it tests: Mensing, Kapar, "
        "Hirsch, Guenther, Hahn, Wright 2026 (arXiv:2605.06699)",
    )
    version = 2
    kind = "coherence"
    needs = BOTH
    needs_composition = True
    null = "pairs"
    null_draws: ClassVar[int] = 20
    outputs = (
        Output(
            "coherence",
            "Coherence",
            "Share of the real association between body composition and table that synthetic pairs carry.",
            "What the measurer does not measure, dependence that is not monotone, and a changed range of the "
            "columns, which changes correlations too.",
            "higher",
            1.0,
        ),
        Output(
            "coherence-difference",
            "Coherence difference",
            "Mean absolute difference between real and synthetic association over all pairs of quantity and "
            "column.",
            "Errors that all associations share only in small part, and dependence that is not monotone.",
            "lower",
            0.0,
        ),
    )

    def scores(self, trial: Trial) -> Iterable[Score]:
        if reason := too_few(trial, 2 * MIN_PAIRS) or no_composition(trial):
            return undefined(self.outputs, reason)
        quantities = list(pd.DataFrame(trial.reference.composition).columns)
        real, synthetic, train = (
            _Pairing.of(side, quantities) for side in (trial.reference, trial.synthetic, trial.train)
        )
        sizes = (len(trial.reference), len(trial.synthetic))
        return [
            self._coherence(real, synthetic, train, sizes, trial.seed),
            *self._difference(real, synthetic, sizes, trial.seed),
        ]

    def _coherence(
        self, real: _Pairing, synthetic: _Pairing, train: _Pairing, sizes: tuple[int, int], seed: int
    ) -> Score:
        name = self.outputs[0].name
        weights = train.weighted(shrunk(train.associations(), len(train.columns)))
        if not weights.any():
            return Score(name, float("nan"), reason="the training records show no association to look for")

        def carried(side: _Pairing, rows: np.ndarray) -> float:
            return float((weights * side.associations(rows)).sum())

        whole = stats.bootstrap(lambda rows: carried(real, rows), sizes[:1], seed, self.resamples)
        if not whole.low > 0:
            return Score(
                name,
                float("nan"),
                reason="the reference shows no clear association between composition and table to divide by",
            )
        estimate = stats.bootstrap(
            lambda rows, others: carried(synthetic, others) / carried(real, rows), sizes, seed, self.resamples
        )
        return Score.of(name, estimate)

    def _difference(
        self, real: _Pairing, synthetic: _Pairing, sizes: tuple[int, int], seed: int
    ) -> list[Score]:
        name = self.outputs[1].name
        weights = np.broadcast_to(real.weights, (len(real.quantities), len(real.weights)))

        def difference(rows: np.ndarray, others: np.ndarray) -> float:
            gaps = np.abs(synthetic.associations(others) - real.associations(rows))
            return float(np.average(gaps, weights=weights))

        estimate = stats.half_subsampling(difference, sizes, seed, self.repeats)
        gaps = synthetic.associations() - real.associations()
        return [
            Score.of(name, within(estimate, high=np.inf)),
            *(
                Score(name, float(gaps[i, j]), item=f"{quantity} ~ {label}")
                for i, quantity in enumerate(real.quantities)
                for j, label in enumerate(real.labels)
            ),
        ]


def shrunk(associations: np.ndarray, n: int) -> np.ndarray:
    """Return correlations of ``n`` records times the positive part of 1 - 1/(n a^2)."""
    squares = np.maximum(associations**2, np.finfo(float).tiny)
    return associations * np.maximum(1 - 1 / (n * squares), 0)


@dataclass(frozen=True)
class _Pairing:
    """Measured quantities beside the table's columns, as dense codes of one row a record.

    Attributes:
        quantities: Names.
        labels: Name of each column, with the level where it is an indicator.
        weights: Weight of each column: one, or one over the levels that share a column.
        composition: Codes of shape (n, quantities).
        columns: Codes of shape (n, labels).
    """

    quantities: list[str]
    labels: list[str]
    weights: np.ndarray
    composition: np.ndarray
    columns: np.ndarray

    @classmethod
    def of(cls, side: Evidence, quantities: list[str]) -> _Pairing:
        labels, weights, columns = _spread(side.cohort.schema, side.cohort.rows)
        composition = pd.DataFrame(side.composition, columns=quantities).to_numpy(float)
        return cls(quantities, labels, weights, dense_codes(composition), dense_codes(columns))

    def associations(self, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return rank correlations of shape (quantities, labels); 0 where there is none."""
        return np.nan_to_num(rank_correlations(self.composition[rows], self.columns[rows]))

    def weighted(self, associations: np.ndarray) -> np.ndarray:
        """Return associations of shape (quantities, labels), each side freed of what its members have in common."""
        return _inverse(self.composition) @ associations @ _inverse(self.columns)


def _inverse(codes: np.ndarray) -> np.ndarray:
    """Return the inverse of the rank correlations among columns of codes plus :data:`RIDGE`, shape (p, p)."""
    correlations = np.nan_to_num(rank_correlations(codes, codes))
    np.fill_diagonal(correlations, 1.0)
    values, vectors = np.linalg.eigh(correlations)
    # With missing values the pairwise correlations need not be positive semidefinite.
    return (vectors / (np.maximum(values, 0) + RIDGE)) @ vectors.T


def _spread(schema: Schema, table: pd.DataFrame) -> tuple[list[str], np.ndarray, np.ndarray]:
    labels, weights, columns = [], [], []
    for column, values in zip(schema, schema.codes(table).T, strict=True):
        levels = len(column.levels)
        if column.ordered:
            labels.append(column.name)
            weights.append(1.0)
            columns.append(values)
        elif levels == 2:
            # The two indicators mirror each other: the upper one says it all.
            labels.append(f"{column.name}={column.levels[1]}")
            weights.append(1.0)
            columns.append(values)
        else:
            for code, level in enumerate(column.levels):
                labels.append(f"{column.name}={level}")
                weights.append(1 / levels)
                columns.append(np.where(np.isnan(values), np.nan, values == code))
    return labels, np.array(weights), np.column_stack(columns)
