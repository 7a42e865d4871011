"""Validity tests V1, V3, V4, V8, V10 and V13: simple laws that are varied in one respect."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mmbench.validity import criteria, laws
from mmbench.validity.common import (
    D,
    by_dimension,
    compares,
    far,
    located,
    on_curves,
    sees_no_place,
    series_of,
    shown,
)
from mmbench.validity.instruments import Trait
from mmbench.validity.laws import Sides
from mmbench.validity.model import Evidences, Profile, Series, Test, Verdict, broken, verdict
from mmbench.validity.trials import Domain

SHIFTS = (-1.0, -0.5, -0.2, 0.0, 0.2, 0.5, 1.0)
SCALES = (0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0)
BAD_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def _equal_laws(profile: Profile, domain: Domain) -> list[Series]:
    def draw_of(d: int, n: int) -> Callable[[float, np.random.Generator], Sides]:
        def draw(setting: float, rng: np.random.Generator) -> Sides:
            real, train, floor, other = (laws.normal(rng, m, d) for m in (n, 2 * n, n, n))
            return Sides(real, floor if setting == 0 else other, train)

        return draw

    settings = (0.0, 1.0)
    return far(profile, domain) + [
        series_of(f"V1/{domain}/d={d}/n={n}", settings, profile.seeds, domain, draw_of(d, n))
        for d in profile.dims
        for n in profile.sizes
    ]


def _judge_equal_laws(found: Evidences) -> Verdict:
    curves = found.under("V1/")
    if problem := broken(curves):
        return Verdict(False, problem)
    parts = []
    for name, curve in curves.items():
        unit = found.unit(name)
        gaps = (np.array(curve.at(1.0)) - np.array(curve.at(0.0))) / unit
        raw = (np.mean(curve.at(1.0) + curve.at(0.0)) - found.trait.ideal) / unit
        label = name.partition("/")[2]
        parts.append(
            (
                criteria.unbiased(gaps),
                f"{label}: {gaps.mean():+.3f} beyond its floor ({raw:+.3f} from its ideal)",
            )
        )
    return verdict(parts)


def _shift(d: int, setting: float, rng: np.random.Generator, n: int) -> Sides:
    real, train, other = (laws.normal(rng, m, d) for m in (n, 2 * n, n))
    return Sides(real, other + setting * laws.shifts(d), train)


def _judge_shift(trait: Trait, y: np.ndarray) -> tuple[bool, str]:
    middle = SHIFTS.index(0.0)
    if trait.distance:
        passed = (
            criteria.lowest_at(y, middle) and criteria.ordered(y[middle:]) and criteria.ordered(y[middle::-1])
        )
        return passed, f"{shown(y)} over the shift"
    ends = max(y[0], y[-1])
    return criteria.bell(y, middle) and bool(ends <= criteria.CLOSE), f"{shown(y)} over the shift"


def _scale(d: int, setting: float, rng: np.random.Generator, n: int) -> Sides:
    real, train, other = (laws.normal(rng, m, d) for m in (n, 2 * n, n))
    return Sides(real, other * setting, train)


def _judge_scale(trait: Trait, y: np.ndarray) -> tuple[bool, str]:
    one = SCALES.index(1.0)
    text = f"{shown(y)} at scales from 0.3 to 3"
    if trait.distance:
        # Next to the truth the distances themselves are small: a hundredth is allowed there.
        narrow = [y[SCALES.index(s)] > y[one] for s in (0.7, 0.8, 1.25, 1.5)]
        return all(narrow) and criteria.lowest_at(y, one, 0.01), text
    if trait.kind == "fidelity":
        return criteria.falling(y), text
    wide = criteria.bell(y, one) or criteria.rising(y)
    return wide, text


def _outliers(profile: Profile, domain: Domain) -> list[Series]:
    def draw(setting: str, rng: np.random.Generator) -> Sides:
        sides = [laws.normal(rng, m, D) for m in (profile.n, profile.n, 2 * profile.n)]
        outlier = np.full(D, 6.0)
        if setting == "real":
            sides[0][0] = sides[2][0] = outlier
        elif setting == "synthetic":
            sides[1][0] = outlier
        return Sides(*sides)

    def heavy(setting: float, rng: np.random.Generator) -> Sides:
        sides = [
            np.column_stack([rng.standard_normal(m), laws.pareto(rng, m)])
            for m in (profile.n, profile.n, 2 * profile.n)
        ]
        sides[1][:, 0] += setting
        return Sides(*sides)

    settings = ("none", "real", "synthetic")
    return [
        *far(profile, domain),
        *located(profile, domain),
        series_of(f"V8/{domain}/d={D}", settings, profile.seeds, domain, draw),
        series_of(f"V8/{domain}/pareto", (-6.0, 0.0, 6.0), profile.seeds, domain, heavy),
    ]


def _judge_outliers(found: Evidences) -> Verdict:
    curves = found.under("V8/")
    if problem := broken(curves):
        return Verdict(False, problem)
    parts = []
    for name, curve in curves.items():
        y = curve.means / found.unit(name)
        label = name.partition("/")[2]
        if label.endswith("pareto"):
            if sees_no_place(found):
                continue
            passed = criteria.lowest_at(y, 1) if found.trait.distance else criteria.bell(y, 1)
            parts.append((passed, f"{label}: {shown(y)} over the shift"))
        else:
            change = y[1:] - y[0]
            parts.append(
                (
                    bool(np.abs(change).max() <= criteria.CLOSE),
                    f"{label}: changes by {change[0]:+.3f}, {change[1]:+.3f}",
                )
            )
    return verdict(parts)


def _disjoint(profile: Profile, domain: Domain) -> list[Series]:
    def draw(setting: float, rng: np.random.Generator) -> Sides:
        real, other, train = (
            rng.standard_normal((m, int(setting) + 1)) for m in (profile.n, profile.n, 2 * profile.n)
        )
        other[:, 0] += 6
        return Sides(real, other, train)

    settings = tuple(float(d) for d in profile.disjoint)
    return [
        *located(profile, domain),
        series_of(f"V10/{domain}", settings, min(profile.seeds, 2), domain, draw),
    ]


def _judge_disjoint(trait: Trait, y: np.ndarray) -> tuple[bool, str]:
    return bool((y <= criteria.CLOSE).all()), f"{shown(y)} with ever more equal dimensions beside"


def _spoilt(d: int, setting: float, rng: np.random.Generator, n: int) -> Sides:
    real, train, other = (laws.normal(rng, m, d) for m in (n, 2 * n, n))
    bad = np.arange(n) < round(setting * n)
    other[bad] += 20
    return Sides(real, other, train)


def _judge_spoilt(trait: Trait, y: np.ndarray) -> tuple[bool, str]:
    text = f"{shown(y)} as a share of records is spoilt"
    if trait.distance:
        return criteria.ordered(y), text
    return criteria.linear(y, BAD_SHARES), text


def _fidelity(trait: Trait) -> bool:
    return trait.share and trait.kind == "fidelity"


TESTS = (
    Test(
        "V1",
        "equal laws",
        "Fresh samples of one law score as two real samples do, at every size and dimension.",
        lambda trait: trait.kind not in ("coherence", "utility"),
        _equal_laws,
        _judge_equal_laws,
    ),
    Test(
        "V3",
        "mean shift",
        "A score peaks where there is no shift and ends near 0; a distance is least there and grows.",
        compares,
        by_dimension("V3", SHIFTS, _shift),
        on_curves("V3", _judge_shift),
    ),
    Test(
        "V4",
        "scale",
        "Fidelity falls with the scale; diversity rises or peaks at 1; a distance is least at 1, not below.",
        compares,
        by_dimension("V4", SCALES, _scale, wide=True),
        on_curves("V4", _judge_scale),
    ),
    Test(
        "V8",
        "outliers and a heavy tail",
        "One outlier changes less than 0.05; a column without a mean hides no shift of another.",
        compares,
        _outliers,
        _judge_outliers,
    ),
    Test(
        "V10",
        "one disjoint dimension",
        "Near 0 however many equal dimensions stand beside it.",
        lambda trait: trait.share,
        _disjoint,
        on_curves("V10", _judge_disjoint),
    ),
    Test(
        "V13",
        "share of spoilt records",
        "Fidelity falls in proportion; a distance grows.",
        lambda trait: trait.distance or _fidelity(trait),
        by_dimension("V13", BAD_SHARES, _spoilt),
        on_curves("V13", _judge_spoilt),
    ),
)
