"""What is in a cohort: a card of its columns and volumes, and a picture of a few of them.

Volumes are read one at a time, so memory does not grow with the number of subjects.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmbench.cohort import Cohort, Geometry
from mmbench.files import plain

PERCENTILES = (1, 25, 50, 75, 99)
MONTAGE_SUBJECTS = 8


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
    """

    name: str
    foreground: float
    minimum: float
    maximum: float
    percentiles: dict[int, float]


@dataclass(frozen=True)
class CohortCard:
    """What is in a cohort.

    Attributes:
        name: Name of the cohort.
        records: Number of records.
        subjects: Number of persons behind them.
        columns: Columns of the table; empty without one.
        truth: Columns of the known composition of phantoms; empty where it is not known.
        geometry: Grid of the volumes; ``None`` without volumes.
        channels: Intensities by channel; empty without volumes.
    """

    name: str
    records: int
    subjects: int
    columns: tuple[ColumnCard, ...]
    truth: tuple[ColumnCard, ...]
    geometry: Geometry | None
    channels: tuple[ChannelCard, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able form; the geometry has the spacing in mm beside the affine."""
        data = dataclasses.asdict(self)
        if self.geometry is not None:
            data["geometry"] |= {"spacing": self.geometry.spacing}
        return plain(data)


def describe(cohort: Cohort) -> CohortCard:
    """Describe a cohort's table, volumes and, for phantoms, known composition."""
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
    return CohortCard(
        name=cohort.name,
        records=len(cohort),
        subjects=len(np.unique(cohort.people)),
        columns=tuple(columns),
        truth=tuple(truth),
        geometry=None if cohort.volumes is None else cohort.volumes.geometry,
        channels=_channels(cohort),
    )


def _numbers(name: str, kind: str, unit: str, values: pd.Series, description: str = "") -> ColumnCard:
    numbers = np.empty(0)
    if pd.api.types.is_numeric_dtype(values):
        numbers = values.dropna().to_numpy(float)
    low, middle, high = np.quantile(numbers, [0, 0.5, 1]) if numbers.size else (float("nan"),) * 3
    missing = float(values.isna().mean())
    return ColumnCard(name, kind, unit, missing, float(low), float(middle), float(high), {}, description)


def _channels(cohort: Cohort) -> tuple[ChannelCard, ...]:
    if cohort.volumes is None or not len(cohort):
        return ()
    names = cohort.volumes.geometry.channels
    histograms = [_Histogram() for _ in names]
    for volume in cohort.volumes:
        for histogram, voxels in zip(histograms, volume, strict=True):
            histogram.add(voxels)
    return tuple(histogram.card(name) for histogram, name in zip(histograms, names, strict=True))


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

    def card(self, name: str) -> ChannelCard:
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
        return ChannelCard(name, present / self._voxels, self._low, self._high, percentiles)


def montage(cohort: Cohort, path: Path) -> Path:
    """Draw the axial, coronal and sagittal middle slices of up to eight records into a PNG.

    The records are spread evenly over the cohort, a column each; left of the picture is the subject's left.
    Intensities of a channel share one scale, from zero to the 99.5th percentile of what is drawn.

    Args:
        cohort: A cohort with volumes.
        path: The PNG to write.

    Returns:
        ``path``.

    Raises:
        CohortError: The cohort has no volumes.
    """
    from matplotlib.figure import Figure

    geometry = cohort.images.geometry
    chosen = np.unique(np.linspace(0, len(cohort) - 1, MONTAGE_SUBJECTS).round().astype(int))
    slices = [_middle_slices(cohort.images[int(index)]) for index in chosen]
    x, y, z = np.array(geometry.shape) * np.array(geometry.spacing)
    heights = [y, z, z] * len(geometry.channels)
    width = 1.6
    figure = Figure(
        figsize=(width * len(chosen) + 0.4, width * sum(heights) / max(x, y) + 0.5), layout="constrained"
    )
    axes = figure.subplots(len(heights), len(chosen), squeeze=False, height_ratios=heights)
    dx, dy, dz = geometry.spacing
    aspects = (dy / dx, dz / dx, dz / dy)
    for channel, name in enumerate(geometry.channels):
        drawn = np.concatenate([plane.ravel() for planes in slices for plane in planes[channel]])
        brightest = float(np.percentile(drawn, 99.5)) or 1.0
        for plane, view in enumerate(("axial", "coronal", "sagittal")):
            row = axes[3 * channel + plane]
            row[0].set_ylabel(f"{name}\n{view}", fontsize=7)
            for axis, planes in zip(row, slices, strict=True):
                axis.imshow(
                    planes[channel][plane].T,
                    origin="lower",
                    cmap="gray",
                    vmin=0,
                    vmax=brightest,
                    aspect=aspects[plane],
                )
                axis.set(xticks=[], yticks=[])
    for axis, index in zip(axes[0], chosen, strict=True):
        axis.set_title(cohort.ids[index], fontsize=7)
    figure.savefig(path, dpi=120)
    return path


def _middle_slices(volume: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    x, y, z = (size // 2 for size in volume.shape[1:])
    return [(voxels[:, :, z].copy(), voxels[:, y].copy(), voxels[x].copy()) for voxels in volume]
