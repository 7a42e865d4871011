"""Whether synthetic rows obey what real rows obey: ranges, formulas, exclusive levels, recorded precision."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mmbench.api import TABLE, Card, Metric, Output, Score, Trial, param, stats

from ._marginals import compare
from ._rules import last_digits, rules
from ._scores import no_table, too_few, undefined


@dataclass
class Constraints(Metric):
    """Share of rows that break a rule, beyond that of real rows; and how numbers are rounded.

    Rules are the schema's ranges, levels, whole numbers and formulas (a derived value may differ from its
    formula by what the rounding of all columns in it explains), and pairs of levels that never meet in the
    training rows although, were their columns independent, they would but for one chance in a hundred over all
    pairs. ``constraint-violations`` is the share of synthetic rows that break at least one, less the same share
    of the reference, which need not be 0: real tables hold errors. A missing value breaks nothing.

    ``rounding`` compares the last recorded digit of every number, with one more category for values of more
    decimals than are recorded: heaped blood pressures, ages in whole years. It is the total variation of these
    categories as a root mean square over columns, less what chance gives; missing values are left out. Negative
    values of either are chance or, for violations, rows that are cleaner than real ones; they are not cut at 0.

    Details: the excess of each rule that is broken on either side, and for ``rounding`` the total variation of
    each column and ``p``, of the test that all are equal.
    """

    permutations: int = param(199, "label permutations for the rounding test", minimum=19)

    card = Card(
        "Share of rows that break declared or learned rules, and distribution of last digits.",
        "interval: Newcombe 1998, Interval Estimation for the Difference between Independent Proportions (Stat Med "
        "17), method 10; constraints: Fellegi, Holt 1976, Automatic Edit and Imputation (J Am Stat Assoc 71)",
    )
    version = 1
    kind = "plausibility"
    needs = TABLE
    null = "uniform"
    outputs = (
        Output(
            "constraint-violations",
            "Constraint violations",
            "Share of synthetic rows that break a declared range or formula or join exclusive levels, less that of "
            "real rows.",
            "Rules that nobody declared, and rows that are merely improbable.",
            "lower",
            0.0,
            range=(-1.0, 1.0),
        ),
        Output(
            "rounding",
            "Rounding",
            "Root mean square over columns of the difference of the last recorded digits, less what chance gives.",
            "Everything else about the values.",
            "lower",
            0.0,
            range=(-1.0, 1.0),
        ),
    )

    def scores(self, trial: Trial) -> Iterable[Score]:
        sides = (trial.reference, trial.synthetic, trial.train)
        if reason := no_table(*sides) or too_few(trial):
            return undefined(self.outputs, reason)
        tables = [side.cohort.rows for side in sides]
        return [*self._violations(trial, *tables), *self._rounding(trial, *tables)]

    def _violations(
        self, trial: Trial, real: pd.DataFrame, synthetic: pd.DataFrame, train: pd.DataFrame
    ) -> list[Score]:
        output = self.outputs[0]
        broken = {
            rule.name: (rule.broken(synthetic), rule.broken(real)) for rule in rules(trial.schema, train)
        }
        if not broken:
            return undefined([output], "the schema declares no rule and no levels exclude each other")
        anything = [np.any([pair[side] for pair in broken.values()], axis=0) for side in range(2)]
        return [
            Score.of(output.name, excess(*anything)),
            *(
                Score.of(output.name, excess(*pair), item=name)
                for name, pair in broken.items()
                if pair[0].any() or pair[1].any()
            ),
        ]

    def _rounding(
        self, trial: Trial, real: pd.DataFrame, synthetic: pd.DataFrame, train: pd.DataFrame
    ) -> list[Score]:
        output = self.outputs[1]
        recorded, (digits, other) = last_digits(trial.schema, train, real, synthetic)
        if not recorded:
            return undefined([output], "no column of numbers has a recorded precision")
        pooled = np.concatenate([digits, other])
        if not any(len(np.unique(column[~np.isnan(column)])) > 1 for column in pooled.T):
            return undefined([output], "the last digits do not vary on either side")
        found = compare(
            digits, other, np.zeros(len(recorded), bool), self.permutations, trial.seed, with_missing=False
        )
        return [
            Score.of(output.name, found.distance),
            Score(output.name, found.p, item="p"),
            *(
                Score(output.name, float(value), item=name)
                for name, value in zip(recorded, found.differences, strict=True)
            ),
        ]


def excess(synthetic: np.ndarray, real: np.ndarray) -> stats.Estimate:
    """Return the difference of two rates (Newcombe 1998, method 10: Wilson's intervals, combined).

    Args:
        synthetic: Whether each synthetic row does something, shape (m,).
        real: Whether each real row does, shape (n,).
    """
    (p, p_low, p_high), (q, q_low, q_high) = (_wilson(side) for side in (synthetic, real))
    low = p - q - np.hypot(p - p_low, q_high - q)
    high = p - q + np.hypot(p_high - p, q - q_low)
    return stats.Estimate(p - q, float(low), float(high), "Newcombe, from Wilson intervals")


def _wilson(hits: np.ndarray) -> tuple[float, float, float]:
    rate, n, z2 = float(hits.mean()), len(hits), stats.Z95**2
    middle = (rate + z2 / (2 * n)) / (1 + z2 / n)
    reach = stats.Z95 * np.sqrt(rate * (1 - rate) / n + z2 / (4 * n**2)) / (1 + z2 / n)
    return rate, min(rate, float(middle - reach)), max(rate, float(middle + reach))
