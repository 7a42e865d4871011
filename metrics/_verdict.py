"""From statistics of the coherence battery to its verdict. Pure rules; nothing is computed from records here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import norm

COHERENT, INCOHERENT = "COHERENT", "INCOHERENT"
INDETERMINATE, NOT_ASSESSABLE = "INDETERMINATE", "NOT ASSESSABLE"

UNPAIRED, PARTIAL = "unpaired", "partially paired"
OVER, BIASED = "over-coherent", "biased"

POWER = 0.8


@dataclass(frozen=True)
class Statistic:
    """A primary statistic with the margin within which it counts as that of real people.

    Attributes:
        kind: ``kappa``, ``slope``, ``scatter``, ``shift`` or ``association``.
        of: Quantity, or pair of quantity and effect, that it speaks of; empty for kappa.
        value: Estimate.
        error: Standard error.
        low: Lower end of the margin.
        high: Upper end.
        logarithm: Whether it is the exponential of what is normal: a ratio.
    """

    kind: str
    of: str
    value: float
    error: float
    low: float
    high: float
    logarithm: bool = False

    @property
    def name(self) -> str:
        """What it is, for readers."""
        return f"{self.kind} of {self.of}" if self.of else self.kind

    def interval(self, alpha: float = 0.05) -> tuple[float, float]:
        """Return the two-sided interval of confidence 1 - ``alpha``."""
        reach = float(norm.isf(alpha / 2)) * self.error
        if self.logarithm:
            return self.value * math.exp(-reach), self.value * math.exp(reach)
        return self.value - reach, self.value + reach

    def equivalent(self, alpha: float) -> bool:
        """Whether both one-sided tests of equivalence reject at ``alpha`` (Schuirmann 1987)."""
        low, high = self.interval(2 * alpha)
        return self.low < low and high < self.high

    def outside(self, alpha: float) -> bool:
        """Whether the interval of confidence 1 - ``alpha`` lies wholly beyond the margin."""
        low, high = self.interval(alpha)
        return high < self.low or low > self.high

    def enlarged(self, alpha: float) -> float:
        """Return by what factor the samples must grow for equivalence to be shown with power 0.8 where there is none.

        That is where the statistic is the ideal one: the error must shrink until both tests reject.
        """
        ends = (math.log(self.low), math.log(self.high)) if self.logarithm else (self.low, self.high)
        ideal = 0.0 if self.logarithm or self.low < 0 else 1.0
        reach = min(ideal - ends[0], ends[1] - ideal)
        needed = float(norm.isf(alpha) + norm.isf((1 - POWER) / 2))
        return (needed * self.error / reach) ** 2 if reach > 0 else math.inf

    def detectable(self, alpha: float) -> float:
        """Return the departure from the ideal that a test at ``alpha`` finds with power 0.8."""
        return float(norm.isf(alpha / 2) + norm.isf(1 - POWER)) * self.error


@dataclass(frozen=True)
class Verdict:
    """What is said of a sample.

    Attributes:
        word: One of the four.
        subtype: Of what kind the incoherence is, empty otherwise.
        why: One sentence.
    """

    word: str
    subtype: str
    why: str

    @property
    def label(self) -> str:
        """The word with its subtype."""
        return f"{self.word} ({self.subtype})" if self.subtype else self.word


@dataclass(frozen=True)
class Deviation:
    """What tells the subtypes of incoherence apart.

    Attributes:
        kappa: Coherence index.
        own: Variance of the synthetic quantities that the synthetic rows explain, over what real rows explain.
        explanation: Name of the deviation that predicts the synthetic pairs best.
    """

    kappa: Statistic
    own: float
    explanation: str


LITTLE = 0.1
"""Dependence on the row, and a share of pairs that belong together, below this are none."""


def decide(
    primary: Sequence[Statistic],
    tests: Mapping[str, float],
    deviation: Deviation,
    n: int,
    alpha: float,
    weakest: str = "",
) -> Verdict:
    """Return the verdict on an assessable sample.

    COHERENT where every primary statistic is shown to lie within its margin (intersection-union: each test at ``alpha``,
    no correction needed; Berger 1982). INCOHERENT where one of the tests rejects after Holm's correction and a primary
    statistic lies wholly beyond its margin, which keeps trifles from counting in large samples. Otherwise
    INDETERMINATE: that nothing was found shows nothing.

    Args:
        primary: Primary statistics.
        tests: p-values of the tests of no difference, by name.
        deviation: What tells the subtypes apart.
        n: Records of the smaller sample.
        alpha: Level of every verdict.
        weakest: Name of a subgroup whose pairs are shown to be broken; there is no coherence beside one.
    """
    if not weakest and all(one.equivalent(alpha) for one in primary):
        return Verdict(
            COHERENT, "", f"all {len(primary)} primary statistics are shown to lie within their margins"
        )
    smallest = min(tests, key=lambda name: tests[name])
    beyond = [one for one in primary if one.outside(alpha)]
    # Of Holm's steps the first decides whether anything is rejected.
    if tests[smallest] * len(tests) <= alpha and beyond:
        named = ", ".join(one.name for one in beyond[:3]) + (", ..." if len(beyond) > 3 else "")
        why = f"the {smallest} test rejects ({_p_text(tests[smallest])}) and {named} lie beyond their margins"
        return Verdict(
            INCOHERENT,
            subtype(deviation, beyond, alpha),
            why.replace(" lie ", " lies ") if len(beyond) == 1 else why,
        )
    widest = max(primary, key=lambda one: one.enlarged(alpha))
    factor = widest.enlarged(alpha)
    kappa = deviation.kappa
    if weakest:
        return Verdict(INDETERMINATE, "", f"the pairs of {weakest} are shown to be broken, the whole is not")
    why = (
        f"neither shown to be within the margins nor beyond them; with {n} records a coherence of "
        f"{1 - kappa.detectable(alpha):.2f} would be found in {100 * POWER:.0f} % of samples, and about "
        f"{math.ceil(n * max(factor, 1) / 10) * 10:,} records are needed to show coherence ({widest.name})"
    )
    return Verdict(INDETERMINATE, "", why)


def subtype(deviation: Deviation, beyond: Sequence[Statistic], alpha: float) -> str:
    """Return of what kind an incoherence is.

    In this order:

    1. *unpaired* where kappa may be below a tenth and the quantities do not depend on the synthetic rows in any other way either;
    2. *partially paired* where a share of broken pairs predicts the pairs better than any other deviation does;
    3. *over-coherent* where nothing but a scatter that is too narrow, or a kappa above its margin, is beyond a margin;
    4. *biased* for all else: shifts, another dependence, scatter that is too wide.

    A damped or flipped dependence lowers kappa as broken pairs do, which is why kappa alone cannot tell them apart.
    """
    if deviation.kappa.interval(alpha)[0] < LITTLE and deviation.own < LITTLE:
        return UNPAIRED
    if deviation.explanation == PARTIAL:
        return PARTIAL
    too_close = [
        (one.kind == "scatter" and one.value < 1) or (one.kind == "kappa" and one.value > 1) for one in beyond
    ]
    return OVER if all(too_close) else BIASED


def _p_text(p: float) -> str:
    return f"p = {p:.2g}" if p >= 0.001 else "p < 0.001"
