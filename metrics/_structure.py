"""The association structure of a table as mean products of standardised variables, with its sampling error.

An ordered column is one variable, its standardised ranks. An unordered one is a variable for each level, the
indicator less its mean over the root of the mean. The mean products of two columns' variables then form a vector
whose length is the known strength of their association: Spearman's |rho|, the correlation ratio eta of ranks
between levels, or phi, which Cramer's V scales. Unlike the length the vector is smooth at independence, and it
says which level goes with which values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmbench.api import Schema, stats

from ._association import MIN_PAIRS, centred_ranks, dense_codes
from ._marginals import permutation_p
from ._squares import degrees_of_freedom, root_estimate

_ROUNDING = 1e-9  # of a constant column's sum of squares
_LEAST_KEPT = 0.25  # of a variance, for levels of one record
_CELLS = 2**22  # entries of a block of label permutations in memory
_PRODUCTS = 64  # products that are permuted at a time


@dataclass(frozen=True)
class Variables:
    """A table as variables, one or several a column.

    Attributes:
        values: Grades or indicators, 0 where missing, float64 of shape (n, variables).
        present: Whether the column's value is there, float64 of shape (n, variables).
        indicator: Whether a variable is the indicator of a level, shape (variables,).
        column: Column of each variable, shape (variables,), rising.
        order: For each variable of an ordered column the records by value and, for each, the first and the last
            that has its value; ``None`` for an indicator.
    """

    values: np.ndarray
    present: np.ndarray
    indicator: np.ndarray
    column: np.ndarray
    order: tuple[tuple[np.ndarray, np.ndarray, np.ndarray] | None, ...]

    @classmethod
    def of(cls, codes: np.ndarray, levels: np.ndarray) -> Variables:
        """Read a table.

        Args:
            codes: Values of shape (n, columns), NaN where missing; of an unordered column the number of the level.
            levels: Number of levels of each unordered column, 0 for an ordered one, shape (columns,).
        """
        values, columns = [], []
        orders: list[tuple[np.ndarray, np.ndarray, np.ndarray] | None] = []
        dense = dense_codes(codes)
        ranks = centred_ranks(dense) / np.maximum((dense >= 0).sum(axis=0), 1)
        for j, count in enumerate(levels):
            if count:
                values.append((codes[:, [j]] == np.arange(count)).astype(float))
                orders += [None] * int(count)
            else:
                values.append(ranks[:, [j]])
                orders.append(_order(dense[:, j]))
            columns += [j] * max(int(count), 1)
        column = np.array(columns)
        present = (~np.isnan(codes)).astype(float)[:, column]
        return cls(np.hstack(values), present, (levels > 0)[column], column, tuple(orders))

    def products(self, leading: int | None = None) -> Products:
        """Return the mean products of all pairs of variables of different columns.

        Args:
            leading: One of the two columns must be among so many first ones; ``None`` for any.
        """
        n = len(self.values)
        ends = np.searchsorted(self.column, self.column, side="right")
        moments, influences, defined = [], [], []
        for a, end in enumerate(ends):
            if end == len(self.column) or (leading is not None and self.column[a] >= leading):
                break
            both = self.present[:, [a]] * self.present[:, end:]
            pairs = both.sum(axis=0)
            x, x_scale, x_norm, x_varies = self._standardised(a, both, pairs)
            y, y_scale, y_norm, y_varies = self._standardised(slice(end, None), both, pairs)
            moment = (x * y).sum(axis=0) / np.maximum(pairs, 1)
            share = n / np.maximum(pairs, 1)
            influence = share * (x * y - both * moment * (1 + x_norm + y_norm))
            influence += self._rank_part(a, (y - moment * x) / x_scale * share)
            for b in np.flatnonzero(~self.indicator[end:]):
                influence[:, b] += self._rank_part(
                    end + b, ((x[:, b] - moment[b] * y[:, b]) / y_scale[b] * share[b])[:, None]
                )[:, 0]
            moments.append(moment)
            loss = self._loss(a, both, pairs) + self._loss(slice(end, None), both, pairs)
            influences.append(influence / np.sqrt(np.maximum(1 - loss, _LEAST_KEPT)))
            defined.append((pairs >= MIN_PAIRS) & x_varies & y_varies)
        if not moments:
            return Products(np.empty(0), np.empty((n, 0)), np.empty(0, bool))
        return Products(np.concatenate(moments), np.hstack(influences), np.concatenate(defined))

    def pairs(self, leading: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the two columns of each of :meth:`products`, whole numbers of shape (products,)."""
        earlier = self.column[:, None] < self.column
        if leading is not None:
            earlier &= self.column[:, None] < leading
        firsts, seconds = np.nonzero(earlier)
        return self.column[firsts], self.column[seconds]

    def _standardised(
        self, which: int | slice, both: np.ndarray, pairs: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return variables standardised over the records of each pair, 0 elsewhere.

        Returns:
            Standardised values, scales, the relative change of a scale that a record makes, and whether the
            variable varies; the first and third of shape (n, pairs).
        """
        raw = self.values[:, [which]] if isinstance(which, int) else self.values[:, which]
        indicator = self.indicator[which]
        size = np.maximum(pairs, 1)
        mean = (raw * both).sum(axis=0) / size
        centred = (raw - mean) * both
        variance = (centred**2).sum(axis=0) / size
        varies = variance > _ROUNDING * np.maximum((raw**2 * both).sum(axis=0) / size, _ROUNDING)
        # A level that nobody has goes with nothing: that is an association of 0, and no variable is lost.
        scale = np.sqrt(np.where(indicator, mean, variance))
        scale = np.where(scale > 0, scale, 1.0)
        values = np.where(varies, centred / scale, 0.0)
        change = np.where(indicator, centred / np.maximum(2 * mean, _ROUNDING), (values**2 - both) / 2)
        return values, scale, change, varies | (indicator & (mean == 0))

    def _loss(self, which: int | slice, both: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """Return the share of the influences' variance that is lost by estimating the level means, shape (pairs,).

        The influence of a record of a level of share p is about (x - m/2) / sqrt(p) for values x of mean m in
        it. With m estimated from the same n p records its variance is too small by 3 / (4 n p), and less for a
        level that holds most records.
        """
        raw = self.values[:, [which]] if isinstance(which, int) else self.values[:, which]
        held = (raw * both).sum(axis=0)
        rest = 1 - held / np.maximum(pairs, 1)
        return np.asarray(np.where(self.indicator[which], 0.75 * rest / np.maximum(held, 1), 0.0))

    def _rank_part(self, variable: int, weights: np.ndarray) -> np.ndarray:
        """Return what each record changes in a mean product by moving the others' ranks, shape (n, pairs).

        Args:
            variable: The variable that is ranked.
            weights: Derivative of the mean product by each record's rank, times n, of shape (n, pairs).
        """
        order = self.order[variable]
        if order is None:
            return np.zeros_like(weights)
        records, first, last = order
        result = np.zeros_like(weights)
        if not len(records):
            return result
        below = np.vstack([np.zeros((1, weights.shape[1])), np.cumsum(weights[records], axis=0)])
        # Ranks of equal values rise by a half.
        at_least = below[-1] - (below[first] + below[last + 1]) / 2
        result[records] = at_least / len(records)
        result[records] -= result[records].mean(axis=0)
        return result


@dataclass(frozen=True)
class Products:
    """Mean products and how each record enters them.

    Attributes:
        moments: Shape (products,).
        influences: Influence of each record, of mean 0, shape (n, products).
        defined: Whether both columns vary over enough complete pairs, shape (products,).
    """

    moments: np.ndarray
    influences: np.ndarray
    defined: np.ndarray

    def of(self, kept: np.ndarray) -> Products:
        """Return some of the products."""
        if kept.all():
            return self
        return Products(self.moments[kept], self.influences[:, kept], self.defined[kept])


def _order(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    records = np.argsort(codes, kind="stable")
    records = records[codes[records] >= 0]
    ranked = codes[records]
    first = np.searchsorted(ranked, ranked, side="left")
    return records, first, np.searchsorted(ranked, ranked, side="right") - 1


def unordered_levels(schema: Schema) -> np.ndarray:
    """Return the number of levels of each unordered column, 0 for an ordered one; two levels have an order."""
    return np.array([0 if c.ordered or len(c.levels) == 2 else len(c.levels) for c in schema], dtype=int)


def pair_weights(
    firsts: np.ndarray,
    seconds: np.ndarray,
    levels: np.ndarray,
    codes: np.ndarray,
    defined: np.ndarray,
    wanted: np.ndarray | None = None,
) -> np.ndarray:
    """Return the weight of each product in a mean over pairs of columns that all count the same.

    Args:
        firsts: One column of each product.
        seconds: The other.
        levels: Number of levels of each unordered column, 0 for an ordered one.
        codes: Real values of shape (n, columns); a pair of unordered columns is scaled by the levels seen.
        defined: Whether each product is defined in the reference; a pair counts where all of its are.
        wanted: Whether each product's pair is to count at all; ``None`` for all.

    Returns:
        Weights, 0 for products that do not count, shape (products,).
    """
    pairs, member = np.unique(firsts * len(levels) + seconds, return_inverse=True)
    usable = defined if wanted is None else defined & wanted
    counts = np.bincount(member, ~usable, len(pairs)) == 0
    seen = np.array([len(np.unique(values[~np.isnan(values)])) for values in codes.T])
    unordered = (levels[firsts] > 0) & (levels[seconds] > 0)
    room = np.where(unordered, np.maximum(np.minimum(seen[firsts], seen[seconds]) - 1, 1), 1)
    return np.asarray(counts[member] / room / max(counts.sum(), 1))


def distance(real: Products, synthetic: Products, weights: np.ndarray) -> stats.Estimate:
    """Return the root mean square difference of the mean products of two samples.

    The weighted sum of squared differences less the sum of their variances is 0 in expectation where the
    structures are equal, at any sizes. Its variance is 2 tr(S^2) + 4 d'S d for differences d with covariance S.
    The traces leave out each record's product with itself, which would double them where there are more
    products than records (Chen, Qin 2010, Ann Stat 38, section 2).

    Args:
        real: Products of one sample.
        synthetic: The same products of the other; where they are not defined there they count as 0.
        weights: Weight of each product in the mean square, shape (products,).

    Returns:
        The root keeps the sign of the square; see :func:`root_estimate`.
    """
    roots = np.sqrt(weights)
    # Weighting the influences and the difference alike makes every sum below a weighted one.
    x, y = (side.influences * roots for side in (real, synthetic))
    gap = (synthetic.moments - real.moments) * roots
    length = float(gap @ gap)
    traces = 2 * _inner(x, y) / (len(x) * len(y)) ** 2
    chance = along = 0.0
    for side in (x, y):
        n = len(side)
        squares = np.einsum("ij,ij->i", side, side)
        chance += float(squares.sum()) / (n * (n - 1))
        traces += (_inner(side, side) - float(squares @ squares)) / (n**3 * (n - 1))
        along += float(((side @ gap) ** 2).sum()) / n**2
    variance = 2 * max(traces, 0.0)
    return root_estimate(
        length - chance,
        variance,
        4 * along / length if length > 0 else 0.0,
        degrees_of_freedom(chance, variance),
        "delta method",
    )


def _inner(x: np.ndarray, y: np.ndarray) -> float:
    """Return the sum of squares of x y', by whichever of the two products is smaller."""
    if x.shape[1] < min(len(x), len(y)):
        return float(np.vdot(x.T @ x, y.T @ y))
    product = x @ y.T
    return float(np.vdot(product, product))


def max_t(pooled: Products, size: int, permutations: int, seed: int) -> float:
    """Return the p-value of the largest studentised difference between two samples over permutations of them.

    Compared are the means of the records' influences in the pooled sample, which is the difference of the
    products to first order. They do not know the labels, so that the level is exact where the laws are equal;
    studentised (Chung, Romano 2013, Ann Stat 41) it holds for large samples with other marginals too.

    Args:
        pooled: Products of both samples together.
        size: Records of the first sample.
        permutations: Permutations.
        seed: Seed of the permutations.
    """
    values = pooled.influences
    labels = np.arange(len(values)) >= size
    rng = np.random.default_rng(seed)
    n = len(labels)
    largest = np.zeros(permutations + 1)
    block = max(1, _CELLS // n)
    for start in range(0, permutations + 1, block):
        size = min(block, permutations + 1 - start)
        chosen = rng.permuted(np.broadcast_to(labels, (size, n)), axis=1)
        if start == 0:
            chosen[0] = labels
        chosen = chosen.astype(float)
        for first in range(0, values.shape[1], _PRODUCTS):
            part = values[:, first : first + _PRODUCTS]
            largest[start : start + size] = np.maximum(
                largest[start : start + size], _studentised(part, chosen).max(axis=1)
            )
    return permutation_p(largest[0], largest[1:], seed)


def _studentised(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return absolute studentised differences of means, shape (permutations, products)."""
    m = chosen[0].sum()
    n = len(values) - m
    sums, squares = chosen @ values, chosen @ values**2
    others, other_squares = values.sum(axis=0) - sums, (values**2).sum(axis=0) - squares
    variance = (squares - sums**2 / m) / (m * (m - 1)) + (other_squares - others**2 / n) / (n * (n - 1))
    scale = (values**2).mean(axis=0) * (1 / n + 1 / m)
    # Rounding must not divide: a level of one record has no spread on the side where it is absent.
    return np.abs(sums / m - others / n) / np.sqrt(np.where(variance > 1e-9 * scale, variance, np.inf))
