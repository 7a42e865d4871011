"""Pictures of the coherence battery with their captions and texts for those who cannot see them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mmbench.api import Run

from . import _coherence, _format, _records, _scores, coherence_figures, figures
from ._coherence import REAL_SAMPLE, Judged
from .figures import Picture

MOST_EFFECTS = 16
"""Effects in a heat-map, so that its numbers stay legible."""


def ruler(run: Run, headlines: pd.DataFrame, palette: Mapping[str, str], prefix: str) -> Picture | None:
    """Return the coherence scores of every fit and draw between their anchors; ``None`` where there is none."""
    scores = []
    for output in _scores.outputs(run):
        rows = headlines[(headlines["score"] == output["name"]) & (headlines["status"] == "ok")]
        rows = rows[np.isfinite(rows["value"].astype(float))]
        if output["kind"] == "coherence" and len(rows):
            unit = f" [{output['unit']}]" if output["unit"] else ""
            better = "right" if output["direction"] == "higher" else "left"
            scores.append((f"{output['title']}{unit} ({better} is better)", rows))
    if not scores:
        return None
    drawn = {name for _, rows in scores for name in rows["generator"]}
    without = [name for name in palette if name not in drawn and name != _records.REAL_NAME]
    absent = f" No score: {_format.enumerated(without)} (the table above says why)." if without else ""
    return Picture(
        f"{prefix}-coherence.svg",
        figures.rulers(scores, palette),
        "Coherence between its anchors",
        "Each dot is one draw of one fit with its 95 % interval. Red: what broken pairs score (null). "
        "Green: what fresh "
        f"real subjects score (ceiling). Shaded: the anchors' own 95 % intervals.{absent}",
        "Coherence score of every generator, fit and draw between null and ceiling; the same numbers are in "
        "the table "
        "of single fits and draws.",
    )


def pictures(
    found: Sequence[Judged], sizes: Sequence[int], palette: Mapping[str, str], prefix: str
) -> list[Picture]:
    """Return what can be drawn of the batteries' details; each picture shows real subjects first.

    Args:
        found: What was said of everybody.
        sizes: Records of the samples.
        palette: Colour of each generator.
        prefix: Start of the file names.
    """
    colours = dict(palette) | {REAL_SAMPLE: figures.CEILING}
    drawn = (
        _differences(found, prefix),
        _subgroups(found, colours, prefix),
        _ranks(found, min(sizes, default=0), colours, prefix),
    )
    return [picture for picture in drawn if picture is not None]


def _differences(found: Sequence[Judged], prefix: str) -> Picture | None:
    whole = _coherence.association_differences(found)
    if not whole.rows:
        return None
    shown = whole.reduced(MOST_EFFECTS)
    # A quantity has no correlation with itself, so that one of them has no row.
    residual = _coherence.residual_correlation_differences(found).with_rows(shown.rows)
    left = len(whole.columns) - len(shown.columns)
    fewer = f" Left out: {_format.plural(left, 'effect')} with the smallest differences." if left else ""
    names = list(shown.values)
    name, quantity, effect, value = _largest(shown)
    return Picture(
        f"{prefix}-coherence-differences.png",
        coherence_figures.difference_maps(
            names,
            ("partial association with", shown.columns, shown.values),
            ("residual correlation with", residual.columns, residual.values),
            shown.rows,
        ),
        "What follows from the row otherwise than in real people",
        "Left: by how much a quantity changes more (red) or less (blue) with an effect of the row than "
        "among real subjects, all other effects held fixed (in residual standard deviations per standard "
        "deviation of the effect). Right: by how much more or less two quantities go together once the row "
        "is accounted for. Pale means alike; the fresh real sample shows what chance does. Means over fits "
        f"and draws.{fewer}",
        f"Heat-maps of {_format.enumerated(names)}; the largest difference from real subjects is that of "
        f"{quantity} with {effect} in {name}, {_format.number(value)}.",
    )


def _largest(matrix: _coherence.Matrix) -> tuple[str, str, str, float]:
    name = max(matrix.values, key=lambda one: float(np.nan_to_num(np.abs(matrix.values[one])).max()))
    values = np.nan_to_num(matrix.values[name])
    i, j = np.unravel_index(np.argmax(np.abs(values)), values.shape)
    return name, matrix.rows[i], matrix.columns[j], float(values[i, j])


def _subgroups(found: Sequence[Judged], palette: Mapping[str, str], prefix: str) -> Picture | None:
    told = _coherence.subgroups(found)
    if not told.names:
        return None
    names = [name for name, values in told.values.items() if np.isfinite(values[:, 0]).any()]
    absent = (
        " Not assessed, as there are too few records or their rows say too little: "
        f"{_format.enumerated(told.absent)}."
        if told.absent
        else ""
    )
    return Picture(
        f"{prefix}-coherence-subgroups.svg",
        coherence_figures.subgroups(names, told.values, told.names, palette),
        "Coherence of subgroups",
        "Each dot is kappa of the synthetic records of one group with its 95 % interval, means over fits "
        "and draws. Black line: 1, real pairs; red line: 0, broken pairs. A group far left of the others is "
        f"served worse than they are. A group without a dot was not assessed in that sample.{absent}",
        f"kappa with intervals for {_format.plural(len(told.names), 'group')} of records in "
        f"{_format.enumerated(names)}.",
    )


def _ranks(found: Sequence[Judged], size: int, palette: Mapping[str, str], prefix: str) -> Picture | None:
    shares = _coherence.ranks(found)
    if not shares:
        return None
    bins = len(next(iter(next(iter(shares.values())).values())))
    chance = 1.96 * math.sqrt((bins - 1) / size) / bins if size else math.nan
    names = [one.name for one in found if any(one.name in of for of in shares.values())]
    return Picture(
        f"{prefix}-coherence-ranks.svg",
        coherence_figures.rank_histograms(names, shares, chance, palette),
        "Scatter about what the row says",
        "Where each synthetic quantity ranks among those of real people with such a row (probability "
        "integral transform). Flat at the line: it scatters as theirs do. A hill: too little scatter; a "
        f"bowl: too much; a slope: shifted. Shaded: where a bar lies in 95 of 100 real samples of {size} "
        "records. Means over fits and draws; bars that leave the plot are cut off.",
        f"Histograms of ranks of {_format.enumerated(shares)} for {_format.enumerated(names)}.",
    )
