"""What the tests share: series that several need, and judges of many curves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from mmbench.anchors import destroyed
from mmbench.api import Trial
from mmbench.validity import criteria, laws
from mmbench.validity.instruments import Reading, Trait
from mmbench.validity.laws import Sides
from mmbench.validity.model import Curve, Evidences, Profile, Series, Setting, Verdict, broken, verdict
from mmbench.validity.trials import Domain, measured, people, trial_of

EVERYWHERE: tuple[Domain, ...] = ("table", "features", "people")
D = 8
"""Dimension of the laws where it is not what matters: that of a clinical table."""
NULLS = ("pairs", "columns", "uniform", "noise", "copies")


def series_of(
    name: str, settings: tuple[Setting, ...], seeds: int, domain: Domain, draw: Callable[..., Sides]
) -> Series:
    """Return a series of arrays as trials of a domain."""

    def make(setting: Setting, rng: np.random.Generator, seed: int) -> Trial:
        return trial_of(domain, draw(setting, rng), seed)

    return Series(name, settings, seeds, make)


def far(profile: Profile, domain: Domain) -> list[Series]:
    """Return, for each dimension, an equal law and one far off: their distance is the unit of open-ended scores."""

    def draw_of(d: int) -> Callable[[str, np.random.Generator], Sides]:
        def draw(setting: str, rng: np.random.Generator) -> Sides:
            real, train, other = (laws.normal(rng, m, d) for m in (profile.n, 2 * profile.n, profile.n))
            if setting == "far":
                other = rng.permuted(other, axis=0) + laws.shifts(d)
            return Sides(real, other, train)

        return draw

    dims = sorted({*profile.dims, *profile.wide, D})
    return [series_of(f"far/{domain}/d={d}", ("near", "far"), 1, domain, draw_of(d)) for d in dims]


def equal(domain: Domain, rng: np.random.Generator, n: int, seed: int, d: int = 8) -> Trial:
    """Return a trial of one law on a domain: two samples of n and a training sample of 2 n."""
    if domain == "people":
        return Trial(people(rng, n, "ref"), people(rng, n, "syn"), people(rng, 2 * n, "train"), seed)
    return trial_of(domain, Sides(*(laws.normal(rng, m, d) for m in (n, n, 2 * n))), seed)


def nulls(profile: Profile, domain: Domain) -> list[Series]:
    """Return, for each kind of destroyed reference that a domain has, real records against it."""

    def make_of(how: str) -> Callable[[Setting, np.random.Generator, int], Trial]:
        def make(setting: Setting, rng: np.random.Generator, seed: int) -> Trial:
            trial = equal(domain, rng, profile.n // 3, seed)
            if setting == "real":
                return trial
            if domain == "features" and how == "noise":
                side = trial.synthetic
                spoilt = dataclasses.replace(side, features=np.asarray(side.features) + laws.shifts(8))
            else:
                spoilt = destroyed(how, trial.train, trial.synthetic, seed, measured)
            return dataclasses.replace(trial, synthetic=spoilt)

        return make

    possible = {"table": ("columns", "uniform", "copies"), "features": ("noise", "copies"), "people": NULLS}
    return [
        Series(f"V0/{domain}/{how}", ("real", "null"), min(profile.seeds, 3), make_of(how), null=how)
        for how in possible[domain]
    ]


def located(profile: Profile, domain: Domain) -> list[Series]:
    """Return one law against itself moved by ten standard deviations, exactly: who sees no place stays as is."""

    def draw(setting: float, rng: np.random.Generator) -> Sides:
        real, train, other = (laws.normal(rng, m, 8) for m in (profile.n, 2 * profile.n, profile.n))
        return Sides(real, other + setting, train)

    place = series_of(f"place/{domain}", (0.0, 10.0), 1, domain, draw)
    return [place, *nulls(profile, domain)]


def sees_no_place(found: Evidences) -> bool:
    """Whether an output speaks of dependence or of gaps alone: a move of all columns leaves it be, its null does not.

    An output that sees neither is not excused from seeing the former.
    """
    places = [curve for name, curve in found.curves.items() if name.startswith("place/")]
    unmoved = any(curve.absent or criteria.same(curve.mean(0.0), curve.mean(10.0)) for curve in places)
    return unmoved and any(sees_null(found.trait, curve) for curve in found.under("V0/").values())


def sees_null(trait: Trait, curve: Curve) -> bool:
    """Whether the destroyed reference is worse than the real one in every repetition."""
    worse = np.array(curve.at("null")) - np.array(curve.at("real"))
    return bool((worse < 0).all() if trait.direction == "higher" else (worse > 0).all())


def alarms(trait: Trait, readings: Sequence[Reading]) -> list[bool]:
    """Return whether each reading of a privacy score raises its alarm: by its p-value, or else its interval."""
    fired = []
    for reading in readings:
        if np.isfinite(reading.p):
            fired.append(reading.p <= 0.05)
        elif np.isfinite(reading.low):
            worst = reading.low > trait.ideal if trait.direction == "lower" else reading.high < trait.ideal
            fired.append(bool(worst))
        else:
            gap = (reading.value - trait.ideal) * (1 if trait.direction == "lower" else -1)
            fired.append(bool(gap > criteria.CLOSE))
    return fired


def by_dimension(
    test: str,
    settings: tuple[float, ...],
    draw: Callable[[int, float, np.random.Generator, int], Sides],
    wide: bool = False,
) -> Callable[[Profile, Domain], list[Series]]:
    """Return what makes the series of a test, one for each dimension, and those that its judge needs.

    Args:
        test: The test.
        settings: Settings of each series.
        draw: Draws the sides at a dimension, a setting, and a size.
        wide: Whether at the profile's wide dimensions, not at the usual one.
    """

    def series(profile: Profile, domain: Domain) -> list[Series]:
        def draw_of(d: int) -> Callable[[float, np.random.Generator], Sides]:
            return lambda setting, rng: draw(d, setting, rng, profile.n)

        return [
            *far(profile, domain),
            *located(profile, domain),
            *(
                series_of(f"{test}/{domain}/d={d}", settings, profile.seeds, domain, draw_of(d))
                for d in (profile.wide if wide else (D,))
            ),
        ]

    return series


def on_curves(
    test: str, judge: Callable[[Trait, np.ndarray], tuple[bool, str]]
) -> Callable[[Evidences], Verdict]:
    """Return a judge of all mean curves of a test, in units of the output."""

    def judge_all(found: Evidences) -> Verdict:
        curves = found.under(f"{test}/")
        if curves and sees_no_place(found):
            return Verdict(None, "does not speak of values, but of what columns have to do with each other")
        if problem := broken(curves):
            return Verdict(False, problem)
        parts = []
        for name, curve in curves.items():
            passed, text = judge(found.trait, curve.means / found.unit(name))
            parts.append((passed, f"{name.partition('/')[2]}: {text}"))
        return verdict(parts)

    return judge_all


def shown(values: np.ndarray) -> str:
    """Return a curve as text."""
    return " ".join(f"{value:.2f}" for value in values)


def anything(trait: Trait) -> bool:
    """Whether a test asks something of every output."""
    return True


def compares(trait: Trait) -> bool:
    """Whether an output compares laws: a distance, or a score of fidelity or diversity."""
    return trait.distance or trait.share
