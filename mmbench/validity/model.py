"""The terms of the suite: series of trials, tests that judge the curves along them, verdicts."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmbench.api import TABLE, VOLUME, Trial
from mmbench.validity.instruments import Reading, Trait
from mmbench.validity.trials import Domain


@dataclass(frozen=True)
class Profile:
    """How much is spent.

    Attributes:
        name: ``full`` or ``quick``.
        seeds: Repetitions of a trial; curves are means over them.
        n: Records of the reference and of the synthetic sample; training samples have twice as many.
        dims: Dimensions at which equal laws are compared.
        wide: Dimensions at which the scale is varied: some distances fail only where there are many.
        sizes: Sample sizes at which equal laws are compared.
        coverage: Repetitions of the small test of intervals; none where 0.
        disjoint: Numbers of dimensions beside the disjoint one.
    """

    name: str
    seeds: int
    n: int
    dims: tuple[int, ...]
    wide: tuple[int, ...]
    sizes: tuple[int, ...]
    coverage: int
    disjoint: tuple[int, ...]


FULL = Profile("full", 5, 200, (1, 8, 64, 256), (8, 64), (100, 300, 1000), 40, (1, 10, 100, 1000))
QUICK = Profile("quick", 2, 150, (8,), (8,), (100, 300), 0, (1, 100))
SMOKE = Profile("smoke", 1, 80, (8,), (8,), (80,), 0, (1,))
PROFILES = {profile.name: profile for profile in (FULL, QUICK, SMOKE)}

Setting = float | str


@dataclass(frozen=True)
class Series:
    """Trials along one setting.

    Attributes:
        name: Names it among all series.
        settings: The settings, in order.
        seeds: Repetitions.
        make: Makes a trial of a setting, a source of draws and a seed. The source is the same for all
            settings of a repetition, so that they differ by the setting alone.
        alone: Whether every metric gets a trial of its own, which no other has left anything in.
        intervals: Whether intervals matter: metrics run with the parameters that they have by default.
        apart: Whether every metric gets a process of its own, whose peak memory is read.
        null: Kind of destroyed reference that it is about; only metrics that name that one read it.
    """

    name: str
    settings: tuple[Setting, ...]
    seeds: int
    make: Callable[[Setting, np.random.Generator, int], Trial]
    alone: bool = False
    intervals: bool = False
    apart: bool = False
    null: str = ""

    def trial(self, setting: Setting, seed: int) -> Trial:
        """Return the trial of a setting and a repetition."""
        return self.make(setting, np.random.default_rng(zlib.crc32(f"{self.name}/{seed}".encode())), seed)

    def points(self) -> Iterable[tuple[str, Setting, int]]:
        """Yield the name, setting and repetition of each trial."""
        return ((self.name, setting, seed) for setting in self.settings for seed in range(self.seeds))


@dataclass(frozen=True)
class Curve:
    """Readings of one output along a series, by setting and repetition."""

    settings: tuple[Setting, ...]
    readings: Mapping[Setting, Sequence[Reading]]

    def at(self, setting: Setting) -> list[float]:
        """Return the values of a setting, one for each repetition."""
        return [reading.value for reading in self.readings[setting]]

    def mean(self, setting: Setting) -> float:
        """Return the mean value of a setting; NaN where one is NaN."""
        return float(np.mean(self.at(setting)))

    @property
    def means(self) -> np.ndarray:
        """Mean values along the settings, shape (settings,)."""
        return np.array([self.mean(setting) for setting in self.settings])

    @property
    def all(self) -> list[Reading]:
        """All readings."""
        return [reading for setting in self.settings for reading in self.readings[setting]]

    @property
    def absent(self) -> bool:
        """Whether the output speaks of something that these trials do not have: reasons everywhere, no value."""
        return all(reading.reason and not reading.given for reading in self.all)


@dataclass(frozen=True)
class Verdict:
    """What a test says of an output: whether it passed, ``None`` where it does not apply, and what was seen."""

    passed: bool | None
    detail: str


@dataclass(frozen=True)
class Evidences:
    """All curves of one output, by the name of the series.

    Attributes:
        trait: What the output declares.
        curves: Curves by series.
    """

    trait: Trait
    curves: Mapping[str, Curve]

    def under(self, prefix: str) -> dict[str, Curve]:
        """Return the curves of series whose name begins so and that the output speaks of."""
        return {
            name: curve for name, curve in self.curves.items() if name.startswith(prefix) and not curve.absent
        }

    def unit(self, series: str) -> float:
        """Return the difference that counts as 1: the declared width, or the distance of a far law.

        Args:
            series: Name of the series in question; its domain and dimension choose the far law.
        """
        if math.isfinite(self.trait.width):
            return self.trait.width
        parts = series.split("/")
        far = self.curves.get("/".join(["far", *parts[1:3]]))
        if far is None:
            far = self.curves.get(f"far/{parts[1]}/d=8")
        if far is None or far.absent:
            return math.nan
        return abs(far.mean("far") - far.mean("near"))


@dataclass(frozen=True)
class Test:
    """One validity test.

    Attributes:
        id: ``V1`` and so on.
        title: What is varied, in a few words.
        demands: One sentence: what must hold.
        applies: Whether it says anything about an output, from what that declares.
        series: Series that it needs on a domain.
        judge: Gives the verdict from the curves of one output.
        domains: Domains that it has series on.
    """

    __test__ = False

    id: str
    title: str
    demands: str
    applies: Callable[[Trait], bool]
    series: Callable[[Profile, Domain], list[Series]]
    judge: Callable[[Evidences], Verdict]
    domains: tuple[Domain, ...] = ("table", "features")


def domains_of(trait: Trait) -> tuple[Domain, ...]:
    """Return the domains that an output can be tried on: people have everything."""
    if trait.needs == TABLE and not trait.needs_composition:
        return ("table", "people")
    if trait.needs == VOLUME and not trait.needs_composition:
        return ("features", "people")
    return ("people",)


def verdict(parts: Iterable[tuple[bool, str]]) -> Verdict:
    """Join what was seen on several series: all must hold; what failed is named first."""
    parts = list(parts)
    if not parts:
        return Verdict(None, "speaks of something that these trials do not have")
    failed = [text for passed, text in parts if not passed]
    return Verdict(not failed, "; ".join(failed or [text for _, text in parts]))


def broken(curves: Mapping[str, Curve]) -> str:
    """Return the first exception or missing value among curves, or an empty text."""
    for name, curve in curves.items():
        for setting in curve.settings:
            for reading in curve.readings[setting]:
                if reading.error:
                    return f"{name} at {setting}: raised {reading.error}"
                if not reading.given:
                    return f"{name} at {setting}: no value ({reading.reason or 'and no reason'})"
    return ""
