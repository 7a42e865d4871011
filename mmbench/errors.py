"""Errors that mmbench raises on purpose.

::

    MmbenchError
    ├── UsageError        wrong usage or unusable input: exit status 2, one clear message
    │   ├── ConfigError   a configuration that cannot be used
    │   ├── CohortError   a cohort that cannot be used; may carry several problems
    │   └── PluginError   a plug-in that is unknown, broken or used wrongly
    ├── SampleError       a generator returned something that is no sample: its cell fails
    ├── NotMeasurable     a measurer met a volume that it cannot measure: its quantities are missing
    └── Interrupted       the user or a signal stopped the work: exit status 130
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class MmbenchError(Exception):
    """Base of every error that mmbench raises on purpose."""


class UsageError(MmbenchError):
    """Wrong usage or unusable input. The message says what is wrong, where, and what to do."""


class ConfigError(UsageError):
    """A configuration that cannot be used."""


class CohortError(UsageError):
    """A cohort that cannot be used.

    Args:
        problems: One or more problems, each naming its file, column, row or subject.
    """

    SHOWN = 50
    """Problems that the message shows; ``problems`` holds them all."""

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        lines = self.problems[: self.SHOWN]
        if more := len(self.problems) - len(lines):
            lines.append(f"... and {more} more.")
        super().__init__("\n".join(lines))


class PluginError(UsageError):
    """A plug-in that is unknown, broken, or given parameters that it does not take."""


class SampleError(MmbenchError):
    """A generator returned something that is no sample of the asked kind and size."""


class NotMeasurable(MmbenchError):
    """A measurer met a volume that it cannot measure. The message is the reason."""


class Interrupted(MmbenchError):
    """The work was stopped by the user or by a signal."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a sentence that names the nearest known name, or all of them where none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if near:
        return f"Did you mean '{near[0]}'?"
    return f"Known: {', '.join(names)}." if names else "There are none."
