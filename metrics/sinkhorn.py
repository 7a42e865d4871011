"""Entropic optimal transport between real and synthetic rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from ot.batch import solve_batch

from mmbench.api import TABLE, Card, Metric, Output, Score, Trial, param

from ._neighbours import distances
from ._scores import no_table, too_few, undefined
from ._spaces import table_points
from ._splits import drawing_order, equality_p, halves, interval, split_variance

_TOLERANCE = 1e-7  # on the marginals; the value is then right to about as much
_ITERATIONS = 5000
_ROUGH_TOLERANCE = 1e-4  # for relabelled rows, of which only the spread counts
_RELABELLED = 300  # most rows of either side that are relabelled
_UNDERFLOW = 500  # exp(-500) is far above the smallest double
_AT_A_TIME = 500_000  # costs at a time: every iteration reads all of them, so that they should fit the cache
_WIDE = 1.0  # regularisation of the detail, in units of the median real cost


@dataclass
class Sinkhorn(Metric):
    """Debiased Sinkhorn divergence of table rows, corrected by split halves.

    S(X, Y) = OT(X, Y) - OT(X, X)/2 - OT(Y, Y)/2 with OT the entropic transport cost *including* the
    Kullback-Leibler term. On samples it is positive between equal laws and prefers a generator whose rows vary
    too little. With halves X1, X2 of the real and Y1, Y2 of the synthetic rows the corrected value is the mean
    of the four S(Xi, Yj) less half of S(X1, X2) + S(Y1, Y2), in which the self-transport terms cancel:

        mean over i, j of OT(Xi, Yj) - OT(X1, X2)/2 - OT(Y1, Y2)/2.

    It is 0 in expectation for equal laws and may be negative. As many rows of either side count, at most
    ``max_records``, drawn at random. The median cost of two reference rows sets the
    regularisation, the training rows the space.

    The details are the uncorrected S (``plug-in``), the corrected value with a regularisation of the whole
    median cost (``wide``), which sees less but varies less, and a p-value (``p``) for equal laws: the share of
    random relabellings of the rows, at most 300 of either side, with an uncorrected S as large.

    The interval is a score interval. Its variance between equal laws is that over relabellings; the rest
    grows with the divergence, and comes from the dual potentials, which are its
    derivatives in the direction of a row (Gonzalez-Sanz, Loubes, Niles-Weed 2022, arXiv:2207.07427).
    """

    regularisation: float = param(
        0.2, "entropic regularisation in units of the median real cost", minimum=0.01, maximum=100
    )
    splits: int = param(4, "random splits into halves that are averaged", minimum=2)
    max_records: int = param(1000, "largest number of records of a sample that is used", minimum=50)
    permutations: int = param(39, "relabellings of the records, for interval and p-value", minimum=19)

    card = Card(
        "Debiased Sinkhorn divergence of table rows, corrected by split halves.",
        "Feydy, Sejourne, Vialard, Amari, Trouve, Peyre 2019, Interpolating between Optimal Transport and MMD "
        "using Sinkhorn Divergences (AISTATS); computed with POT, Flamary et al. 2021 (JMLR 22)",
    )
    version = 2
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
        sides = (trial.reference, trial.synthetic, trial.train)
        if reason := no_table(*sides) or too_few(trial, 16):
            return undefined(self.outputs, reason)
        points = table_points(trial)
        if not points.train.shape[1]:
            return undefined(self.outputs, "no column varies among the training records")
        rng = np.random.default_rng(trial.seed)
        # The bias of a divergence depends on both sizes, and cancels where these are alike.
        n = min(len(trial.reference), len(trial.synthetic), self.max_records)
        x, y = (side[drawing_order(side, rng)[:n]] for side in (points.reference, points.synthetic))
        both = np.concatenate([x, y])
        cost = distances(both, both) ** 2
        real = cost[:n, :n][np.triu_indices(n, 1)]
        # Most rows may be alike where all columns are discrete; the mean cost is positive all the same.
        typical = float(np.median(real)) or float(real.mean())
        if not typical:
            return undefined(self.outputs, "all reference rows are alike")
        strength = self.regularisation * typical

        splits = [(*halves(n, rng), *(n + half for half in halves(n, rng))) for _ in range(self.splits)]
        corrected = _corrected(cost, splits, strength)
        whole = [(np.arange(n), np.arange(n, 2 * n))]
        plug_in, x_slope, y_slope = (found[0] for found in _divergence(cost, whole, strength, _TOLERANCE))
        m = min(n, _RELABELLED)
        pool = np.concatenate([np.arange(m), n + np.arange(m)])
        orders = [pool, *(rng.permutation(pool) for _ in range(self.permutations))]
        labels = [(order[:m], order[m:]) for order in orders]
        found, x_slopes, y_slopes = _divergence(cost, labels, strength, _ROUGH_TOLERANCE)

        # Between equal laws mean and spread of a divergence, and the slopes' noise, fall with the records.
        relabelled, noise = found[1:] * m / n, float((x_slopes + y_slopes)[1:].mean()) * m / n**2
        slope = float(x_slope + y_slope) / n
        at_zero = split_variance(float(relabelled.var(ddof=1)), self.splits)
        estimate = interval(float(corrected.mean()), at_zero, float(plug_in), relabelled, slope, noise)
        wide = _corrected(cost, splits, _WIDE * typical).mean()
        return [
            Score.of("sinkhorn", estimate),
            Score("sinkhorn", float(plug_in), item="plug-in"),
            Score("sinkhorn", float(wide), item="wide"),
            Score("sinkhorn", equality_p(float(found[0]), found[1:]), item="p"),
        ]


def _corrected(cost: np.ndarray, splits: Sequence[tuple[np.ndarray, ...]], strength: float) -> np.ndarray:
    """Return the corrected divergence of each split of both samples into halves."""

    def mean(pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        return transport(cost, pairs, strength).value.reshape(len(splits), -1).mean(axis=1)

    return (
        mean([(x, y) for x1, x2, y1, y2 in splits for x in (x1, x2) for y in (y1, y2)])
        - mean([(x1, x2) for x1, x2, _, _ in splits]) / 2
        - mean([(y1, y2) for _, _, y1, y2 in splits]) / 2
    )


def _divergence(
    cost: np.ndarray, labels: Sequence[tuple[np.ndarray, np.ndarray]], strength: float, tolerance: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return S of each pair of samples, and the variance of its derivative over the records of either."""
    across = transport(cost, labels, strength, tolerance)
    first = transport(cost, [(x, x) for x, _ in labels], strength, tolerance)
    second = transport(cost, [(y, y) for _, y in labels], strength, tolerance)
    # Both potentials of a self-transport are the same but for a constant.
    x_slopes = (across.first - (first.first + first.second) / 2).var(axis=1, ddof=1)
    y_slopes = (across.second - (second.first + second.second) / 2).var(axis=1, ddof=1)
    return across.value - first.value / 2 - second.value / 2, x_slopes, y_slopes


class Transport(NamedTuple):
    """Entropic transport between pairs of samples.

    Attributes:
        value: Cost, Kullback-Leibler term included, of shape (pairs,).
        first: Dual potentials of the records of the first samples, but for a constant, of shape (pairs, n).
        second: Those of the second, of shape (pairs, m).
    """

    value: np.ndarray
    first: np.ndarray
    second: np.ndarray


def transport(
    cost: np.ndarray,
    pairs: Sequence[tuple[np.ndarray, np.ndarray]],
    strength: float,
    tolerance: float = _TOLERANCE,
) -> Transport:
    """Solve the entropic transport between sets of records.

    Args:
        cost: Costs between all records, of shape (records, records).
        pairs: Positions of two sets of records each; as many in every pair.
        strength: Weight of the Kullback-Leibler term, in the unit of the costs.
        tolerance: Error of the marginals at which the iteration ends.
    """
    size = max(_AT_A_TIME // (len(pairs[0][0]) * len(pairs[0][1])), 1)
    parts = []
    for start in range(0, len(pairs), size):
        costs = np.stack([cost[np.ix_(x, y)] for x, y in pairs[start : start + size]])
        # The plain scaling algorithm is many times faster where no kernel entry underflows.
        method = "sinkhorn" if costs.max() < _UNDERFLOW * strength else "log_sinkhorn"
        found = solve_batch(
            costs,
            reg=strength,
            reg_type="kl",
            method=method,
            tol=tolerance,
            max_iter=_ITERATIONS,
            grad="detach",
        )
        # The one method gives scaling factors, the other their logarithms.
        logs = [side if method == "log_sinkhorn" else np.log(side) for side in found.potentials]
        parts.append((found.value, *(strength * side for side in logs)))
    return Transport(*(np.concatenate(part) for part in zip(*parts, strict=True)))
