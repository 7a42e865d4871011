"""Validity tests V5 to V7: modes that are lost or invented."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mmbench.validity import criteria, laws
from mmbench.validity.common import by_dimension, compares, far, located, on_curves, series_of, shown
from mmbench.validity.instruments import Trait
from mmbench.validity.laws import Sides
from mmbench.validity.model import Profile, Series, Test
from mmbench.validity.trials import Domain

DROPPED = (0.0, 3.0, 5.0, 7.0, 9.0)
FADED = (0.0, 0.5, 0.9, 0.95, 1.0)
INVENTED = (1.0, 3.0, 5.0, 7.0, 10.0)
REAL_MODES = 5


def _mode_scale(d: int) -> float:
    return float(np.interp(np.log(d), np.log([1, 8, 64]), [1 / 6, 1 / 3, 1]))


def _dropped(d: int, setting: float, rng: np.random.Generator, n: int) -> Sides:
    means, scale = laws.diagonal_modes(d), _mode_scale(d)
    real, train = (laws.mixture(rng, m, means, scale) for m in (n, 2 * n))
    kept = np.arange(laws.MODES) < laws.MODES - setting
    return Sides(real, laws.mixture(rng, n, means, scale, kept), train)


def _faded(d: int, setting: float, rng: np.random.Generator, n: int) -> Sides:
    means, scale = laws.diagonal_modes(d), _mode_scale(d)
    real, train = (laws.mixture(rng, m, means, scale) for m in (n, 2 * n))
    shares = np.where(np.arange(laws.MODES) == 0, 1.0, 1.0 - setting)
    return Sides(real, laws.mixture(rng, n, means, scale, shares), train)


def _judge_modes(middle: int) -> Callable[[Trait, np.ndarray], tuple[bool, str]]:
    def judge(trait: Trait, y: np.ndarray) -> tuple[bool, str]:
        text = f"{shown(y)} as modes are lost"
        if trait.distance:
            return criteria.ordered(y), text
        if trait.kind == "fidelity":
            return criteria.flat(y, criteria.STRAY), text
        return criteria.falling(y) and bool(y[0] - y[middle] >= criteria.STRAY), text

    return judge


def _invention(profile: Profile, domain: Domain) -> list[Series]:
    means = laws.scattered_modes()

    def draw(setting: float, rng: np.random.Generator) -> Sides:
        n = profile.n
        real, train = (laws.mixture(rng, m, means[:REAL_MODES], 0.25) for m in (n, 2 * n))
        return Sides(real, laws.mixture(rng, n, means[: int(setting)], 0.25), train)

    name = f"V7/{domain}/d=2"
    return [
        *far(profile, domain),
        *located(profile, domain),
        series_of(name, INVENTED, profile.seeds, domain, draw),
    ]


def _judge_invention(trait: Trait, y: np.ndarray) -> tuple[bool, str]:
    true = INVENTED.index(float(REAL_MODES))
    text = f"{shown(y)} for 1 to 10 modes where 5 are real"
    if trait.distance:
        return criteria.lowest_at(y, true), text
    if trait.kind == "fidelity":
        return criteria.flat(y[: true + 1], criteria.STRAY) and criteria.falling(y[true:]), text
    return criteria.rising(y[: true + 1]), text


TESTS = (
    Test(
        "V5",
        "modes dropped one by one",
        "Diversity falls early; fidelity stays; a distance grows.",
        compares,
        by_dimension("V5", DROPPED, _dropped),
        on_curves("V5", _judge_modes(2)),
    ),
    Test(
        "V6",
        "modes fading together",
        "Diversity falls before they are gone; fidelity stays; a distance grows.",
        compares,
        by_dimension("V6", FADED, _faded),
        on_curves("V6", _judge_modes(3)),
    ),
    Test(
        "V7",
        "modes invented",
        "Fidelity falls beyond the real modes, diversity rises up to them, a distance is least there.",
        compares,
        _invention,
        on_curves("V7", _judge_invention),
    ),
)
