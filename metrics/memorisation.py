"""Whether synthetic records lie nearer to training records than to real ones that no generator saw."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mmbench.api import BOTH, TABLE, VOLUME, Card, Metric, Output, Score, Trial, param

from ._label_test import RealNeighbours, balanced_share, label_p, near_rate
from ._near_copies import Closeness, near_copy_p
from ._real_spaces import no_real_points, real_image_points, real_joint_points, real_table_points
from ._scores import too_few, undefined
from ._spaces import Points

_REFERENCE = (
    "The comparison with a holdout: Platzer, Reutterer 2021, Holdout-Based Empirical Assessment of "
    "Mixed-Type Synthetic Data (Front Big Data 4); exactness of the permutation test: Lehmann, Romano "
    "2005, Testing Statistical Hypotheses, section 15.2; the law of nearest distances: Facco, d'Errico, "
    "Rodriguez, Laio 2017, Estimating the intrinsic dimension of datasets by a minimal neighborhood "
    "information (Sci Rep 7); why distances alone give no privacy: Yao, Krco, Ganev, de Montjoye 2025, The DCR "
    "Delusion (arXiv:2505.01524)"
)
_PERMUTATIONS = "label permutations of the test"
_DIMENSIONS = "most principal components of the image features"
_BLIND = "Distance to the closest record, a detail too, is no measure of privacy."


@dataclass
class TableMemorisation(Metric):
    """Share of synthetic rows whose nearest real row is a training row, and a test for copies.

    With N training and m reference records a record that was not memorised has a training record as its
    nearest with probability N / (N + m). The share S is therefore reweighted to equal sizes,

        (S / N) / (S / N + (1 - S) / m),

    which is 1/2 without memorisation and 1 where every synthetic record is a copy. (Subsampling the training
    records to m instead would miss the copies of those left out.) Equal distances share a record. All real
    records are embedded in one space that is fitted on them alike, so that it does not tell the labels apart.

    The detail ``p`` is the p-value of the alarm: twice the smaller of two (Bonferroni),

    * ``p-labels`` permutes the labels training and reference, which are exchangeable where nothing was memorised:
      its level is exact whatever the generator. It sees a mass of records that are a little too near, but c
      copies keep their labels by chance in (N / (N + m))^c of the permutations;
    * ``p-nearness`` asks whether single records are nearer to a training record than the distances around it make
      credible. One verbatim copy is enough, and so is one record repeated throughout. It rests on a law fitted
      to real records: it is no exact test, and has next to no power where columns of at most ten values make up nearly
      all of the table.

    Further details describe and judge nothing: ``near-copies`` is the share of records three times nearer to a
    training than to any reference record; ``closest-record`` the median distance to the closest training record, and
    ``nearest-neighbour-ratio`` the median ratio of the two closest, both over the same of the reference. Distances to
    the closest record are not a measure of privacy (Yao et al. 2025): far records pass with copies among them.
    """

    permutations: int = param(499, _PERMUTATIONS, minimum=19)

    card = Card("Share of synthetic rows nearer to training rows than to unseen real ones.", _REFERENCE)
    version = 2
    kind = "privacy"
    needs = TABLE
    null = "copies"
    outputs = (
        Output(
            "table-memorisation",
            "Table memorisation",
            "Share of synthetic rows nearer to a training row than to any unseen one, at equal numbers of both.",
            f"A few copies (only its detail p sees them), and leaks that are not nearness of whole rows. {_BLIND}",
            "lower",
            0.5,
            range=(0.0, 1.0),
        ),
    )

    def scores(self, trial: Trial) -> Iterable[Score]:
        reason = _too_few(trial) or no_real_points(trial, self.needs)
        if reason:
            return undefined(self.outputs, reason)
        return _compare(self.outputs, real_table_points(trial), self.permutations, trial.seed)


@dataclass
class ImageMemorisation(Metric):
    """Share of synthetic volumes whose nearest real volume is a training volume, and a test for copies.

    The same share, tests and details as for :class:`TableMemorisation`, over the leading principal components of
    the image features. A changed copy is found to the extent that the features overlook the change. Measured
    for `random-cnn` on 600 trunk phantoms of 80 x 64 x 16 voxels, with 12 copies among 120 volumes: the alarm
    rises for copies that are verbatim, flipped left to right, shifted by a voxel from left to right, noisy
    (20 % of the standard deviation) or brighter by 5 %; not for a shift by a voxel from front to back, by two from left to
    right, or by one of 16 slices. Where every volume is such a copy it rises for all but the last.
    """

    dimensions: int = param(64, _DIMENSIONS, minimum=1)
    permutations: int = param(499, _PERMUTATIONS, minimum=19)

    card = Card("Share of synthetic volumes nearer to training volumes than to unseen real ones.", _REFERENCE)
    version = 2
    kind = "privacy"
    needs = VOLUME
    null = "copies"
    outputs = (
        Output(
            "image-memorisation",
            "Image memorisation",
            "Share of synthetic volumes nearer to a training volume than to any unseen one, at equal numbers of "
            "both.",
            "Copies that were shifted, warped or changed in any way that the image features react to (random-cnn "
            "overlooks a flip from left to right), and a few copies (only its detail p sees them). "
            f"{_BLIND}",
            "lower",
            0.5,
            range=(0.0, 1.0),
        ),
    )

    def scores(self, trial: Trial) -> Iterable[Score]:
        reason = _too_few(trial) or no_real_points(trial, self.needs)
        if reason:
            return undefined(self.outputs, reason)
        points = real_image_points(trial, self.dimensions)
        return _compare(self.outputs, points, self.permutations, trial.seed)


@dataclass
class JointMemorisation(Metric):
    """Share of synthetic pairs of row and volume whose nearest real pair is a training pair, and a test for copies.

    The same share, tests and details as for :class:`TableMemorisation`, in the spaces of rows and of image
    features side by side, either scaled to an expected squared distance of 1 between two real records.
    """

    dimensions: int = param(64, _DIMENSIONS, minimum=1)
    permutations: int = param(499, _PERMUTATIONS, minimum=19)

    card = Card("Share of synthetic pairs nearer to training pairs than to unseen real ones.", _REFERENCE)
    version = 1
    kind = "privacy"
    needs = BOTH
    null = "copies"
    outputs = (
        Output(
            "joint-memorisation",
            "Joint memorisation",
            "Share of synthetic pairs of row and volume nearer to a training pair than to any unseen one, at equal "
            "numbers of both.",
            "Copies of one modality with another's partner, and a few copies (only its detail p sees them). "
            f"{_BLIND}",
            "lower",
            0.5,
            range=(0.0, 1.0),
        ),
    )

    def scores(self, trial: Trial) -> Iterable[Score]:
        reason = _too_few(trial) or no_real_points(trial, self.needs)
        if reason:
            return undefined(self.outputs, reason)
        points = real_joint_points(trial, self.dimensions)
        return _compare(self.outputs, points, self.permutations, trial.seed)


def _too_few(trial: Trial) -> str:
    few_train = "the training sample has fewer than 2 records" if len(trial.train) < 2 else ""
    return too_few(trial) or few_train


def _compare(outputs: tuple[Output, ...], points: Points, permutations: int, seed: int) -> list[Score]:
    """Return share, p-values and descriptive details of the three sides of a trial."""
    if not points.train.shape[1]:
        return undefined(outputs, "nothing varies among the real records")
    name = outputs[0].name
    neighbours = RealNeighbours.find(points, seed)
    synthetic = Closeness.of(neighbours.distance, neighbours.position, neighbours.is_train)
    reference = Closeness.of_reference(points)
    by_label = label_p(neighbours, permutations, np.random.default_rng(seed))
    by_nearness = near_copy_p(points, synthetic, reference)
    details = {
        "p": min(2 * min(by_label, by_nearness), 1.0),
        "p-labels": by_label,
        "p-nearness": by_nearness,
        "near-copies": near_rate(neighbours),
        "closest-record": _over(np.median(synthetic.first), np.median(reference.first)),
        "nearest-neighbour-ratio": _over(_median_ratio(synthetic), _median_ratio(reference)),
    }
    return [
        Score.of(name, balanced_share(neighbours)),
        *(
            Score(name, value, item=item, reason="" if np.isfinite(value) else "the reference's is 0")
            for item, value in details.items()
        ),
    ]


def _median_ratio(side: Closeness) -> float:
    ratio = np.divide(side.first, side.second, out=np.ones(len(side.first)), where=side.second > 0)
    return float(np.median(ratio))


def _over(value: float, reference: float) -> float:
    return float(value / reference) if reference > 0 else float("nan")
