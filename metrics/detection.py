"""Whether classifiers can tell synthetic records from real ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd

from mmbench.api import BOTH, TABLE, VOLUME, Card, Column, Metric, Output, Schema, Score, Trial, param

from ._components import beside, leading_components
from ._neighbours import capped
from ._scores import no_features, no_table, too_few, undefined
from ._spaces import Points, table_points
from ._table_space import TableSpace
from ._two_sample import MIN_RECORDS, Verdict, canonical, two_sample_test

_REFERENCE = (
    "Lopez-Paz, Oquab 2017, Revisiting Classifier Two-Sample Tests (ICLR); Kim, Ramdas, Singh, Wasserman 2021, "
    "Classification accuracy as a proxy for two-sample testing (Annals of Statistics 49); trees: Friedman 2001, "
    "Greedy function approximation: a gradient boosting machine (Annals of Statistics 29)"
)
MANY_COPIES = 0.05
"""A larger share of near copies raises the alarm; honest records may coincide as often as real ones do."""


@dataclass
class _Detection(Metric):
    """What the detection metrics share; a subclass says what the classifiers may look at."""

    permutations: int = param(999, "permutations of the labels in the test", minimum=199)
    max_records: int = param(2000, "largest number of records of a sample that is used", minimum=50)

    version: ClassVar[int] = 1
    kind = "fidelity"

    def scores(self, trial: Trial) -> Iterable[Score]:
        if reason := too_few(trial, MIN_RECORDS) or self._unusable(trial):
            return undefined(self.outputs, reason)
        points = self._points(trial)
        if not points.train.shape[1]:
            return undefined(self.outputs, "nothing varies among the training records")
        n = min(len(trial.reference), len(trial.synthetic), self.max_records)
        # Equal ranks drawn from both would make the two samples more alike than independent ones.
        first, second = (
            canonical(side, points.train)[capped(len(side), n, seed)]
            for side, seed in ((points.reference, trial.seed), (points.synthetic, trial.seed + 1))
        )
        scale = canonical(points.train, points.train)
        verdict = two_sample_test(first, second, scale, self.permutations, trial.seed)
        return _scores(self.outputs[0].name, verdict)

    def _unusable(self, trial: Trial) -> str:
        """Return why the records cannot be compared, or an empty text."""
        raise NotImplementedError

    def _points(self, trial: Trial) -> Points:
        """Return all that the classifiers may look at."""
        raise NotImplementedError


@dataclass
class TableDetection(_Detection):
    """Area under the ROC curve of classifiers that learned to tell synthetic records from reference ones.

    Two learners are trained by 5-fold cross-fitting: a ridge-regularised discriminant on all coordinates, squares
    and pairwise products, and gradient-boosted trees. Their ranks within a fold are averaged, and the areas of
    the folds are. For equal laws the expectation is 1/2 at any number of records, and neither learner has to be
    chosen by its result. Other samples give larger areas the more records a classifier learns from: values are
    comparable at equal numbers only, and the larger side is drawn from to have as many as the smaller.

    Near copies of one another on both sides (a tenth of the usual distance of a real record to its nearest other
    one, or less) stay in one fold, so that no classifier recognises what it learned. An area below 1/2 by more than two
    standard errors means that records of the two sides come in pairs, as copies of the reference do: a record's
    twin taught the classifier the wrong answer. That is told apart too, so the score is then 1 less the area,
    and its reason says so; another reason says where many synthetic records are near copies.

    Details: the area of either learner; the p-value ``p`` of a test of equal laws, and that of either learner
    adjusted by Holm's method; the share of synthetic records that are near copies of a reference record.
    """

    card = Card(
        "Area under the ROC curve of classifiers that tell synthetic rows from real ones.", _REFERENCE
    )
    needs = TABLE
    null = "columns"
    outputs = (
        Output(
            "table-detection",
            "Table detection",
            "Chance that classifiers find a synthetic row likelier to be synthetic than a real one; 1/2 where they "
            "cannot tell them apart.",
            "What takes more records to learn, and copies of training rows.",
            "lower",
            0.5,
            range=(0.0, 1.0),
        ),
    )

    def _unusable(self, trial: Trial) -> str:
        return no_table(trial.reference, trial.synthetic, trial.train) or _untrained(trial)

    def _points(self, trial: Trial) -> Points:
        return table_points(trial)


@dataclass
class ImageDetection(_Detection):
    """Area under the ROC curve of classifiers that learned to tell synthetic volumes from reference ones.

    As :class:`TableDetection`, on the leading principal components of image features, whitened on the training
    records; the blocks of the extractor have equally many.
    """

    dimensions: int = param(30, "principal components of image features, shared out among blocks", minimum=1)

    card = Card(
        "Area under the ROC curve of classifiers that tell features of synthetic volumes from real ones.",
        _REFERENCE,
    )
    needs = VOLUME
    null = "noise"
    outputs = (
        Output(
            "image-detection",
            "Image detection",
            "Chance that classifiers find a synthetic volume likelier to be synthetic than a real one, by the "
            "leading components of its features; 1/2 where they cannot tell them apart.",
            "What the feature extractor or its leading components do not show, what takes more records to learn, "
            "and copies of training volumes.",
            "lower",
            0.5,
            range=(0.0, 1.0),
        ),
    )

    def _unusable(self, trial: Trial) -> str:
        return no_features(trial.reference, trial.synthetic, trial.train) or _untrained(trial)

    def _points(self, trial: Trial) -> Points:
        return leading_components(trial, self.dimensions)


@dataclass
class JointDetection(_Detection):
    """Area under the ROC curve of classifiers that tell synthetic pairs of row and volume from real ones.

    As :class:`TableDetection`, with what was measured on the volumes beside the rows; where nothing was, with
    leading components of the image features. It is no test of coherence: a classifier that finds either
    modality odd need not look at how they belong together, and one that must look at that only has little power
    at a few hundred records.
    """

    dimensions: int = param(15, "principal components of image features, without a measurer", minimum=1)

    card = Card(
        "Area under the ROC curve of classifiers that tell synthetic pairs of row and volume from real ones.",
        _REFERENCE,
    )
    needs = BOTH
    null = "pairs"
    outputs = (
        Output(
            "joint-detection",
            "Joint detection",
            "Chance that classifiers find a synthetic pair of row and volume likelier to be synthetic than a real "
            "one; 1/2 where they cannot tell them apart.",
            "Why: an odd row, an odd volume or a broken pair, of which a small share of broken pairs shows least; and "
            "copies of training pairs.",
            "lower",
            0.5,
            range=(0.0, 1.0),
        ),
    )

    def _unusable(self, trial: Trial) -> str:
        sides = (trial.reference, trial.synthetic, trial.train)
        unseen = "" if _measured(trial) else no_features(*sides)
        return no_table(*sides) or unseen or _untrained(trial)

    def _points(self, trial: Trial) -> Points:
        image = _composition(trial) if _measured(trial) else leading_components(trial, self.dimensions)
        return beside([table_points(trial), image])


def _scores(name: str, verdict: Verdict) -> list[Score]:
    auc, reason = verdict.auc, ""
    value, low, high = auc.value, auc.low, auc.high
    if value < 0.5 - 2 * verdict.standard_error:
        reason = (
            f"memorisation alarm: the area is {value:.3f}, below 1/2 by more than two standard errors: records "
            "of the two sides come in pairs, as copies of the reference do; it counts as 1 less the area"
        )
        value, low, high = 1 - value, 1 - high, 1 - low
    elif verdict.copies > MANY_COPIES:
        reason = (
            f"memorisation alarm: {verdict.copies:.0%} of the synthetic records are near copies of reference ones, "
            "which no classifier can tell from them"
        )
    return [
        Score(name, value, "", low, high, auc.method, reason),
        *(Score(name, area, item=learner) for learner, area in verdict.areas.items()),
        Score(name, verdict.p, item="p"),
        *(Score(name, p, item=f"p {learner}") for learner, p in verdict.ps.items()),
        Score(name, verdict.copies, item="near-copies"),
    ]


def _untrained(trial: Trial) -> str:
    return "the training sample has fewer than 2 records" if len(trial.train) < 2 else ""


def _measured(trial: Trial) -> bool:
    sides = (trial.reference, trial.synthetic, trial.train)
    return all(side.composition is not None and not side.composition.columns.empty for side in sides)


def _composition(trial: Trial) -> Points:
    """Return measured quantities in the space of table columns."""
    sides = [pd.DataFrame(side.composition) for side in (trial.reference, trial.synthetic, trial.train)]
    schema = Schema(tuple(Column(str(name), "continuous", missing=True) for name in sides[2].columns))
    space = TableSpace.fit(schema, sides[2])
    return Points(*(space.embed(side) for side in sides))
