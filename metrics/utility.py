"""What a model that was trained on synthetic records can tell about real people."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mmbench.api import (
    BOTH,
    TABLE,
    Card,
    Column,
    Evidence,
    Metric,
    Output,
    Schema,
    Score,
    Trial,
    param,
)

from ._components import leading_components
from ._scores import no_composition, no_features, no_table, too_few, undefined
from ._skill import MIN_ROWS, Exam, Inputs, Samples, examine

_REFERENCE = (
    "Train on synthetic, test on real: Esteban, Hyland, Raetsch 2017, Real-valued (Medical) Time Series "
    "Generation with Recurrent Conditional GANs (arXiv:1706.02633); skill score: Murphy 1988, "
    "Skill Scores Based on the Mean Square Error (Mon Weather Rev 116); of levels: Brier 1950, Verification of "
    "forecasts expressed in terms of probability (Mon Weather Rev 78); learners: Hoerl, Kennard 1970, Ridge "
    "Regression (Technometrics 12); Geurts, Ernst, Wehenkel 2006, Extremely randomized trees (Mach Learn 63)"
)


@dataclass
class Utility(Metric):
    """Real variance of each column that a model trained on the synthetic rows explains in the reference rows.

    Each column in turn is the target, the others are the features. With z the target in the space of
    ``_table_space`` (normal scores of numbers and ordinal levels, indicators of other levels) and p its
    prediction,

        skill = 1 - sum |z - p|^2 / sum |z - m|^2    over the reference rows, m the mean of the training rows,

    which is R^2 for numbers and the Brier skill score for levels, cut at -1 so that no target outweighs the
    others. A real mean is what a prediction has to beat: a model that learned a wrong average, a wrong rate or
    too wide a range pays for it, as its user would. Space and mean come from the training rows, so that neither
    side sets the scale, one wild value harms little, and skill is not biased by a mean fitted to the rows that
    it is judged on.

    A prediction is the mean of those of two learners, a ridge regression whose penalty is chosen by leave-one-out
    within the synthetic rows, and extremely randomised trees, each kept within the range of the synthetic
    answers; ``network`` adds a small neural network. Nothing is chosen by looking at the reference. Trees and
    network learn from no more than ``tree_records`` rows, ridge regression from all.

    A column linked to the target by a declared formula is no feature where it would turn prediction into
    arithmetic: the parts of a derived target, and all that is derived from the target or from those parts.
    Missing features are put at the training median with an indicator beside them; rows without the target are
    left out. A target that the reference cannot judge (too few rows, or nearly all alike) is left out of the
    mean; one for which the synthetic rows give too little to learn counts as 0, so that losing a column does
    not pay. Where fewer than half of the columns can be learned and judged there is no score.

    The interval speaks of other test subjects (bootstrap) and other synthetic rows of the same generator: the latter
    by a jackknife over 20 groups of the rows that are learned from. It leaves them out of a ridge regression, which
    has a closed form, in place of both learners.

    Details: each column; ``(trained on real)``, the skill for the same reference rows of models of training
    rows, as many as there are synthetic ones; ``(lost against real)``, the latter less the score, over the same
    subjects and with the same kind of interval; the one-sided p-value of the hypothesis that ``margin`` or more is lost,
    where a small one shows the synthetic rows to be no worse to speak of; each learner alone; and
    ``(trained on real, tested on synthetic)``, how well models of real rows predict the synthetic ones, which is
    above the skill for real rows where synthetic ones obey what they were taught too well.
    """

    trees: int = param(40, "randomised trees a target", minimum=1)
    network: bool = param(False, "whether a small neural network is a third learner")
    tree_records: int = param(1500, "most records that trees and network learn from", minimum=50)
    margin: float = param(0.05, "loss of skill against real rows that is none to speak of", minimum=0)
    resamples: int = param(400, "bootstrap resamples of the reference for the interval", minimum=50)

    card = Card(
        "Variance of real columns that a model trained on synthetic rows explains (TSTR).", _REFERENCE
    )
    version = 3
    kind = "utility"
    needs = TABLE
    null = "columns"
    outputs = (
        Output(
            "utility",
            "Utility",
            "Share of the variance of a real column that a model trained on synthetic rows explains, mean over "
            "columns; real rows reach the ceiling, only perfectly predictable ones 1.",
            "Copies, which train as good a model as the rows they are copies of; structure that predicts no "
            "single column; what only more rows or other models would learn.",
            "higher",
            1.0,
            range=(-1.0, 1.0),
        ),
    )

    def scores(self, trial: Trial) -> Iterable[Score]:
        sides = _sides(trial)
        if reason := no_table(*sides) or too_few(trial, MIN_ROWS):
            return undefined(self.outputs, reason)
        table = Samples.of(trial.schema, [side.cohort.rows for side in sides])
        hidden = {name: {name} | others for name, others in linked(trial.schema).items()}
        exam = _examine(self, table, Inputs.of_columns(table), hidden, trial.seed)
        return exam.scores(self.outputs[0].name, trial.seed, self.resamples, self.margin)


@dataclass
class CrossModalUtility(Metric):
    """What models trained on synthetic pairs tell of a real row from its image, and of an image from its row.

    As :class:`Utility`, but each column is predicted from all measured quantities (``table-from-image``), and
    each measured quantity from all columns (``image-from-table``). Records whose volume could not be measured
    at all are left out; where they are more than a fifth of a side there is no score.
    """

    trees: int = param(40, "randomised trees a target", minimum=1)
    network: bool = param(False, "whether a small neural network is a third learner")
    tree_records: int = param(1500, "most records that trees and network learn from", minimum=50)
    margin: float = param(0.05, "loss of skill against real rows that is none to speak of", minimum=0)
    resamples: int = param(400, "bootstrap resamples of the reference for the interval", minimum=50)

    card = Card(
        "Variance of real columns, and of quantities measured on real images, that models trained on synthetic "
        "pairs explain from the other modality (TSTR).",
        _REFERENCE,
    )
    version = 3
    kind = "utility"
    needs = BOTH
    needs_composition = True
    null = "pairs"
    outputs = (
        Output(
            "table-from-image",
            "Table from image",
            "Share of the variance of a real column that a model trained on synthetic pairs explains from what "
            "was measured on the image, mean over columns.",
            "What the measurer does not measure, and copies of training pairs.",
            "higher",
            1.0,
            range=(-1.0, 1.0),
        ),
        Output(
            "image-from-table",
            "Image from table",
            "Share of the variance of a quantity measured on real images that a model trained on synthetic "
            "pairs explains from the row, mean over quantities.",
            "What the measurer does not measure, and copies of training pairs.",
            "higher",
            1.0,
            range=(-1.0, 1.0),
        ),
    )

    def scores(self, trial: Trial) -> Iterable[Score]:
        sides = _sides(trial)
        if reason := no_composition(trial):
            return undefined(self.outputs, reason)
        sides = tuple(side.take(np.flatnonzero(_measured(side))) for side in sides)
        train, synthetic, reference = sides
        if reason := too_few(Trial(reference, synthetic, train, trial.seed), MIN_ROWS):
            return undefined(self.outputs, reason)
        table = Samples.of(trial.schema, [side.cohort.rows for side in sides])
        compositions = [pd.DataFrame(side.composition) for side in sides]
        quantities = Schema(
            tuple(Column(str(name), "continuous", missing=True) for name in compositions[0].columns)
        )
        image = Samples.of(quantities, compositions)
        exams = (
            _examine(self, table, Inputs.of_columns(image), {}, trial.seed),
            _examine(self, image, Inputs.of_columns(table), {}, trial.seed),
        )
        return [
            score
            for output, exam in zip(self.outputs, exams, strict=True)
            for score in exam.scores(output.name, trial.seed, self.resamples, self.margin)
        ]


@dataclass
class FeatureUtility(Metric):
    """What models trained on synthetic pairs tell of a real row from the features of its image.

    As :class:`Utility`, but each column is predicted from the leading principal components of the image features,
    whitened on the training records. It needs no measurer.
    """

    dimensions: int = param(15, "principal components of image features, shared out among blocks", minimum=1)
    trees: int = param(40, "randomised trees a target", minimum=1)
    network: bool = param(False, "whether a small neural network is a third learner")
    tree_records: int = param(1500, "most records that trees and network learn from", minimum=50)
    margin: float = param(0.05, "loss of skill against real rows that is none to speak of", minimum=0)
    resamples: int = param(400, "bootstrap resamples of the reference for the interval", minimum=50)

    card = Card(
        "Variance of real columns that models trained on synthetic pairs explain from image features (TSTR).",
        _REFERENCE,
    )
    version = 3
    kind = "utility"
    needs = BOTH
    null = "pairs"
    outputs = (
        Output(
            "table-from-features",
            "Table from image features",
            "Share of the variance of a real column that a model trained on synthetic pairs explains from the "
            "leading components of image features, mean over columns.",
            "What the feature extractor or its leading components do not show, and copies of training pairs.",
            "higher",
            1.0,
            range=(-1.0, 1.0),
        ),
    )

    def scores(self, trial: Trial) -> Iterable[Score]:
        sides = _sides(trial)
        if reason := no_table(*sides) or no_features(*sides) or too_few(trial, MIN_ROWS):
            return undefined(self.outputs, reason)
        table = Samples.of(trial.schema, [side.cohort.rows for side in sides])
        inputs = Inputs.of_points(leading_components(trial, self.dimensions))
        exam = _examine(self, table, inputs, {}, trial.seed)
        return exam.scores(self.outputs[0].name, trial.seed, self.resamples, self.margin)


def _examine(
    metric: Utility | CrossModalUtility | FeatureUtility,
    targets: Samples,
    inputs: Inputs,
    hidden: Mapping[str, set[str]],
    seed: int,
) -> Exam:
    return examine(
        targets,
        inputs,
        hidden,
        trees=metric.trees,
        network=metric.network,
        tree_records=metric.tree_records,
        seed=seed,
    )


def linked(schema: Schema) -> dict[str, set[str]]:
    """Return for each column the others from which declared formulas would give it away.

    These are the parts of a derived column, and whatever is derived from the column or from its parts.
    Together they cover every formula that the column has a place in, so that no remaining columns determine
    it.
    """
    parts = {
        column.name: set(re.findall(r"\b[^\W\d]\w*", column.formula or "")) & set(schema.names)
        for column in schema
    }
    made_of = {name: _made_of(name, parts) for name in schema.names}
    return {
        name: (found | {other for other, origin in made_of.items() if origin & (found | {name})}) - {name}
        for name, found in made_of.items()
    }


def _made_of(name: str, parts: Mapping[str, set[str]]) -> set[str]:
    return parts[name].union(*(_made_of(part, parts) for part in parts[name]))


def _sides(trial: Trial) -> tuple[Evidence, ...]:
    return trial.train, trial.synthetic, trial.reference


def _measured(side: Evidence) -> np.ndarray:
    return pd.DataFrame(side.composition).notna().any(axis=1).to_numpy()
