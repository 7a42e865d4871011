"""Frechet distance between image features."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from mmbench.api import VOLUME, Card, Metric, Output, Score, Trial, param

from ._frechet import Subsets, frechet_distance, subsets
from ._scores import no_features, too_few, undefined
from ._spaces import image_blocks
from ._splits import drawing_order, equality_p, halves, interval, split_variance

_PARTS = (1, 2, 3, 4)  # that the samples are cut in for the extrapolation to unlimited ones
_SLOPES = 2  # of relabelled records
_LARGEST = 1e150  # beyond it squares are no numbers any more


@dataclass
class Frechet(Metric):
    """Frechet distance of image features, corrected by split halves and averaged over the extractor's blocks.

    The distance of two samples of finite size is biased upwards, and least so for a generator that varies too
    little: uncorrected it prefers such a generator to a perfect one. With halves X1, X2 of the real and
    Y1, Y2 of the synthetic features, the corrected value is the mean of the four F(Xi, Yj) less half of
    F(X1, X2) + F(Y1, Y2). It is 0 in expectation for equal laws, may be negative, and underestimates large
    distances where there are fewer records than features.

    The details are the uncorrected distance (``plug-in``, the value that others publish), its extrapolation
    to unlimited samples (``infinity``: the intercept of a line over 1 / n through its means over disjoint
    parts, from quarters to all of the records) and a p-value (``p``) for equal laws: the share of random relabellings of
    the records with an uncorrected distance as large. Features are standardised on the training records, so
    that values do not depend on units.

    All records count, but for a sample larger than the other, of which as many are drawn. Where they are
    many they are dealt to 32 groups or more of a sample, whose sums and products are kept: halves and
    relabellings are of groups and cost O(d^3) however many records there are.

    The interval is a score interval. Its variance between equal laws is that over relabellings; the rest
    grows with the distance, and comes from the optimal transport potentials of the
    fitted normal laws (Rippl, Munk, Sturm 2016, Journal of Multivariate Analysis 151).
    """

    splits: int = param(4, "random splits into halves that are averaged", minimum=2)
    permutations: int = param(39, "relabellings of the records, for interval and p-value", minimum=19)

    card = Card(
        "Frechet distance of image features, corrected by split halves.",
        "Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter 2017, GANs Trained by a Two Time-Scale Update Rule "
        "Converge to a Local Nash Equilibrium (NeurIPS); on its bias and the extrapolation, Chong, Forsyth 2020 "
        "(CVPR); for the form used where records are few, Mathiasen, Hvilshoj 2020 (arXiv:2009.14075)",
    )
    version = 2
    kind = "fidelity"
    needs = VOLUME
    null = "noise"
    outputs = (
        Output(
            "frechet-distance",
            "Frechet distance",
            "Squared distance of normal laws fitted to real and synthetic image features, beyond that between "
            "two real samples.",
            "Anything but mean and covariance of the features, and memorised volumes.",
            "lower",
            0.0,
        ),
    )

    def scores(self, trial: Trial) -> Iterable[Score]:
        if reason := no_features(trial.reference, trial.synthetic, trial.train) or too_few(trial, 16):
            return undefined(self.outputs, reason)
        blocks = image_blocks(trial)
        if not blocks:
            return undefined(self.outputs, "no image feature varies among the training records")
        rng = np.random.default_rng(trial.seed)
        x, y = ([block.reference for block in blocks], [block.synthetic for block in blocks])
        if max(float(np.abs(side).max()) for side in (*x, *y)) > _LARGEST:
            return undefined(self.outputs, "the synthetic records lie too far out for squares to be computed")
        # The bias of a distance depends on both sizes, and cancels where these are alike.
        n = min(len(trial.reference), len(trial.synthetic))
        order_x, order_y = (drawing_order(np.concatenate(side, axis=1), rng)[:n] for side in (x, y))
        # The same records of all blocks stand together, as they vary together.
        pairs = subsets([(a[order_x], b[order_y]) for a, b in zip(x, y, strict=True)])

        units = len(pairs[0])
        orders = [np.arange(units), *(rng.permutation(units) for _ in range(self.permutations))]
        labels = [(order[: units // 2], order[units // 2 :]) for order in orders]
        splits = [_halves(units // 2, rng) for _ in range(self.splits)]
        relabelled = _mean(pairs, lambda block: [block.distance(*sides) for sides in labels])
        corrected = _mean(pairs, lambda block: [_corrected(block, quarters) for quarters in splits])
        slopes = [_first_order(pairs, *sides) / n for sides in labels[: _SLOPES + 1]]

        # With fewer records than features the uncorrected distance varies less than the corrected one.
        anew = _mean(pairs, lambda block: [_corrected(block, _quarters(order)) for order in orders[1:]])
        at_zero = split_variance(float(anew.var(ddof=1)), self.splits) / split_variance(1.0, 1)
        noise = float(np.mean(slopes[1:]))
        estimate = interval(float(corrected.mean()), at_zero, relabelled[0], relabelled[1:], slopes[0], noise)
        plug_in = np.mean([frechet_distance(a, b) for a, b in zip(x, y, strict=True)])
        name = self.outputs[0].name
        return [
            Score.of(name, estimate),
            Score(name, float(plug_in), item="plug-in"),
            Score(name, _unlimited(pairs, units // 2, rng), item="infinity"),
            Score(name, equality_p(relabelled[0], relabelled[1:]), item="p"),
        ]


def _halves(n: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Return halves of either sample of ``n`` units."""
    return *halves(n, rng), *(n + half for half in halves(n, rng))


def _quarters(order: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return halves of either sample of units labelled in ``order``."""
    size = len(order) // 4
    x, y = order[: len(order) // 2], order[len(order) // 2 :]
    return x[:size], x[size : 2 * size], y[:size], y[size : 2 * size]


def _unlimited(blocks: list[Subsets], n: int, rng: np.random.Generator) -> float:
    """Return the distance of samples of ``n`` units each, extrapolated to unlimited ones."""
    x, y = rng.permutation(n), n + rng.permutation(n)
    by_size = [
        np.mean(
            [
                block.distance(*part)
                for part in zip(np.array_split(x, parts), np.array_split(y, parts), strict=True)
                for block in blocks
            ]
        )
        for parts in _PARTS
    ]
    return float(np.polyfit(_PARTS, by_size, 1)[1])


def _mean(blocks: list[Subsets], measure: Callable[[Subsets], list[float]]) -> np.ndarray:
    return np.mean([measure(block) for block in blocks], axis=0)


def _corrected(block: Subsets, quarters: tuple[np.ndarray, ...]) -> float:
    x1, x2, y1, y2 = quarters
    across = np.mean([block.distance(x, y) for x in (x1, x2) for y in (y1, y2)])
    return float(across - (block.distance(x1, x2) + block.distance(y1, y2)) / 2)


def _first_order(blocks: list[Subsets], x: np.ndarray, y: np.ndarray) -> float:
    """Return the first-order variance, times the records, of the mean distance between units ``x`` and ``y``."""
    sides = ((x, y), (y, x))
    return sum(
        float(np.var(np.mean([block.potentials(*side) for block in blocks], axis=0), ddof=1))
        for side in sides
    )
