"""How far the distribution of each single column is from the real one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mmbench.api import TABLE, Card, Metric, Output, Score, Trial, param

from ._marginals import compare
from ._scores import no_table, too_few, undefined


@dataclass
class ColumnShapes(Metric):
    """Kolmogorov-Smirnov statistic or total variation of each column, less what chance gives.

    Missingness is part of a column's distribution. A missing categorical value is a level of its own. For
    ordered columns the missing values form an atom outside the order; the statistic is the largest difference
    of the shares below a threshold, with the atom counted below it or above it, whichever shows more. Without
    missing values this is the Kolmogorov-Smirnov statistic, and it is never less than the difference of the
    missing rates.

    The headline is the root mean square of these statistics over columns after subtraction of their mean
    squares over permutations of the labels real and synthetic. So it is 0 in expectation for real records at
    any size, where the mean of the statistics themselves grows with 1 / sqrt(n); it is negative as often as
    not there, and not cut at 0. Columns with one value throughout both samples are left out.

    Details: for each column the statistic as it is, and its p-value adjusted for the number of columns; ``floor``,
    what the permutations give, as a root mean square over columns; ``p``, of the test that all are equal.
    """

    permutations: int = param(199, "label permutations for the floor's spread and the p-values", minimum=19)

    card = Card(
        "Kolmogorov-Smirnov statistic or total variation of each column, floor-corrected.",
        "Massey 1951, The Kolmogorov-Smirnov test for goodness of fit (J Am Stat Assoc 46); "
        "Levin, Peres 2017, Markov Chains and Mixing Times, chapter 4 (total variation); adjusted p-values: "
        "Westfall, Young 1993, Resampling-Based Multiple Testing, section 2.6",
    )
    version = 3
    kind = "fidelity"
    needs = TABLE
    null = "uniform"
    outputs = (
        Output(
            "column-shapes",
            "Column shapes",
            "Root mean square over columns of the largest difference between real and synthetic shares, less what "
            "chance gives.",
            "Anything between columns: independent columns with the right marginals look perfect.",
            "lower",
            0.0,
            range=(-1.0, 1.0),
        ),
    )

    def scores(self, trial: Trial) -> Iterable[Score]:
        if reason := no_table(trial.reference, trial.synthetic) or too_few(trial):
            return undefined(self.outputs, reason)
        schema = trial.schema
        real, synthetic = (schema.codes(side.cohort.rows) for side in (trial.reference, trial.synthetic))
        pooled = np.concatenate([real, synthetic])
        if not any(len(np.unique(values)) > 1 for values in pooled.T):
            return undefined(self.outputs, "no column varies on either side")
        ordered = np.array([column.ordered for column in schema])
        found = compare(real, synthetic, ordered, self.permutations, trial.seed)
        floor = float(np.sqrt(np.mean(found.floors[found.floors > 0] ** 2)))
        name = self.outputs[0].name
        return [
            Score.of(name, found.distance),
            Score(name, found.p, item="p"),
            Score(name, floor, item="floor"),
            *(Score(name, float(d), item=c.name) for c, d in zip(schema, found.differences, strict=True)),
            *(
                Score(name, float(p), item=f"adjusted p of {c.name}")
                for c, p in zip(schema, found.adjusted, strict=True)
            ),
        ]
