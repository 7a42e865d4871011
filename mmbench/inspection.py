"""What is in a cohort: a card of its columns and volumes.

Volumes are read one at a time, so memory does not grow with the number of subjects.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mmbench.cohort import Cohort, Geometry
from mmbench.files import plain

PERCENTILES = (1, 25, 50, 75, 99)


@dataclass(frozen=True)
class ColumnCard:
    """What a column holds.

    Attributes:
        name: Column name.
        kind: Kind of the column, see :class:`mmbench.schema.Column`.
        unit: Unit of the values, empty for none.
        missing: Share of the rows without a value, 0 to 1.
        minimum: Smallest value; NaN for a column with levels.
        median: Median value; NaN for a column with levels.
        maximum: Largest value; NaN for a column with levels.
        counts: Rows with each level, in the schema's order; empty for numbers.
        description: What the schema says of it.
    """

    name: str
    kind: str
    unit: str
    missing: float
    minimum: float
    median: float
    maximum: float
    counts: dict[str, int]
    description: str = ""


@dataclass(frozen=True)
class ChannelCard:
    """Intensities of a channel over all volumes.

    Attributes:
        name: Channel name.
        foreground: Share of voxels that are not zero, 0 to 1.
        minimum: Smallest intensity.
        maximum: Largest intensity.
        percentiles: Intensity at each of :data:`PERCENTILES` of the voxels that are not zero, within 0.1 %.
        divisors: ``minimum``, ``median`` and ``maximum`` of what the volumes were divided by; empty where nothing
            is known to have been divided.
    """

    name: str
    foreground: float
    minimum: float
    maximum: float
    percentiles: dict[int, float]
    divisors: dict[str, float]


@dataclass(frozen=True)
class CohortCard:
    """What is in a cohort.

    Attributes:
        name: Name of the cohort.
        records: Number of records.
        subjects: Number of persons behind them.
        scans: Number of persons by how many records they have.
        columns: Columns of the table; empty without one.
        truth: Columns of the known composition of phantoms; empty where it is not known.
        geometry: Grid of the volumes; ``None`` without volumes.
        channels: Intensities by channel; empty without volumes.
        left_out: Why, for each record that the source left out.
        warnings: What the source found suspicious but usable.
        fingerprint: sha256 over the content.
    """

    name: str
    records: int
    subjects: int
    scans: dict[int, int]
    columns: tuple[ColumnCard, ...]
    truth: tuple[ColumnCard, ...]
    geometry: Geometry | None
    channels: tuple[ChannelCard, ...]
    left_out: dict[str, str]
    warnings: tuple[str, ...]
    fingerprint: str

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able form; the geometry has spacing and field of view in mm beside the affine."""
        data = dataclasses.asdict(self)
        if self.geometry is not None:
            names = ("spacing", "field_of_view", "orientation", "obliqueness")
            data["geometry"] |= {name: getattr(self.geometry, name) for name in names}
        return plain(data)


def describe(cohort: Cohort, reading: Iterable[np.ndarray] | None = None) -> CohortCard:
    """Describe a cohort's table, volumes and, for phantoms, known composition.

    Args:
        cohort: What to describe; its volumes are read once.
        reading: Its volumes, in order, where somebody else reads or checks them on the way.
    """
    columns, truth = [], []
    if cohort.table is not None:
        for column in cohort.schema:
            values = cohort.table[column.name]
            card = _numbers(column.name, column.kind, column.unit or "", values, column.description)
            if column.discrete:
                counts = values.value_counts().reindex(list(column.levels), fill_value=0)
                card = dataclasses.replace(card, counts={str(level): int(n) for level, n in counts.items()})
            columns.append(card)
    if cohort.truth is not None:
        truth = [_numbers(str(name), "truth", "", cohort.truth[name]) for name in cohort.truth]
    geometry = None if cohort.volumes is None else cohort.volumes.geometry
    histograms = [_Histogram() for _ in (geometry.channels if geometry else ())]
    fingerprint = cohort.fingerprint(_counted(reading or cohort.volumes or (), histograms))
    _, scans = np.unique(cohort.people, return_counts=True)
    return CohortCard(
        name=cohort.name,
        records=len(cohort),
        subjects=len(scans),
        scans={
            int(n): int(persons) for n, persons in zip(*np.unique(scans, return_counts=True), strict=True)
        },
        columns=tuple(columns),
        truth=tuple(truth),
        geometry=geometry,
        channels=tuple(
            histogram.card(name, _divisors(cohort, channel))
            for channel, (histogram, name) in enumerate(
                zip(histograms, geometry.channels if geometry and len(cohort) else (), strict=False)
            )
        ),
        left_out=dict(cohort.left_out),
        warnings=cohort.warnings,
        fingerprint=fingerprint,
    )


def _numbers(name: str, kind: str, unit: str, values: pd.Series, description: str = "") -> ColumnCard:
    numbers = np.empty(0)
    if pd.api.types.is_numeric_dtype(values):
        numbers = values.dropna().to_numpy(float)
    low, middle, high = np.quantile(numbers, [0, 0.5, 1]) if numbers.size else (float("nan"),) * 3
    missing = float(values.isna().mean())
    return ColumnCard(name, kind, unit, missing, float(low), float(middle), float(high), {}, description)


def _counted(volumes: Iterable[np.ndarray], histograms: Sequence[_Histogram]) -> Iterator[np.ndarray]:
    for volume in volumes:
        for histogram, voxels in zip(histograms, volume, strict=True):
            histogram.add(voxels)
        yield volume


def _divisors(cohort: Cohort, channel: int) -> dict[str, float]:
    scales = cohort.images.divisors
    if scales is None:
        return {}
    low, middle, high = np.quantile(scales[:, channel], [0, 0.5, 1])
    return {"minimum": float(low), "median": float(middle), "maximum": float(high)}


class _Histogram:
    """Counts float32 values by their leading 18 bits: sign, exponent and 9 bits of the mantissa.

    The bins need no range in advance and are at most 2^-9 of their value wide, so that their middle is off by
    at most 0.1 %.
    """

    BITS = 18

    def __init__(self) -> None:
        self._counts = np.zeros(2**self.BITS, dtype=np.int64)
        self._voxels = 0
        self._low, self._high = np.inf, -np.inf

    def add(self, voxels: np.ndarray) -> None:
        self._voxels += voxels.size
        self._low, self._high = min(self._low, float(voxels.min())), max(self._high, float(voxels.max()))
        present = voxels[voxels != 0].astype(np.float32, copy=False)
        self._counts += np.bincount(present.view(np.uint32) >> (32 - self.BITS), minlength=len(self._counts))

    def card(self, name: str, divisors: dict[str, float]) -> ChannelCard:
        present = int(self._counts.sum())
        bins = np.flatnonzero(self._counts).astype(np.uint32)
        half_bin = np.uint32(1 << (31 - self.BITS))
        values = ((bins << np.uint32(32 - self.BITS)) | half_bin).view(np.float32).astype(float)
        order = np.argsort(values)
        cumulative = np.cumsum(self._counts[bins[order]])
        # The smallest value with at least q % of the voxels at or below it.
        at = [int(np.searchsorted(cumulative, q / 100 * present)) for q in PERCENTILES]
        middles = np.clip(values[order], self._low, self._high)
        percentiles = {
            q: float(middles[i]) if present else float("nan") for q, i in zip(PERCENTILES, at, strict=True)
        }
        return ChannelCard(name, present / self._voxels, self._low, self._high, percentiles, divisors)
