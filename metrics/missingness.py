"""Whether values are missing as often as in the real table, and for the same people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from mmbench.api import TABLE, Card, Metric, Output, Score, Trial, param

from ._association import MIN_PAIRS
from ._scores import no_table, too_few, undefined
from ._structure import Products, Variables, distance, max_t, pair_weights, unordered_levels


@dataclass
class Missingness(Metric):
    """Differences of missing rates, and of what missingness goes with.

    ``missing-rates`` is the root mean square over all columns of the difference between synthetic and real
    missing rate. ``missing-patterns`` is that of the association between what is missing in a column and,
    one by one, what is missing in the others and the values of the others: whether it is the same people whose
    values are missing. It takes the columns with at least five missing values in the reference; one in which none
    is missing in the synthetic table has no association there and counts as 0. From either square its sampling
    variance is taken off, so that it is 0 in expectation for real records at any size; it is negative as often as
    not there, and not cut at 0.

    Details: signed differences (synthetic minus real) by column and by pair, for an unordered column of
    the strength of association; and ``p``, by the largest studentised difference over label permutations.
    """

    permutations: int = param(199, "label permutations of the tests", minimum=19)

    card = Card(
        "Differences of missing rates and of what missingness goes with, floor-corrected.",
        "Rubin 1976, Inference and Missing Data (Biometrika 63); Little, Rubin 2019, Statistical Analysis with "
        "Missing Data, section 1.3; unbiased square: Chen, Qin 2010 (Ann Stat 38)",
    )
    version = 2
    kind = "fidelity"
    needs = TABLE
    null = "uniform"
    outputs = (
        Output(
            "missing-rates",
            "Missing rates",
            "Root mean square over columns of the difference between real and synthetic missing rate, less what "
            "chance gives.",
            "For whom the values are missing.",
            "lower",
            0.0,
            range=(-1.0, 1.0),
        ),
        Output(
            "missing-patterns",
            "Missing patterns",
            "Root mean square difference of the association of missingness with what else is missing and with "
            "the values of other columns, less what chance gives.",
            "How much is missing, missingness that depends on the missing value itself, and dependence that is not "
            "monotone.",
            "lower",
            0.0,
            range=(-2.0, 2.0),
        ),
    )

    def scores(self, trial: Trial) -> Iterable[Score]:
        if reason := no_table(trial.reference, trial.synthetic) or too_few(trial):
            return undefined(self.outputs, reason)
        real, synthetic = (
            trial.schema.codes(side.cohort.rows) for side in (trial.reference, trial.synthetic)
        )
        return [*self._rates(real, synthetic, trial), *self._patterns(real, synthetic, trial)]

    def _rates(self, real: np.ndarray, synthetic: np.ndarray, trial: Trial) -> list[Score]:
        name = self.outputs[0].name
        counted = (np.isnan(real).any(axis=0)) | (np.isnan(synthetic).any(axis=0))
        if not counted.any():
            return undefined(self.outputs[:1], "no value is missing on either side")
        ours, theirs = _rates(real), _rates(synthetic)
        pooled = _rates(np.concatenate([real, synthetic])).of(counted)
        estimate = distance(ours, theirs, np.full(len(counted), 1 / len(counted)))
        differences = theirs.moments - ours.moments
        return [
            Score.of(name, estimate),
            Score(name, max_t(pooled, len(real), self.permutations, trial.seed), item="p"),
            *(
                Score(name, float(differences[j]), item=trial.schema.names[j])
                for j in np.flatnonzero(counted)
            ),
        ]

    def _patterns(self, real: np.ndarray, synthetic: np.ndarray, trial: Trial) -> list[Score]:
        name = self.outputs[1].name
        missing = np.isnan(real).sum(axis=0)
        gone = np.flatnonzero((missing >= MIN_PAIRS) & (len(real) - missing >= MIN_PAIRS))
        if not len(gone):
            return undefined(
                self.outputs[1:],
                f"no column of the reference has {MIN_PAIRS} missing values and as many present ones",
            )
        levels = np.concatenate([np.zeros(len(gone), int), unordered_levels(trial.schema)])

        def variables(values: np.ndarray) -> Variables:
            return Variables.of(np.hstack([np.isnan(values[:, gone]).astype(float), values]), levels)

        sides = [variables(values) for values in (real, synthetic)]
        ours, theirs = (side.products(len(gone)) for side in sides)
        firsts, seconds = sides[0].pairs(len(gone))
        # Where a value is there it tells nothing about its own missingness.
        apart = seconds != gone[firsts] + len(gone)
        codes = np.hstack([np.isnan(real[:, gone]).astype(float), real])
        weights = pair_weights(firsts, seconds, levels, codes, ours.defined, apart)
        counted = weights > 0
        if not counted.any():
            return undefined(
                self.outputs[1:], "what is missing in the reference has no association to compare"
            )
        pooled = variables(np.concatenate([real, synthetic])).products(len(gone)).of(counted)
        labels = [f"{trial.schema.names[j]} missing" for j in gone] + trial.schema.names
        estimate = distance(ours.of(counted), theirs.of(counted), weights[counted])
        return [
            Score.of(name, estimate),
            Score(name, max_t(pooled, len(real), self.permutations, trial.seed), item="p"),
            *(
                Score(name, value, item=f"{labels[a]} ~ {labels[b]}")
                for a, b, value in _strengths(firsts, seconds, ours, theirs, counted)
            ),
        ]


def _rates(values: np.ndarray) -> Products:
    """Return missing rates as moments of the records, with the influence of each record."""
    missing = np.isnan(values).astype(float)
    rates = missing.mean(axis=0)
    return Products(rates, missing - rates, np.ones(len(rates), bool))


def _strengths(
    firsts: np.ndarray, seconds: np.ndarray, real: Products, synthetic: Products, counted: np.ndarray
) -> Iterator[tuple[int, int, float]]:
    """Yield two columns and their difference of association, signed where each of them is one variable."""
    for a, b in dict.fromkeys(zip(firsts[counted], seconds[counted], strict=True)):
        chosen = (firsts == a) & (seconds == b)
        before, after = real.moments[chosen], synthetic.moments[chosen]
        single = len(before) == 1
        value = after[0] - before[0] if single else np.linalg.norm(after) - np.linalg.norm(before)
        yield int(a), int(b), float(value)
