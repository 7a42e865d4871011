"""How two samples fill the same space, by balls that reach to each record's nearest neighbours."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.special import betaln, gammaln

from ._neighbours import counts_within, nearest, reaches

PRECISION_NEIGHBOURS = 3  # Kynkaanniemi et al. 2019, section 2

_STRICTLY = 1 - 1e-10  # a radius so much shorter does not reach what lies on its surface but for rounding


class Lists(NamedTuple):
    """Distances to the nearest neighbours, nearest first, each of shape (records, neighbours)."""

    within_real: np.ndarray
    to_synthetic: np.ndarray
    within_synthetic: np.ndarray

    @classmethod
    def of(cls, real: np.ndarray, synthetic: np.ndarray, k: int) -> Lists:
        """Find the nearest neighbours that :func:`fill` needs."""
        most = max(k, PRECISION_NEIGHBOURS)
        return cls(
            nearest(real, real, most, same=True).distances,
            nearest(real, synthetic, k).distances,
            nearest(synthetic, synthetic, PRECISION_NEIGHBOURS, same=True).distances,
        )


class Fill(NamedTuple):
    """How a synthetic sample fills the space of a real one.

    ``density`` and ``clipped_coverage`` are calibrated to an expectation of about 1 for samples drawn alike
    and may lie above by chance.
    """

    density: float
    """Clipped Density (Salvy et al. 2026) before its cut at 1; NaN where no real record lies in another's ball."""
    coverage: float
    """Naeem et al. 2020, equation 7, at equal sizes."""
    clipped_coverage: float
    """Clipped Coverage (Salvy et al. 2026) before its cut at 1, at equal sizes."""
    precision: float
    """Kynkaanniemi et al. 2019, equation 2: share of synthetic records in the ball of a real one."""
    recall: float
    """The same of real records in the ball of a synthetic one."""
    unclipped_density: float
    """Density of Naeem et al. 2020, equation 6."""


def fill(real: np.ndarray, synthetic: np.ndarray, k: int, lists: Lists | None = None) -> Fill:
    """Return how ``synthetic`` fills the space of ``real``.

    Balls include their surface, so that ties count. Where the samples are not equally large, coverage is what
    a random part of the larger, as large as the smaller, has in expectation: otherwise coverage would rise
    with the number of synthetic records (Naeem et al. 2020, equation 8). The others need no such thing: their
    balls come from one sample, and they are means over the other.

    Args:
        real: Points of shape (n, d), n > k.
        synthetic: Points of shape (m, d), m > k.
        k: Neighbours that a ball of density and coverage holds.
        lists: Nearest neighbours, where they are known already.
    """
    lists = lists or Lists.of(real, synthetic, k)
    radii = lists.within_real[:, k - 1]
    clipped = np.minimum(radii, np.median(radii))
    small = lists.within_real[:, PRECISION_NEIGHBOURS - 1]
    counts = counts_within(synthetic, real, np.column_stack([clipped, radii, small]))
    # A fresh real record lies not in its own ball either.
    own = counts_within(real, real, clipped).around - 1
    scale = np.minimum(own / k, 1).mean()
    covered = covering_chances(real, synthetic, lists.within_real[:, :k], lists.to_synthetic[:, :k])
    others = counts_within(real, synthetic, lists.within_synthetic[:, PRECISION_NEIGHBOURS - 1])
    return Fill(
        density=float(np.minimum(counts.around[:, 0] / k, 1).mean() / scale) if scale else float("nan"),
        coverage=float(covered[:, 0].mean()),
        clipped_coverage=calibrated_coverage(float(covered.mean()), min(len(real), len(synthetic)), k),
        precision=float((counts.around[:, 2] > 0).mean()),
        recall=float((others.around > 0).mean()),
        unclipped_density=float(counts.around[:, 1].mean() / k),
    )


def covering_chances(
    real: np.ndarray, synthetic: np.ndarray, within_real: np.ndarray, to_synthetic: np.ndarray
) -> np.ndarray:
    """Return the chance that the ball of each real record holds at least 1, ..., k synthetic ones.

    The ball reaches to the k-th nearest other real record. Between samples of equal sizes each chance is 0 or
    1; otherwise it is that over all parts of the larger sample that are as large as the smaller.

    Args:
        real: Points of shape (n, d), n > k.
        synthetic: Points of shape (m, d), m > k.
        within_real: Distances of each real record to its k nearest others, in order, shape (n, k).
        to_synthetic: Distances to its k nearest synthetic ones, in order, shape (n, k).

    Returns:
        Array of shape (n, k).
    """
    n, m, k = len(real), len(synthetic), within_real.shape[1]
    if m == n:
        return reaches(within_real[:, -1:], to_synthetic).astype(float)
    if m > n:
        members = counts_within(synthetic, real, within_real[:, -1]).inside
        return 1 - np.cumsum(_hypergeometric(members, m, n, k), axis=1)
    # The t-th nearest synthetic record lies within the k-th nearest of m - 1 other real ones where fewer than
    # k of these are nearer.
    nearer = counts_within(real, real, to_synthetic * _STRICTLY).inside - 1
    nearer[to_synthetic == 0] = 0
    return np.stack([_hypergeometric(column, n - 1, m - 1, k).sum(axis=1) for column in nearer.T], axis=1)


def _hypergeometric(marked: np.ndarray, population: int, draws: int, k: int) -> np.ndarray:
    """Return the chance of 0, ..., k - 1 marked records in ``draws``, of shape (len(marked), k)."""
    t = np.arange(k)
    marked = marked[:, None]
    unmarked = population - marked
    with np.errstate(invalid="ignore"):
        logs = _log_choose(marked, t) + _log_choose(unmarked, draws - t) - _log_choose(population, draws)
    return np.where((t <= marked) & (draws - t <= unmarked), np.exp(logs), 0.0)


def _log_choose(n: np.ndarray | int, k: np.ndarray | int) -> np.ndarray:
    return gammaln(np.add(n, 1)) - gammaln(np.add(k, 1)) - gammaln(np.subtract(n, k) + 1)


def calibrated_coverage(raw: float, n: int, k: int) -> float:
    """Return the share of n synthetic records drawn like n real ones that has this clipped coverage.

    The mass of a ball that reaches to the k-th nearest of n - 1 other real records follows Beta(k, n - k),
    whatever the law (Salvy et al. 2026). The number of g good synthetic records in it is therefore
    beta-binomial, which gives the expectation of the clipped count over k; this is its inverse in g.

    Args:
        raw: Mean number of synthetic records in a real record's ball, at most k each, over k.
        n: Number of records on each side.
        k: Neighbours that a ball holds.

    Returns:
        From 0 to 1; more, on the tangent, where ``raw`` exceeds its expectation at n good records, so that
        chance errs alike on either side of 1.
    """
    expected = _expected_coverage(n, k)
    if raw > expected[-1]:
        return 1 + (raw - float(expected[-1])) / (n * float(expected[-1] - expected[-2]))
    return float(np.interp(raw, expected, np.linspace(0, 1, n + 1)))


@lru_cache(maxsize=16)
def _expected_coverage(n: int, k: int) -> np.ndarray:
    """Return the expected clipped coverage with 0, ..., n good synthetic records."""
    good = np.arange(n + 1)[:, None]
    t = np.arange(k)
    with np.errstate(invalid="ignore"):
        logs = _log_choose(good, t) + betaln(t + k, good - t + n - k) - betaln(k, n - k)
    chances = np.where(t <= good, np.exp(logs), 0.0)
    return np.asarray(1 - (chances * (1 - t / k)).sum(axis=1))
