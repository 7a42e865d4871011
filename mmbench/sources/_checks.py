"""What reading a cohort brings to light is gathered, not raised one by one."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np

from mmbench.api import CohortError

NAMED = 20
"""Names that one line lists before it only counts the rest."""


@dataclass
class Findings:
    """What reading a cohort brought to light.

    Attributes:
        leave_out: Whether a record that lacks a part is left out; otherwise it is a problem.
        problems: What makes the cohort unusable, one line each.
        warnings: What is suspicious but usable, one line each.
        left_out: Why, for each record that was left out.
    """

    leave_out: bool = False
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    def incomplete(self, record: str, what: str, advice: str) -> None:
        """Leave out a record that lacks a part, or report it, as was declared."""
        if self.leave_out:
            self.left_out[record] = what
        else:
            self.problems.append(f"{what}; {advice}")

    def refuse(self) -> None:
        """Raise CohortError where there are problems; the warnings go along as its notes."""
        if self.problems:
            error = CohortError(self.problems)
            for warning in self.warnings:
                error.add_note(warning)
            raise error


@contextlib.contextmanager
def gathered(problems: list[str]) -> Iterator[None]:
    """Append the problems of a :class:`CohortError` raised in the block to ``problems`` and go on."""
    try:
        yield
    except CohortError as error:
        problems += error.problems


def listed(names: Collection[str]) -> str:
    """Return names as text, the first :data:`NAMED` of them and the number of the others."""
    shown = list(names)[:NAMED]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def voxel_problem(voxels: np.ndarray) -> str:
    """Return why the voxels of one channel are no image; empty where nothing speaks against them."""
    low, high = float(voxels.min()), float(voxels.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = int(np.count_nonzero(~np.isfinite(voxels)))
        return (
            f"{bad} of {voxels.size} voxels are NaN or infinite, expected finite intensities; "
            "replace them (background is 0) or export the volume anew."
        )
    if low == high:
        return f"every voxel is {low:g}, expected an image; export the volume anew or leave the subject out."
    return ""
