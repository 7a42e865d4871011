"""Figures of a report. They take plain data and give bytes that are the same each time."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mmbench.api import Geometry

from ._associations import Line
from ._drawing import CEILING, FAINT, INK, NULL, render, shorten, wrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MEDIA_TYPES = {"png": "image/png", "svg": "image/svg+xml"}


@dataclass(frozen=True)
class Picture:
    """A figure as a file.

    Attributes:
        name: File name with its suffix, ``png`` or ``svg``.
        data: Content.
        title: What it shows, in a few words.
        caption: How to read it.
        alt: What it shows, for readers who cannot see it.
    """

    name: str
    data: bytes
    title: str
    caption: str
    alt: str

    @property
    def uri(self) -> str:
        """The figure as a data URI."""
        media = MEDIA_TYPES[self.name.rsplit(".", 1)[1]]
        return f"data:{media};base64,{base64.b64encode(self.data).decode()}"


@dataclass(frozen=True)
class Curve:
    """One of the compared sets of records in a figure.

    Attributes:
        name: Name for the legend.
        colour: Its colour, the same in all figures.
        frame: Its records.
        private: Whether single records must not be recognisable.
        real: Whether these are real subjects.
    """

    name: str
    colour: str
    frame: pd.DataFrame
    private: bool
    real: bool


def colours(names: Sequence[str]) -> dict[str, str]:
    """Return a colour for each name, legible to colour-blind readers for up to eight."""
    import seaborn as sns

    base = [c for c in sns.color_palette("colorblind").as_hex() if c.lower() not in ("#949494", "#ece133")]
    palette = base if len(names) <= len(base) else sns.husl_palette(len(names), l=0.5).as_hex()
    return dict(zip(names, palette, strict=False))


# Volumes ------------------------------------------------------------------------------------------


def to_ras(volume: np.ndarray, geometry: Geometry) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Turn a volume so that x goes right, y anterior and z superior.

    Args:
        volume: Array of shape (channels, x, y, z).
        geometry: Its grid; oblique axes are taken as their nearest anatomical one.

    Returns:
        The turned array and its voxel spacing in millimetres.
    """
    direction = geometry.matrix[:3, :3]
    remaining = [0, 1, 2]
    axes = []
    for world in range(3):
        axis = max(remaining, key=lambda a: abs(direction[world, a]) / geometry.spacing[a])
        remaining.remove(axis)
        axes.append(axis)
    turned = np.transpose(volume, (0, *(axis + 1 for axis in axes)))
    flips = tuple(world + 1 for world, axis in enumerate(axes) if direction[world, axis] < 0)
    x, y, z = (geometry.spacing[axis] for axis in axes)
    return np.flip(turned, flips), (x, y, z)


def planes(geometry: Geometry) -> tuple[str, ...]:
    """Return the planes worth showing: all three of a head-like grid, two of a body-like one."""
    size = np.array(geometry.shape) * np.array(geometry.spacing)
    return ("coronal", "axial", "sagittal") if size.max() < 1.3 * size.min() else ("coronal", "axial")


def mid_slice(
    volume: np.ndarray, spacing: tuple[float, float, float], plane: str
) -> tuple[np.ndarray, float, float]:
    """Return the middle slice of one channel as an image, first row on top, with width and height in mm.

    Radiological convention: the subject's right is on the left of coronal and axial images, superior or
    anterior is up; sagittal images face left.
    """
    x, y, z = volume.shape
    match plane:
        case "coronal":
            image, width, height = volume[::-1, y // 2, ::-1].T, x * spacing[0], z * spacing[2]
        case "axial":
            image, width, height = volume[::-1, ::-1, z // 2].T, x * spacing[0], y * spacing[1]
        case _:
            image, width, height = volume[x // 2, ::-1, ::-1].T, y * spacing[1], z * spacing[2]
    return image, width, height


def windows(volumes: Sequence[np.ndarray]) -> list[tuple[float, float]]:
    """Return one window for each channel, from its 1st to its 99.5th percentile over all volumes."""
    result = []
    for channel in range(volumes[0].shape[0]):
        values = np.concatenate([volume[channel].ravel() for volume in volumes])
        values = values[np.isfinite(values)]
        low, high = np.percentile(values, [1, 99.5]) if len(values) else (0.0, 1.0)
        result.append((float(low), float(high) if high > low else float(low) + 1.0))
    return result


def tiles_across(geometry: Geometry) -> int:
    """Return how many subjects fit side by side into a montage."""
    return 3 if len(geometry.channels) == 1 and len(planes(geometry)) == 3 else 6


def montage(
    rows: Sequence[tuple[str, Sequence[np.ndarray]]],
    geometry: Geometry,
    window: Sequence[tuple[float, float]],
) -> bytes:
    """Draw mid-slices: a row of tiles for each set of volumes, a tile for each volume; PNG.

    Args:
        rows: Name and volumes, each of shape (channels, x, y, z), of each set.
        geometry: Grid of all volumes.
        window: Values shown as black and as white in each channel, the same for all sets.
    """
    shown = planes(geometry)
    tiles = [[_tile(volume, geometry, shown) for volume in volumes] for _, volumes in rows]
    _, tile_width, tile_height = tiles[0][0]
    count = max(len(volumes) for _, volumes in rows)
    gap = 0.06 * tile_width
    row_width = count * tile_width + (count - 1) * gap
    label, width = 1.35, 11.0
    inches = (width - label) / row_width
    row_height = tile_height * inches + 0.12

    def draw(figure: Figure) -> None:
        figure.set_layout_engine("none")
        total = row_height * len(rows) + 0.02
        for r, (name, _) in enumerate(rows):
            bottom = 1 - (r + 1) * row_height / total
            axes = figure.add_axes(
                (
                    label / width,
                    bottom + 0.06 / total,
                    row_width * inches / width,
                    tile_height * inches / total,
                )
            )
            axes.set(xlim=(0, row_width), ylim=(0, tile_height), xticks=[], yticks=[], facecolor="white")
            axes.spines[:].set_visible(False)
            for t, (images, _, _) in enumerate(tiles[r]):
                axes.axvspan(
                    t * (tile_width + gap),
                    t * (tile_width + gap) + tile_width,
                    color="black",
                    lw=0,
                    zorder=-1,
                )
                _draw_tile(axes, images, t * (tile_width + gap), tile_height, window, inches)
                if r == 0 and len(geometry.channels) > 1:
                    _name_channels(axes, images, geometry.channels, t * (tile_width + gap), tile_height)
            figure.text(
                0.06 / width,
                bottom + (0.06 + tile_height * inches) / total,
                wrap(name, 15),
                va="top",
                weight="bold",
            )

    return render(width, row_height * len(rows) + 0.02, draw, "png", dpi=130)


_Image = tuple[np.ndarray, int, str, float, float, float, float]


def _tile(volume: np.ndarray, geometry: Geometry, shown: Sequence[str]) -> tuple[list[_Image], float, float]:
    """Lay out one subject's slices in mm: a column for each channel with the planes below each other.

    Three planes of one channel stand side by side.
    """
    turned, spacing = to_ras(volume, geometry)
    images: list[_Image] = []
    side_by_side = len(geometry.channels) == 1 and len(shown) == 3
    left = top = right = 0.0
    for channel in range(len(geometry.channels)):
        column, top = 0.0, 0.0
        for plane in shown:
            image, width, height = mid_slice(turned[channel], spacing, plane)
            images.append((image, channel, plane, left, top, width, height))
            column = max(column, width)
            right = max(right, left + width)
            if side_by_side:
                left += width
            else:
                top += height
        left += column
    bottom = max(top_ + height for _, _, _, _, top_, _, height in images)
    if side_by_side:
        images = [(*image[:4], (bottom - image[6]) / 2, *image[5:]) for image in images]
    return images, right, bottom


def _draw_tile(
    axes: Axes,
    images: Sequence[_Image],
    offset: float,
    tile_height: float,
    window: Sequence[tuple[float, float]],
    inches: float,
) -> None:
    for image, channel, plane, left, top, width, height in images:
        x0, y1 = offset + left, tile_height - top
        low, high = window[channel]
        axes.imshow(
            np.nan_to_num(image, nan=low),
            extent=(x0, x0 + width, y1 - height, y1),
            cmap="gray",
            vmin=low,
            vmax=high,
            interpolation="bilinear",
            aspect="auto",
        )
        sides = ("A", "P") if plane == "sagittal" else ("R", "L")
        if width * inches > 0.35:
            for text, x, ha in (
                (sides[0], x0 + 0.03 * width, "left"),
                (sides[1], x0 + 0.97 * width, "right"),
            ):
                axes.text(x, y1 - 0.98 * height, text, color="#ffd25e", fontsize=6, ha=ha, va="bottom")
    axes.set_autoscale_on(False)


def _name_channels(
    axes: Axes, images: Sequence[_Image], channels: Sequence[str], offset: float, tile_height: float
) -> None:
    for channel, name in enumerate(channels):
        _, _, _, left, top, width, _ = next(image for image in images if image[1] == channel)
        axes.text(
            offset + left + width / 2,
            tile_height - top,
            shorten(name, 10),
            color="#ffd25e",
            fontsize=6.5,
            ha="center",
            va="top",
        )


# Table --------------------------------------------------------------------------------------------


def distributions(
    variables: Sequence[tuple[str, str, Sequence[str]]],
    curves: Sequence[Curve],
    shares: Callable[[pd.Series, Sequence[str]], Mapping[str, float]],
) -> bytes:
    """Draw one small plot for each column: cumulative shares of numbers, shares of levels; SVG.

    Args:
        variables: Name, label and levels (empty for numbers) of each column.
        curves: Compared records; those that are private are drawn through their 5 % quantiles only.
        shares: Gives the share of each level.
    """
    columns = 3
    rows = math.ceil(len(variables) / columns)

    def draw(figure: Figure) -> None:
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, (name, label, levels) in zip(panels, variables, strict=False):
            present = [curve for curve in curves if name in curve.frame]
            if levels:
                _level_bars(axes, name, levels, present, shares)
            else:
                for curve in sorted(present, key=lambda c: c.real):
                    _cumulative(axes, curve, curve.frame[name].to_numpy(float))
                axes.set(ylim=(0, 1), ylabel="share of records")
                axes.grid(axis="y")
            axes.set_xlabel(wrap(label, 34))
        for axes in panels[len(variables) :]:
            axes.set_visible(False)
        _legend(figure, curves)

    return render(11, 2.35 * rows + 0.5, draw, "svg")


def _cumulative(axes: Axes, curve: Curve, values: np.ndarray) -> None:
    values = np.sort(values[np.isfinite(values)])
    if not len(values):
        return
    style: dict[str, Any] = {"color": curve.colour, "lw": 2.4 if curve.real else 1.2, "alpha": 0.95}
    if curve.private:
        levels = np.linspace(0.05, 0.95, 19)
        axes.plot(np.quantile(values, levels), levels, **style)
    else:
        thinned = values if len(values) <= 400 else np.quantile(values, np.linspace(0, 1, 400))
        axes.step(thinned, np.arange(1, len(thinned) + 1) / len(thinned), where="post", **style)


def _level_bars(
    axes: Axes,
    name: str,
    levels: Sequence[str],
    curves: Sequence[Curve],
    shares: Callable[[pd.Series, Sequence[str]], Mapping[str, float]],
) -> None:
    told = [shares(curve.frame[name], levels) for curve in curves]
    labels = [*levels, *(["missing"] if any("missing" in share for share in told) else [])]
    width = 0.8 / max(len(curves), 1)
    for k, (curve, share) in enumerate(zip(curves, told, strict=True)):
        x = np.arange(len(labels)) - 0.4 + width * (k + 0.5)
        axes.bar(x, [share.get(level, 0.0) for level in labels], width, color=curve.colour)
    crowded = len(labels) > 4 or max(map(len, labels)) > 8
    axes.set_xticks(
        range(len(labels)),
        [shorten(level, 14) for level in labels],
        rotation=35 if crowded else 0,
        ha="right" if crowded else "center",
        rotation_mode="anchor",
    )
    axes.set_ylabel("share of records")
    axes.grid(axis="y")
    axes.set_axisbelow(True)


def heatmaps(matrices: Sequence[tuple[str, np.ndarray]], labels: Sequence[str]) -> bytes:
    """Draw association matrices: the first is real, each other one with its difference from it; PNG."""
    import seaborn as sns
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    norm, colours_of = Normalize(-1, 1), sns.color_palette("vlag", as_cmap=True)
    real_name, real = matrices[0]
    panels: list[tuple[str, np.ndarray] | None] = [(shorten(real_name, 30), real), None]
    for name, matrix in matrices[1:]:
        panels += [(shorten(name, 30), matrix), (f"{shorten(name, 23)} − real", matrix - real)]
    across = 4 if len(panels) > 4 else 2
    rows = math.ceil(len(panels) / across)
    short = [shorten(label, 22) for label in labels]
    height = 2.6 if len(labels) <= 16 else 3.6

    def draw(figure: Figure) -> None:
        grid = figure.subplots(rows, across, squeeze=False)
        for k, axes in enumerate(grid.ravel()):
            panel = panels[k] if k < len(panels) else None
            if panel is None:
                axes.set_visible(False)
                continue
            last = k // across == rows - 1
            # seaborn.heatmap draws the whole figure once for each panel; this is the same picture in one go.
            axes.pcolormesh(
                np.ma.masked_invalid(panel[1]), cmap=colours_of, norm=norm, edgecolors="white", linewidth=0.4
            )
            ticks = np.arange(len(short)) + 0.5
            axes.set_xticks(ticks if last else [], short if last else [])
            axes.set_yticks(ticks if k % across == 0 else [], short if k % across == 0 else [])
            axes.invert_yaxis()
            axes.set_aspect("equal")
            axes.spines[:].set_visible(False)
            axes.set_facecolor("#d5d7de")
            axes.set_title(wrap(panel[0], 26), fontsize=8.5)
            axes.tick_params(length=0, labelsize=7 if len(labels) <= 16 else 5.5)
            axes.tick_params(axis="x", rotation=90)
        bar = figure.colorbar(
            ScalarMappable(norm, colours_of),
            ax=grid,
            orientation="horizontal",
            location="top",
            shrink=0.4,
            aspect=30,
        )
        bar.set_label("association, or difference of associations (grey: not defined)")
        bar.outline.set_visible(False)

    return render(11 if across == 4 else 7, height * rows + 1.7, draw, "png")


def composition(
    x: str,
    quantities: Sequence[str],
    labels: Mapping[str, str],
    curves: Sequence[Curve],
    lines: Mapping[tuple[str, str], Line | None],
) -> bytes:
    """Draw measured quantities against a column: a column of plots for each set of records; PNG.

    Every line has its 95 % band. Private records are drawn as the means of five bins, never as points.

    Args:
        x: Column on the horizontal axes.
        quantities: Columns on the vertical axes, a row of plots each.
        labels: Label with unit of each column.
        curves: The real reference first; each has all these columns.
        lines: Line by quantity and name of the records.
    """
    blocks = math.ceil(len(curves) / 5)
    across = math.ceil(len(curves) / blocks)

    def draw(figure: Figure) -> None:
        panels = figure.subplots(blocks * len(quantities), across, squeeze=False, sharex=True, sharey=False)
        for q, quantity in enumerate(quantities):
            row_axes = []
            for k, curve in enumerate(curves):
                axes = panels[(k // across) * len(quantities) + q, k % across]
                row_axes.append(axes)
                _scatter(axes, curve, x, quantity, lines.get((quantity, curves[0].name)), lines)
                axes.grid(alpha=0.6)
                if q == 0:
                    axes.set_title(wrap(shorten(curve.name, 48), 24))
                if k % across == 0:
                    axes.set_ylabel(wrap(labels[quantity], 22))
                last = q == len(quantities) - 1
                axes.tick_params(labelbottom=last)
                if last:
                    axes.set_xlabel(wrap(labels[x], 28))
            limits = [axes.get_ylim() for axes in row_axes if axes.has_data()]
            for axes in row_axes:
                axes.set_ylim(
                    min((low for low, _ in limits), default=0), max((high for _, high in limits), default=1)
                )
        for k in range(len(curves), blocks * across):
            for q in range(len(quantities)):
                panels[(k // across) * len(quantities) + q, k % across].set_visible(False)

    return render(max(11, 2.75 * across), 2.1 * blocks * len(quantities) + 0.5 * blocks, draw, "png")


def _scatter(
    axes: Axes,
    curve: Curve,
    x: str,
    quantity: str,
    real_line: Line | None,
    lines: Mapping[tuple[str, str], Line | None],
) -> None:
    a, b = curve.frame[x].to_numpy(float), curve.frame[quantity].to_numpy(float)
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    if not len(a):
        axes.text(
            0.5, 0.5, "nothing\nmeasured", transform=axes.transAxes, ha="center", va="center", color=FAINT
        )
        return
    if curve.private:
        bins = (
            [part for part in np.array_split(np.argsort(a, kind="stable"), min(5, len(a) // 5)) if len(part)]
            if len(a) >= 10
            else []
        )
        axes.plot(
            [a[part].mean() for part in bins],
            [b[part].mean() for part in bins],
            "D",
            color=curve.colour,
            ms=5,
        )
        ends = np.quantile(a, [0.05, 0.95])
    else:
        axes.scatter(a, b, s=11, color=curve.colour, alpha=0.55, linewidths=0)
        ends = np.array([a.min(), a.max()])
    along = np.linspace(ends[0], ends[1], 40)
    if real_line is not None and not curve.real:
        _band(axes, real_line, along, INK, lw=1.3, ls=(0, (4, 2)))
    own = lines.get((quantity, curve.name))
    if own is not None:
        _band(axes, own, along, curve.colour, lw=2.2)


def _band(axes: Axes, line: Line, along: np.ndarray, colour: str, **style: Any) -> None:
    height, half = line.at(along), line.half_band(along)
    axes.fill_between(along, height - half, height + half, color=colour, alpha=0.2, lw=0)
    axes.plot(along, height, color=colour, **style)


# Scores and training ------------------------------------------------------------------------------


def rulers(scores: Sequence[tuple[str, pd.DataFrame]], palette: Mapping[str, str]) -> bytes:
    """Draw each cell's score with its interval between null and ceiling; SVG.

    Args:
        scores: Title of a score and its rows: ``generator``, ``fit_seed``, ``sample_seed``, ``value``,
            ``ci_low``, ``ci_high`` and the anchors with their intervals.
        palette: Colour of each generator.
    """
    heights = [len(rows) for _, rows in scores]

    def draw(figure: Figure) -> None:
        panels = figure.subplots(len(scores), 1, squeeze=False, height_ratios=[n + 1.6 for n in heights])[
            :, 0
        ]
        for axes, (title, rows) in zip(panels, scores, strict=True):
            for anchor, colour, word in (
                ("null", NULL, "null (destroyed)"),
                ("ceiling", CEILING, "ceiling (real)"),
            ):
                centre = float(rows[anchor].mean())
                low, high = float(rows[f"{anchor}_low"].mean()), float(rows[f"{anchor}_high"].mean())
                if math.isfinite(low) and math.isfinite(high):
                    axes.axvspan(low, high, color=colour, alpha=0.13, lw=0)
                if math.isfinite(centre):
                    axes.axvline(centre, color=colour, lw=1.6, label=word)
            for y, row in enumerate(rows.itertuples()):
                colour = palette.get(str(row.generator), INK)
                value, low, high = (float(getattr(row, name)) for name in ("value", "ci_low", "ci_high"))
                if math.isfinite(low) and math.isfinite(high):
                    axes.plot([low, high], [y, y], color=colour, lw=2.6, solid_capstyle="butt")
                axes.plot(value, y, "o", color=colour, ms=6, mec="white", mew=0.8)
            names = [
                f"{shorten(r.generator, 34)}  fit {r.fit_seed}, draw {r.sample_seed}"
                for r in rows.itertuples()
            ]
            axes.set_yticks(range(len(rows)), names)
            axes.set(ylim=(len(rows) - 0.4, -0.6))
            axes.set_title(title, loc="left")
            axes.grid(axis="x")
            axes.set_axisbelow(True)
            axes.tick_params(axis="y", length=0)
        handles, labels = panels[0].get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, loc="outside lower right", ncols=2)

    return render(9.5, sum(0.27 * n + 0.75 for n in heights) + 0.35, draw, "svg")


def training(
    curves: Sequence[tuple[str, str, Sequence[tuple[int, pd.DataFrame]]]], palette: Mapping[str, str]
) -> bytes:
    """Draw training curves: one small plot for each generator and quantity, a line for each fit; SVG.

    Args:
        curves: Generator, name of the quantity, and ``step`` and ``value`` of each fit seed.
        palette: Colour of each generator.
    """
    columns = 3
    rows = math.ceil(len(curves) / columns)

    def draw(figure: Figure) -> None:
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, (generator, name, fits) in zip(panels, curves, strict=False):
            lowest, highest = math.inf, -math.inf
            for k, (_, frame) in enumerate(fits):
                thinned = frame.iloc[:: max(1, len(frame) // 400)]
                values = thinned["value"].to_numpy(float)
                if np.isfinite(values).any():
                    lowest, highest = min(lowest, np.nanmin(values)), max(highest, np.nanmax(values))
                style = ("-", "--", ":", "-.")[k % 4]
                axes.plot(thinned["step"], values, style, color=palette.get(generator, INK), lw=1.3)
            if 0 < lowest < highest / 30:
                axes.set_yscale("log")
                axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
                axes.yaxis.set_minor_formatter(lambda value, _: "")
            axes.set_title(wrap(shorten(generator, 60), 34))
            axes.set(xlabel="step", ylabel=shorten(name, 28))
            axes.grid(axis="y")
        for axes in panels[len(curves) :]:
            axes.set_visible(False)

    return render(11, 2.3 * rows + 0.2, draw, "svg")


def _legend(figure: Figure, curves: Sequence[Curve]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=c.colour, lw=3, label=shorten(c.name, 40)) for c in curves]
    figure.legend(handles=handles, loc="outside upper left", ncols=min(len(handles), 5))
