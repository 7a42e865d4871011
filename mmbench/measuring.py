"""Reads volumes: quantities with a measurer, feature vectors with an extractor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mmbench.api import Context, Evidence, Extractor, Measurer
from mmbench.cohort import Cohort, Volumes
from mmbench.errors import NotMeasurable, PluginError
from mmbench.plan import Planned


def measure(
    cohort: Cohort, measurer: Planned | None, extractor: Extractor | None, context: Context
) -> Evidence:
    """Read quantities and features off a cohort's volumes.

    Args:
        cohort: The cohort; without volumes nothing is read.
        measurer: Reads quantities; ``None`` for none.
        extractor: Reads features, fitted where it has something to learn; ``None`` for none.
        context: Progress and stop flag.
    """
    composition, unmeasurable = compose(cohort, measurer, context)
    return Evidence(cohort, composition, features(cohort, extractor, composition, context), unmeasurable)


def compose(
    cohort: Cohort, measurer: Planned | None, context: Context
) -> tuple[pd.DataFrame | None, pd.Series | None]:
    """Return the quantities of a cohort's volumes, a row a record, and why a volume has none, empty where it has.

    A volume that cannot be measured gives a row of NaN and its reason. Both are ``None`` without volumes or
    without a measurer.
    """
    if cohort.volumes is None or measurer is None:
        return None, None
    tool: Measurer = measurer.build("measurers")
    names = [quantity.name for quantity in tool.quantities]
    rows, reasons = [], []
    for index in context.steps(len(cohort), "measuring volumes"):
        try:
            measured, reason = tool.measure(cohort.volumes[index], cohort.volumes.geometry), ""
        except NotMeasurable as error:
            measured, reason = dict.fromkeys(names, math.nan), str(error)
        rows.append([measured[name] for name in names])
        reasons.append(reason)
    index_of = pd.Index(cohort.ids, name="id")
    composition = pd.DataFrame(rows, columns=names, index=index_of, dtype=float)
    return composition, pd.Series(reasons, index=index_of, dtype=object)


def features(
    cohort: Cohort, extractor: Extractor | None, composition: pd.DataFrame | None, context: Context
) -> np.ndarray | None:
    """Return the features of a cohort's volumes, float64 of shape (n, blocks, d).

    A volume with NaN features stays in, so that metrics see it. ``None`` without volumes or extractor.

    Raises:
        PluginError: The extractor returned something else.
        Interrupted: The user asked to stop.
    """
    if cohort.volumes is None or extractor is None:
        return None
    found = np.asarray(extractor.extract(_watched(cohort.volumes, context), composition))
    if found.ndim != 3 or len(found) != len(cohort) or found.dtype != np.float64:
        raise PluginError(
            f"{type(extractor).__name__}.extract gave {found.dtype} of shape {found.shape} for {len(cohort)} volumes; "
            "expected float64 of shape (n, blocks, d)."
        )
    return found


def _watched(volumes: Volumes, context: Context) -> Volumes:
    """Return volumes whose reading shows progress and can be stopped; extractors know of neither."""
    return Volumes(_Watched(volumes, context), volumes.geometry, scales=volumes.divisors)


@dataclass
class _Watched:
    volumes: Volumes
    context: Context

    def __post_init__(self) -> None:
        self._steps = self.context.steps(len(self.volumes), "extracting features")

    def __len__(self) -> int:
        return len(self.volumes)

    def __getitem__(self, index: int) -> np.ndarray:
        next(self._steps, None)
        return self.volumes[index]
