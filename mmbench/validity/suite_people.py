"""Validity tests V14 to V17: damaged volumes, broken pairs, shifted covariates, wrong bodies."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from scipy import ndimage

from mmbench import plugins
from mmbench.api import VOLUME, Evidence, Extractor, Trial
from mmbench.config import Config
from mmbench.validity import criteria, laws
from mmbench.validity.common import equal, located, nulls, sees_no_place, sees_null
from mmbench.validity.instruments import Reading, Trait
from mmbench.validity.laws import Sides
from mmbench.validity.model import Curve, Evidences, Profile, Series, Setting, Test, Verdict, broken, verdict
from mmbench.validity.trials import (
    Body,
    Domain,
    partly_permuted,
    people,
    repaired,
    trial_of,
)

SHARES = (0.0, 0.1, 0.3, 1.0)
LEVELS = (0.0, 1.0, 2.0, 3.0, 4.0)
DAMAGES = ("noise", "blur", "motion", "bias field")
WRONG_BODIES = {
    "sex effect turned": Body(sex=-1),
    "slopes x 0.8": Body(slope=0.8),
    "spread x 0.6": Body(noise=0.6),
    "spread x 1.3": Body(noise=1.3),
}


def damaged(volume: np.ndarray, how: str, level: float, rng: np.random.Generator) -> np.ndarray:
    """Return a volume with a graded fault, none at level 0.

    Args:
        volume: Array of shape (channels, x, y, z).
        how: ``noise`` (Rician), ``blur`` (Gaussian), ``motion`` (a ghost along the first axis) or ``bias field``.
        level: From 0 to 4.
        rng: Source of noise and of the direction of the bias field.
    """
    if not level:
        return volume
    match how:
        case "noise":
            real, imaginary = (0.04 * level * rng.standard_normal(volume.shape) for _ in range(2))
            return np.hypot(volume + real, imaginary)
        case "blur":
            return np.asarray(ndimage.gaussian_filter(volume, (0, *[0.35 * level] * 3)))
        case "motion":
            ghost = np.roll(volume, volume.shape[1] // 2, axis=1)
            step = np.roll(volume, 1, axis=1)
            return (1 - 0.1 * level) * volume + 0.06 * level * step + 0.04 * level * ghost
    axes = np.meshgrid(*(np.linspace(-1, 1, size) for size in volume.shape[1:]), indexing="ij")
    field = sum(weight * axis for weight, axis in zip(rng.standard_normal(3), axes, strict=True))
    return volume * np.exp(0.12 * level * field)


def _damages(profile: Profile, domain: Domain) -> list[Series]:
    n = min(profile.n // 2, 60)

    def make_of(how: str) -> Callable[[Setting, np.random.Generator, int], Trial]:
        def make(setting: Setting, rng: np.random.Generator, seed: int) -> Trial:
            level = float(setting)
            synthetic = people(rng, n, "syn", change=lambda volume, own: damaged(volume, how, level, own))
            return Trial(_intact(n, seed, "ref"), _seen(synthetic), _intact(2 * n, seed, "train"), seed)

        return make

    return [Series(f"V14/{domain}/{how}", LEVELS, min(profile.seeds, 2), make_of(how)) for how in DAMAGES]


@lru_cache(maxsize=8)
def _intact(n: int, seed: int, role: str) -> Evidence:
    """Return real people as the default extractor sees them; the same beside every damage."""
    return _seen(people(np.random.default_rng([seed, len(role)]), n, role))


def _seen(side: Evidence) -> Evidence:
    """Return a sample as the default extractor sees it, without measured quantities."""
    extractor: Extractor = plugins.build("measurers", str(Config.model_fields["extractor"].default), {})
    return Evidence(side.cohort, None, extractor.extract(side.cohort.images))


def _judge_damages(found: Evidences) -> Verdict:
    curves = found.under("V14/")
    if problem := broken(curves):
        return Verdict(False, problem)
    sign = 1 if found.trait.direction == "lower" else -1
    parts = []
    for name, curve in curves.items():
        rank = criteria.rank_correlation(sign * curve.means)
        parts.append(
            (criteria.ordered(sign * curve.means), f"{name.split('/')[2]}: rank correlation {rank:.2f}")
        )
    return verdict(parts)


def _broken_pairs(profile: Profile, domain: Domain) -> list[Series]:
    def pairs(setting: Setting, rng: np.random.Generator, seed: int) -> Trial:
        n = profile.n
        trial = equal("people", rng, n, seed)
        order = partly_permuted(rng, n, float(setting))
        return dataclasses.replace(trial, synthetic=repaired(trial.synthetic, order))

    def columns(setting: Setting, rng: np.random.Generator, seed: int) -> Trial:
        n = profile.n
        real, other, train = (laws.normal(rng, m, 8) for m in (n, n, 2 * n))
        for j in range(8):
            other[:, j] = other[partly_permuted(rng, n, float(setting)), j]
        return trial_of("table", Sides(real, other, train), seed)

    if domain == "table":
        return [*nulls(profile, domain), Series("V15/table/columns", SHARES, profile.seeds, columns)]
    return [Series("V15/people/pairs", SHARES, max(profile.seeds, 4), pairs)]


def _judge_broken_pairs(found: Evidences) -> Verdict:
    trait = found.trait
    curves = found.under("V15/")
    if problem := broken(curves):
        return Verdict(False, problem)
    parts = []
    for name, curve in curves.items():
        text = f"{name.split('/')[2]}: {' '.join(f'{v:.3f}' for v in curve.means)}"
        sign = 1 if trait.direction == "lower" else -1
        if name.endswith("/pairs"):
            if trait.kind == "coherence" and trait.direction == "higher" and trait.ideal == 1:
                passed = criteria.ordered(sign * curve.means) and criteria.linear(curve.means, SHARES)
            elif trait.needs_composition or len(trait.needs) > 1:
                passed = _grows(sign, curve)
            else:
                # Rows in another order than volumes are the same rows, and the same volumes.
                continue
        elif trait.null == "uniform":
            passed = all(criteria.same(v, curve.mean(0.0)) for v in curve.means)
            text += " (must stay)"
        elif trait.null == "columns" and trait.kind != "diversity":
            passed = _grows(sign, curve) and sees_null(trait, _ends(curve))
        else:
            continue
        parts.append((bool(passed), text))
    return verdict(parts)


def _grows(sign: int, curve: Curve) -> bool:
    # A tenth of the records moves a correlation by a tenth: too little to see at these sizes.
    return criteria.ordered(sign * np.array([curve.mean(share) for share in (0.0, 0.3, 1.0)]))


def _ends(curve: Curve) -> Curve:
    readings: dict[Setting, Sequence[Reading]] = {"real": curve.readings[0.0], "null": curve.readings[1.0]}
    return dataclasses.replace(curve, settings=("real", "null"), readings=readings)


def _shifted_people(profile: Profile, domain: Domain) -> list[Series]:
    def make(setting: Setting, rng: np.random.Generator, seed: int) -> Trial:
        n, moved = profile.n, float(setting)
        others = people(rng, n, "syn", older=10 * moved, heavier=2 * moved)
        return Trial(people(rng, n, "ref"), others, people(rng, 2 * n, "train"), seed)

    series = Series(f"V16/{domain}", (0.0, 1.0), max(profile.seeds, 4), make)
    return [series, *located(profile, "table"), *nulls(profile, domain)]


def _judge_shifted_people(found: Evidences) -> Verdict:
    curves, trait = found.under("V16/"), found.trait
    if problem := broken(curves):
        return Verdict(False, problem)
    if trait.kind != "coherence" and sees_no_place(found):
        return Verdict(None, "does not speak of values, but of what columns have to do with each other")
    parts = []
    for curve in curves.values():
        text = f"{curve.mean(0.0):.3f} -> {curve.mean(1.0):.3f}"
        gap = abs(curve.mean(1.0) - curve.mean(0.0))
        if trait.kind == "coherence":
            parts.append((gap <= 2 * criteria.CLOSE, f"{text}, the bodies being right"))
        else:
            parts.append((criteria.visible(curve.at(0.0), curve.at(1.0)), f"{text}, the people being others"))
    return verdict(parts)


def _wrong_bodies(profile: Profile, domain: Domain) -> list[Series]:
    def make(setting: Setting, rng: np.random.Generator, seed: int) -> Trial:
        n = profile.n
        body = WRONG_BODIES.get(str(setting), Body())
        others = people(rng, n, "syn", body=body)
        return Trial(people(rng, n, "ref"), others, people(rng, 2 * n, "train"), seed)

    return [Series(f"V17/{domain}", ("right", *WRONG_BODIES), max(profile.seeds, 4), make)]


def _judge_wrong_bodies(found: Evidences) -> Verdict:
    curves = found.under("V17/")
    if problem := broken(curves):
        return Verdict(False, problem)
    parts = []
    for curve in curves.values():
        for setting in curve.settings[1:]:
            seen = criteria.visible(curve.at("right"), curve.at(setting))
            parts.append((seen, f"{setting}: {curve.mean('right'):.3f} -> {curve.mean(setting):.3f}"))
    return verdict(parts)


def _pairing(trait: Trait) -> bool:
    return trait.kind == "coherence"


TESTS = (
    Test(
        "V14",
        "damaged volumes",
        "The score worsens with noise, blur, motion and bias field: rank correlation of at least 0.9 with each.",
        lambda trait: (
            trait.needs >= VOLUME
            and not trait.needs_composition
            and trait.kind in ("fidelity", "plausibility")
        ),
        _damages,
        _judge_damages,
        ("people",),
    ),
    Test(
        "V15",
        "shuffled pairs and columns",
        "Measures of pairing fall by the share that is shuffled, measures of single columns stay exactly.",
        lambda trait: trait.kind in ("fidelity", "coherence", "utility"),
        _broken_pairs,
        _judge_broken_pairs,
        ("table", "people"),
    ),
    Test(
        "V16",
        "other people, right bodies",
        "Coherence stays; measures of the table react.",
        lambda trait: _pairing(trait) or (trait.needs == frozenset({"table"}) and trait.distance),
        _shifted_people,
        _judge_shifted_people,
        ("people",),
    ),
    Test(
        "V17",
        "wrong bodies",
        "A turned sex effect, flatter slopes and another spread are seen.",
        _pairing,
        _wrong_bodies,
        _judge_wrong_bodies,
        ("people",),
    ),
)
