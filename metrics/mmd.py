"""Maximum mean discrepancy between real and synthetic records, for rows and for image features."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mmbench.api import TABLE, VOLUME, Card, Metric, Output, Score, Trial, param

from ._mmd import (
    TESTED_BANDWIDTHS,
    Kernel,
    averaged,
    cubic_kernel,
    distance_kernel,
    equality_p,
    gaussian_kernel,
    median_distance,
    rbf_kernel,
    squared_mmd,
)
from ._neighbours import capped
from ._scores import MIN_RECORDS, no_features, no_table, too_few, undefined
from ._spaces import image_blocks, table_points

_GRETTON = "Gretton, Borgwardt, Rasch, Schoelkopf, Smola 2012, A Kernel Two-Sample Test (JMLR 13), lemma 6"
_GAUSSIAN_RANGE = (-2 / (MIN_RECORDS - 1), 2.0)  # copies of the reference are 2 (1 - mean k) / n below 0
_TESTED = 500  # records of a sample; every relabelling needs the kernel between all


@dataclass
class ImageMMD(Metric):
    """Unbiased squared maximum mean discrepancy of image features, with two kernels.

    ``image-mmd`` uses the Gaussian kernel exp(-|x - y|^2 / (2 sigma^2)) with sigma 1/2, 1 and 2 times the
    median distance between reference records, averaged. It lies between 0 and 2 but for sampling error, and
    is 0 for equal laws only. ``kid`` uses the kernel (x.y / d + 1)^3 of the kernel inception distance, has no
    upper end, and compares moments up to the third.

    Kernels are averaged over the extractor's blocks, which makes one kernel of them. Features are
    standardised, so that values do not depend on their units; published values on raw features of another
    network are on another scale. The training records set the scale: the reference's own would fit it better
    than it fits fresh real records, and put them at more than 0 where there are few.

    Both estimates are 0 in expectation for equal laws at any number of records, may be negative, and fall
    below 0 for copies of the reference itself. A single record far out moves ``image-mmd`` by no more than
    its share, but can dominate ``kid``.

    The detail ``p`` of ``image-mmd`` is the p-value of equal laws by relabelling at most 500 records of either
    sample: of Gaussian kernels of five bandwidths, 1/4 to 4 times the median, the one counts that sees most.
    Samples of more than ``max_records`` are represented by so many, drawn at random: the standard deviation
    of the estimate is then some thousandths of its range.
    """

    max_records: int = param(10_000, "largest number of records of a sample that is used", minimum=50)
    permutations: int = param(199, "relabellings of at most 500 records of a sample, for p", minimum=19)

    card = Card(
        "Unbiased maximum mean discrepancy of image features with Gaussian and cubic kernels.",
        f"{_GRETTON}; Binkowski, Sutherland, Arbel, Gretton 2018, Demystifying MMD GANs (ICLR), for the "
        "kernel inception distance; Sutherland, Deka 2019 (arXiv:1906.02104) on the variance",
    )
    version = 2
    kind = "fidelity"
    needs = VOLUME
    null = "noise"
    outputs = (
        Output(
            "image-mmd",
            "Image MMD",
            "Squared distance of the mean embeddings of real and synthetic image features under a Gaussian "
            "kernel, from 0 to 2.",
            "What the feature extractor does not see, differences much finer than half the median distance "
            "of two real records, and memorised volumes.",
            "lower",
            0.0,
            range=_GAUSSIAN_RANGE,
        ),
        Output(
            "kid",
            "Kernel inception distance",
            "Squared distance of the mean embeddings of real and synthetic standardised image features under "
            "a cubic polynomial kernel, which compares their first three moments.",
            "Differences in moments beyond the third, and memorised volumes.",
            "lower",
            0.0,
        ),
    )

    def scores(self, trial: Trial) -> Iterable[Score]:
        sides = (trial.reference, trial.synthetic, trial.train)
        if reason := no_features(*sides) or too_few(trial):
            return undefined(self.outputs, reason)
        blocks = image_blocks(trial)
        if not blocks:
            return undefined(self.outputs, "no image feature varies among the training records")
        ends = np.cumsum([0, *(block.train.shape[1] for block in blocks)])
        parts = [slice(start, end) for start, end in itertools.pairwise(ends)]
        x, y = (
            np.concatenate(side, axis=1)[capped(len(side[0]), self.max_records, trial.seed)]
            for side in ([b.reference for b in blocks], [b.synthetic for b in blocks])
        )
        sigmas = [median_distance(x[:, part], trial.seed) for part in parts]
        if not all(sigmas):
            return undefined(self.outputs, "the image features of all reference records are alike")
        gaussian = averaged([gaussian_kernel(sigma) for sigma in sigmas], parts)
        cubic = averaged([cubic_kernel] * len(parts), parts)
        tested = [averaged([rbf_kernel(f * sigma) for sigma in sigmas], parts) for f in TESTED_BANDWIDTHS]
        return [
            *_scores(self.outputs[0], x, y, gaussian, tested, self.permutations, trial.seed),
            *_scores(self.outputs[1], x, y, cubic),
        ]


@dataclass
class TableMMD(Metric):
    """Unbiased squared maximum mean discrepancy of table rows, in the rank and indicator space of the tables.

    ``table-mmd`` uses the Gaussian kernel of :class:`ImageMMD`, and the training rows set the scale here too.
    ``energy-distance`` uses the kernel -|x - y|, which needs no bandwidth, but reacts less to rows whose columns
    do not belong together or vary too little: where the squared distance is a mean over many columns, that
    kernel is nearly linear in it and then compares little but means.

    The detail ``p`` of ``table-mmd`` belongs to equal laws, as for images.
    """

    max_records: int = param(10_000, "largest number of records of a sample that is used", minimum=50)
    permutations: int = param(199, "relabellings of at most 500 records of a sample, for p", minimum=19)

    card = Card(
        "Unbiased maximum mean discrepancy of table rows with Gaussian kernels.",
        f"{_GRETTON}; Sutherland, Deka 2019 (arXiv:1906.02104) on the variance",
    )
    version = 2
    kind = "fidelity"
    needs = TABLE
    null = "columns"
    outputs = (
        Output(
            "table-mmd",
            "Table MMD",
            "Squared distance of the mean embeddings of real and synthetic rows under a Gaussian kernel, "
            "from 0 to 2.",
            "Differences much finer than half the median distance of two real rows, and copied rows.",
            "lower",
            0.0,
            range=_GAUSSIAN_RANGE,
        ),
        Output(
            "energy-distance",
            "Energy distance",
            "Twice the mean distance of a real and a synthetic row, less those of two real and of two synthetic "
            "rows; two random real rows lie about 1 apart.",
            "Much of rows whose columns do not belong together or vary too little, and copied rows.",
            "lower",
            0.0,
        ),
    )

    def scores(self, trial: Trial) -> Iterable[Score]:
        sides = (trial.reference, trial.synthetic, trial.train)
        if reason := no_table(*sides) or too_few(trial):
            return undefined(self.outputs, reason)
        points = table_points(trial)
        if not points.train.shape[1]:
            return undefined(self.outputs, "no column varies among the training records")
        x, y = (
            side[capped(len(side), self.max_records, trial.seed)]
            for side in (points.reference, points.synthetic)
        )
        sigma = median_distance(x, trial.seed)
        if not sigma:
            return undefined(self.outputs, "all reference rows are alike")
        tested = [rbf_kernel(factor * sigma) for factor in TESTED_BANDWIDTHS]
        return [
            *_scores(self.outputs[0], x, y, gaussian_kernel(sigma), tested, self.permutations, trial.seed),
            *_scores(self.outputs[1], x, y, distance_kernel),
        ]


def _scores(
    output: Output,
    x: np.ndarray,
    y: np.ndarray,
    kernel: Kernel,
    tested: Sequence[Kernel] = (),
    permutations: int = 0,
    seed: int = 0,
) -> list[Score]:
    """Return the estimate with its interval and, where there are kernels to test with, the p-value."""
    with np.errstate(over="ignore", invalid="ignore"):
        estimate = squared_mmd(x, y, kernel)
    if not np.isfinite([estimate.value, estimate.low, estimate.high]).all():
        return undefined([output], "the synthetic records lie too far out for the kernel to be computed")
    scores = [Score.of(output.name, estimate)]
    if tested:
        a, b = (side[capped(len(side), _TESTED, seed)] for side in (x, y))
        p = equality_p(a, b, tested, permutations, np.random.default_rng(seed))
        scores.append(Score(output.name, p, item="p"))
    return scores
