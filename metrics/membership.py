"""How well an attacker tells training records from unseen ones by the synthetic records around them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import stats as scipy_stats

from mmbench.api import BOTH, TABLE, VOLUME, Card, Metric, Output, Score, Trial, param, stats

from ._neighbours import nearest
from ._real_spaces import no_real_points, real_image_points, real_joint_points, real_table_points
from ._scores import too_few, undefined
from ._spaces import Points

FALSE_POSITIVES = 0.01
"""False positive rate at which true positives are counted (Carlini et al. 2022, section III)."""

_REFERENCE = (
    "van Breugel, Sun, Qian, van der Schaar 2023, Membership Inference Attacks against Synthetic Data through "
    "Overfitting Detection (AISTATS); the rate at few false positives: Carlini, Chien, Nasr, Song, Terzis, Tramer "
    "2022, Membership Inference Attacks From First Principles (IEEE S&P); interval of the area: DeLong, DeLong, "
    "Clarke-Pearson 1988 (Biometrics 44); its combination with that of a threshold: Zou, Donner 2008 (Stat Med 27)"
)
_AROUND = 5  # real neighbours that give the density of the population
_FEWEST = 100  # unseen records below which 1 % of them is less than one
_BLIND = (
    "Other attacks, which may do better, and members that no synthetic record resembles: samples smaller than "
    "the training set expose a part of it."
)


def _outputs(space: str, title: str, things: str) -> tuple[Output, ...]:
    return (
        Output(
            f"{space}-membership-auc",
            f"{title} membership inference",
            f"Chance that a training record looks more like one than an unseen record does, judged by {things}.",
            _BLIND,
            "lower",
            0.5,
            range=(0.0, 1.0),
        ),
        Output(
            f"{space}-membership-tpr",
            f"{title} membership at 1 % false alarms",
            f"Share of training records that are found out by {things} where 1 % of unseen ones are accused.",
            f"{_BLIND} Fewer than 1,000 unseen records give an interval too wide to clear anyone.",
            "lower",
            FALSE_POSITIVES,
            range=(0.0, 1.0),
        ),
    )


@dataclass
class TableMembership(Metric):
    """Membership inference from synthetic rows by a density ratio.

    The attack (DOMIAS) takes records for training records where the density of the synthetic ones exceeds that
    of the population. Both densities are taken from nearest neighbours: the score of a record is the log of its
    mean (geometric) distance to five other real records, over its distance to the nearest synthetic one. Members are
    the training records, non-members the reference records, and the population is both, always less the
    record itself: members and non-members are treated alike, and where nothing was memorised the area under the ROC
    curve is 1/2 in expectation for any numbers of both.

    The true positive rate at 1 % false positives is interpolated between the thresholds that reference records
    set, at rank 0.01 (m + 1) of m from above: 0.01 in expectation where nothing was memorised. Its interval takes in
    the chance of the threshold, and reaches down to 0 below some 370 reference records; with fewer than 100 there
    is no score. Its detail ``p`` is exact at any size: the chance of as many members ahead of that threshold where
    members and non-members are exchangeable.
    """

    card = Card("Membership inference from synthetic rows (density ratio of neighbours).", _REFERENCE)
    version = 2
    kind = "privacy"
    needs = TABLE
    null = "copies"
    outputs = _outputs("table", "Table", "the synthetic rows around it")

    def scores(self, trial: Trial) -> Iterable[Score]:
        reason = too_few(trial) or no_real_points(trial, self.needs)
        return (
            undefined(self.outputs, reason)
            if reason
            else _attack(self.outputs, real_table_points(trial), trial.seed)
        )


@dataclass
class ImageMembership(Metric):
    """Membership inference from synthetic volumes by a density ratio.

    The same attack as :class:`TableMembership`, over the leading principal components of the image features.
    """

    dimensions: int = param(64, "most principal components of the image features", minimum=1)

    card = Card("Membership inference from synthetic volumes (density ratio of neighbours).", _REFERENCE)
    version = 2
    kind = "privacy"
    needs = VOLUME
    null = "copies"
    outputs = _outputs("image", "Image", "the synthetic volumes around it")

    def scores(self, trial: Trial) -> Iterable[Score]:
        if reason := too_few(trial) or no_real_points(trial, self.needs):
            return undefined(self.outputs, reason)
        return _attack(self.outputs, real_image_points(trial, self.dimensions), trial.seed)


@dataclass
class JointMembership(Metric):
    """Membership inference from synthetic pairs of row and volume by a density ratio.

    The same attack as :class:`TableMembership`, in the spaces of rows and of image features side by side.
    """

    dimensions: int = param(64, "most principal components of the image features", minimum=1)

    card = Card("Membership inference from synthetic pairs (density ratio of neighbours).", _REFERENCE)
    version = 2
    kind = "privacy"
    needs = BOTH
    null = "copies"
    outputs = _outputs("joint", "Joint", "the synthetic pairs of row and volume around it")

    def scores(self, trial: Trial) -> Iterable[Score]:
        if reason := too_few(trial) or no_real_points(trial, self.needs):
            return undefined(self.outputs, reason)
        return _attack(self.outputs, real_joint_points(trial, self.dimensions), trial.seed)


def _attack(outputs: tuple[Output, ...], points: Points, seed: int) -> list[Score]:
    area, rate = outputs
    n = len(points.train)
    if n < 2:
        return undefined(outputs, "the training sample has fewer than 2 records")
    if not points.train.shape[1]:
        return undefined(outputs, "nothing varies among the real records")
    score = density_ratio(np.concatenate([points.train, points.reference]), points.synthetic)
    members, others = score[:n], score[n:]
    found = [Score.of(area.name, stats.auc(members, others))]
    if len(others) < _FEWEST:
        reason = f"there are {len(others)} reference records; {_FEWEST} are needed for 1 % of them to be one"
        return [*found, *undefined((rate,), reason)]
    return [
        *found,
        Score.of(rate.name, true_positive_rate(members, others)),
        Score(rate.name, found_out_p(members, others, seed), item="p"),
    ]


def found_out_p(members: np.ndarray, others: np.ndarray, seed: int) -> float:
    """Return the p-value of as many members above the threshold that 1 % of the others pass, or more.

    Where nothing was memorised members and others are exchangeable, and the number of members ahead of the r-th
    other is negative hypergeometric. Equal numbers are ranked by lot, so that the p-value is uniform (randomised test;
    Lehmann, Romano 2005, section 15.2.1). Members that tie with that other are not ahead.

    Args:
        members: Scores of shape (n,).
        others: Scores of shape (m,).
        seed: Seed of the lot.
    """
    rank = int(np.ceil(FALSE_POSITIVES * (len(others) + 1)))
    threshold = np.sort(others)[-rank]
    ahead = int((members > threshold).sum())
    law = scipy_stats.nhypergeom(len(members) + len(others), len(members), rank)
    lot = np.random.default_rng(seed).random()
    return float(np.clip(law.sf(ahead) + lot * law.pmf(ahead), 0.0, 1.0))


def density_ratio(real: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    """Return the log ratio of synthetic to population density up to scale, by distances to neighbours.

    Args:
        real: Points of shape (n, d), whose scores are asked for; each one's population is the others.
        synthetic: Points of shape (m, d).

    Returns:
        Scores of shape (n,): higher is likelier to be a member.
    """
    tiny = np.finfo(float).tiny
    around = nearest(real, real, min(_AROUND, len(real) - 1), same=True).distances
    to_synthetic = nearest(real, synthetic, 1).distances[:, 0]
    return np.log(around + tiny).mean(axis=1) - np.log(to_synthetic + tiny)


def true_positive_rate(members: np.ndarray, others: np.ndarray) -> stats.Estimate:
    """Return the share of members above the threshold that 1 % of the others pass.

    The rank from above of m others that a share a of all passes in expectation is a (m + 1), interpolated between
    whole ranks. The interval combines that of Clopper and Pearson for the share at the threshold with the shares
    at the ranks of others that 1 % pass with 97.5 % certainty at most and at least (Zou and Donner 2008).

    Args:
        members: Scores of shape (n,).
        others: Scores of shape (m,), with m of at least 99.
    """
    m = len(others)
    thresholds = np.sort(others)[::-1]
    # A rank of 0 stands for a threshold that nothing passes.
    above = 1 - np.searchsorted(np.sort(members), thresholds, side="right") / len(members)
    passing = np.concatenate([[0.0], above])
    ranks = np.arange(m + 1)
    value = float(np.interp(FALSE_POSITIVES * (m + 1), ranks, passing))
    # Rank j passes at most a share a with the probability that at least j of m uniform numbers lie below a.
    lowest, highest = scipy_stats.binom.ppf([0.025, 0.975], m, FALSE_POSITIVES).astype(int)
    least, most = passing[lowest], passing[min(highest + 1, m)]
    share = stats.proportion(round(value * len(members)), len(members))
    low = value - np.hypot(max(value - share.low, 0.0), value - least)
    high = value + np.hypot(max(share.high - value, 0.0), most - value)
    return stats.Estimate(
        value,
        max(float(low), 0.0),
        min(float(high), 1.0),
        "Clopper-Pearson, with the threshold's own interval",
    )
