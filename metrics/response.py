"""Whether measured quantities move as in real people where a conditional generator is given other values of a column."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.stats import norm

from mmbench.api import BOTH, Card, Evidence, Metric, Output, Score, Trial, param, stats

from ._conditional import Scale
from ._curves import Curve, Group, Slope, slope
from ._scores import MAX_UNMEASURABLE, no_composition
from ._verdict import Statistic
from .coherence import standing

_EXPLAINED = 0.02
"""A column that explains less of every quantity among real people has no curve to speak of."""
_FEWEST_REAL = 40
_FEWEST = 5
"""Fewer records at a value give no spread worth the name."""
_METHOD = "first-order influence of the records, real and synthetic"


@dataclass
class ResponseCurves(Metric):
    """The response of a conditional generator: where it is given sex, age or BMI, do its bodies follow?

    For every swept column and value the real expectation r of the measured quantities is learned from all training and
    reference records by a regression on that column alone (a natural cubic spline of a number, a mean a level): the
    other columns follow it as they do in people. The score is the slope of the mean quantities of the records drawn at
    each value on r, over all values, columns and quantities, each quantity on the scale on which its scatter is most
    even. Its interval counts both the scatter of the synthetic records and the uncertainty of r.
    """

    margin: float = param(0.2, "a slope counts as 1 within this", minimum=0.01, maximum=0.5)
    alpha: float = param(0.05, "level at which a slope is within or beyond", minimum=0.001, maximum=0.2)

    card = Card(
        "Whether quantities follow a column that a conditional generator is given as they do in real people.",
        "mmbench; splines: Harrell 2001, Regression Modeling Strategies; errors of the real curve: Fuller 1987, "
        "Measurement Error Models; equivalence: Schuirmann 1987 (J Pharmacokinet Biopharm 15)",
    )
    version = 1
    kind = "coherence"
    needs = BOTH
    needs_composition = True
    needs_responses = True
    null = "pairs"
    null_draws: ClassVar[int] = 20
    outputs = (
        Output(
            "response",
            "Response to given values",
            "Slope of measured quantities on what real people of the given sex, age or BMI have: 1 where they move as in "
            "people, 0 where they ignore what was given; more than 1 is too much.",
            "A shift that is the same at every value, scatter about the curve, and whatever is not measured.",
            "higher",
            1.0,
        ),
    )

    def scores(self, trial: Trial) -> Iterable[Score]:
        if not trial.responses:
            return [_none("no records were drawn at given values")]
        if reason := no_composition(trial):
            return [_none(reason)]
        try:
            answers = _Answers.of(trial)
        except _Unassessable as error:
            return [_none(str(error))]
        return list(self._told(answers))

    def _told(self, answers: _Answers) -> Iterator[Score]:
        if not answers.columns:
            yield _none("; ".join(f"{name}: {reason}" for name, reason in answers.left_out.items()))
        else:
            every = slope([(column.curve, column.groups) for column in answers.columns])
            yield from self._slope("", every)
        for column in answers.columns:
            yield from self._slope(column.name, slope([(column.curve, column.groups)]))
            yield from _points(column, answers.names)
        for name, reason in answers.left_out.items():
            yield _none(reason, f"response to {name}")

    def _slope(self, column: str, found: Slope) -> Iterator[Score]:
        item = f"response to {column}" if column else ""
        if not math.isfinite(found.value):
            yield _none(
                "real quantities do not clearly move with the values: there is no slope to speak of", item
            )
            return
        one = Statistic("response", column, found.value, found.error, 1 - self.margin, 1 + self.margin)
        yield Score("response", one.value, item, *one.interval(), _METHOD, "", *standing(one, self.alpha))
        p = 2 * float(norm.sf(abs(one.value - 1) / max(one.error, 1e-12)))
        yield Score("response", p, f"p of {column}" if column else "p", note="of a slope of 1")


def _none(reason: str, item: str = "") -> Score:
    return Score("response", math.nan, item, reason=reason)


class _Unassessable(Exception):
    """Why a trial says nothing of responses."""


@dataclass(frozen=True)
class _Column:
    """A swept column with its real curve and the records at each of its values."""

    name: str
    values: tuple[str, ...]
    curve: Curve
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class _Answers:
    """All swept columns that say something, and why the others do not."""

    names: list[str]
    columns: list[_Column]
    left_out: dict[str, str]

    @classmethod
    def of(cls, trial: Trial) -> _Answers:
        names = _common_quantities(trial)
        real = [_complete(side, names) for side in (trial.train, trial.reference)]
        codes = np.concatenate([one.codes for one in real])
        raw = np.concatenate([one.quantities for one in real])
        if len(raw) < _FEWEST_REAL:
            raise _Unassessable(f"{len(raw)} real records were measured; at least {_FEWEST_REAL} are needed")
        scale = Scale.fit(raw)
        columns, left_out = [], {}
        for name in dict.fromkeys(response.column for response in trial.responses):
            own = codes[:, trial.schema.names.index(name)]
            groups = _groups(trial, name, names, scale)
            if len(groups) < 2:
                left_out[name] = f"fewer than two of its values have {_FEWEST} measured records"
            elif np.isfinite(own).sum() < _FEWEST_REAL:
                left_out[name] = f"fewer than {_FEWEST_REAL} real records have a value"
            else:
                curve = Curve.fit(own, scale.of(raw), trial.schema[name].discrete)
                if curve.explained.max() >= _EXPLAINED:
                    columns.append(_Column(name, tuple(groups), curve, tuple(groups.values())))
                else:
                    left_out[name] = f"explains less than {_EXPLAINED:.0%} of every quantity in real people"
        return cls(names, columns, left_out)


def _groups(trial: Trial, column: str, names: Sequence[str], scale: Scale) -> dict[str, Group]:
    """Return the records at each value of a column, by the value as text, where there are enough."""
    place = trial.schema.names.index(column)
    found = {}
    for response in trial.responses:
        if response.column == column:
            drawn = _complete(response.evidence, names)
            known = np.isfinite(drawn.codes[:, place])
            if known.sum() >= _FEWEST:
                quantities = scale.of(drawn.quantities[known])
                found[_text(response.value)] = Group(drawn.codes[known, place], quantities, drawn.ids[known])
    return found


@dataclass(frozen=True)
class _Measured:
    """The records of one sample on which everything was measured."""

    codes: np.ndarray
    quantities: np.ndarray
    ids: np.ndarray


def _complete(side: Evidence, names: Sequence[str]) -> _Measured:
    if side.composition is None:
        raise _Unassessable("nothing was measured on the volumes at the given values")
    values = side.composition[list(names)].to_numpy(float)
    rows = np.isfinite(values).all(axis=1)
    return _Measured(side.cohort.schema.codes(side.cohort.rows)[rows], values[rows], side.cohort.ids[rows])


def _common_quantities(trial: Trial) -> list[str]:
    """Return the quantities that practically every real person has."""
    composition = trial.train.composition
    if composition is None:
        raise _Unassessable("nothing was measured on the volumes of the training sample")
    names = [
        str(name)
        for name in composition
        if composition[name].notna().mean() >= 0.95 and composition[name].std() > 0
    ]
    if not names:
        raise _Unassessable("no quantity was measured on enough training volumes")
    found = [one.evidence.composition for one in trial.responses if one.evidence.composition is not None]
    drawn = sum(len(one.evidence) for one in trial.responses)
    lost = 1 - sum(int(one[names].notna().all(axis=1).sum()) for one in found) / max(drawn, 1)
    if lost > MAX_UNMEASURABLE:
        raise _Unassessable(
            f"{lost:.0%} of the volumes at given values could not be measured; at most {MAX_UNMEASURABLE:.0%} may be"
        )
    return names


def _points(column: _Column, names: Sequence[str]) -> Iterator[Score]:
    """Yield the curve: mean quantities at each value in standard deviations of real people, beside the real ones."""
    for value, group in zip(column.values, column.groups, strict=True):
        real = column.curve.expected(group.codes)
        reach = stats.Z95 * np.sqrt((column.curve.influence(group.codes) ** 2).sum(axis=0))
        means = group.quantities.mean(axis=0)
        errors = group.quantities.std(axis=0, ddof=1) / math.sqrt(len(group.quantities))
        for j, name in enumerate(names):
            ends = (means[j] - stats.Z95 * errors[j], means[j] + stats.Z95 * errors[j])
            note = f"real {real[j]:.3f}, {real[j] - reach[j]:.3f} to {real[j] + reach[j]:.3f}"
            yield Score(
                "response", float(means[j]), f"{name} at {column.name}={value}", *ends, "normal", note=note
            )


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
