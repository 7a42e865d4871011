"""The coherence index of subgroups."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mmbench.api import stats

from ._kappa import Scores

_LEAST_NATS = 0.05
"""Groups whose real pairs score no more than this above broken ones have no index to speak of."""


@dataclass(frozen=True)
class Group:
    """The coherence index of the synthetic records of one group.

    Attributes:
        name: Such as ``sex=F`` or ``age up to 52``.
        n: Synthetic records.
        value: kappa, NaN where it is not assessed.
        error: Its standard error.
        reason: Why it is not assessed.
    """

    LEAST: ClassVar[float] = 0.7
    """No assessed group may be shown to lie below this where a sample is called coherent."""

    name: str
    n: int
    value: float
    error: float
    reason: str = ""

    def interval(self) -> tuple[float, float]:
        """Return the 95 % interval."""
        return self.value - stats.Z95 * self.error, self.value + stats.Z95 * self.error


def groups(scores: Scores, parts: Iterable[tuple[str, np.ndarray]], least: int) -> list[Group]:
    """Return kappa for groups of the synthetic records.

    Args:
        scores: Scores of all synthetic records.
        parts: Name of each group, and whether each record belongs.
        least: Records that a group must have.
    """
    found = []
    for name, chosen in parts:
        n = int(chosen.sum())
        if n < least:
            found.append(Group(name, n, np.nan, np.nan, f"{n} records; {least} are needed"))
            continue
        one = scores.index(chosen)
        told = one.separation > _LEAST_NATS
        reason = "" if told else "its rows say too little of the quantities"
        found.append(Group(name, n, one.value if told else np.nan, one.error if told else np.nan, reason))
    return found
