"""Frechet distance between image features."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mmbench.api import VOLUME, Card, Metric, Output, Score, Trial, param, stats

from ._image_space import standardise
from ._neighbours import capped
from ._scores import no_features, too_few, undefined


@dataclass
class Frechet(Metric):
    """Frechet distance of image features, corrected by split halves and averaged over the extractor's blocks.

    The distance of two samples of finite size is biased upwards, and least so for a generator that varies too
    little: uncorrected it prefers such a generator to a perfect one. With halves X1, X2 of the real and
    Y1, Y2 of the synthetic features, the corrected value is the mean of the four F(Xi, Yj) less half of
    F(X1, X2) + F(Y1, Y2). It is 0 in expectation for equal laws, may be negative, and underestimates large
    distances where there are fewer records than features. The detail ``plug-in`` is the uncorrected distance.
    Features are standardised on the reference, so that its value does not depend on their units.
    """

    splits: int = param(4, "random splits into halves that are averaged", minimum=1)
    max_records: int = param(2000, "largest number of records of a sample that is used", minimum=50)
    repeats: int = param(20, "halves drawn for the interval", minimum=10)

    card = Card(
        "Frechet distance of image features, corrected by split halves.",
        "Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter 2017, GANs Trained by a Two Time-Scale Update Rule "
        "Converge to a Local Nash Equilibrium (NeurIPS); on its bias, Chong, Forsyth 2020 (CVPR); for the "
        "form used where records are few, Mathiasen, Hvilshoj 2020 (arXiv:2009.14075)",
    )
    version = 1
    kind = "fidelity"
    needs = VOLUME
    null = "noise"
    outputs = (
        Output(
            "frechet-distance",
            "Frechet distance",
            "Squared distance of normal laws fitted to real and synthetic image features, beyond that between "
            "two real samples.",
            "Anything but mean and covariance of the features, and memorised volumes.",
            "lower",
            0.0,
        ),
    )

    def scores(self, trial: Trial) -> Iterable[Score]:
        sides = (trial.reference, trial.synthetic)
        if reason := no_features(*sides) or too_few(trial, 16):
            return undefined(self.outputs, reason)
        real, synthetic = (
            np.asarray(side.features)[capped(len(side), self.max_records, trial.seed)] for side in sides
        )
        blocks = [
            (standardise(real[:, b], real[:, b]), standardise(synthetic[:, b], real[:, b]))
            for b in range(real.shape[1])
        ]
        blocks = [(x, y) for x, y in blocks if x.shape[1]]
        if not blocks:
            return undefined(self.outputs, "no image feature varies in the reference")

        def corrected(rows: np.ndarray, others: np.ndarray) -> float:
            rng = np.random.default_rng(trial.seed)
            halves = [
                (*np.array_split(rng.permutation(rows), 2), *np.array_split(rng.permutation(others), 2))
                for _ in range(self.splits)
            ]
            return float(np.mean([_corrected(x, y, half) for x, y in blocks for half in halves]))

        sizes = (len(real), len(synthetic))
        estimate = stats.half_subsampling(corrected, sizes, trial.seed, self.repeats)
        plug_in = np.mean([frechet_distance(x, y) for x, y in blocks])
        return [
            Score.of("frechet-distance", estimate),
            Score("frechet-distance", float(plug_in), item="plug-in"),
        ]


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
    cross = _cross_by_records(a, b) if len(a) * len(b) < a.shape[1] ** 2 else _cross_by_features(a, b)
    gap = x.mean(axis=0) - y.mean(axis=0)
    return float(gap @ gap + (a**2).sum() + (b**2).sum() - 2 * cross)


def _cross_by_records(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.svd(a @ b.T, compute_uv=False).sum())


def _cross_by_features(a: np.ndarray, b: np.ndarray) -> float:
    values, vectors = np.linalg.eigh(a.T @ a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    return float(np.sqrt(np.maximum(np.linalg.eigvalsh(root @ (b.T @ b) @ root), 0)).sum())


def _corrected(x: np.ndarray, y: np.ndarray, half: tuple[np.ndarray, ...]) -> float:
    x1, x2, y1, y2 = x[half[0]], x[half[1]], y[half[2]], y[half[3]]
    across = np.mean([frechet_distance(a, b) for a in (x1, x2) for b in (y1, y2)])
    return float(across - (frechet_distance(x1, x2) + frechet_distance(y1, y2)) / 2)
