"""Which deviation explains synthetic pairs best: broken pairs, other scatter, another dependence, or none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln, logsumexp

from ._conditional import Ridge

FOLDS = 5
MOST = 1500
"""Records that are compared pair by pair."""
_FREEDOMS = (3.0, 4.0, 5.0, 6.0, 8.0, 12.0, 20.0, 40.0, np.inf)


@dataclass(frozen=True)
class Explanation:
    """How well one kind of deviation predicts records that it was not fitted to.

    Attributes:
        name: ``none``, ``partially paired``, ``scatter`` or ``dependence``.
        logs: Log density of each record's quantities given its row, shape (n,).
    """

    name: str
    logs: np.ndarray


def explanations(
    expected: np.ndarray, quantities: np.ndarray, effects: np.ndarray, scatter: Scatter, seed: int
) -> tuple[list[Explanation], float]:
    """Return every explanation with its cross-validated log densities, and the share of broken pairs.

    * none: quantities scatter about what real people with the row have, as those of real people do;
    * partially paired: a share of records does so about what another record's row gives;
    * scatter: each quantity's scatter is some factor wider or narrower;
    * dependence: quantities also depend on the row in another way, and are shifted.

    Args:
        expected: Quantities that the real regression gives for the synthetic rows, shape (n, q).
        quantities: Synthetic quantities, shape (n, q).
        effects: Standardised effects of the rows, shape (n, e).
        scatter: Law of real residuals.
        seed: Seed of folds.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(expected))[:MOST]
    expected, quantities, effects = expected[order], quantities[order], effects[order]
    n, _ = quantities.shape
    residual = quantities - expected
    fold = np.arange(n) % FOLDS
    own = scatter.logs(residual)
    others = scatter.others(expected, quantities)
    logs = {name: np.empty(n) for name in ("partially paired", "scatter", "dependence")}
    for k in range(FOLDS):
        train, test = fold != k, fold == k
        share = broken_share(own[train], others[train])
        logs["partially paired"][test] = _mixed(own[test], others[test], share)
        factor = np.sqrt((residual[train] ** 2).mean(axis=0)) / scatter.deviations
        logs["scatter"][test] = scatter.scaled(factor).logs(residual[test])
        x = np.column_stack([expected, effects])
        scale = np.maximum(x[train].std(axis=0), 1e-9)
        ridge = Ridge.fit(x[train] / scale, residual[train])
        left = residual[test] - ridge.predict(x[test] / scale)
        factor = np.sqrt((ridge.residuals**2).mean(axis=0)) / scatter.deviations
        logs["dependence"][test] = scatter.scaled(factor).logs(left)
    found = [Explanation("none", own), *(Explanation(name, values) for name, values in logs.items())]
    return found, broken_share(own, others)


def broken_share(own: np.ndarray, others: np.ndarray) -> float:
    """Return the share of broken pairs of largest likelihood, in [0, 1].

    Args:
        own: Log density of each record's quantities given its own row.
        others: That given another record's row.
    """
    share = 0.1
    for _ in range(200):
        weight = np.exp(np.log(max(share, 1e-12)) + others - _mixed(own, others, share))
        share = float(weight.mean())
    return share


def best(found: list[Explanation]) -> Explanation:
    """Return the simplest explanation that predicts as well as the best one, but for one standard error."""
    sums = [one.logs.sum() for one in found]
    top = found[int(np.argmax(sums))]
    for one in found:
        gap = top.logs - one.logs
        if gap.sum() <= np.sqrt(len(gap)) * gap.std(ddof=1):
            return one
    return top


def _mixed(own: np.ndarray, others: np.ndarray, share: float) -> np.ndarray:
    share = min(max(share, 1e-12), 1 - 1e-12)
    return np.logaddexp(np.log1p(-share) + own, np.log(share) + others)


@dataclass(frozen=True)
class Scatter:
    """Law of residuals: normal, or Student's t where those of real people have heavier tails.

    Were it normal whatever they are, far residuals of real pairs would pass for broken pairs.

    Attributes:
        covariance: Shape (q, q).
        freedom: Degrees of freedom, infinite for the normal law.
    """

    covariance: np.ndarray
    freedom: float

    @classmethod
    def fit(cls, residuals: np.ndarray) -> Scatter:
        """Choose the tails of largest likelihood.

        Args:
            residuals: Of real records, shape (n, q).
        """
        covariance = np.atleast_2d(np.cov(residuals.T))
        laws = [cls(covariance, freedom) for freedom in _FREEDOMS]
        return max(laws, key=lambda law: law.logs(residuals).sum())

    def scaled(self, factor: np.ndarray) -> Scatter:
        """Return the law of residuals whose components are multiplied by factors, shape (q,)."""
        return Scatter(self.covariance * np.outer(factor, factor), self.freedom)

    @property
    def deviations(self) -> np.ndarray:
        """Standard deviations, shape (q,)."""
        return np.sqrt(np.diag(self.covariance))

    def logs(self, residuals: np.ndarray) -> np.ndarray:
        """Return the log density of each residual, shape (n,)."""
        white = np.linalg.solve(np.linalg.cholesky(self.covariance), residuals.T)
        return self._density((white**2).sum(axis=0))

    def others(self, expected: np.ndarray, quantities: np.ndarray) -> np.ndarray:
        """Return the log density of each record's quantities given the row of a random record, shape (n,)."""
        root = np.linalg.cholesky(self.covariance)
        a, b = np.linalg.solve(root, expected.T).T, np.linalg.solve(root, quantities.T).T
        square = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
        return np.asarray(logsumexp(self._density(np.maximum(square, 0)), axis=0) - np.log(len(expected)))

    def _density(self, square: np.ndarray) -> np.ndarray:
        """Return the log density at squared Mahalanobis distances, the covariance being that of the law."""
        q, v = len(self.covariance), self.freedom
        half = np.linalg.slogdet(self.covariance)[1] / 2
        if not np.isfinite(v):
            return np.asarray(-square / 2 - half - q * np.log(2 * np.pi) / 2)
        constant = gammaln((v + q) / 2) - gammaln(v / 2) - q * np.log((v - 2) * np.pi) / 2 - half
        return np.asarray(constant - (v + q) / 2 * np.log1p(square / (v - 2)))
