"""Whether synthetic records lie nearer to training records than exchangeable labels allow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmbench.api import stats

from ._neighbours import nearest
from ._spaces import Points

_NEAR = np.log(1 / 3)  # three times nearer to one kind of real record than to the other
_LARGEST_RATIO = np.log(1000)  # beyond this nearer is nearer; keeps an exact copy finite
_TAIL = 0.02
_UNSEEN = 1e-3  # chance that a list misses one of the two kinds of real records
_LONGEST = 64
_ROUNDING = 1e-12  # spread of a statistic that is constant but for rounding
_LOWEST = -100.0  # standardised value of a statistic that no relabelling changes: it tells nothing
_BREAKS_TIES = 1e-6  # weight of a statistic that decides only where the others are equal
_BLOCK = 4_000_000  # labels looked up at a time


@dataclass(frozen=True)
class RealNeighbours:
    """The real records nearest to each of n synthetic ones, training and reference records alike.

    Attributes:
        distance: In order, float64 of shape (n, k).
        position: Of each neighbour, shape (n, k): training records first, reference records after them.
        n_train: Number of training records.
        n_reference: Number of reference records.
    """

    distance: np.ndarray
    position: np.ndarray
    n_train: int
    n_reference: int

    @classmethod
    def find(cls, points: Points, seed: int) -> RealNeighbours:
        """Find the neighbours of ``points.synthetic``.

        Args:
            points: The three sides in a space fitted on all real records.
            seed: Seed of the order in which equally near records are taken: it must not follow the labels.
        """
        real = np.concatenate([points.train, points.reference])
        order = np.random.default_rng(seed).permutation(len(real))
        k = list_length(len(points.train), len(points.reference))
        distance, found = nearest(points.synthetic, real[order], k)
        return cls(distance, order[found], len(points.train), len(points.reference))

    @property
    def is_train(self) -> np.ndarray:
        """Which neighbours are training records, shape (n, k)."""
        return self.position < self.n_train


def list_length(n_train: int, n_reference: int) -> int:
    """Return how many neighbours hold both kinds of real records in 999 of 1,000 lists, at most 64.

    Where a list holds but one kind the other counts as if it were as far as the last. That takes nothing from
    the exactness of the test: its statistics are functions of lists and labels.
    """
    larger = max(n_train, n_reference) / (n_train + n_reference)
    return min(int(np.ceil(np.log(_UNSEEN) / np.log(larger))), _LONGEST, n_train + n_reference)


def balanced_share(neighbours: RealNeighbours) -> stats.Estimate:
    """Return the share of records nearest to a training record, as if there were as many of either kind.

    The interval is Wilson's on an effective number of records. Synthetic records with the same nearest real
    record share its label. With shares w of the synthetic records over M real ones, labels drawn without
    replacement give the raw share S the variance S (1 - S) (sum(w^2) - 1 / M) M / (M - 1), that of so many
    independent draws; these are no more than there are synthetic records.
    """
    tied = neighbours.distance == neighbours.distance[:, :1]
    credit = tied / tied.sum(axis=1, keepdims=True)
    raw = float((credit * neighbours.is_train).sum() / len(credit))
    weights = np.bincount(neighbours.position[tied], credit[tied]) / len(credit)
    n_real, z = neighbours.n_train + neighbours.n_reference, stats.Z95
    variance = ((weights**2).sum() - 1 / n_real) * n_real / (n_real - 1)
    n = 1 / max(variance, 1 / len(credit))
    centre = (raw + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z * np.sqrt(raw * (1 - raw) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)

    def balanced(share: float) -> float:
        train, reference = share / neighbours.n_train, (1 - share) / neighbours.n_reference
        return float(train / (train + reference))

    low, high = np.clip([centre - reach, centre + reach], 0, 1)
    # Where every record counts alike Wilson's ends meet the share but for rounding.
    return stats.Estimate(
        balanced(raw), balanced(min(low, raw)), balanced(max(high, raw)), "Wilson, effective number"
    )


def label_p(neighbours: RealNeighbours, permutations: int, rng: np.random.Generator) -> float:
    """Return the p-value of the label permutation test for memorisation.

    Where nothing was memorised the labels training and reference are exchangeable given the synthetic records,
    so the level is exact (Lehmann and Romano 2005, section 15.2). The statistic is the largest of three, each
    standardised over the permutations: the share of records nearest to a training record, the 2 % quantile of
    the log ratio of the nearest training and reference distances, and the share of ratios below 1/3. The first
    and the last are counts and often equal; the mean log ratio then decides.

    Args:
        neighbours: Neighbour lists of the synthetic records.
        permutations: Number of random relabellings.
        rng: Source of the relabellings.
    """
    n_real = neighbours.n_train + neighbours.n_reference
    observed = np.arange(n_real) < neighbours.n_train
    labels = np.array([observed, *(rng.permutation(observed) for _ in range(permutations))])
    step = max(_BLOCK // neighbours.distance.size, 1)
    statistics = np.concatenate(
        [_signs_of_copying(neighbours, labels[at : at + step]) for at in range(0, len(labels), step)]
    )
    spread = statistics.std(axis=0)
    varies = spread > _ROUNDING
    standardised = (statistics - statistics.mean(axis=0)) / np.where(varies, spread, np.inf)
    standardised[:, ~varies] = _LOWEST
    largest = standardised[:, :-1].max(axis=1) + _BREAKS_TIES * standardised[:, -1]
    # Rounding must not make equal statistics differ: ties count against the alarm.
    return float((1 + (largest[1:] >= largest[0] - 1e-9).sum()) / (1 + permutations))


def near_rate(neighbours: RealNeighbours) -> float:
    """Return the share of records three times nearer to a training than to any reference record."""
    return float((_log_ratio(neighbours, neighbours.is_train[None]) < _NEAR).mean())


def _signs_of_copying(neighbours: RealNeighbours, labels: np.ndarray) -> np.ndarray:
    """Return signs of copying for labels of shape (relabellings, real records), shape (relabellings, 4)."""
    is_train = labels[:, neighbours.position]
    tied = neighbours.distance == neighbours.distance[:, :1]
    nearest_is_train = is_train[:, :, 0]
    if tied[:, 1:].any():
        nearest_is_train = (is_train & tied).sum(axis=2) / tied.sum(axis=1)
    ratio = _log_ratio(neighbours, is_train)
    tail = int(_TAIL * (ratio.shape[1] - 1))
    return np.column_stack(
        [
            nearest_is_train.mean(axis=1),
            -np.partition(ratio, tail, axis=1)[:, tail],
            (ratio < _NEAR).mean(axis=1),
            -ratio.mean(axis=1),
        ]
    )


def _log_ratio(neighbours: RealNeighbours, is_train: np.ndarray) -> np.ndarray:
    """Return log ratios of nearest training and reference distance for labels of shape (relabellings, n, k)."""
    logs = np.log(neighbours.distance + np.finfo(float).tiny)
    rows = np.arange(len(logs))

    def first(wanted: np.ndarray) -> np.ndarray:
        at = wanted.argmax(axis=2)
        at[~np.take_along_axis(wanted, at[..., None], axis=2)[..., 0]] = logs.shape[1] - 1
        return logs[rows, at]

    return np.clip(first(is_train) - first(~is_train), -_LARGEST_RATIO, _LARGEST_RATIO)
