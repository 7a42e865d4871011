"""All validity tests, in order."""

from __future__ import annotations

from mmbench.validity import (
    position,
    suite_alarms,
    suite_changes,
    suite_laws,
    suite_modes,
    suite_people,
    suite_samples,
)

TESTS = tuple(
    sorted(
        (
            *suite_laws.TESTS,
            *position.TESTS,
            *suite_modes.TESTS,
            *suite_changes.TESTS,
            *suite_samples.TESTS,
            *suite_people.TESTS,
            *suite_alarms.TESTS,
        ),
        key=lambda test: int(test.id[1:]),
    )
)
