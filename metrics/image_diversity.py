"""How much synthetic volumes differ from each other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mmbench.api import VOLUME, Card, Evidence, Metric, NotMeasurable, Output, Score, Trial, param, stats

from ._foreground import foreground, other_grid, usable
from ._neighbours import capped
from ._scores import too_few, undefined
from ._ssim import Moments, StructuralSimilarity, coarsened, halvings

MIN_RECORDS = 4
_SHARE_OF_BODIES = 0.1  # of the reference; a voxel that is foreground in fewer is air or noise
_ROUNDING = 1e-9  # dissimilarity of copies
_METHOD = "delta method, variance of pairs clustered by subject"


@dataclass
class ImageDiversity(Metric):
    """Mean dissimilarity of pairs of synthetic volumes against that of pairs of real ones.

    Dissimilarity is 1 - SSIM. Volumes are first averaged down to the coarsest grid that holds SSIM's window,
    so that it speaks of anatomy: on the full grid noise around the mean body passes for diversity. A grid that
    cannot be halved once is refused for that reason. Only windows centred in a
    voxel that is foreground in at least a tenth of the reference count: in air all volumes are alike.

    With the ratio r of the two means the score is min(r, 1/r) without its bias: 1 for real diversity, 0 for
    copies of one volume, and less than 1 for volumes that differ too much as well. min(r, 1/r) itself is below 1
    whenever r is off by chance; the square of log r is therefore lessened by its variance, and where it was
    smaller the score is above 1. The detail ``ratio`` says on which side r lies, and ``near-duplicates`` is the
    share of synthetic pairs that are more alike than the most alike real pair looked at.

    Subjects stand on a ring in random order, each paired with the next few: every subject is in as many pairs,
    and volumes stream. The variance of the mean over pairs is Aronow, Samii and Assenova's for dyads, clustered
    by subject; that of log r is the sum of both relative variances. The interval of the score is a score interval of
    the square of log r.
    """

    max_records: int = param(500, "largest number of volumes of a sample that is used", minimum=50)
    pairs: int = param(1000, "pairs of volumes of a sample, about", minimum=10)

    card = Card(
        "Pairwise structural dissimilarity among synthetic volumes, relative to real ones.",
        "Wang, Bovik, Sheikh, Simoncelli 2004, Image Quality Assessment (IEEE Trans Image Process 13); as a "
        "measure of diversity, Odena, Olah, Shlens 2017 (ICML); interval: Aronow, Samii, Assenova 2015, "
        "Cluster-Robust Variance Estimation for Dyadic Data (Political Analysis 23)",
    )
    version = 3
    kind = "diversity"
    needs = VOLUME
    null = "noise"
    outputs = (
        Output(
            "image-diversity",
            "Image diversity",
            "How close the mean dissimilarity of two synthetic volumes is to that of two real ones, as the smaller "
            "over the larger.",
            "Whether the volumes look real, fine texture, which kinds of subjects are absent, a few duplicates, and "
            "copies of training volumes.",
            "higher",
            1.0,
            range=(0.0, math.inf),
        ),
    )

    def scores(self, trial: Trial) -> Iterable[Score]:
        if reason := too_few(trial, MIN_RECORDS) or other_grid(trial.reference, trial.synthetic):
            return undefined(self.outputs, reason)
        sides = (trial.reference, trial.synthetic)
        real, synthetic = (capped(len(side), self.max_records, trial.seed) for side in sides)
        geometry = trial.reference.cohort.images.geometry
        steps = halvings(geometry.shape, geometry.spacing)
        if not steps:
            return undefined(
                self.outputs, f"a grid of {geometry.shape} voxels is too coarse to average out noise"
            )
        try:
            similarity = _similarity_within_bodies(trial.reference, real, steps)
            pairs_real, pairs_synthetic = (
                self._dissimilarities(side, records, similarity, steps, trial.seed)
                for side, records in zip(sides, (real, synthetic), strict=True)
            )
        except NotMeasurable as error:
            return undefined(self.outputs, str(error))
        between_real, between_synthetic = mean_over_pairs(*pairs_real), mean_over_pairs(*pairs_synthetic)
        if between_real[0] <= _ROUNDING:
            return undefined(self.outputs, "the volumes of the reference are all alike")
        ratio, variance = _ratio(between_synthetic, between_real)
        duplicates = float((pairs_synthetic[1] < pairs_real[1].min()).mean())
        return [
            Score.of("image-diversity", _folded(ratio, variance)),
            Score.of("image-diversity", ratio, item="ratio"),
            Score("image-diversity", duplicates, item="near-duplicates"),
        ]

    def _dissimilarities(
        self,
        evidence: Evidence,
        records: np.ndarray,
        similarity: StructuralSimilarity,
        steps: Sequence[tuple[int, ...]],
        seed: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the places on the ring of each pair's subjects, shape (pairs, 2), and the dissimilarities."""
        n = len(records)
        reach = min(max(round(self.pairs / n), 1), (n - 1) // 2)
        ring = np.random.default_rng(seed).permutation(records)
        pairs, values = [], []
        recent: list[Moments] = []
        # The first volumes are read again to close the ring: no more than ``reach`` stand in memory.
        for place, volume in enumerate(usable(evidence, [*ring, *ring[:reach]])):
            here = similarity.moments(coarsened(volume, steps))
            for back, other in enumerate(reversed(recent), 1):
                if place - back < n:
                    pairs.append((place - back, place % n))
                    values.append(1 - similarity.similarity(other, here))
            recent = [*recent, here][-reach:]
        return np.array(pairs), np.array(values)


def mean_over_pairs(pairs: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Return the mean of a quantity of pairs, and its variance over draws of the subjects.

    Two pairs vary together where they share a subject. With residuals e of P pairs, and s_i their sum over the
    pairs of subject i, the sum of e e' over all such pairs of pairs, each with itself included, is
    sum(s_i^2) - sum(e^2); over P^2 it is the variance (Aronow, Samii, Assenova 2015), times n / (n - 1) for
    the mean that was estimated. It is taken to be no less than that of independent pairs, sum(e^2) / P^2.

    Args:
        pairs: Subjects of each pair, whole numbers of shape (pairs, 2).
        values: Quantity of each pair, shape (pairs,).
    """
    mean = values.mean()
    residuals = values - mean
    n = pairs.max() + 1
    of_subject = np.bincount(pairs[:, 0], residuals, n) + np.bincount(pairs[:, 1], residuals, n)
    alone = (residuals**2).sum()
    shared = ((of_subject**2).sum() - alone) * n / (n - 1)
    return float(mean), float(max(shared, alone) / len(values) ** 2)


def _similarity_within_bodies(
    reference: Evidence, records: np.ndarray, steps: Sequence[tuple[int, ...]]
) -> StructuralSimilarity:
    share, span = np.zeros(1), np.zeros(1)
    for volume in usable(reference, records):
        image = coarsened(volume, steps)
        share = share + foreground(image) / len(records)
        span = span + np.ptp(image, axis=(1, 2, 3)) / len(records)
    mask = np.asarray(share >= _SHARE_OF_BODIES)
    if not mask.any() or (span <= 0).any():
        raise NotMeasurable("the reference's volumes show no body at a common place")
    return StructuralSimilarity(mask, span)


def _ratio(above: tuple[float, float], below: tuple[float, float]) -> tuple[stats.Estimate, float]:
    """Return the ratio of two means, given with their variances, and the variance of its logarithm.

    Its interval is symmetric in the logarithm.
    """
    ratio = above[0] / below[0]
    if ratio <= _ROUNDING:
        return stats.Estimate(0.0), 0.0
    variance = above[1] / above[0] ** 2 + below[1] / below[0] ** 2
    spread = stats.Z95 * np.sqrt(variance)
    low, high = (float(ratio * np.exp(sign * spread)) for sign in (-1, 1))
    return stats.Estimate(ratio, low, high, _METHOD), float(variance)


def _folded(ratio: stats.Estimate, variance: float) -> stats.Estimate:
    """Return min(r, 1/r) of a ratio r, corrected for the variance of log r, with its interval.

    With v the variance of a normal log r, (log r)^2 - v estimates the square of its mean m without bias, with the
    variance 4 v m^2 + 2 v^2.
    """
    if not np.isfinite(ratio.low):
        return ratio
    square = float(np.log(ratio.value) ** 2 - variance)
    ends = stats.score_interval(square, 4 * variance, 2 * variance**2)
    value, high, low = (float(np.exp(-np.sign(x) * np.sqrt(abs(x)))) for x in (square, *ends))
    return stats.Estimate(value, low, high, ratio.method)
