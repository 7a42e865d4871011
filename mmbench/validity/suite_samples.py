"""Validity tests V0, V2 and V19 to V23: how the same law reaches a metric."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import stats

from mmbench.api import Trial
from mmbench.validity import criteria, laws
from mmbench.validity.common import EVERYWHERE, alarms, anything, compares, equal, far, nulls, sees_null
from mmbench.validity.laws import Sides
from mmbench.validity.model import Evidences, Profile, Series, Setting, Test, Verdict, broken, verdict
from mmbench.validity.trials import Domain, trial_of

LARGE = {"table": 64, "features": 512}
MAX_SECONDS, MAX_MEGABYTES = 60, 2000


def _judge_null(found: Evidences) -> Verdict:
    parts = []
    for name, curve in found.under("V0/").items():
        if name.endswith(f"/{found.trait.null}") and not broken({name: curve}):
            seen = sees_null(found.trait, curve)
            parts.append(
                (seen, f"{name}: {curve.mean('real'):.3f} for real, {curve.mean('null'):.3f} for destroyed")
            )
    if not parts:
        problem = broken(found.under("V0/"))
        return Verdict(False if problem else None, problem or "gives reasons, no values, at these sizes")
    # One kind of trial suffices: a table of numbers has nothing missing that could be destroyed.
    right = [text for passed, text in parts if passed]
    return Verdict(bool(right), "; ".join(right or [text for _, text in parts]))


def _copies(profile: Profile, domain: Domain) -> list[Series]:
    def make(setting: Setting, rng: np.random.Generator, seed: int) -> Trial:
        trial = equal(domain, rng, profile.n, seed)
        if setting == "reference":
            return dataclasses.replace(trial, synthetic=trial.reference)
        if setting == "train":
            return dataclasses.replace(trial, synthetic=trial.train.take(np.arange(profile.n)))
        return trial

    return [
        *far(profile, domain),
        *nulls(profile, domain),
        Series(f"V2/{domain}", ("fresh", "reference", "train"), min(profile.seeds, 3), make),
    ]


def _judge_copies(found: Evidences) -> Verdict:
    curves, trait = found.under("V2/"), found.trait
    if problem := broken(curves):
        return Verdict(False, problem)
    parts = []
    for name, curve in curves.items():
        value = curve.mean("reference")
        if trait.kind == "privacy":
            fired = alarms(trait, curve.readings["train"])
            parts.append(
                (all(fired), f"{name}: alarm in {sum(fired)} of {len(fired)} on copies of training records")
            )
        elif trait.distance:
            excess = np.array(curve.at("reference")) - trait.ideal
            # An unbiased estimate, which declares that it may fall below its ideal, does so here: two equal
            # arrays are nearer to each other than two samples of one law.
            unbiased = trait.range[0] < trait.ideal
            passed = bool((excess <= 1e-8).all() and (unbiased or (excess >= -1e-8).all()))
            parts.append((passed, f"{name}: {value:.3g} for the reference itself"))
        elif trait.share:
            parts.append((criteria.close(value, 1), f"{name}: {value:.3f} for the reference itself"))
    return verdict(parts)


def _sizes(profile: Profile, domain: Domain) -> list[Series]:
    n = profile.n

    def make(setting: Setting, rng: np.random.Generator, seed: int) -> Trial:
        size = round(float(setting) * n)
        real, train, other = (laws.normal(rng, m, 8) for m in (n, 2 * n, size))
        return trial_of(domain, Sides(real, other, train), seed)

    return [*far(profile, domain), Series(f"V19/{domain}/d=8", (1.0, 0.5, 2.0, 10.0), profile.seeds, make)]


def _judge_sizes(found: Evidences) -> Verdict:
    curves = found.under("V19/")
    if problem := broken(curves):
        return Verdict(False, problem)
    parts = []
    for name, curve in curves.items():
        for size in (0.5, 2.0, 10.0):
            gaps = (np.array(curve.at(size)) - np.array(curve.at(1.0))) / found.unit(name)
            text = f"{name.split('/')[1]}: {gaps.mean():+.3f} at {size:g} n"
            parts.append((criteria.unbiased(gaps), text))
    return verdict(parts)


def _duplicates(profile: Profile, domain: Domain) -> list[Series]:
    def make(setting: Setting, rng: np.random.Generator, seed: int) -> Trial:
        trial = equal(domain, rng, profile.n, seed)
        draw = np.random.default_rng(seed).integers(0, profile.n, profile.n)
        if setting == "synthetic":
            return dataclasses.replace(trial, synthetic=trial.synthetic.take(draw))
        if setting == "reference":
            return dataclasses.replace(trial, reference=trial.reference.take(draw))
        return trial

    return [Series(f"V20/{domain}", ("none", "synthetic", "reference"), 1, make)]


def _judge_duplicates(found: Evidences) -> Verdict:
    curves = found.under("V20/")
    if problem := broken(curves):
        return Verdict(False, problem)
    outside = [
        f"{name}: {r.value:.3g} lies outside [{r.low:.3g}, {r.high:.3g}]"
        for name, curve in curves.items()
        for r in curve.all
        if np.isfinite(r.low) and not r.low - 1e-9 <= r.value <= r.high + 1e-9
    ]
    return verdict([(not outside, "; ".join(outside) or "finite, within its interval")] if curves else [])


def _repetitions(profile: Profile, domain: Domain) -> list[Series]:
    def make(setting: Setting, rng: np.random.Generator, seed: int) -> Trial:
        return equal(domain, rng, 120, seed)

    if not profile.coverage:
        return []
    return [Series(f"V21/{domain}", ("fresh",), profile.coverage, make, intervals=True)]


def _judge_repetitions(found: Evidences) -> Verdict:
    curves = found.under("V21/")
    if not curves:
        return Verdict(None, "too costly for the quick suite")
    if problem := broken(curves):
        return Verdict(False, problem)
    parts = []
    for name, curve in curves.items():
        readings = curve.readings["fresh"]
        centre = np.mean([r.value for r in readings])
        with_interval = [r for r in readings if np.isfinite(r.low) and np.isfinite(r.high)]
        if with_interval:
            held = [r.low - 1e-9 <= centre <= r.high + 1e-9 for r in with_interval]
            # A hundred scores sit this test.
            least = stats.binom.ppf(0.001, len(held), 0.95)
            parts.append(
                (
                    sum(held) >= least,
                    f"{name.partition('/')[2]}: {sum(held)} of {len(held)} intervals hold the mean",
                )
            )
        p = np.array([r.exact for r in readings])
        # Few values cannot be uniform; benchmarks/intervals.py asks that they are not too often small.
        if np.isfinite(p).all() and len(np.unique(p)) > len(p) / 2:
            fit = stats.kstest(p, "uniform").pvalue
            parts.append((fit > 0.001, f"p-values uniform with p = {fit:.2f}"))
    return verdict(parts) if parts else Verdict(None, "gives no interval")


def _repeats(profile: Profile, domain: Domain) -> list[Series]:
    def make(setting: Setting, rng: np.random.Generator, seed: int) -> Trial:
        return equal(domain, rng, 60, seed)

    # One stream of draws for all three: the same data, alone twice, and after all other metrics.
    alone = Series(f"V22/{domain}", ("first", "again"), 1, make, alone=True)
    return [
        alone,
        Series(alone.name + "/together", ("after others",), 1, lambda s, r, seed: alone.trial(s, seed)),
    ]


def _judge_repeats(found: Evidences) -> Verdict:
    curves = found.under("V22/")
    if raised := [r.error for curve in curves.values() for r in curve.all if r.error]:
        return Verdict(False, f"raised {raised[0]}")
    parts = []
    for name, curve in curves.items():
        if name.endswith("/together"):
            continue
        together = curves[f"{name}/together"].all[0]
        first, again = (curve.readings[setting][0] for setting in ("first", "again"))
        for label, other in (("run again", again), ("after other metrics", together)):
            for part in ("value", "low", "high", "p"):
                a, b = getattr(first, part), getattr(other, part)
                parts.append(
                    (criteria.same(a, b, 0.0), f"{part} {label} on {name.split('/')[1]}: {a!r} and {b!r}")
                )
    result = verdict(parts)
    return Verdict(result.passed, "bitwise equal") if result.passed else result


def _large(profile: Profile, domain: Domain) -> list[Series]:
    n = 2000 if profile.name == "full" else 500
    d = LARGE[domain]

    def make(setting: Setting, rng: np.random.Generator, seed: int) -> Trial:
        return equal(domain, rng, n, seed, d)

    return [Series(f"V23/{domain}", (f"{n} x {d}",), 1, make, apart=True)]


def _judge_large(found: Evidences) -> Verdict:
    curves = found.under("V23/")
    if not curves:
        return Verdict(None, "needs worker processes")
    if problem := broken(curves):
        return Verdict(False, problem)
    parts = []
    for curve in curves.values():
        reading = curve.all[0]
        passed = reading.seconds <= MAX_SECONDS and reading.megabytes <= MAX_MEGABYTES
        parts.append((passed, f"{curve.settings[0]}: {reading.seconds:.1f} s, {reading.megabytes:.0f} MB"))
    return verdict(parts)


TESTS = (
    Test(
        "V0",
        "declared null",
        "The destroyed reference that it names is worse than real records, every time.",
        anything,
        nulls,
        _judge_null,
        EVERYWHERE,
    ),
    Test(
        "V2",
        "the same records",
        "The reference against itself is perfect; copies of training records raise the alarm.",
        lambda trait: compares(trait) or trait.kind == "privacy",
        _copies,
        _judge_copies,
    ),
    Test(
        "V19",
        "unequal sizes",
        "Half, twice or ten times as many synthetic records of the real law change less than 0.05.",
        lambda trait: compares(trait) or trait.kind == "privacy",
        _sizes,
        _judge_sizes,
    ),
    Test(
        "V20",
        "duplicated records",
        "Duplicates on either side give a finite score inside its interval.",
        anything,
        _duplicates,
        _judge_duplicates,
        EVERYWHERE,
    ),
    Test(
        "V21",
        "intervals and p-values",
        "Intervals hold the mean of repetitions as often as 95 % allows; p-values of equal laws are uniform.",
        lambda trait: trait.kind != "utility",
        _repetitions,
        _judge_repetitions,
    ),
    Test(
        "V22",
        "the same again",
        "Bitwise equal when run again, and after all other metrics.",
        anything,
        _repeats,
        _judge_repeats,
        EVERYWHERE,
    ),
    Test(
        "V23",
        "time and memory",
        "2,000 records of 512 features, or of 64 columns, in a minute of processor time and 2 GB.",
        anything,
        _large,
        _judge_large,
    ),
)
