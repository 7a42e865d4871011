"""How much of real columns models explain that were trained on synthetic rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mmbench.api import Column, Schema, Score, stats

from ._table_space import TableSpace

MIN_ROWS = 20
"""Fewer rows with a target teach or test nothing."""

MIN_UNCOMMON = 5
"""Where fewer reference rows differ from the commonest value there is nothing to tell apart."""

MIN_SHARE = 0.5
"""With fewer targets than this share of all the mean would be one over the convenient ones."""

_PENALTIES = np.logspace(-4, 2, 13)  # a record; from next to none to one that leaves only the mean
_LEAF = 5  # scikit-learn's default of 1 learns noise; 5 is the customary size for regression (Breiman 2001)
_DECIMALS = 9  # of points whose spread is about 1


@dataclass(frozen=True)
class Samples:
    """The same columns of the training rows, which set the scale, and of the synthetic and reference rows."""

    columns: tuple[Column, ...]
    train: pd.DataFrame
    synthetic: pd.DataFrame
    reference: pd.DataFrame

    @classmethod
    def of(cls, schema: Schema, tables: Sequence[pd.DataFrame]) -> Samples:
        """Take the tables of training, synthetic and reference rows."""
        # A column is encoded by itself, where its formula has nothing to refer to.
        return cls(tuple(dataclasses.replace(column, formula=None) for column in schema), *tables)

    def encoded(self, column: Column, rows: Sequence[np.ndarray | slice]) -> list[np.ndarray]:
        """Return points of chosen rows of the three samples, each of shape (rows, dimensions)."""
        tables = [
            table[[column.name]].iloc[chosen]
            for table, chosen in zip((self.train, self.synthetic, self.reference), rows, strict=True)
        ]
        space = TableSpace.fit(Schema((column,)), tables[0])
        return [space.embed(table) for table in tables]

    def present(self, column: Column) -> list[np.ndarray]:
        """Return positions of the rows of the three samples that have a value."""
        tables = (self.train, self.synthetic, self.reference)
        return [np.flatnonzero(table[column.name].notna()) for table in tables]


@dataclass(frozen=True)
class Target:
    """Squared errors of one target on the reference rows, shape (n,); 0 where a row lacks it.

    Attributes:
        model: Of the predictions.
        mean: Of the training rows' mean.
    """

    model: np.ndarray
    mean: np.ndarray

    def skill(self, weights: np.ndarray) -> float:
        """Return the skill over reference rows that count ``weights`` times."""
        beaten = float(weights @ self.mean)
        return max(-1.0, 1 - float(weights @ self.model) / beaten) if beaten > 0 else float("nan")


@dataclass(frozen=True)
class Exam:
    """Tests of the targets that could be learned and judged, and why others could not.

    Attributes:
        tests: By target.
        unlearned: Why the synthetic rows teach nothing, by target.
        unjudged: Why the reference rows tell nothing, by target.
        size: Number of reference rows.
    """

    tests: dict[str, Target]
    unlearned: dict[str, str]
    unjudged: dict[str, str]
    size: int

    def scores(self, output: str, seed: int, resamples: int) -> list[Score]:
        """Return the mean over targets with its interval, and each target."""
        return [self._mean(output, seed, resamples), *self._details(output)]

    def _mean(self, output: str, seed: int, resamples: int) -> Score:
        lost = self.unlearned | self.unjudged
        targets = len(self.tests) + len(lost)
        if len(self.tests) < max(1, MIN_SHARE * targets):
            name, reason = next(iter(lost.items()), ("", "there is none"))
            return Score(
                output,
                float("nan"),
                reason=f"only {len(self.tests)} of {targets} targets could be learned and judged; "
                f"at least {MIN_SHARE:.0%} are needed ({name}: {reason})",
            )

        def mean(rows: np.ndarray) -> float:
            weights = np.bincount(rows, minlength=self.size).astype(float)
            skills = [test.skill(weights) for test in self.tests.values()] + [0.0] * len(self.unlearned)
            return float(np.nanmean(skills))

        return Score.of(output, stats.bootstrap(mean, (self.size,), seed, resamples))

    def _details(self, output: str) -> list[Score]:
        everyone = np.ones(self.size)
        return [
            *(Score(output, test.skill(everyone), item=name) for name, test in self.tests.items()),
            *(
                Score(output, float("nan"), item=name, reason=reason)
                for name, reason in (self.unlearned | self.unjudged).items()
            ),
        ]


def examine(
    targets: Samples, features: Samples, hidden: Mapping[str, set[str]], trees: int, seed: int
) -> Exam:
    """Learn each target from the features of the synthetic rows and predict it for the reference rows.

    Args:
        targets: Columns to predict.
        features: Columns to predict them from; a target is never its own feature where both are the same.
        hidden: Features that a target must not be predicted from, by target.
        trees: Number of randomised trees.
        seed: Seed of the trees.
    """
    everyone = [slice(None)] * 3
    inputs = {column.name: features.encoded(column, everyone)[1:] for column in features.columns}
    exam = Exam({}, {}, {}, len(targets.reference))
    for target in targets.columns:
        name, rows = target.name, targets.present(target)
        withheld = hidden.get(name, set()) | ({name} if targets is features else set())
        used = [blocks for feature, blocks in inputs.items() if feature not in withheld and blocks[0].size]
        train, synthetic, reference = rows
        uncommon = len(reference) - targets.reference[name].value_counts().max() if len(reference) else 0
        if len(reference) < MIN_ROWS or uncommon < MIN_UNCOMMON:
            exam.unjudged[name] = (
                f"{len(reference)} reference rows have a value and {uncommon} differ from the commonest; "
                f"at least {MIN_ROWS} and {MIN_UNCOMMON} are needed"
            )
        elif len(train) < MIN_ROWS or not (points := targets.encoded(target, rows))[0].size:
            exam.unjudged[name] = "the training rows, which set the scale, hold too few different values"
        elif not used:
            exam.unjudged[name] = "no other column varies in the training rows"
        elif len(synthetic) < MIN_ROWS:
            exam.unlearned[name] = (
                f"{len(synthetic)} synthetic rows have a value; at least {MIN_ROWS} are needed"
            )
        else:
            known, fresh = (np.concatenate(blocks, axis=1) for blocks in zip(*used, strict=True))
            predicted = _predict(known[synthetic], points[1], fresh[reference], trees, seed)
            model, mean = np.zeros(exam.size), np.zeros(exam.size)
            model[reference] = ((points[2] - predicted) ** 2).sum(axis=1)
            mean[reference] = ((points[2] - points[0].mean(axis=0)) ** 2).sum(axis=1)
            exam.tests[name] = Target(model, mean)
    return exam


def _predict(known: np.ndarray, answers: np.ndarray, fresh: np.ndarray, trees: int, seed: int) -> np.ndarray:
    """Return the mean prediction of two learners for ``fresh``, shape (rows, dimensions).

    Args:
        known: Features to learn from, shape (n, p).
        answers: Points to learn, shape (n, dimensions).
        fresh: Features to predict from, shape (rows, p).
        trees: Number of randomised trees.
        seed: Seed of the trees.
    """
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.linear_model import RidgeCV

    # The trees' draws go to features by position, and splits that are equally good are told apart by rounding:
    # an order that the values themselves set, and values free of rounding, make the score independent of the
    # order of columns, levels and rows, and of units.
    known, answers, fresh = (np.round(points, _DECIMALS) for points in (known, answers, fresh))
    columns, places = (np.lexsort(np.sort(points, axis=0)) for points in (known, answers))
    known, fresh, answers = known[:, columns], fresh[:, columns], answers[:, places]
    order = np.lexsort(np.concatenate([answers, known], axis=1).T)
    known, answers = known[order], answers[order]
    learners = (
        RidgeCV(alphas=len(known) * _PENALTIES),
        ExtraTreesRegressor(trees, min_samples_leaf=_LEAF, random_state=seed % 2**32),
    )
    outcome = answers[:, 0] if answers.shape[1] == 1 else answers
    predictions = [learner.fit(known, outcome).predict(fresh).reshape(len(fresh), -1) for learner in learners]
    # A linear prediction may lie beyond every answer that it was taught, as in a probability above 1.
    kept = np.clip(predictions, answers.min(axis=0), answers.max(axis=0))
    return kept.mean(axis=0)[:, np.argsort(places)]
