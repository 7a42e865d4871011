"""Distances of the marginal distributions of many columns at once, with what chance alone would give."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass

import numpy as np

from mmbench.api import stats

from ._squares import degrees_of_freedom, root_estimate

_CELLS = 2**19  # entries of a block of label permutations in memory
_FLOOR_WORK = (
    2**17
)  # for few records the floor takes more permutations than the test: it is part of the value


@dataclass(frozen=True)
class Comparison:
    """Two samples compared column by column.

    Attributes:
        differences: Kolmogorov-Smirnov statistic or total variation of each column, shape (columns,).
        floors: Root mean square of the same over label permutations of that column, shape (columns,).
        distance: Root mean square of the differences after subtraction of the squared floors; see
            :func:`compare`.
        p: p-value of the permutation test of equal laws, with the mean squared difference for its statistic.
        adjusted: p-values of the columns, adjusted for their number, shape (columns,).
    """

    differences: np.ndarray
    floors: np.ndarray
    distance: stats.Estimate
    p: float
    adjusted: np.ndarray


def compare(
    real: np.ndarray,
    synthetic: np.ndarray,
    ordered: np.ndarray,
    permutations: int,
    seed: int,
    *,
    with_missing: bool = True,
) -> Comparison:
    """Compare the marginal distributions of two samples.

    The difference D_j of an ordered column is the Kolmogorov-Smirnov statistic, that of another the total
    variation. Both are positive by chance: over permutations of the labels real and synthetic the mean of D_j^2
    is f_j^2, which is the conditional expectation given the pooled values where both laws are equal. The
    distance is the signed root of mean_j(D_j^2 - f_j^2): its square is 0 in expectation for equal laws at any
    sizes, and for different laws it exceeds the mean square of the true D_j by less than the variance of D_j. The
    floors are drawn along the sorted values, so that the distance does not depend on the order of rows, columns
    or levels.

    The variance of the mean square has a part of second order, which is all where the laws are equal: that over
    permutations of whole rows. The part of first order, from the delta method at the maximising thresholds,
    grows with the square; see :func:`root_estimate`. The p-values come from the same
    permutations: those of the columns by the largest standardised D_j (max-T; Westfall and Young 1993,
    Resampling-Based Multiple Testing, section 2.6), which unlike Holm's bound loses nothing where columns agree.

    Args:
        real: Values of shape (n, columns), NaN where missing; at least one column varies over both samples.
        synthetic: Values of shape (m, columns).
        ordered: Whether the values of each column have an order, shape (columns,).
        permutations: Label permutations of the test.
        seed: Seed of the permutations.
        with_missing: Whether missing values are part of a column's distribution: a level of their own for an
            unordered column, and for an ordered one an atom that is counted below all values or above them,
            whichever shows more. Otherwise they are left out.
    """
    columns = [
        _Column.of(np.concatenate([a, b]), bool(order), with_missing)
        for a, b, order in zip(real.T, synthetic.T, ordered, strict=True)
    ]
    total = len(real) + len(synthetic)
    actual = np.arange(total)[:, None] >= len(real)
    observed = _differences(columns, actual)[:, 0]
    floor_draws = max(permutations, min(1000, _FLOOR_WORK // total))
    squares = _floors(columns, actual[:, 0], floor_draws, seed)
    varies = np.array([column.varies for column in columns])
    blocks = _permuted(actual[:, 0], permutations, np.random.default_rng(seed))
    null = np.concatenate([_differences(columns, labels) for labels in blocks], axis=1)
    statistic = float((observed[varies] ** 2).mean())
    null_statistic = (null[varies] ** 2).mean(axis=0)
    chance, variance = float(squares[varies].mean()), float(null_statistic.var(ddof=1))
    distance = root_estimate(
        statistic - chance,
        variance,
        _linear_variance(columns, actual) / statistic if statistic > 0 else 0.0,
        degrees_of_freedom(chance, variance),
        f"delta method and {permutations} label permutations",
    )
    return Comparison(
        observed,
        np.sqrt(squares),
        distance,
        permutation_p(statistic, null_statistic, seed),
        _max_t(observed, null, seed),
    )


def permutation_p(statistic: float, null: np.ndarray, seed: int) -> float:
    """Return the rank of a statistic among those of permutations, as a share in (0, 1].

    Equal statistics, of which counts have many, are ranked by lot, so that the p-value is uniform for them too
    (randomised test; Lehmann, Romano 2005, section 15.2.1). Where all are equal it is 1: there is nothing to see.

    Args:
        statistic: Observed statistic.
        null: Statistic of each permutation, shape (permutations,).
        seed: Seed of the lot.
    """
    slack = 1e-12 * max(1.0, abs(statistic))
    larger, equal = int((null > statistic + slack).sum()), int((np.abs(null - statistic) <= slack).sum())
    if equal == len(null):
        return 1.0
    lot = np.random.default_rng([seed, equal]).integers(1, equal + 2)
    return float((larger + lot) / (1 + len(null)))


def _max_t(observed: np.ndarray, null: np.ndarray, seed: int) -> np.ndarray:
    mean, spread = null.mean(axis=1), null.std(axis=1)
    scale = np.where(spread > 0, spread, np.inf)
    largest = ((null - mean[:, None]) / scale[:, None]).max(axis=0)
    return np.array([permutation_p(value, largest, seed) for value in (observed - mean) / scale])


def _permuted(labels: np.ndarray, permutations: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield permuted labels in blocks of shape (records, permutations)."""
    block = max(1, _CELLS // len(labels))
    for start in range(0, permutations, block):
        size = min(block, permutations - start)
        rows = np.broadcast_to(labels, (size, len(labels)))
        yield np.ascontiguousarray(rng.permuted(rows, axis=1).T)


def _floors(columns: list[_Column], labels: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Return the mean squared difference of each column over permutations of the labels, shape (columns,)."""
    found: dict[tuple[Hashable, ...], float] = {}
    keys = []
    for column in columns:
        labelled = int(labels[column.records].sum())
        # Columns that differ in their values alone, as all do that hold no value twice, have one floor.
        keys.append((column.ends.tobytes(), column.ordered, column.missing, labelled))
        if keys[-1] not in found:
            found[keys[-1]] = column.floor(labelled, draws, seed)
    return np.array([found[key] for key in keys])


def _differences(columns: list[_Column], labels: np.ndarray) -> np.ndarray:
    """Return the difference of each column for each column of labels, shape (columns, permutations)."""
    return np.array([column.gaps(labels[column.records]).differences for column in columns])


def _linear_variance(columns: list[_Column], labels: np.ndarray) -> float:
    """Return the first-order variance of the mean squared difference for labels of shape (records, 1)."""
    varying = [column for column in columns if column.varies]
    influence = np.zeros(len(labels))
    sizes = {True: int(labels.sum()), False: int((~labels).sum())}
    for column in varying:
        own = labels[column.records]
        gaps = column.gaps(own)
        direction = gaps.derivatives(column.positions)[:, 0] * 2 * gaps.differences[0] / len(varying)
        for label, size in sizes.items():
            members = own[:, 0] == label
            if members.any():
                centred = direction[members] - direction[members].mean()
                influence[column.records[members]] += centred * size / members.sum()
    return sum(
        float((influence[labels[:, 0] == label] ** 2).sum()) / (size * (size - 1))
        for label, size in sizes.items()
    )


@dataclass(frozen=True)
class _Column:
    """One column of both samples, sorted.

    Attributes:
        records: Records that count, by value, shape (counted,).
        positions: Place of their values among the distinct ones, shape (counted,); 0 is missing, where counted.
        ends: Last of the records of each distinct value, shape (values,).
        ordered: Whether the values have an order.
        missing: Whether the first of them is missing.
    """

    records: np.ndarray
    positions: np.ndarray
    ends: np.ndarray
    ordered: bool
    missing: bool

    @classmethod
    def of(cls, values: np.ndarray, ordered: bool, with_missing: bool) -> _Column:
        present = ~np.isnan(values)
        positions = np.full(len(values), -1)
        inverse, counts = np.unique(values[present], return_inverse=True, return_counts=True)[1:]
        # Levels in the order of their counts: their names and places in the schema tell nothing.
        positions[present] = inverse if ordered else np.argsort(np.argsort(counts, kind="stable"))[inverse]
        missing = with_missing and not present.all()
        if missing:
            positions += 1
        records = np.argsort(positions, kind="stable")
        records = records[positions[records] >= 0]
        places = positions[records]
        ends = np.flatnonzero(np.append(places[1:] != places[:-1], True)) if len(places) else places
        return cls(records, places, ends, ordered, missing)

    @property
    def varies(self) -> bool:
        """Whether there is more than one value."""
        return len(self.ends) > 1

    def gaps(self, labels: np.ndarray) -> _Gaps:
        """Compare the records that are labelled with the others.

        Args:
            labels: Labels of the counted records by value, bool of shape (counted, permutations).
        """
        if not self.varies:
            return _Gaps.of_levels(np.zeros((1, labels.shape[1])))
        below = np.cumsum(labels, axis=0, dtype=np.int32)[self.ends]
        size = below[-1].astype(np.int64)
        others = len(labels) - size
        # Share of the labelled less share of the others, in whole numbers up to the division: equal is 0.
        gap = (below * np.int64(len(labels)) - (self.ends + 1)[:, None] * size) / np.maximum(size * others, 1)
        if not self.ordered:
            return _Gaps.of_levels(np.diff(gap, axis=0, prepend=0))
        return _Gaps.at_largest(gap, self.missing)

    def floor(self, labelled: int, draws: int, seed: int) -> float:
        """Return the mean squared difference over permutations with a number of counted records labelled."""
        if not self.varies:
            return 0.0
        labels = np.arange(len(self.records)) < labelled
        blocks = _permuted(labels, draws, np.random.default_rng(seed))
        return float(np.concatenate([self.gaps(block).differences ** 2 for block in blocks]).mean())


@dataclass(frozen=True)
class _Gaps:
    """Differences of one column for several labellings.

    Attributes:
        differences: Shape (permutations,).
        derivatives: Returns the derivative of the difference by the share of each record's value, shape (records,
            permutations), for their places among the values.
    """

    differences: np.ndarray
    derivatives: Callable[[np.ndarray], np.ndarray]

    @classmethod
    def of_levels(cls, gap: np.ndarray) -> _Gaps:
        """Return the total variation for gaps of the shares, of shape (levels, permutations)."""
        signs = np.sign(gap) / 2
        return cls(np.abs(gap).sum(axis=0) / 2, lambda places: signs[places])

    @classmethod
    def at_largest(cls, gap: np.ndarray, missing: bool) -> _Gaps:
        """Return the largest absolute gap of the cumulative shares, of shape (values, permutations)."""
        most, least = gap.max(axis=0), gap.min(axis=0)
        largest = np.maximum(most, -least)
        if missing:
            largest = np.maximum(largest, np.maximum(most - gap[0], gap[0] - least))

        def derivatives(places: np.ndarray) -> np.ndarray:
            shifted = (gap, gap - gap[0]) if missing else (gap,)
            peaks = np.array([np.abs(each).max(axis=0) for each in shifted])
            chosen = np.choose(peaks.argmax(axis=0), shifted)
            upto = np.abs(chosen).argmax(axis=0)
            inside = (places[:, None] <= upto) & (places[:, None] >= peaks.argmax(axis=0))
            return np.asarray(inside * np.sign(chosen[upto, np.arange(gap.shape[1])]))

        return cls(largest, derivatives)
