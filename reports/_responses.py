"""Response curves of conditional generators: what their bodies do where they are given another sex, age or BMI."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mmbench.api import Run

from . import _format, _scores, coherence_figures
from .coherence_figures import ResponseCurve
from .figures import Picture

SCORE = "response"
MOST_QUANTITIES = 6
"""Rows of small plots, so that the figure fits a page."""
_POINT = re.compile(r"(?P<quantity>.+) at (?P<column>.+?)=(?P<value>.*)")
_REAL = re.compile(r"real (\S+), (\S+) to (\S+)")


def picture(run: Run, palette: Mapping[str, str], prefix: str) -> Picture | None:
    """Return the response curves of every generator that has some; ``None`` where nobody has.

    Args:
        run: The run.
        palette: Colour of each generator.
        prefix: Start of the file name.
    """
    scores = _scores.tidy(run.scores)
    rows = scores[(scores["score"] == SCORE) & np.isfinite(scores["value"].astype(float))]
    rows = rows[rows["generator"].isin([cell["generator"] for cell in run.cells])]
    found = curves(rows, run)
    if not found:
        return None
    moves: dict[str, float] = {}
    for curve in found:
        moves[curve.quantity] = max(moves.get(curve.quantity, 0.0), float(np.ptp(curve.real[:, 0])))
    shown = sorted(moves, key=lambda name: -moves[name])[:MOST_QUANTITIES]
    left = len(moves) - len(shown)
    fewer = f" Of {len(moves)} quantities these move most." if left else ""
    names = list(dict.fromkeys(name for curve in found for name in curve.drawn))
    told = "; ".join(_slopes(name, rows[rows["generator"] == name]) for name in names)
    return Picture(
        f"{prefix}-responses.svg",
        coherence_figures.responses([curve for curve in found if curve.quantity in shown], palette),
        "Response to given values",
        "Each dot is the mean quantity of the records that a conditional generator drew where the column was given this "
        "value, with its 95 % interval, in standard deviations of real people; means over fits. Black: what real "
        "people of this value have, whatever else they are, with its 95 % interval. A generator that ignores what it "
        f"is given stays flat. Slopes on the real curves, 1 as in real people: {told}.{fewer}",
        f"Mean quantities against {_format.enumerated(dict.fromkeys(c.label for c in found))} for real people and "
        f"{_format.enumerated(names)}. Slopes on the real curves: {told}.",
    )


@dataclass(frozen=True)
class _Axis:
    label: str
    discrete: bool


def curves(rows: pd.DataFrame, run: Run) -> list[ResponseCurve]:
    """Return the curves that details of scores hold, column by column; means over fits and draws."""
    axes = {c.name: _Axis(c.label, c.discrete) for c in run.cohort.schema}
    points: dict[tuple[str, str], dict[str, dict[str, list[np.ndarray]]]] = {}
    for row in rows.to_dict("records"):
        point, real = _POINT.fullmatch(row["item"]), _REAL.fullmatch(row["note"])
        if not point or not real or point["column"] not in axes:
            continue
        curve = points.setdefault((point["column"], point["quantity"]), {})
        here = curve.setdefault(point["value"], {})
        here.setdefault("", []).append(np.array(real.groups(), dtype=float))
        drawn = np.array([row["value"], row["ci_low"], row["ci_high"]], dtype=float)
        here.setdefault(row["generator"], []).append(drawn)
    found = []
    for (column, quantity), at in points.items():
        axis = axes[column]
        values = list(at) if axis.discrete else sorted(at, key=float)
        names = list(dict.fromkeys(name for value in values for name in at[value]))
        nothing = [np.full(3, math.nan)]
        means = {
            name: np.array([np.mean(at[value].get(name, nothing), axis=0) for value in values])
            for name in names
        }
        real_curve = means.pop("")
        found.append(ResponseCurve(axis.label, quantity, values, axis.discrete, real_curve, means))
    return found


def _slopes(name: str, rows: pd.DataFrame) -> str:
    """Return a generator's slopes, over all columns and for each, in words."""
    texts = []
    for item, group in rows.groupby("item", sort=False):
        whole = item == ""
        if whole or str(item).startswith("response to "):
            value, low, high = (
                float(group[part].astype(float).mean()) for part in ("value", "ci_low", "ci_high")
            )
            standing = " or ".join(dict.fromkeys(word for word in group["verdict"] if word))
            text = f"{_format.number(value, 1.0)} [{_format.number(low, 1.0)}, {_format.number(high, 1.0)}] {standing}"
            texts.append(text if whole else f"{str(item).removeprefix('response to ')} {text}")
    head, *others = texts or [_format.NOTHING]
    return f"{name} {head}" + (f" ({', '.join(others)})" if others else "")
