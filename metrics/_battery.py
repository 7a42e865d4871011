"""The coherence battery on arrays: what is measured on real and synthetic volumes, given what their rows say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm

from mmbench.api import Schema

from ._conditional import BENDS, REACH, Design, Ridge, Scale
from ._explanations import Scatter, best, explanations
from ._kappa import Index, Scorer, Scores, standard_error
from ._same_law import Conditional, MaxTest, conditional_two_sample, max_test
from ._transfer import Moments, calibration, partial_slopes

EXPLAINED = 0.25
"""A quantity of which real rows explain less than this share of variance is no primary one."""
ALIKE = 0.8
"""Nor is one whose residuals correlate with a primary one's by more."""


@dataclass(frozen=True)
class Side:
    """One sample on common scales.

    Attributes:
        x: Regressors of the rows, shape (n, p).
        effects: The first of them, without bends and products, shape (n, e).
        quantities: Standardised quantities, shape (n, q).
        expected: What the real regression gives for the rows, shape (n, q).
    """

    x: np.ndarray
    effects: np.ndarray
    quantities: np.ndarray
    expected: np.ndarray

    @property
    def residual(self) -> np.ndarray:
        """Quantities less what is expected of them, shape (n, q)."""
        return self.quantities - self.expected


@dataclass(frozen=True)
class Law:
    """How real quantities follow from real rows, learned from the training records.

    Attributes:
        labels: Name of each effect.
        residuals: Leave-one-out residuals of the training records, shape (n, q).
        explained: Share of each quantity's variance that rows explain, shape (q,).
        scorer: Log-odds that quantities belong to a row.
        readable: Effects of which quantities explain at least ``EXPLAINED``, by position, best first.
    """

    labels: tuple[str, ...]
    residuals: np.ndarray
    explained: np.ndarray
    scorer: Scorer
    readable: tuple[int, ...]
    _design: Design
    _scale: Scale
    _ridge: Ridge
    _strength: np.ndarray
    _reader: Ridge

    @classmethod
    def fit(cls, schema: Schema, rows: pd.DataFrame, values: np.ndarray) -> Law:
        """Learn it.

        Args:
            schema: Columns of the table.
            rows: Training rows.
            values: Their quantities, shape (n, q), none missing.
        """
        design, scale = Design.fit(schema, rows), Scale.fit(values)
        x, y = design.regressors(rows), scale.of(values)
        ridge = Ridge.fit(x, y)
        variance = np.maximum(y.var(axis=0), 1e-12)
        explained = 1 - (ridge.residuals**2).mean(axis=0) / variance
        effects = x[:, : len(design.labels)]
        linear = partial_slopes(effects, y)
        strength = np.abs(linear.values / np.maximum(linear.influence.std(axis=0), 1e-12)) * np.sqrt(len(x))
        reader = Ridge.fit(_bent(y), effects)
        told = 1 - (reader.residuals**2).mean(axis=0) / np.maximum(effects.var(axis=0), 1e-12)
        return cls(
            design.labels,
            ridge.residuals,
            explained,
            Scorer.fit(ridge.residuals, y),
            tuple(int(k) for k in np.argsort(-told, kind="stable") if told[k] >= EXPLAINED),
            design,
            scale,
            ridge,
            strength.reshape(len(design.labels), -1),
            reader,
        )

    def side(self, rows: pd.DataFrame, values: np.ndarray) -> Side:
        """Return a sample on the scales of the training records."""
        x = self._design.regressors(rows)
        return Side(x, x[:, : len(self.labels)], self._scale.of(values), self._ridge.predict(x))

    def scores(self, real: Side, synthetic: Side) -> Scores:
        """Return the log-odds of a synthetic sample beside what is due."""
        return Scores.of(
            self.scorer,
            (synthetic.expected, synthetic.quantities),
            (real.expected, real.quantities),
            synthetic.effects,
            real.effects,
        )

    def reading(self, side: Side) -> np.ndarray:
        """Return what the quantities of a sample say of its effects, shape (n, e)."""
        return self._reader.predict(_bent(side.quantities))

    def primary(self, most: int) -> list[int]:
        """Return the quantities that rows explain best, but none twice, by position."""
        chosen: list[int] = []
        correlation = np.abs(np.atleast_2d(np.corrcoef(self.residuals.T)))
        for j in np.argsort(-self.explained, kind="stable"):
            if (
                self.explained[j] >= EXPLAINED
                and len(chosen) < most
                and not (correlation[j, chosen] > ALIKE).any()
            ):
                chosen.append(int(j))
        return chosen

    def partition(self, rows: pd.DataFrame) -> Iterator[tuple[str, np.ndarray]]:
        """Yield groups of rows; see :meth:`Design.partition`."""
        return self._design.partition(rows)

    def strongest(self, quantity: int, most: int) -> list[int]:
        """Return the effects with the clearest partial association with a quantity, by position."""
        return [int(k) for k in np.argsort(-self._strength[:, quantity], kind="stable")[:most]]


@dataclass(frozen=True)
class Battery:
    """Everything that the battery found.

    Attributes:
        kappa: Coherence index.
        scores: What it is made of; gives that of subgroups too.
        separation: What real matched pairs of the reference score above mismatched ones, in nats.
        separation_error: Its standard error.
        association: Test of equal partial slopes.
        association_difference: Synthetic less real partial slopes, shape (e, q).
        association_error: Their standard errors, shape (e, q).
        conditional: Conditional two-sample test.
        shift: Synthetic less real mean residual, in standard deviations of the quantity, with errors, shape (2, q).
        slope: Synthetic over real calibration slope, with errors, shape (2, q).
        scatter: Synthetic over real residual spread, with errors of its logarithm, shape (2, q).
        explanation: Name of the deviation that predicts the synthetic pairs best.
        broken: Share of broken pairs of largest likelihood.
        own: Variance of the quantities that synthetic rows explain over what real ones explain.
        reading: Synthetic over real slope of each effect on what quantities say of it, with errors, shape (2, e).
        residual_correlation: Of the reference and of the synthetic sample, shape (2, q, q).
        ranks: Probability integral transforms of the synthetic quantities, shape (n, q).
    """

    kappa: Index
    scores: Scores
    separation: float
    separation_error: float
    association: MaxTest
    association_difference: np.ndarray
    association_error: np.ndarray
    conditional: Conditional
    shift: np.ndarray
    slope: np.ndarray
    scatter: np.ndarray
    explanation: str
    broken: float
    own: float
    reading: np.ndarray
    residual_correlation: np.ndarray
    ranks: np.ndarray

    @property
    def kappa_p(self) -> float:
        """p-value of the hypothesis that the index is 1."""
        return float(2 * norm.sf(abs(self.kappa.value - 1) / max(self.kappa.error, 1e-12)))


def examine(law: Law, real: Side, synthetic: Side, seed: int) -> Battery:
    """Run the battery.

    Args:
        law: How real quantities follow from real rows, learned elsewhere.
        real: Reference sample.
        synthetic: Sample under test.
        seed: Seed of folds and draws.
    """
    scorer = law.scorer
    matched = scorer.matched(real.expected, real.quantities)
    by_row, by_volume = scorer.mismatched(real.expected, real.quantities)
    scores = law.scores(real, synthetic)
    spread = law.residuals.std(axis=0)
    slopes = [partial_slopes(side.effects, side.residual / spread) for side in (real, synthetic)]
    difference = slopes[1].values - slopes[0].values
    x, effects, quantities = (
        np.concatenate([getattr(side, name) for side in (real, synthetic)])
        for name in ("x", "effects", "quantities")
    )
    label = np.arange(len(x)) >= len(real.x)
    before, after = (calibration(side.expected, side.quantities) for side in (real, synthetic))
    read = [calibration(law.reading(side), side.effects)[1] for side in (real, synthetic)]
    scatter = _compared(before[2], after[2])
    found, broken = explanations(
        synthetic.expected,
        synthetic.quantities,
        synthetic.effects,
        Scatter.fit(law.residuals),
        seed,
    )
    shape = (len(law.labels), real.quantities.shape[1])
    return Battery(
        scores.index(),
        scores,
        float(matched.mean() - by_row.mean()),
        standard_error(matched - by_row - by_volume),
        max_test([one.influence for one in slopes], difference, seed),
        difference.reshape(shape),
        _error(*slopes).reshape(shape),
        conditional_two_sample(x, effects, quantities, label, seed),
        _compared(before[0], after[0]),
        _ratio(before[1], after[1]),
        np.stack([np.exp(scatter[0]), scatter[1]]),
        best(found).name,
        broken,
        _own_share(synthetic, scorer),
        _ratio(*read),
        np.stack([np.atleast_2d(np.corrcoef(side.residual.T)) for side in (real, synthetic)]),
        _transforms(law.residuals, synthetic.residual),
    )


def _bent(quantities: np.ndarray) -> np.ndarray:
    z = np.clip(quantities, -REACH, REACH)
    return np.column_stack([z, BENDS * z**2, BENDS * np.tanh(z)])


def _error(a: Moments, b: Moments) -> np.ndarray:
    return np.sqrt(a.influence.var(axis=0) / len(a.influence) + b.influence.var(axis=0) / len(b.influence))


def _compared(real: Moments, synthetic: Moments) -> np.ndarray:
    return np.stack([synthetic.values - real.values, _error(real, synthetic)])


def _ratio(real: Moments, synthetic: Moments) -> np.ndarray:
    """Return the ratios of statistics and their standard errors, shape (2, q)."""
    a, b = np.where(np.abs(real.values) > 1e-6, real.values, np.nan), synthetic.values
    relative = real.influence.var(axis=0) / len(real.influence) * (b / a) ** 2
    error = np.sqrt(relative + synthetic.influence.var(axis=0) / len(synthetic.influence)) / np.abs(a)
    return np.stack([b / a, error])


def _own_share(side: Side, scorer: Scorer) -> float:
    """Return the variance that synthetic rows explain among whitened quantities, over what they should explain."""
    white = side.quantities @ scorer.within
    expected = side.expected @ scorer.within
    ridge = Ridge.fit(side.x, white)
    explained = white.var(axis=0).sum() - (ridge.residuals**2).mean(axis=0).sum()
    return float(explained / max(expected.var(axis=0).sum(), 1e-12))


def _transforms(real: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    """Return the share of real residuals below each synthetic one, shape (n, q)."""
    ordered = np.sort(real, axis=0)
    columns: Sequence[np.ndarray] = [
        np.searchsorted(ordered[:, j], synthetic[:, j]) / len(ordered) for j in range(real.shape[1])
    ]
    return np.column_stack(columns)
