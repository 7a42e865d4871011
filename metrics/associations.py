"""How far the associations between columns are from the real ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from mmbench.api import TABLE, Card, Metric, Output, Score, Trial, param, stats

from ._association import MixedTable
from ._scores import no_table, too_few, undefined, within


@dataclass
class Associations(Metric):
    """Mean absolute difference of the mixed-type association matrices.

    Spearman's rho between ordered columns (two levels count as ordered), the signed root of epsilon squared
    between an unordered and an ordered column, bias-corrected Cramer's V between unordered ones, over the
    records in which both columns are present. Pairs that have no association in the reference (a constant
    column, too few complete pairs) are left out; a pair that has none in the synthetic table counts as
    association 0.
    """

    repeats: int = param(40, "halves drawn for the interval", minimum=10)

    card = Card(
        "Mean absolute difference of the association matrices of mixed-type columns.",
        "Spearman 1904, The proof and measurement of association between two things (Am J Psychol 15); "
        "Kelley 1935, An unbiased correlation ratio measure (PNAS 21); "
        "Bergsma 2013, A bias-correction for Cramer's V and Tschuprow's T (J Korean Stat Soc 42)",
    )
    version = 1
    kind = "fidelity"
    needs = TABLE
    null = "columns"
    outputs = (
        Output(
            "association-difference",
            "Association difference",
            "Mean over pairs of columns of the absolute difference between real and synthetic association.",
            "Dependence that is not monotone, that needs three columns to show, or which level of an unordered "
            "column goes with which values.",
            "lower",
            0.0,
        ),
    )

    def scores(self, trial: Trial) -> Iterable[Score]:
        if reason := no_table(trial.reference, trial.synthetic) or too_few(trial):
            return undefined(self.outputs, reason)
        real = MixedTable.of(trial.schema, trial.reference.cohort.rows)
        synthetic = MixedTable.of(trial.schema, trial.synthetic.cohort.rows)

        def differences(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
            return np.nan_to_num(synthetic.associations(others)) - real.associations(rows)

        def mean(rows: np.ndarray, others: np.ndarray) -> float:
            values = np.abs(differences(rows, others)[upper])
            return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")

        upper = np.triu_indices(len(trial.schema), k=1)
        sizes = (len(trial.reference), len(trial.synthetic))
        whole = differences(*(np.arange(n) for n in sizes))
        if not np.isfinite(whole[upper]).any():
            return undefined(self.outputs, "no pair of columns has an association in the reference")
        names = trial.schema.names
        estimate = within(stats.half_subsampling(mean, sizes, trial.seed, self.repeats), high=np.inf)
        return [
            Score.of("association-difference", estimate),
            *(
                Score("association-difference", float(whole[i, j]), item=f"{names[i]} ~ {names[j]}")
                for i, j in combinations(range(len(names)), 2)
                if np.isfinite(whole[i, j])
            ),
        ]
