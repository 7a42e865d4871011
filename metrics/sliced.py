"""Sliced optimal transport between real and synthetic rows, for samples of any size."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mmbench.api import TABLE, Card, Metric, Output, Score, Trial, param

from ._scores import no_table, too_few, undefined
from ._spaces import table_points
from ._splits import drawing_order, equality_p, halves, interval, split_variance

_RANK_TOLERANCE = 1e-10  # relative singular value below which a direction is rounding noise
_SLOPES = 2  # of relabelled records


@dataclass
class SlicedWasserstein(Metric):
    """Squared sliced 2-Wasserstein distance of table rows, corrected by split halves.

    Rows are projected on random directions of the table space. On a line optimal transport pairs the sorted
    values, so that every row counts however many there are. The value is the mean over directions of the squared
    distance, times the number of dimensions: rows all moved by v are at |v|^2 in expectation, and two random
    real rows are at squared distance 1.

    Uncorrected it is positive between equal laws and prefers a generator whose rows vary too little. With halves
    X1, X2 of the real and Y1, Y2 of the synthetic rows the corrected value is the mean of the four W(Xi, Yj)
    less half of W(X1, X2) + W(Y1, Y2). It is 0 in expectation for equal laws and may be negative. As many rows
    of either side count. The details are the uncorrected value (``plug-in``) and a p-value for equal laws
    (``p``): the share of random relabellings of the rows with an uncorrected value as large.
    """

    directions: int = param(100, "random directions that rows are projected on", minimum=10)
    splits: int = param(4, "random splits into halves that are averaged", minimum=2)
    permutations: int = param(39, "relabellings of the records, for interval and p-value", minimum=19)

    card = Card(
        "Sliced 2-Wasserstein distance of table rows, corrected by split halves.",
        "Bonneel, Rabin, Peyre, Pfister 2015, Sliced and Radon Wasserstein Barycenters of Measures (Journal of "
        "Mathematical Imaging and Vision 51)",
    )
    version = 1
    kind = "fidelity"
    needs = TABLE
    null = "columns"
    outputs = (
        Output(
            "sliced-wasserstein",
            "Sliced Wasserstein distance",
            "Squared distance by which the synthetic rows must be moved onto the real ones, seen along random "
            "directions and beyond that between two real samples; two random real rows are at 1.",
            "Differences that average out along a line, as many of those between columns do, and copied rows.",
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
        # The bias of a distance depends on both sizes, and cancels where these are alike.
        n = min(len(trial.reference), len(trial.synthetic))
        both = np.concatenate(
            [side[drawing_order(side, rng)[:n]] for side in (points.reference, points.synthetic)]
        )
        lines = Lines.of(both @ _directions(points.train, self.directions, rng))

        orders = [np.arange(2 * n), *(rng.permutation(2 * n) for _ in range(self.permutations))]
        labels = [(order[:n], order[n:]) for order in orders]
        splits = [(*halves(n, rng), *(n + half for half in halves(n, rng))) for _ in range(self.splits)]
        relabelled = np.array([lines.distance(*sides) for sides in labels])
        corrected = np.array([_corrected(lines, quarters) for quarters in splits])
        slopes = [
            (lines.potentials(x, y).var(ddof=1) + lines.potentials(y, x).var(ddof=1)) / n
            for x, y in labels[: _SLOPES + 1]
        ]
        at_zero = split_variance(float(relabelled[1:].var(ddof=1)), self.splits)
        noise = float(np.mean(slopes[1:]))
        estimate = interval(
            float(corrected.mean()), at_zero, float(relabelled[0]), relabelled[1:], float(slopes[0]), noise
        )
        name = self.outputs[0].name
        return [
            Score.of(name, estimate),
            Score(name, float(relabelled[0]), item="plug-in"),
            Score(name, equality_p(relabelled[0], relabelled[1:]), item="p"),
        ]


@dataclass(frozen=True)
class Lines:
    """Records projected on several lines and sorted along each.

    Attributes:
        order: Records in the order of their values along each line, of shape (lines, n).
        values: Sorted values along each line, of shape (lines, n).
    """

    order: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, projections: np.ndarray) -> Lines:
        """Sort projections of shape (n, lines)."""
        order = np.argsort(projections.T, axis=1, kind="stable")
        return cls(order, np.take_along_axis(projections.T, order, axis=1))

    def distance(self, x: np.ndarray, y: np.ndarray) -> float:
        """Return the mean over lines of the squared 2-Wasserstein distance of two sets of as many records."""
        return float(np.mean((self._sorted(x)[1] - self._sorted(y)[1]) ** 2))

    def potentials(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the derivative of the distance in the direction of each record of ``x``, but for a constant.

        Along a line it is the integral of 2 (a - T(a)), with T the transport map, here by the trapezium rule.
        """
        total = np.zeros(self.order.shape[1])
        for records, own, other in zip(*self._sorted(x), self._sorted(y)[1], strict=True):
            gap = own - other
            total[records[1:]] += np.cumsum((gap[1:] + gap[:-1]) * np.diff(own))
        return total[x] / len(self.order)

    def _sorted(self, records: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return records and their values along each line, of shape (lines, records)."""
        wanted = np.zeros(self.order.shape[1], dtype=bool)
        wanted[records] = True
        chosen = wanted[self.order]
        shape = (len(self.order), len(records))
        return self.order[chosen].reshape(shape), self.values[chosen].reshape(shape)


def _directions(train: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return random vectors of shape (d, count) and length d^1/2, uniform on the sphere.

    d is the number of dimensions in which rows vary at all: the indicators of a column add up to a constant.
    Normal noise on the training records, seen in their whitened coordinates, is normal noise; unlike noise on
    the coordinates it turns with them, so that their order does not matter.
    """
    centred = train - train.mean(axis=0)
    centred = centred[drawing_order(centred, rng)]
    values, vectors = np.linalg.eigh(centred.T @ centred)
    kept = values > _RANK_TOLERANCE * values[-1]
    whitened = centred @ (vectors[:, kept] / np.sqrt(values[kept]))
    noise = vectors[:, kept] @ (whitened.T @ rng.normal(size=(len(train), count)))
    return np.sqrt(kept.sum()) * noise / np.linalg.norm(noise, axis=0)


def _corrected(lines: Lines, quarters: tuple[np.ndarray, ...]) -> float:
    x1, x2, y1, y2 = quarters
    across = np.mean([lines.distance(x, y) for x in (x1, x2) for y in (y1, y2)])
    return float(across - (lines.distance(x1, x2) + lines.distance(y1, y2)) / 2)
