"""Entropic optimal transport between real and synthetic rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from ot.batch import solve_batch

from mmbench.api import TABLE, Card, Metric, Output, Score, Trial, param, stats

from ._neighbours import capped, distances
from ._scores import no_table, too_few, undefined
from ._table_space import TableSpace

_TOLERANCE = 1e-7  # on the marginals; the value is then right to about as much
_ITERATIONS = 5000
_UNDERFLOW = 500  # exp(-500) is far above the smallest double


@dataclass
class Sinkhorn(Metric):
    """Debiased Sinkhorn divergence of table rows, corrected by split halves.

    S(X, Y) = OT(X, Y) - OT(X, X)/2 - OT(Y, Y)/2 with OT the entropic transport cost *including* the
    Kullback-Leibler term. On samples it is positive between equal laws and prefers a generator whose rows vary
    too little. With halves X1, X2 of the real and Y1, Y2 of the synthetic rows the corrected value is the mean
    of the four S(Xi, Yj) less half of S(X1, X2) + S(Y1, Y2), in which the self-transport terms cancel:

        mean over i, j of OT(Xi, Yj) - OT(X1, X2)/2 - OT(Y1, Y2)/2.

    It is 0 in expectation for equal laws and may be negative. The detail ``plug-in`` is the uncorrected S.
    """

    regularisation: float = param(
        0.2, "entropic regularisation in units of the median real cost", minimum=0.01, maximum=100
    )
    splits: int = param(4, "random splits into halves that are averaged", minimum=1)
    max_records: int = param(1000, "largest number of records of a sample that is used", minimum=50)
    repeats: int = param(20, "halves drawn for the interval", minimum=10)

    card = Card(
        "Debiased Sinkhorn divergence of table rows, corrected by split halves.",
        "Feydy, Sejourne, Vialard, Amari, Trouve, Peyre 2019, Interpolating between Optimal Transport and MMD "
        "using Sinkhorn Divergences (AISTATS); computed with POT, Flamary et al. 2021 (JMLR 22)",
    )
    version = 1
    kind = "fidelity"
    needs = TABLE
    null = "columns"
    outputs = (
        Output(
            "sinkhorn",
            "Sinkhorn divergence",
            "Cost of moving the synthetic rows onto the real ones, beyond that between two real samples; two "
            "random real rows are at cost 1.",
            "Differences on a finer scale than the regularisation, and whether rows are copies.",
            "lower",
            0.0,
        ),
    )

    def scores(self, trial: Trial) -> Iterable[Score]:
        sides = (trial.reference, trial.synthetic)
        if reason := no_table(*sides) or too_few(trial, 16):
            return undefined(self.outputs, reason)
        space = TableSpace.fit(trial.schema, trial.reference.cohort.rows)
        if space.empty:
            return undefined(self.outputs, "no column varies in the reference")
        real, synthetic = (
            space.embed(side.cohort.rows)[capped(len(side), self.max_records, trial.seed)] for side in sides
        )
        cost = distances(real, real) ** 2
        # Most rows may be alike where all columns are discrete; the mean cost is positive all the same.
        typical = float(np.median(cost[np.triu_indices(len(cost), 1)])) or float(cost.mean())
        strength = self.regularisation * typical

        across, within_synthetic = distances(real, synthetic) ** 2, distances(synthetic, synthetic) ** 2

        def corrected(rows: np.ndarray, others: np.ndarray) -> float:
            rng = np.random.default_rng(trial.seed)
            x, y = _halves(rows, self.splits, rng), _halves(others, self.splits, rng)
            between = np.concatenate([_blocks(across, a, b) for a in x for b in y])
            return float(
                _transport(between, strength).mean()
                - _transport(_blocks(cost, *x), strength).mean() / 2
                - _transport(_blocks(within_synthetic, *y), strength).mean() / 2
            )

        sizes = (len(real), len(synthetic))
        estimate = stats.half_subsampling(corrected, sizes, trial.seed, self.repeats)
        plug_in = (
            _transport(across[None], strength)
            - _transport(cost[None], strength) / 2
            - _transport(within_synthetic[None], strength) / 2
        )
        return [Score.of("sinkhorn", estimate), Score("sinkhorn", float(plug_in[0]), item="plug-in")]


def _halves(records: np.ndarray, splits: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return two disjoint halves for each split, of shape (splits, n // 2) each; an odd record sits out."""
    orders = rng.permuted(np.tile(records, (splits, 1)), axis=1)
    size = len(records) // 2
    return orders[:, :size], orders[:, size : 2 * size]


def _blocks(cost: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the costs between corresponding sets of records, of shape (sets, rows, columns)."""
    return cost[rows[:, :, None], columns[:, None, :]]


def _transport(costs: np.ndarray, strength: float) -> np.ndarray:
    """Return the entropic transport cost, Kullback-Leibler term included, for each matrix of costs."""
    # The plain scaling algorithm is many times faster where no kernel entry underflows.
    method = "sinkhorn" if costs.max() < _UNDERFLOW * strength else "log_sinkhorn"
    return solve_batch(
        costs, reg=strength, reg_type="kl", method=method, tol=_TOLERANCE, max_iter=_ITERATIONS, grad="detach"
    ).value
