"""Figures of the coherence battery. They take plain data and give bytes that are the same each time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ._drawing import FAINT, GRID, INK, NULL, render, shorten, wrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACROSS = 7
"""Most small plots side by side."""
TALLEST = 4.0
"""Bars higher than so many flat ones are cut off, so that one wild generator does not flatten the others."""


@dataclass(frozen=True)
class ResponseCurve:
    """A quantity against the values of a column that generators were given.

    Attributes:
        label: The column, with its unit.
        quantity: The quantity.
        values: As text, from left to right.
        discrete: Whether they are levels; otherwise they are numbers.
        real: Mean and ends of its interval among real people, shape (values, 3).
        drawn: The same of each generator, by name, NaN where there is none.
    """

    label: str
    quantity: str
    values: Sequence[str]
    discrete: bool
    real: np.ndarray
    drawn: Mapping[str, np.ndarray]


def difference_maps(
    names: Sequence[str],
    left: tuple[str, Sequence[str], Mapping[str, np.ndarray]],
    right: tuple[str, Sequence[str], Mapping[str, np.ndarray]],
    quantities: Sequence[str],
) -> bytes:
    """Draw two matrices of differences for each name on one scale, every number written out; PNG.

    Args:
        names: Who has a row of matrices.
        left: Title, columns, and a matrix of shape (quantities, columns) by name.
        right: The same for the narrower one; without columns it is left out.
        quantities: Rows of all matrices.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from seaborn import color_palette

    sides = [side for side in (left, right) if len(side[1])]
    every = np.concatenate([np.ravel(side[2][name]) for side in sides for name in names if name in side[2]])
    largest = float(np.nanmax(np.abs(every), initial=0.1))
    # One wild generator must not bleach the others: beyond 1 the number says more than the colour.
    reach = min(math.ceil(largest * 10) / 10, 1.0)
    norm, colours = Normalize(-reach, reach), color_palette("vlag", as_cmap=True)

    def draw(figure: Figure) -> None:
        widths = [len(side[1]) for side in sides]
        grid = figure.subplots(len(names), len(sides), squeeze=False, width_ratios=widths)
        for r, name in enumerate(names):
            for c, (title, columns, matrices) in enumerate(sides):
                axes = grid[r, c]
                values = matrices.get(name, np.full((len(quantities), len(columns)), math.nan))
                axes.pcolormesh(
                    np.ma.masked_invalid(values), cmap=colours, norm=norm, edgecolors="white", linewidth=0.6
                )
                _write(axes, values, reach)
                below = r == len(names) - 1
                axes.set_xticks(
                    np.arange(len(columns)) + 0.5 if below else [],
                    [shorten(label, 26) for label in columns] if below else [],
                    rotation=90,
                )
                axes.set_yticks(
                    np.arange(len(quantities)) + 0.5 if c == 0 else [],
                    [shorten(label, 24) for label in quantities] if c == 0 else [],
                )
                axes.invert_yaxis()
                axes.spines[:].set_visible(False)
                axes.tick_params(length=0, labelsize=8)
                heading = [shorten(name, 40)] * (c == 0) + [title] * (r == 0)
                axes.set_title(": ".join(heading), fontsize=8.5, loc="left")
        bar = figure.colorbar(
            ScalarMappable(norm, colours),
            ax=grid,
            location="top",
            shrink=0.4,
            aspect=34,
            pad=0.25 / (len(names) * len(quantities)),
            extend="both" if largest > reach else "neither",
        )
        bar.set_label("synthetic less real")
        bar.outline.set_visible(False)

    return render(11, len(names) * (0.24 * len(quantities) + 0.33) + 2.1, draw, "png", dpi=130)


def _write(axes: Axes, values: np.ndarray, reach: float) -> None:
    for (y, x), value in np.ndenumerate(values):
        if math.isfinite(value):
            text = f"{value:+.2f}".replace("-", "−") if abs(value) >= 0.005 else "0"
            colour = "white" if abs(value) > 0.7 * reach else INK
            axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=7, color=colour)


def _blocks(count: int) -> tuple[int, int]:
    """Return how many lines of how many small plots hold so many."""
    lines = math.ceil(count / ACROSS)
    return lines, math.ceil(count / lines)


def subgroups(
    names: Sequence[str], values: Mapping[str, np.ndarray], groups: Sequence[str], palette: Mapping[str, str]
) -> bytes:
    """Draw kappa of each group with its interval, a small plot for each name; SVG.

    Args:
        names: Who has a plot.
        values: Value and ends of the interval by name, shape (groups, 3); NaN where there is none.
        groups: Names of the groups, from top to bottom.
        palette: Colour of each name.
    """
    rows, across = _blocks(len(names))
    every = np.concatenate([values[name].ravel() for name in names])
    every = every[np.isfinite(every)]
    # An interval that leaves the plot says enough: that nothing is known.
    low, high = max(min(0.0, float(every.min())), -0.6) - 0.05, min(max(1.1, float(every.max())), 1.8) + 0.05

    def draw(figure: Figure) -> None:
        panels = figure.subplots(rows, across, squeeze=False, sharey=True).ravel()
        y = np.arange(len(groups))
        for axes, name in zip(panels, names, strict=False):
            value, lower, upper = values[name].T
            colour = palette.get(name, INK)
            axes.axvline(1, color=INK, lw=1)
            axes.axvline(0, color=NULL, lw=1)
            axes.hlines(y, lower, upper, color=colour, lw=2.2)
            axes.plot(value, y, "o", color=colour, ms=4.5, mec="white", mew=0.6)
            axes.set(xlim=(low, high), ylim=(len(groups) - 0.4, -0.6), xlabel="kappa")
            axes.set_yticks(y, [shorten(group, 30) for group in groups])
            axes.set_title(wrap(shorten(name, 48), 72 // across))
            axes.set_xticks([0, 0.5, 1])
            axes.tick_params(axis="y", length=0, labelsize=8)
            axes.grid(axis="y", color=GRID, lw=0.6)
            axes.set_axisbelow(True)
        for axes in panels[len(names) :]:
            axes.set_visible(False)

    return render(11, rows * (0.18 * len(groups) + 0.8) + 0.1, draw, "svg")


def rank_histograms(
    names: Sequence[str],
    shares: Mapping[str, Mapping[str, np.ndarray]],
    chance: float,
    palette: Mapping[str, str],
) -> bytes:
    """Draw histograms of ranks: a row of small plots for each quantity, one for each name; SVG.

    Args:
        names: Who has a column of plots.
        shares: Share of records in each bin, by quantity and name.
        chance: How far from flat a bar lies in 95 of 100 samples of real people.
        palette: Colour of each name.
    """
    blocks, across = _blocks(len(names))

    def draw(figure: Figure) -> None:
        panels = figure.subplots(blocks * len(shares), across, squeeze=False)
        for axes in panels.ravel():
            axes.set_visible(False)
        for q, (quantity, of) in enumerate(shares.items()):
            for k, name in enumerate(names):
                axes = panels[(k // across) * len(shares) + q, k % across]
                axes.set_visible(True)
                if name in of:
                    _rank_bars(axes, of[name], chance, palette.get(name, INK))
                else:
                    axes.text(0.5, 0.5, "no ranks", transform=axes.transAxes, ha="center", color=FAINT)
                axes.set(xlim=(0, 1))
                axes.set_xticks([0, 0.5, 1], ["0", "", "1"])
                axes.tick_params(labelbottom=q == len(shares) - 1, labelleft=k % across == 0)
                if q == 0:
                    axes.set_title(wrap(shorten(name, 48), 72 // across))
                if k % across == 0:
                    axes.set_ylabel(wrap(shorten(quantity, 40), 20), fontsize=8)
                if q == len(shares) - 1:
                    axes.set_xlabel("rank")

    return render(11, blocks * (1.15 * len(shares) + 0.75), draw, "svg")


def _rank_bars(axes: Axes, bins: np.ndarray, chance: float, colour: str) -> None:
    flat = 1 / len(bins)
    edges = np.linspace(0, 1, len(bins) + 1)
    axes.bar(
        edges[:-1], bins, 1 / len(bins), align="edge", color=colour, alpha=0.6, edgecolor="white", lw=0.6
    )
    if math.isfinite(chance):
        axes.axhspan(flat - chance, flat + chance, color=INK, alpha=0.12, lw=0)
    axes.axhline(flat, color=INK, lw=1.2)
    axes.set_ylim(0, TALLEST * flat)


def responses(curves: Sequence[ResponseCurve], palette: Mapping[str, str]) -> bytes:
    """Draw a row of small plots for each quantity, one for each column: generators' points on the real curve; SVG.

    Args:
        curves: What is drawn.
        palette: Colour of each generator.
    """
    quantities = list(dict.fromkeys(curve.quantity for curve in curves))
    columns = list(dict.fromkeys(curve.label for curve in curves))
    names = list(dict.fromkeys(name for curve in curves for name in curve.drawn))

    def draw(figure: Figure) -> None:
        panels = figure.subplots(len(quantities), len(columns), squeeze=False, sharey="row", sharex="col")
        for axes in panels.ravel():
            axes.set_visible(False)
        for curve in curves:
            q, c = quantities.index(curve.quantity), columns.index(curve.label)
            axes = panels[q, c]
            axes.set_visible(True)
            _response(axes, curve, names, palette)
            axes.tick_params(labelbottom=q == len(quantities) - 1, labelleft=c == 0)
            if c == 0:
                axes.set_ylabel(wrap(shorten(curve.quantity, 40), 20), fontsize=8)
            if q == len(quantities) - 1:
                axes.set_xlabel(shorten(curve.label, 40))
        handles = {
            label: one
            for axes in panels.ravel()
            for one, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles.keys(), loc="outside lower right", ncols=min(len(handles), 4))

    return render(11, 1.35 * len(quantities) + 0.9, draw, "svg")


def _response(axes: Axes, curve: ResponseCurve, names: Sequence[str], palette: Mapping[str, str]) -> None:
    x = np.arange(len(curve.values)) if curve.discrete else np.array([float(value) for value in curve.values])
    value, low, high = curve.real.T
    width = float(np.ptp(x)) or 1.0
    if curve.discrete:
        # Between levels there is nobody.
        axes.errorbar(x, value, [value - low, high - value], fmt="_", color=INK, ms=16, lw=5, alpha=0.25)
        axes.plot(x, value, "_", color=INK, ms=16, mew=1.6, label="real people")
        axes.set_xticks(x, [shorten(text, 14) for text in curve.values])
        axes.set_xlim(-0.6, len(x) - 0.4)
    else:
        axes.fill_between(x, low, high, color=INK, alpha=0.15, lw=0)
        axes.plot(x, value, color=INK, lw=1.4, label="real people")
    for k, name in enumerate(names):
        if name in curve.drawn:
            # Side by side, or one would hide the other.
            there = x + (k - (len(names) - 1) / 2) * 0.022 * width * (2 if curve.discrete else 1)
            mean, lower, upper = curve.drawn[name].T
            colour = palette.get(name, INK)
            axes.vlines(there, lower, upper, color=colour, lw=1.8)
            axes.plot(there, mean, "o", color=colour, ms=4.5, mec="white", mew=0.6, label=shorten(name, 34))
    axes.grid(axis="y", color=GRID, lw=0.6)
    axes.set_axisbelow(True)
