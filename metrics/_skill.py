"""How much of real columns models explain that were trained on synthetic rows, or on real ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mmbench.api import Column, Schema

from ._exam import Errors, Exam, Target
from ._learners import Learner, learners, ridge_without
from ._spaces import Points
from ._table_space import TableSpace

MIN_ROWS = 20
"""Fewer rows with a target teach or test nothing."""

MIN_UNCOMMON = 5
"""Where fewer reference rows differ from the commonest value there is nothing to tell apart."""

_GROUPS = 20  # of taught records, of which a jackknife leaves out one at a time
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
class Inputs:
    """What targets are predicted from.

    Attributes:
        names: Name that each coordinate belongs to, shape (dimensions,).
        train: Points of the training rows, shape (rows, dimensions).
        synthetic: Of the synthetic rows.
        reference: Of the reference rows.
    """

    names: np.ndarray
    train: np.ndarray
    synthetic: np.ndarray
    reference: np.ndarray

    @classmethod
    def of_columns(cls, samples: Samples) -> Inputs:
        """Return the columns of a table, missing numbers at the training median with an indicator beside them."""
        everyone = [slice(None)] * 3
        encoded = {column.name: samples.encoded(column, everyone) for column in samples.columns}
        names = [name for name, sides in encoded.items() for _ in range(sides[0].shape[1])]
        train, synthetic, reference = (
            np.concatenate(side, axis=1) for side in zip(*encoded.values(), strict=True)
        )
        return cls.of_points(Points(reference, synthetic, train), names)

    @classmethod
    def of_points(cls, points: Points, names: Sequence[str] = ()) -> Inputs:
        """Return points in an order of coordinates that their values set.

        The trees' draws go to coordinates by position, and splits that are equally good are told apart by
        rounding: so neither the order of columns nor rounding matters.
        """
        sides = [np.round(side, _DECIMALS) for side in (points.train, points.synthetic, points.reference)]
        order = np.lexsort(np.sort(sides[0], axis=0))
        owners = np.array(names or [""] * len(order))
        return cls(owners[order], *(side[:, order] for side in sides))

    def without(self, hidden: set[str]) -> Inputs:
        """Return what is left where some names are withheld."""
        kept = ~np.isin(self.names, list(hidden))
        return Inputs(
            self.names[kept], *(side[:, kept] for side in (self.train, self.synthetic, self.reference))
        )


def examine(
    targets: Samples,
    inputs: Inputs,
    hidden: Mapping[str, set[str]],
    *,
    trees: int,
    network: bool,
    tree_records: int,
    seed: int,
) -> Exam:
    """Learn each target from the synthetic rows, and from real ones, and predict it for the others.

    Args:
        targets: Columns to predict.
        inputs: What to predict them from.
        hidden: Inputs that a target must not be predicted from, by target.
        trees: Number of randomised trees.
        network: Whether a neural network is a third learner.
        tree_records: Most records that trees and network learn from.
        seed: Seed of the learners, and of the training rows that are as many as the synthetic ones.
    """
    order = [_drawn(side, seed) for side in (inputs.train, inputs.synthetic)]
    order[0] = order[0][: len(inputs.synthetic)]
    taught = learners(trees, network, tree_records, seed)
    exam = Exam({}, {}, {}, len(targets.reference))
    for target in targets.columns:
        name, rows = target.name, targets.present(target)
        used = inputs.without(hidden.get(name, set()))
        train, synthetic, reference = rows
        uncommon = len(reference) - targets.reference[name].value_counts().max() if len(reference) else 0
        if len(reference) < MIN_ROWS or uncommon < MIN_UNCOMMON:
            exam.unjudged[name] = (
                f"{len(reference)} reference rows have a value and {uncommon} differ from the commonest; "
                f"at least {MIN_ROWS} and {MIN_UNCOMMON} are needed"
            )
        elif len(train) < MIN_ROWS or not (points := targets.encoded(target, rows))[0].size:
            exam.unjudged[name] = "the training rows, which set the scale, hold too few different values"
        elif not used.names.size:
            exam.unjudged[name] = "no other column varies in the training rows"
        else:
            if len(synthetic) < MIN_ROWS:
                exam.unlearned[name] = (
                    f"{len(synthetic)} synthetic rows have a value; at least {MIN_ROWS} are needed"
                )
            exam.tests[name] = _test(used, points, rows, order, taught)
    return exam


def _test(
    used: Inputs,
    points: Sequence[np.ndarray],
    rows: Sequence[np.ndarray],
    order: Sequence[np.ndarray],
    taught: Mapping[str, Learner],
) -> Target:
    """Return errors of one target.

    Args:
        used: What it is predicted from.
        points: The target of training, synthetic and reference rows that have it, shape (rows, dimensions).
        rows: Positions of these rows.
        order: Training and synthetic rows in the order in which they are drawn for learning.
        taught: Learners.
    """
    places = np.lexsort(np.sort(points[0], axis=0))
    middle = points[0].mean(axis=0)[places]
    sides = (used.train, used.synthetic, used.reference)
    answers = [np.zeros((len(side), points[0].shape[1])) for side in sides]
    for filled, present, known in zip(answers, rows, points, strict=True):
        filled[present] = np.round(known[:, places], _DECIMALS)

    def judged(side: int, predicted: np.ndarray) -> Errors:
        present, size = rows[side], len(sides[side])
        truth = answers[side][present]
        model, mean = np.zeros(size), np.zeros(size)
        model[present] = ((truth - predicted) ** 2).sum(axis=1)
        mean[present] = ((truth - middle) ** 2).sum(axis=1)
        return Errors(model, mean)

    def lesson(teacher: int) -> np.ndarray:
        return order[teacher][np.isin(order[teacher], rows[teacher])]

    def predictions(teacher: int, fresh: np.ndarray) -> dict[str, np.ndarray]:
        learn = lesson(teacher)
        known, told = sides[teacher][learn], answers[teacher][learn]
        if len(learn) < MIN_ROWS:
            return {}
        # A linear prediction may lie beyond every answer that it was taught, as in a probability above 1.
        low, high = told.min(axis=0), told.max(axis=0)
        return {
            name: np.clip(learn_from(known, told, fresh), low, high) for name, learn_from in taught.items()
        }

    def left_out(teacher: int) -> np.ndarray:
        learn = lesson(teacher)
        if len(learn) < MIN_ROWS:
            return np.zeros(_GROUPS)
        group = np.empty(len(sides[teacher]), dtype=int)
        group[order[teacher]] = np.arange(len(order[teacher])) % _GROUPS
        told = answers[teacher][learn]
        low, high = told.min(axis=0), told.max(axis=0)
        everyone = np.ones((1, len(sides[2])))
        known, fresh = sides[teacher][learn], sides[2][reference]
        without = ridge_without(known, told, fresh, group[learn], _GROUPS)
        return np.array(
            [judged(2, np.clip(predicted, low, high)).skill(everyone)[0] for predicted in without]
        )

    def joined(found: Mapping[str, np.ndarray], size: int) -> np.ndarray:
        return np.mean(list(found.values()), axis=0) if found else np.tile(middle, (size, 1))

    synthetic, reference = rows[1], rows[2]
    by_synthetic = predictions(1, sides[2][reference])
    by_real = predictions(0, np.concatenate([sides[2][reference], sides[1][synthetic]]))
    real = joined(by_real, len(reference) + len(synthetic))
    return Target(
        judged(2, joined(by_synthetic, len(reference))),
        {name: judged(2, predicted) for name, predicted in by_synthetic.items()},
        judged(2, real[: len(reference)]),
        judged(1, real[len(reference) :]),
        left_out(1),
        left_out(0),
    )


def _drawn(points: np.ndarray, seed: int) -> np.ndarray:
    """Return positions in a random order that does not depend on the order of the records."""
    order = np.random.default_rng(seed).permutation(len(points))
    return np.lexsort(points.T)[order] if points.shape[1] else order
