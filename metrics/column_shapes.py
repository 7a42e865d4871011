"""How far the distribution of each single column is from the real one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mmbench.api import TABLE, Card, Column, Metric, Output, Score, Trial, param, stats

from ._scores import no_table, too_few, undefined, within


@dataclass
class ColumnShapes(Metric):
    """Kolmogorov-Smirnov statistic or total variation of each column.

    Missingness is part of a column's distribution. A missing categorical value is a level of its own. For
    ordered columns the missing values form an atom outside the order; the statistic is the largest difference
    of the shares below a threshold, with the atom counted below it or above it, whichever shows more. Without
    missing values this is the Kolmogorov-Smirnov statistic, and it is never less than the difference of the
    missing rates.
    """

    repeats: int = param(40, "halves drawn for the interval", minimum=10)

    card = Card(
        "Kolmogorov-Smirnov statistic or total variation of each column.",
        "Massey 1951, The Kolmogorov-Smirnov test for goodness of fit (J Am Stat Assoc 46); "
        "Levin, Peres 2017, Markov Chains and Mixing Times, chapter 4 (total variation)",
    )
    version = 1
    kind = "fidelity"
    needs = TABLE
    null = "uniform"
    outputs = (
        Output(
            "column-shapes",
            "Column shapes",
            "Mean over columns of the largest difference between real and synthetic shares, from 0 to 1.",
            "Anything between columns: independent columns with the right marginals look perfect.",
            "lower",
            0.0,
        ),
    )

    def scores(self, trial: Trial) -> Iterable[Score]:
        if reason := no_table(trial.reference, trial.synthetic) or too_few(trial):
            return undefined(self.outputs, reason)
        real = trial.schema.codes(trial.reference.cohort.rows)
        synthetic = trial.schema.codes(trial.synthetic.cohort.rows)
        columns = [_Shape.of(column, real[:, j], synthetic[:, j]) for j, column in enumerate(trial.schema)]

        def mean(rows: np.ndarray, others: np.ndarray) -> float:
            return float(np.mean([shape.difference(rows, others) for shape in columns]))

        sizes = (len(real), len(synthetic))
        everyone = [np.arange(n) for n in sizes]
        estimate = stats.half_subsampling(mean, sizes, trial.seed, self.repeats)
        return [
            Score.of("column-shapes", within(estimate)),
            *(
                Score("column-shapes", shape.difference(*everyone), item=column.name)
                for column, shape in zip(trial.schema, columns, strict=True)
            ),
        ]


@dataclass(frozen=True)
class _Shape:
    """One column of both samples as positions among all its values; position 0 is missing."""

    real: np.ndarray
    synthetic: np.ndarray
    values: int
    ordered: bool

    @classmethod
    def of(cls, column: Column, real: np.ndarray, synthetic: np.ndarray) -> _Shape:
        pooled = np.concatenate([real, synthetic])
        present = ~np.isnan(pooled)
        positions = np.zeros(len(pooled), dtype=int)
        distinct, inverse = np.unique(pooled[present], return_inverse=True)
        positions[present] = inverse + 1
        return cls(positions[: len(real)], positions[len(real) :], len(distinct) + 1, column.ordered)

    def difference(self, rows: np.ndarray, others: np.ndarray) -> float:
        real = np.bincount(self.real[rows], minlength=self.values) / len(rows)
        synthetic = np.bincount(self.synthetic[others], minlength=self.values) / len(others)
        gap = synthetic - real
        if not self.ordered:
            return float(np.abs(gap).sum() / 2)
        above = np.cumsum(gap[1:])
        return float(max(np.abs(above).max(initial=0), np.abs(above + gap[0]).max(initial=abs(gap[0]))))
