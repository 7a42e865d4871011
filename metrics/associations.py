"""How far the associations between columns are from the real ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np

from mmbench.api import TABLE, Card, Metric, Output, Schema, Score, Trial, param

from ._association import MixedTable, dense_codes
from ._contingency import theils_u
from ._scores import no_table, too_few, undefined
from ._structure import Variables, distance, max_t, pair_weights, unordered_levels


@dataclass
class Associations(Metric):
    """Root mean square difference of the association structures of all pairs of columns.

    The association of two columns is a vector of mean products of standardised variables: ranks for an ordered
    column or one of two levels, one indicator for each level of another. Its length is Spearman's |rho|, the
    correlation ratio eta of ranks between levels, or Cramer's V (phi over the root of the number of levels less
    one), in each case uncorrected; its direction says which levels go with which values. The headline is the
    root of the mean over pairs of the squared length of the difference between synthetic and real vector, less
    the sampling variance of that difference. So it is 0 in expectation for real records at any size; it is
    negative as often as not there, and not cut at 0.

    Pairs that have no association in the reference (a constant column, too few complete pairs) are left out; a
    pair that has none in the synthetic table counts as association 0. Missing values are left out pair by pair.

    Details: for each pair the signed difference of strength: Spearman's rho, the signed root of epsilon squared
    between an unordered and an ordered column, bias-corrected Cramer's V between unordered ones; for each ordered
    pair of columns with unordered levels that of Theil's U, such as ``U(sex | ethnicity)``; and ``p``, by the
    largest studentised difference over label permutations.
    """

    permutations: int = param(199, "label permutations of the test", minimum=19)

    card = Card(
        "Difference of the association structures of mixed-type columns, floor-corrected.",
        "Spearman 1904, The proof and measurement of association between two things (Am J Psychol 15); "
        "Kelley 1935, An unbiased correlation ratio measure (PNAS 21); "
        "Bergsma 2013, A bias-correction for Cramer's V and Tschuprow's T (J Korean Stat Soc 42); "
        "Theil 1970, On the Estimation of Relationships Involving Qualitative Variables (Am J Sociol 76); "
        "unbiased square: Chen, Qin 2010 (Ann Stat 38); permutation: Chung, Romano 2013 (Ann Stat 41)",
    )
    version = 3
    kind = "fidelity"
    needs = TABLE
    null = "columns"
    outputs = (
        Output(
            "association-difference",
            "Association difference",
            "Root mean square over pairs of columns of the difference between real and synthetic association, less "
            "what chance gives.",
            "Dependence between ordered columns that is not monotone, or that needs three columns to show.",
            "lower",
            0.0,
            range=(-2.0, 2.0),
        ),
    )

    def scores(self, trial: Trial) -> Iterable[Score]:
        if reason := no_table(trial.reference, trial.synthetic) or too_few(trial):
            return undefined(self.outputs, reason)
        tables = [side.cohort.rows for side in (trial.reference, trial.synthetic)]
        codes = [trial.schema.codes(table) for table in tables]
        levels = unordered_levels(trial.schema)
        name = self.outputs[0].name
        variables = [Variables.of(side, levels) for side in codes]
        real, synthetic = (side.products() for side in variables)
        weights = pair_weights(*variables[0].pairs(), levels, codes[0], real.defined)
        if not weights.any():
            return undefined(self.outputs, "no pair of columns has an association in the reference")
        counted = weights > 0
        estimate = distance(real.of(counted), synthetic.of(counted), weights[counted])
        del real, synthetic  # as large as what is made next
        pooled = Variables.of(np.concatenate(codes), levels).products().of(counted)
        p = max_t(pooled, len(codes[0]), self.permutations, trial.seed)
        strengths = [MixedTable.of(trial.schema, table).associations() for table in tables]
        difference = np.nan_to_num(strengths[1]) - strengths[0]
        names = trial.schema.names
        return [
            Score.of(name, estimate),
            Score(name, p, item="p"),
            *(
                Score(name, float(difference[i, j]), item=f"{names[i]} ~ {names[j]}")
                for i, j in combinations(range(len(names)), 2)
                if np.isfinite(difference[i, j])
            ),
            *(Score(name, value, item=item) for item, value in _directed(trial.schema, *codes)),
        ]


def _directed(schema: Schema, real: np.ndarray, synthetic: np.ndarray) -> Iterator[tuple[str, float]]:
    """Yield the difference of Theil's U of every two columns of unordered levels, in either direction."""
    columns = [j for j, column in enumerate(schema) if column.discrete and not column.ordered]
    dense = [dense_codes(side[:, columns]) for side in (real, synthetic)]
    for a, b in permutations(range(len(columns)), 2):
        real_u, synthetic_u = (theils_u(side[:, a], side[:, b]) for side in dense)
        if np.isfinite(real_u):
            item = f"U({schema.names[columns[a]]} | {schema.names[columns[b]]})"
            yield item, float(np.nan_to_num(synthetic_u) - real_u)
