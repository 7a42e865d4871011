"""A picture of a few records of a cohort: their middle slices, as a radiologist expects to see them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mmbench.cohort import Cohort, Geometry

RECORDS = 8
CAPTION_COLUMNS = 2

_CELL = 1.5
"""Inches of the widest view."""
_GAP, _LABEL, _HEAD = 0.06, 0.85, 0.5
"""Inches between pictures, beside the rows for their names, and above the columns."""


class _View(NamedTuple):
    """A middle slice through a volume: across ``axis``, with the other two along the picture's sides."""

    name: str
    axis: int
    across: int
    up: int
    marks: tuple[str, str]


_VIEWS = (
    _View("axial", 2, 0, 1, ("R", "L")),
    _View("coronal", 1, 0, 2, ("R", "L")),
    _View("sagittal", 0, 1, 2, ("A", "P")),
)


def montage(cohort: Cohort, path: Path) -> Path:
    """Draw the axial, coronal and sagittal middle slices of up to eight records into a PNG.

    The records are spread evenly over the cohort, a column each. Pictures follow the radiological convention: the
    subject's right is on the left, the face looks left; R, L, A and P mark the sides. All have one scale in
    millimetres, and those of a channel one scale of grey, from zero (or the 0.5th percentile, where intensities are
    negative) to the 99.5th percentile of what is drawn.

    Args:
        cohort: A cohort with volumes in canonical orientation.
        path: The PNG to write.

    Returns:
        ``path``.

    Raises:
        CohortError: The cohort has no volumes.
    """
    from matplotlib.figure import Figure

    geometry = cohort.images.geometry
    chosen = np.unique(np.linspace(0, len(cohort) - 1, RECORDS).round().astype(int)).tolist()
    slices = [_slices(cohort.images[index]) for index in chosen]
    extent = np.array(geometry.field_of_view)
    scale = _CELL / max(extent[0], extent[1])
    heights = [float(extent[view.up] * scale) for view in _VIEWS] * len(geometry.channels)
    width = _LABEL + len(chosen) * (_CELL + _GAP)
    height = _HEAD + sum(heights) + _GAP * len(heights)
    figure = Figure(figsize=(width, height), facecolor="black")
    text: dict[str, Any] = {"color": "white", "fontsize": 7, "ha": "center", "va": "center"}
    for column, index in enumerate(chosen):
        middle = _LABEL + column * (_CELL + _GAP) + _CELL / 2
        figure.text(middle / width, 1 - _HEAD / 2 / height, _caption(cohort, index), **text)
    top = height - _HEAD
    for row, row_height in enumerate(heights):
        channel, view = divmod(row, len(_VIEWS))
        low, high = _window([planes[channel] for planes in slices])
        middle = (top - row_height / 2) / height
        figure.text(
            _LABEL / 2 / width, middle, _row_label(geometry, channel, _VIEWS[view], low, high), **text
        )
        for column, planes in enumerate(slices):
            left = _LABEL + column * (_CELL + _GAP)
            box = (left / width, (top - row_height) / height, _CELL / width, row_height / height)
            _draw(figure.add_axes(box), planes[channel][view], _VIEWS[view], extent, (low, high))
        top -= row_height + _GAP
    figure.savefig(path, dpi=150, facecolor="black")
    return path


def _slices(volume: np.ndarray) -> list[list[np.ndarray]]:
    """Return the middle slice of each view of each channel, copied so that the volume can go."""
    return [
        [voxels.take(voxels.shape[view.axis] // 2, axis=view.axis).copy() for view in _VIEWS]
        for voxels in volume
    ]


def _window(planes: list[list[np.ndarray]]) -> tuple[float, float]:
    drawn = np.concatenate([plane.ravel() for views in planes for plane in views])
    low, high = (float(value) for value in np.percentile(drawn, [0.5, 99.5]))
    low = min(low, 0.0)
    return low, high if high > low else low + 1


def _draw(axis: Any, plane: np.ndarray, view: _View, extent: np.ndarray, window: tuple[float, float]) -> None:
    across, up = float(extent[view.across]), float(extent[view.up])
    axis.imshow(
        # Volumes run to the right, forward and upward: reversed, the right and the face are on the left.
        plane.T[:, ::-1],
        origin="lower",
        cmap="gray",
        vmin=window[0],
        vmax=window[1],
        extent=(-across / 2, across / 2, 0, up),
        interpolation="bilinear",
    )
    widest = float(max(extent[0], extent[1]))
    axis.set(xlim=(-widest / 2, widest / 2), ylim=(0, up), xticks=[], yticks=[], facecolor="black")
    axis.set_aspect("equal")
    for spine in axis.spines.values():
        spine.set_visible(False)
    for place, mark in zip((0.03, 0.97), view.marks, strict=True):
        side = "left" if place < 0.5 else "right"
        axis.text(
            place, 0.5, mark, color="#ffcc33", fontsize=6, ha=side, va="center", transform=axis.transAxes
        )


def _row_label(geometry: Geometry, channel: int, view: _View, low: float, high: float) -> str:
    name = geometry.channels[channel] if len(geometry.channels[channel]) < 14 else f"channel {channel + 1}"
    return f"{name}\n{view.name}\n{low:.3g} to {high:.3g}"


def _caption(cohort: Cohort, index: int) -> str:
    values = []
    for column in list(cohort.schema)[:CAPTION_COLUMNS] if cohort.table is not None else []:
        value = cohort.rows[column.name].iloc[index]
        if not pd.isna(value):
            shown = f"{value:g}" if isinstance(value, float) else str(value)
            values.append(f"{shown} {column.unit}" if column.unit else shown)
    return f"{cohort.ids[index]}\n{', '.join(values)}"
