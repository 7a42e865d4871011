"""Whether synthetic records lie nearer to single training records than chance can put them.

A test that exchanges labels needs many copies: of N training and m reference records, c copied ones keep their
labels by chance with probability (N / (N + m))^c. How near a copy is tells more. Where the training records around
a record have a smooth density in d dimensions, the d-th power of its ratio of nearest to second nearest distance
is uniform (Facco, d'Errico, Rodriguez, Laio 2017, Estimating the intrinsic dimension of datasets by a minimal
neighborhood information, Sci Rep 7, equation 2). The law knows the density of training records around the
record, not that of the records themselves: it holds for a generator that is honest but poor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats as scipy_stats

from ._neighbours import nearest
from ._spaces import Points

_LISTED = 8  # training neighbours of real records; of more at one distance the next one is not found
_MOST = 2000  # real records of a side that the law is fitted on
_TAIL_SHARE = 0.1  # share of the real ratios that are nearest, on which the law is fitted
_FEWEST = 20  # fewest ratios that the law is fitted on
_ONE_SIDED = 1.6448536269514722  # 95 %
_LEVELS = 10  # a coordinate of no more values has levels, and nothing between them
_SMOOTH = 0.25  # least share of variance between values, not levels, from which the law holds down to 0
_STEEPEST = 20.0  # with a larger exponent slight departures from the law would pass for copies
_UNLIKELY = 0.01  # a chance above this says nothing of copies
_SUREST = 1e-6  # p-value below which the law is extrapolated too far to mean what it says


@dataclass(frozen=True)
class Closeness:
    """Distances of records to their nearest training records.

    Attributes:
        first: Distance to the nearest training record, shape (n,).
        second: Distance to the next training record that is further, shape (n,); copies of the first are not.
        match: Position of the nearest training record, shape (n,).
    """

    first: np.ndarray
    second: np.ndarray
    match: np.ndarray

    @classmethod
    def of(cls, distance: np.ndarray, position: np.ndarray, is_train: np.ndarray) -> Closeness:
        """Read it off neighbour lists, three arrays of shape (n, k).

        What a list does not hold counts as if it were as far as the last neighbour.
        """
        rows = np.arange(len(distance))

        def earliest(wanted: np.ndarray) -> np.ndarray:
            at = wanted.argmax(axis=1)
            return np.where(wanted[rows, at], at, distance.shape[1] - 1)

        at = earliest(is_train)
        first = distance[rows, at]
        further = is_train & (distance > first[:, None] * (1 + 1e-9))
        return cls(first, distance[rows, earliest(further)], position[rows, at])

    @classmethod
    def of_reference(cls, points: Points) -> Closeness:
        """Return it for reference records, the first 2,000 of them."""
        k = min(_LISTED, len(points.train))
        distance, position = nearest(points.reference[:_MOST], points.train, k)
        return cls.of(distance, position, np.ones(position.shape, dtype=bool))

    @classmethod
    def of_train(cls, points: Points) -> Closeness:
        """Return it for training records among the others, 2,000 of them at even intervals."""
        k = min(_LISTED, len(points.train) - 1)
        rows = np.unique(np.linspace(0, len(points.train) - 1, _MOST).astype(int))
        # Each finds itself first, or a copy of itself that stands for it just as well.
        distance, position = nearest(points.train[rows], points.train, k + 1)
        return cls.of(distance[:, 1:], position[:, 1:], np.ones((len(rows), k), dtype=bool))


def near_copy_p(points: Points, synthetic: Closeness, reference: Closeness) -> float:
    """Return the p-value of the nearest synthetic records, 1 where nothing can be told.

    The law of the ratio is fitted to real records (the reference against the training records, and these against
    one another). Its p-value for the j nearest records that match different training records is the chance of j or
    more among n independent ones; the smallest over j is taken, with weights 1 / (j (j + 1)) that sum to 1
    (union bound). Records that match one training record count once: a generator that repeats itself by
    chance near one does not copy.

    Two guards keep the law honest. A second neighbour further away than a real record's nearest one usually is does
    not make the first one near (lonely training records), and all distances are widened by the step between the
    values of each column (rounded ones coincide by chance). Among records without a column of more than ten values
    chance matches are the rule, and the law goes no lower than their rate can be told to be; nor where such
    columns carry more than three quarters of the variance.

    No p-value is smaller than 1e-6.

    Args:
        points: The three sides of a trial.
        synthetic: Closeness of the synthetic records.
        reference: Closeness of reference records.
    """
    train = Closeness.of_train(points)
    typical = float(np.median(np.concatenate([reference.first, train.first])))
    step, share = resolution(np.concatenate([points.train, points.reference]))
    if not np.hypot(typical, step) > 0:
        return 1.0

    def ratio(side: Closeness) -> np.ndarray:
        scale = np.minimum(side.second, typical)
        found = np.ones(len(scale))
        wide = np.hypot(scale, step)
        return np.divide(np.hypot(side.first, step), wide, out=found, where=wide > 0)

    law = chance_law(np.concatenate([ratio(reference), ratio(train)]), continuous=share >= _SMOOTH)
    return _smallest_tail(law(ratio(synthetic)), synthetic.match)


def resolution(real: np.ndarray) -> tuple[float, float]:
    """Return the distance that the steps between values account for, and the share of variance that has any.

    Two values that are each uniform within a step h differ by h^2 / 6 in the mean square. Coordinates of at most
    ten values are levels, where a match is a match.

    Args:
        real: Points of shape (n, d), not all alike.
    """
    squares, continuous = 0.0, np.zeros(real.shape[1], dtype=bool)
    for index, values in enumerate(real.T):
        steps = np.diff(np.unique(values))
        continuous[index] = len(steps) >= _LEVELS
        if continuous[index]:
            squares += float(np.median(steps)) ** 2 / 6
    variance = real.var(axis=0)
    return float(np.sqrt(squares)), float(variance[continuous].sum() / variance.sum())


def chance_law(honest: np.ndarray, *, continuous: bool) -> Callable[[np.ndarray], np.ndarray]:
    """Return the chance of a ratio or a smaller one: a power law below the nearest tenth of honest ratios.

    Its exponent is Hill's estimate (Hill 1975, A simple general approach to inference about the tail of a
    distribution, Ann Stat 3), less 1.64 of its standard errors and at most 20. Ratios above the tail have chance 1. Where there
    are coincidences, or may be as nothing is continuous, the upper 95 % limit of their rate is the least chance.

    Args:
        honest: Ratios of real records, shape (n,).
        continuous: Whether ratios of honest records are 0 with probability 0.
    """
    n, zeros = len(honest), int((honest == 0).sum())
    positive = np.sort(honest[honest > 0])
    k = max(_FEWEST, round(_TAIL_SHARE * n))
    edge = positive[k] if k < len(positive) else 0.0
    spread = float(np.log(edge / positive[:k]).mean()) if edge > 0 else 0.0
    if not spread > 0:
        return lambda ratio: np.ones(len(ratio))
    exponent = min((1 - _ONE_SIDED / np.sqrt(k)) / spread, _STEEPEST)
    share = (zeros + k + 1) / (n + 1)
    by_chance = 0.0 if continuous and not zeros else float(scipy_stats.beta.ppf(0.95, zeros + 1, n - zeros))

    def chance(ratio: np.ndarray) -> np.ndarray:
        tail = np.maximum(share * (np.minimum(ratio, edge) / edge) ** exponent, by_chance)
        return np.where(ratio < edge, tail, 1.0)

    return chance


def _smallest_tail(chances: np.ndarray, match: np.ndarray) -> float:
    order = np.argsort(chances, kind="stable")
    _, nearest_of_match = np.unique(match[order], return_index=True)
    smallest = np.sort(chances[order][nearest_of_match])
    smallest = smallest[smallest <= _UNLIKELY]
    j = np.arange(1, len(smallest) + 1)
    tails = scipy_stats.binom.sf(j - 1, len(chances), smallest) * j * (j + 1)
    return float(np.clip(tails.min(initial=1.0), _SUREST, 1.0))
