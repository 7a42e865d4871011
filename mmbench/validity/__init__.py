"""Validity tests: whether a metric does what it says on data of which the truth is known."""

from __future__ import annotations

import json
from importlib.resources import files


def failures() -> dict[str, list[str]]:
    """Return the validity tests that each output fails, as the packaged scorecard has it.

    Returns:
        For each output of a built-in metric that was tested, the tests that it fails, such as ``V4 (scale)``;
        an output that is absent was not tested.
    """
    card = json.loads((files("mmbench.validity") / "scorecard.json").read_text(encoding="utf-8"))
    found: dict[str, list[str]] = {}
    for row in card:
        failed = found.setdefault(row["output"], [])
        if not row["passed"]:
            failed.append(f"{row['test']} ({row['title']})")
    return found
