"""What is tested: metrics as instruments that say what they declare and read a trial."""

from __future__ import annotations

import dataclasses
import math
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mmbench import plugins
from mmbench.anchors import responses
from mmbench.api import Kind, Metric, Score, Trial
from mmbench.scoring import why_not
from mmbench.sweep import AUTO, make_sweep
from mmbench.validity.trials import VolumesRead

INTERVAL_PARAMETERS = ("repeats", "resamples")
"""Parameters that only widen or narrow an interval; at their least, so that a suite of trials stays quick."""


@dataclass(frozen=True)
class Trait:
    """What an output declares; which tests apply and what they demand follows from it alone."""

    output: str
    kind: Kind
    direction: str
    ideal: float
    range: tuple[float, float]
    needs: frozenset[str]
    needs_composition: bool
    null: str

    @property
    def distance(self) -> bool:
        """Whether it measures how far synthetic records are from real ones, 0 at best."""
        return self.direction == "lower" and self.kind in ("fidelity", "diversity")

    @property
    def share(self) -> bool:
        """Whether it is a score of fidelity or diversity, the higher the better."""
        return self.direction == "higher" and self.kind in ("fidelity", "diversity")

    @property
    def type(self) -> str:
        """What tests make of it: a distance, or its kind."""
        return "distance" if self.distance else self.kind

    @property
    def width(self) -> float:
        """Difference that counts as 1: that between least and largest value, or else the ideal; NaN for neither.

        A range that is open at one end only, such as that of a ratio, has no width of its own.
        """
        low, high = self.range
        if math.isfinite(high - low):
            return high - low
        return abs(self.ideal) if self.ideal else math.nan


@dataclass(frozen=True)
class Reading:
    """One headline score with what beside it raises an alarm.

    Attributes:
        value: The score; NaN where there is none.
        low: Lower end of the interval.
        high: Upper end.
        p: The detail ``p`` of the score, NaN where there is none: what raises its alarm.
        exact: The detail ``p-labels``, the exact part of an alarm that joins several tests; otherwise ``p``.
        reason: Why there is no score.
        error: The exception, where one was raised.
        seconds: Processor time that all outputs of the instrument took together.
        megabytes: What it added to the peak memory of a process of its own; NaN where it had none.
    """

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    exact: float = math.nan
    reason: str = ""
    error: str = ""
    seconds: float = 0.0
    megabytes: float = math.nan

    @property
    def given(self) -> bool:
        """Whether there is a finite score."""
        return math.isfinite(self.value)


NOT_HERE = "not applicable"


@dataclass(frozen=True)
class Instrument:
    """A metric under test.

    Attributes:
        name: Name of the metric, or of the peer.
        source: Where it comes from, with the version.
        traits: What its outputs declare.
        compute: Returns scores of a trial, headlines and details.
    """

    name: str
    source: str
    traits: tuple[Trait, ...]
    compute: Callable[[Trial, str], list[Score]]

    def read(self, trial: Trial, key: str = "") -> dict[str, Reading]:
        """Return a reading of each output; an exception becomes readings that name it.

        Args:
            trial: What is compared.
            key: Names the trial among all of the suite; peers that were run elsewhere look it up.
        """
        names = [trait.output for trait in self.traits]
        start = time.process_time()
        try:
            scores = self.compute(trial, key)
        except VolumesRead:
            return {name: Reading(reason=NOT_HERE) for name in names}
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{type(error).__name__}: {error} ({place.name}, line {place.lineno})"
            return {name: Reading(error=text) for name in names}
        heads = {score.output: score for score in scores if not score.item}
        chances, exact = (
            {score.output: score.value for score in scores if score.item == item}
            for item in ("p", "p-labels")
        )
        absent = Score("", math.nan)
        return {
            name: Reading(
                float(heads.get(name, absent).value),
                float(heads.get(name, absent).low),
                float(heads.get(name, absent).high),
                float(chances.get(name, math.nan)),
                float(exact.get(name, chances.get(name, math.nan))),
                heads.get(name, absent).reason,
                seconds=time.process_time() - start,
            )
            for name in names
        }


def installed(names: list[str] | None = None) -> list[Instrument]:
    """Return installed metrics as instruments.

    Args:
        names: Names of metrics; all by default.

    Raises:
        PluginError: A name is unknown or a metric cannot be built.
    """
    return [of_metric(name) for name in (names or plugins.names("metrics"))]


def of_metric(name: str, thrifty: bool = True) -> Instrument:
    """Return one installed metric as an instrument.

    Args:
        name: Name of the metric.
        thrifty: Whether its interval parameters are put at their least.
    """
    values = least(plugins.load("metrics", name)) if thrifty else {}
    metric: Metric = plugins.build("metrics", name, values)
    return of_instance(metric, name, plugins.origin("metrics", name))


def of_instance(metric: Metric, name: str, source: str = "") -> Instrument:
    """Return a metric as an instrument."""

    def compute(trial: Trial, key: str) -> list[Score]:
        reason = why_not(metric, trial)
        if reason:
            return [Score(output.name, math.nan, reason=NOT_HERE) for output in metric.outputs]
        return list(metric.scores(trial))

    def answered(trial: Trial, key: str) -> list[Score]:
        # No generator takes part: the synthetic people with a value stand for those that are drawn at it.
        if trial.responses or trial.synthetic.composition is None:
            return compute(trial, key)
        sweep = make_sweep(AUTO, trial.train.cohort, len(trial.reference))
        return compute(dataclasses.replace(trial, responses=responses(trial.synthetic, sweep)), key)

    return Instrument(name, source, traits_of(metric), answered if metric.needs_responses else compute)


def traits_of(metric: Metric | type[Metric]) -> tuple[Trait, ...]:
    """Return what a metric declares of each output."""
    return tuple(
        Trait(
            output.name,
            output.kind or metric.kind,
            output.direction,
            output.ideal,
            output.range,
            metric.needs,
            metric.needs_composition,
            metric.null,
        )
        for output in metric.outputs
    )


def least(metric: type[Metric]) -> dict[str, Any]:
    """Return the least values of a metric's interval parameters."""
    fields: tuple[dataclasses.Field[Any], ...] = (
        dataclasses.fields(metric) if dataclasses.is_dataclass(metric) else ()
    )
    return {
        item.name: item.metadata["minimum"]
        for item in fields
        if item.name in INTERVAL_PARAMETERS and item.metadata.get("minimum") is not None
    }
