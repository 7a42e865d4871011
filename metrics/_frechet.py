"""Frechet distances between many subsets of two samples, at little cost each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

_GROUPS = 32  # of a sample: 6 * 10^8 halves, 10^18 labellings
_SHOWN = 2000  # records of a sample that are kept as they are: a variance over them needs no more
_RANK_TOLERANCE = 1e-10  # relative variance below which a direction is rounding noise


def frechet_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Return |m_x - m_y|^2 + tr S_x + tr S_y - 2 tr (S_x^1/2 S_y S_x^1/2)^1/2 of two samples.

    The last trace is the nuclear norm of A B^T, where A and B are the centred samples over sqrt(n - 1)
    (Mathiasen, Hvilshoj 2020). That is exact, and cheaper where there are fewer records than features;
    otherwise it comes from the eigenvalues of symmetric matrices. Neither takes the root of a matrix that is
    not symmetric, which loses accuracy where covariances are singular.

    Args:
        x: Sample of shape (n, d), n at least 2.
        y: Sample of shape (m, d), m at least 2.
    """
    a = (x - x.mean(axis=0)) / np.sqrt(len(x) - 1)
    b = (y - y.mean(axis=0)) / np.sqrt(len(y) - 1)
    if len(a) * len(b) < a.shape[1] ** 2:
        cross = float(np.linalg.svd(a @ b.T, compute_uv=False).sum())
    else:
        cross = _root_trace(_root(a.T @ a), b.T @ b)
    gap = x.mean(axis=0) - y.mean(axis=0)
    return float(gap @ gap + (a**2).sum() + (b**2).sum() - 2 * cross)


class Subsets(Protocol):
    """Two samples of n records each as units, records or groups of them: first those of the one, then the other's."""

    def __len__(self) -> int: ...

    def distance(self, x: np.ndarray, y: np.ndarray) -> float:
        """Return the Frechet distance between the units at ``x`` and those at ``y``."""
        ...

    def potentials(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the derivative of the distance in the direction of each record of ``x``, but for a constant.

        That is |a|^2 - a^T T a + 2 a^T (m_x - m_y) with a the record less the mean m_x and T the optimal
        transport map between the fitted normal laws. Large samples show some of their records.
        """
        ...


def subsets(blocks: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[Subsets]:
    """Return both samples in the form in which distances are soonest found, with the same units in all blocks.

    Args:
        blocks: Two samples of shape (n, d) each, of the same records; d may differ between blocks.
    """
    few = all(len(x) ** 2 < 2 * x.shape[1] ** 2 for x, _ in blocks)
    return [Records.of(x, y) if few else Groups.of(x, y) for x, y in blocks]


@dataclass(frozen=True)
class Records:
    """Samples of few records and many features; a unit is a record, and a distance costs O(n^3).

    Attributes:
        products: Inner products of all records, of shape (2 n, 2 n).
    """

    products: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray) -> Records:
        """Take two samples of shape (n, d)."""
        both = np.concatenate([x, y])
        both = both - both.mean(axis=0)
        return cls(both @ both.T)

    def __len__(self) -> int:
        return len(self.products)

    def distance(self, x: np.ndarray, y: np.ndarray) -> float:
        """See :class:`Subsets`."""
        n, m = len(x), len(y)
        sides = np.zeros((len(self), 2))
        sides[x, 0] = 1 / n
        sides[y, 1] = 1 / m
        means = sides.T @ self.products @ sides
        gap = means[0, 0] + means[1, 1] - 2 * means[0, 1]
        own, other = (
            (self.products[side, side].sum() - len(side) * mean) / (len(side) - 1)
            for side, mean in ((x, means[0, 0]), (y, means[1, 1]))
        )
        cross = self._cross(x, y)
        nuclear = _root_sum(np.linalg.eigvalsh(cross @ cross.T)) / np.sqrt((n - 1) * (m - 1))
        return float(gap + own + other - 2 * nuclear)

    def potentials(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """See :class:`Subsets`."""
        left, singular, _ = np.linalg.svd(self._cross(x, y), full_matrices=False)
        moved = (left**2 * singular).sum(axis=1) * np.sqrt((len(x) - 1) / (len(y) - 1))
        to_own = self.products[np.ix_(x, x)].mean(axis=1)
        to_other = self.products[np.ix_(x, y)].mean(axis=1)
        return self.products[x, x] - 2 * to_own - moved + 2 * (to_own - to_other)

    def _cross(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return inner products of centred records of ``x`` with those of ``y``."""
        cross = self.products[np.ix_(x, y)]
        return cross - cross.mean(axis=1)[:, None] - cross.mean(axis=0) + cross.mean()


@dataclass(frozen=True)
class Groups:
    """Samples of many records; a unit is a group of as many records, and a distance costs O(d^3).

    Attributes:
        size: Records of a group.
        sums: Of shape (groups, d), about the mean of both samples.
        products: Sums of outer products, of shape (groups, d, d).
        shown: Some records of each group, of shape (groups, k, d).
    """

    size: int
    sums: np.ndarray
    products: np.ndarray
    shown: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray) -> Groups:
        """Deal two samples of shape (n, d) to groups in their order; a few records that fill none are left out."""
        size = max(len(x) // _GROUPS, 1)
        groups = len(x) // size
        centre = (x.mean(axis=0) + y.mean(axis=0)) / 2  # products of large means would drown the variances
        members = [
            side[start : start + size] - centre for side in (x, y) for start in range(0, groups * size, size)
        ]
        return cls(
            size,
            np.stack([group.sum(axis=0) for group in members]),
            np.stack([group.T @ group for group in members]),
            np.stack([group[: -(-_SHOWN // groups)] for group in members]),
        )

    def __len__(self) -> int:
        return len(self.sums)

    def distance(self, x: np.ndarray, y: np.ndarray) -> float:
        """See :class:`Subsets`."""
        (mean, own), (other_mean, other) = self._moments(x), self._moments(y)
        gap = mean - other_mean
        return float(gap @ gap + np.trace(own) + np.trace(other) - 2 * _root_trace(_factor(own), other))

    def potentials(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """See :class:`Subsets`."""
        (mean, own), (other_mean, other) = self._moments(x), self._moments(y)
        values, vectors = np.linalg.eigh(own)
        kept = values > _RANK_TOLERANCE * max(values[-1], 0)
        roots, basis = np.sqrt(values[kept]), vectors[:, kept]
        inner = _root(roots[:, None] * (basis.T @ other @ basis) * roots)
        centred = np.concatenate(self.shown[x]) - mean
        whitened = centred @ (basis / roots)
        moved = ((whitened @ inner) * whitened).sum(axis=1)
        return (centred**2).sum(axis=1) - moved + 2 * centred @ (mean - other_mean)

    def _moments(self, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and unbiased covariance of the records of some groups."""
        n = self.size * len(groups)
        weights = np.zeros(len(self))
        weights[groups] = 1
        mean = weights @ self.sums / n
        products = (weights @ self.products.reshape(len(self), -1)).reshape(self.products.shape[1:])
        return mean, (products - n * np.outer(mean, mean)) / (n - 1)


def _factor(matrix: np.ndarray) -> np.ndarray:
    """Return F with F F^T the matrix; any such F gives the same distance, and this one is soon found."""
    try:
        return np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return _root(matrix)


def _root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def _root_trace(factor: np.ndarray, matrix: np.ndarray) -> float:
    """Return tr (F^T M F)^1/2."""
    return _root_sum(np.linalg.eigvalsh(factor.T @ matrix @ factor))


def _root_sum(eigenvalues: np.ndarray) -> float:
    """Return the sum of the roots of eigenvalues in ascending order, less those that are rounding noise."""
    noise = len(eigenvalues) * np.finfo(float).eps * eigenvalues[-1]
    return float(np.sqrt(eigenvalues[eigenvalues > noise]).sum())
