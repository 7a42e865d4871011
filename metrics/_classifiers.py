"""Classifiers that tell two samples apart: one that is smooth, one that is not."""

from __future__ import annotations

import numpy as np

_FAR = 4.0
"""Further out than so many standard deviations is far out, and how far matters no more to a product."""

_DIMENSIONS = 40
"""Beyond so many dimensions products are taken of leading components: there would be too many of them."""

_TREES = {
    # Small trees of few records a leaf, each split among a random third of the features: at 100 to 200
    # records a side these found more than the defaults, which are meant for 10,000.
    "max_iter": 60,
    "max_leaf_nodes": 8,
    "min_samples_leaf": 10,
    "max_features": 0.3,
    "l2_regularization": 1.0,
    "early_stopping": False,
}


def with_products(points: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return standardised coordinates, their squares and their pairwise products, with no label looked at.

    Coordinates and products are weighted such that both have the same variance in total. Products of a
    hundred coordinates would otherwise drown what these say themselves.

    Args:
        points: Shape (n, d).
        scale: Real records that set centre and unit of the coordinates, of shape (m, d).

    Returns:
        Array of shape (n, at most 860), centred.
    """
    spread = scale.std(axis=0)
    points = (points - scale.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    points = np.clip(points, -_FAR, _FAR)
    if points.shape[1] > _DIMENSIONS:
        centred = points - points.mean(axis=0)
        _, directions = np.linalg.eigh(centred.T @ centred)
        points = centred @ directions[:, ::-1][:, :_DIMENSIONS]
    first, second = np.triu_indices(points.shape[1])
    blocks = [_standardised(block) for block in (points, points[:, first] * points[:, second])]
    return np.concatenate([block / np.sqrt(max(block.shape[1], 1)) for block in blocks], axis=1)


def discriminant(known: np.ndarray, labels: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    """Return scores of a ridge-regularised linear discriminant, higher for the likelier label 1.

    The regression of the labels on the features has the direction of Fisher's discriminant (Hastie,
    Tibshirani, Friedman 2009, The Elements of Statistical Learning, exercise 4.2), and like logistic
    regression looks for one linear score; it has a closed form. The penalty is the total variance of the
    features, as in a prior under which these explain half of an answer; it fades as records grow in number.

    Args:
        known: Features to learn from, of shape (n, p).
        labels: 0 or 1, of shape (n,).
        fresh: Features to score, of shape (m, p).
    """
    centre = known.mean(axis=0)
    known, fresh, answers = known - centre, fresh - centre, labels - labels.mean()
    penalty = float((known**2).sum()) / len(known)
    if not penalty:
        return np.zeros(len(fresh))
    n, p = known.shape
    if p <= n:
        return np.asarray(fresh @ np.linalg.solve(known.T @ known + penalty * np.eye(p), known.T @ answers))
    return np.asarray(fresh @ (known.T @ np.linalg.solve(known @ known.T + penalty * np.eye(n), answers)))


def boosted_trees(known: np.ndarray, labels: np.ndarray, fresh: np.ndarray, seed: int) -> np.ndarray:
    """Return scores of gradient-boosted trees (Friedman 2001, Annals of Statistics 29), higher for label 1.

    Args:
        known: Features to learn from, of shape (n, p).
        labels: 0 or 1, of shape (n,).
        fresh: Features to score, of shape (m, p).
        seed: Seed of the features that a split may use.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(**_TREES, random_state=seed % 2**32)
    return np.asarray(model.fit(known, labels).decision_function(fresh))


def _standardised(points: np.ndarray) -> np.ndarray:
    spread = points.std(axis=0)
    varies = spread > 1e-9 * np.abs(points).max(axis=0, initial=0)
    return (points[:, varies] - points[:, varies].mean(axis=0)) / spread[varies]
