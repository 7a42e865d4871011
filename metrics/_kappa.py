"""The coherence index: which share of synthetic pairs belongs together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ._conditional import Ridge

CLIP = 8.0
"""Log-odds beyond which one pair counts no more."""
_BLOCK = 512
_PENALTY = 0.05  # of the weights that stand for the regression, whose own is chosen by cross-validation


@dataclass(frozen=True)
class Scorer:
    """Log-odds that quantities belong to a row: s(T, C) = log p(C | T) - log p(C), both normal.

    Attributes:
        within: Whitens residuals, shape (q, q).
        overall: Whitens quantities about their mean, shape (q, q).
        constant: Difference of the log determinants.
    """

    within: np.ndarray
    overall: np.ndarray
    constant: float

    @classmethod
    def fit(cls, residuals: np.ndarray, quantities: np.ndarray) -> Scorer:
        """Learn both covariances from real records.

        Args:
            residuals: Quantities less their expectation given the row, shape (n, q).
            quantities: Quantities themselves, standardised, shape (n, q).
        """
        within, overall = whitening(residuals), whitening(quantities)
        constant = np.linalg.slogdet(within)[1] - np.linalg.slogdet(overall)[1]
        return cls(within, overall, float(constant))

    def pairs(self, expected: np.ndarray, quantities: np.ndarray) -> np.ndarray:
        """Return the score of every row with every volume, shape (n, m), within plus and minus ``CLIP``."""
        a, b = expected @ self.within, quantities @ self.within
        square = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
        own = ((quantities @ self.overall) ** 2).sum(axis=1)
        return np.clip(self.constant - square / 2 + own / 2, -CLIP, CLIP)

    def matched(self, expected: np.ndarray, quantities: np.ndarray) -> np.ndarray:
        """Return the score of each row with its own volume, shape (n,)."""
        square = (((quantities - expected) @ self.within) ** 2).sum(axis=1)
        own = ((quantities @ self.overall) ** 2).sum(axis=1)
        return np.clip(self.constant - square / 2 + own / 2, -CLIP, CLIP)

    def mismatched(self, expected: np.ndarray, quantities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean score of each row over all volumes and of each volume over all rows, shapes (n,) each."""
        n = len(expected)
        rows, volumes = np.empty(n), np.zeros(n)
        for start in range(0, n, _BLOCK):
            block = self.pairs(expected[start : start + _BLOCK], quantities)
            rows[start : start + _BLOCK] = block.mean(axis=1)
            volumes += block.sum(axis=0) / n
        return rows, volumes


def whitening(values: np.ndarray, least: float = 0.02) -> np.ndarray:
    """Return the symmetric inverse root of a covariance, shape (q, q).

    Directions in which values vary less than ``least`` of the mean variance are taken to vary as much as that:
    what is left there is rounding of quantities that are sums of each other.
    """
    covariance = np.atleast_2d(np.cov(values.T))
    eigenvalues, vectors = np.linalg.eigh(covariance)
    floor = least * max(float(eigenvalues.mean()), 1e-12)
    return np.asarray((vectors / np.sqrt(np.maximum(eigenvalues, floor))) @ vectors.T)


@dataclass(frozen=True)
class Index:
    """The coherence index with what it varies by.

    Attributes:
        value: 1 for real pairs, 0 for broken ones.
        synthetic: Influence of each synthetic record, shape (n,).
        real: Influence of each reference record, shape (m,).
        separation: Real matched less mismatched score in nats: what there is to see.
    """

    value: float
    synthetic: np.ndarray
    real: np.ndarray
    separation: float

    @property
    def error(self) -> float:
        """Standard error."""
        return standard_error(self.synthetic, self.real)


def standard_error(*influences: np.ndarray) -> float:
    """Return the standard error of a statistic from the influence of each record of each sample."""
    return float(np.sqrt(sum(np.var(influence, ddof=1) / len(influence) for influence in influences)))


@dataclass(frozen=True)
class Scores:
    """Scores of a synthetic sample, and what real pairs would score on its rows.

    Attributes:
        matched: Score of each synthetic pair, shape (n,).
        by_row: Mean score of each synthetic row over all synthetic volumes, shape (n,).
        by_volume: Mean score of each synthetic volume over all rows, shape (n,).
        due: What real pairs with the synthetic rows would score, shape (n,).
        effects: Effects of the synthetic rows, shape (n, e).
        left: Leave-one-out residuals of the regression that gives ``due``, shape (m,).
        real_effects: Effects of the reference rows, shape (m, e).
    """

    matched: np.ndarray
    by_row: np.ndarray
    by_volume: np.ndarray
    due: np.ndarray
    effects: np.ndarray
    left: np.ndarray
    real_effects: np.ndarray

    @classmethod
    def of(
        cls,
        scorer: Scorer,
        synthetic: tuple[np.ndarray, np.ndarray],
        real: tuple[np.ndarray, np.ndarray],
        effects: np.ndarray,
        real_effects: np.ndarray,
    ) -> Scores:
        """Score two samples, each given as expected and measured quantities.

        What real pairs would score is a regression of the reference's scores on its rows, so that another mix of
        people is no incoherence.
        """
        ridge = Ridge.fit(real_effects, scorer.matched(*real)[:, None])
        return cls(
            scorer.matched(*synthetic),
            *scorer.mismatched(*synthetic),
            ridge.predict(effects)[:, 0],
            effects,
            ridge.residuals[:, 0],
            real_effects,
        )

    def index(self, chosen: np.ndarray | None = None) -> Index:
        """Return kappa = (mean matched - mean mismatched) / (mean due - mean mismatched).

        Args:
            chosen: Synthetic records that it is about, boolean of shape (n,); all by default. Only their rows are
                resampled then: the volumes of all are what they are broken with.
        """
        take = np.ones(len(self.matched), bool) if chosen is None else chosen
        matched, due = self.matched[take], self.due[take]
        a, b, c = float(matched.mean()), float(self.by_row[take].mean()), float(due.mean())
        broken = self.by_row + self.by_volume - 2 * b if chosen is None else self.by_row[take] - b
        value = (a - b) / (c - b)
        synthetic = ((matched - a) - broken - value * ((due - c) - broken)) / (c - b)
        # The mean of what is due is a weighted mean of the reference's scores.
        x = self.real_effects - self.real_effects.mean(axis=0)
        gap = self.effects[take].mean(axis=0) - self.real_effects.mean(axis=0)
        gram = x.T @ x + _PENALTY * len(x) * np.eye(x.shape[1])
        weight = 1 + len(x) * x @ np.linalg.solve(gram, gap)
        return Index(value, synthetic, -value / (c - b) * weight * self.left, c - b)
