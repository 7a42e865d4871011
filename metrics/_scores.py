"""What the metrics share in stating scores: why there is none, and intervals within the possible range."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from mmbench.api import Evidence, Output, Score, Trial, stats

MAX_UNMEASURABLE = 0.2
"""A larger share of volumes that could not be measured makes a score on composition one about the rest."""

MIN_RECORDS = 8
"""Below this half-subsampling has too few records for a spread, and a score says next to nothing."""


def undefined(outputs: Sequence[Output], reason: str) -> list[Score]:
    """Return one NaN score for each output, with the reason."""
    return [Score(output.name, float("nan"), reason=reason) for output in outputs]


def within(estimate: stats.Estimate, low: float = 0.0, high: float = 1.0) -> stats.Estimate:
    """Return ``estimate`` with its interval cut to the range that the statistic can take."""
    ends = np.clip([estimate.low, estimate.high], low, high)
    return dataclasses.replace(estimate, low=float(ends[0]), high=float(ends[1]))


def too_few(trial: Trial, least: int = MIN_RECORDS) -> str:
    """Return why a sample is too small to be compared, or an empty text."""
    for name, evidence in (("reference", trial.reference), ("synthetic", trial.synthetic)):
        if len(evidence) < least:
            return f"the {name} sample has {len(evidence)} records; at least {least} are needed"
    return ""


def no_table(*sides: Evidence) -> str:
    """Return why there are no rows to compare, or an empty text."""
    return "a side has no table" if any(side.cohort.table is None for side in sides) else ""


def no_features(*sides: Evidence) -> str:
    """Return why there are no image features to compare, or an empty text."""
    if any(side.features is None for side in sides):
        return "a side has no image features"
    if not all(np.isfinite(side.features).all() for side in sides if side.features is not None):
        return "the image features of a side are not finite"
    return ""


def no_composition(trial: Trial) -> str:
    """Return why there are no rows with measured quantities to compare, or an empty text."""
    for name, side in (
        ("reference", trial.reference),
        ("synthetic", trial.synthetic),
        ("training", trial.train),
    ):
        if side.cohort.table is None or not len(side.cohort.schema):
            return f"the {name} sample has no table"
        if side.composition is None or side.composition.columns.empty:
            return f"nothing was measured on the volumes of the {name} sample"
        lost = float(side.composition.isna().all(axis=1).mean()) if len(side) else 0.0
        if lost > MAX_UNMEASURABLE:
            return (
                f"{lost:.0%} of the volumes of the {name} sample could not be measured; "
                f"at most {MAX_UNMEASURABLE:.0%} may be"
            )
    return ""
