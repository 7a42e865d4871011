"""Validity test V18: training records among the synthetic ones."""

from __future__ import annotations

import numpy as np

from mmbench.api import Trial
from mmbench.validity import criteria, laws
from mmbench.validity.common import alarms
from mmbench.validity.laws import Sides
from mmbench.validity.model import Evidences, Profile, Series, Setting, Test, Verdict, broken, verdict
from mmbench.validity.trials import Domain, trial_of

COPIED = (0.0, 0.01, 0.03, 0.1, 1.0)
MUST_FIRE = (0.1, 1.0, "jittered", "one record")
JITTER = 0.05


def _copied(profile: Profile, domain: Domain) -> list[Series]:
    def make(setting: Setting, rng: np.random.Generator, seed: int) -> Trial:
        n = profile.n
        real, train, other = (laws.normal(rng, n, 8) for _ in range(3))
        chosen = rng.permutation(n)
        if setting == "one record":
            other = np.repeat(train[:1], n, axis=0)
        elif setting == "jittered":
            other = train[chosen] + JITTER * rng.standard_normal((n, 8))
        else:
            taken = chosen[: round(float(setting) * n)]
            other[: len(taken)] = train[taken]
        return trial_of(domain, Sides(real, other, train), seed)

    return [Series(f"V18/{domain}/d=8", (*COPIED, "jittered", "one record"), max(profile.seeds, 4), make)]


def _judge_copied(found: Evidences) -> Verdict:
    curves, trait = found.under("V18/"), found.trait
    if problem := broken(curves):
        return Verdict(False, problem)
    parts = []
    for name, curve in curves.items():
        fired = {
            setting: float(np.mean(alarms(trait, curve.readings[setting]))) for setting in curve.settings
        }
        text = ", ".join(f"{_label(setting)} {share:.0%}" for setting, share in fired.items())
        # Two alarms of four, or of five, at a level of 5 % have a probability below 3 %.
        quiet = fired[0.0] < 0.5
        sign = 1 if trait.direction == "lower" else -1
        grows = criteria.ordered(sign * np.array([curve.mean(share) for share in COPIED]))
        loud = all(fired[setting] > 0.5 for setting in MUST_FIRE)
        missed = "" if grows else "; does not grow with the share"
        parts.append((quiet and loud and grows, f"{name.split('/')[1]}: alarms {text}{missed}"))
    return verdict(parts)


def _label(setting: Setting) -> str:
    return setting if isinstance(setting, str) else f"{setting:.0%} copies:"


TESTS = (
    Test(
        "V18",
        "copies of training records",
        "The alarm is silent without copies, fires at 10 % and at 100 %, for jittered copies and one record over.",
        lambda trait: trait.kind == "privacy",
        _copied,
        _judge_copied,
    ),
)
