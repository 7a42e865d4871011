"""Tests that quantities follow from the row in the same way in two samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ._conditional import Ridge

FOLDS = 5
DRAWS = 4000
TRIM = 0.05
"""Records whose chance of being synthetic, given their row, is nearer to 0 or 1 than this say nothing."""


@dataclass(frozen=True)
class MaxTest:
    """A test of many means at once.

    Attributes:
        p: p-value of the largest studentised mean, in (0, 1].
        worst: Position of that mean.
        t: Studentised means, shape (k,).
    """

    p: float
    worst: int
    t: np.ndarray


def max_test(influences: list[np.ndarray], means: np.ndarray, seed: int) -> MaxTest:
    """Test that all of many means are zero, by their largest studentised one.

    Its law under the null is that of the largest of normal variables with the terms' own correlations
    (Gaussian multiplier bootstrap: Chernozhukov, Chetverikov, Kato 2013, Annals of Statistics 41).

    Args:
        influences: For each sample the influence of its records on every mean, shapes (n, k).
        means: The means, shape (k,).
        seed: Seed of the draws.
    """
    covariance = np.sum([np.cov(one.T).reshape(len(means), -1) / len(one) for one in influences], axis=0)
    errors = np.sqrt(np.diag(covariance))
    t = np.divide(means, errors, out=np.zeros(len(means)), where=errors > 1e-12)
    values, vectors = np.linalg.eigh(
        covariance / np.outer(np.maximum(errors, 1e-12), np.maximum(errors, 1e-12))
    )
    root = vectors * np.sqrt(np.maximum(values, 0))
    largest = np.abs(np.random.default_rng(seed).standard_normal((DRAWS, len(t))) @ root.T).max(axis=1)
    worst = int(np.abs(t).argmax())
    return MaxTest(float((1 + (largest >= abs(t[worst])).sum()) / (1 + DRAWS)), worst, t)


@dataclass(frozen=True)
class Conditional:
    """The conditional two-sample test.

    Attributes:
        test: Its p-value and studentised terms.
        trimmed: Share of records outside the overlap of the two samples' rows.
    """

    test: MaxTest
    trimmed: float


def conditional_two_sample(
    x: np.ndarray, effects: np.ndarray, quantities: np.ndarray, synthetic: np.ndarray, seed: int
) -> Conditional:
    """Test that the law of the quantities given the row is the same in both samples, whatever the rows' own laws.

    A conditional two-sample test is one of independence of the quantities and the sample's label given the row (Lee,
    Cha, Kim 2024, arXiv:2410.16636). The statistic is the generalised covariance measure (Shah, Peters 2020, Annals of
    Statistics 48), weighted by one and by every effect, of residuals, which sees means and slopes, and of their squares
    and products, which sees scatter and residual dependence. Regressions are cross-fitted: with two folds the size is
    twice the nominal one.

    Args:
        x: Regressors of all records of both samples, shape (n, p).
        effects: Those that weigh, shape (n, e).
        quantities: Shape (n, q).
        synthetic: Whether a record is synthetic, boolean of shape (n,).
        seed: Seed of folds and draws.
    """
    from sklearn.linear_model import LogisticRegression

    n, q = quantities.shape
    rng = np.random.default_rng(seed)
    fold = np.empty(n, int)
    for side in (synthetic, ~synthetic):
        fold[side] = rng.permutation(np.arange(side.sum()) % FOLDS)
    pairs = [(i, j) for i in range(q) for j in range(i, q)]
    residual, product = np.empty((n, q)), np.empty((n, len(pairs)))
    chance = np.empty(n)
    for k in range(FOLDS):
        train, test = fold != k, fold == k
        ridge = Ridge.fit(x[train], quantities[train])
        residual[test] = quantities[test] - ridge.predict(x[test])
        left = ridge.residuals
        second = Ridge.fit(x[train], np.column_stack([left[:, i] * left[:, j] for i, j in pairs]))
        product[test] = np.column_stack([residual[test, i] * residual[test, j] for i, j in pairs])
        product[test] -= second.predict(x[test])
        model = LogisticRegression(C=100 / train.sum(), max_iter=200).fit(x[train], synthetic[train])
        chance[test] = model.predict_proba(x[test])[:, 1]
    inside = (chance >= TRIM) & (chance <= 1 - TRIM)
    gap = (synthetic - chance)[:, None]
    weights = np.column_stack([np.ones(n), effects])
    terms = [gap * residual * weights[:, [k]] for k in range(weights.shape[1])]
    terms.append(gap * product)
    found = np.column_stack(terms)[inside]
    return Conditional(max_test([found], found.mean(axis=0), seed + 1), float(1 - inside.mean()))
