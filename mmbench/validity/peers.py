"""Other packages' measures as instruments, under the same criteria as ours.

They run where they are installed; synthcity, which cannot share an environment with current torch, is represented
by numbers that ``benchmarks/peers/synthcity_scores.py`` computed on the very trials of the quick suite. A peer
gets every help that its users usually give it: measures of distance between points see columns standardised on the
reference, parameters are those of its documentation.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd

from mmbench.api import TABLE, VOLUME, Kind, Score, Trial
from mmbench.validity.instruments import NOT_HERE, Instrument, Trait
from mmbench.validity.laws import Sides
from mmbench.validity.trials import arrays_of

_Declared = tuple[Kind, str, float, tuple[float, float], str]
"""Kind, direction, ideal, range and null of an output."""
_SHARE, _OPEN = (0.0, 1.0), (0.0, math.inf)


@dataclass(frozen=True)
class _Peer:
    """A measure of another package.

    Attributes:
        package: Import name.
        distribution: Name at the package index.
        measure: Returns the value of each output from the arrays of a trial and its seed.
        outputs: Kind, direction, ideal, range and null of each output.
        needs: Modality that it is meant for.
    """

    package: str
    distribution: str
    measure: Callable[[Sides, int], Mapping[str, float]]
    outputs: Mapping[str, _Declared]
    needs: frozenset[str] = TABLE


def _standardised(sides: Sides) -> Sides:
    mean, spread = sides.reference.mean(axis=0), sides.reference.std(axis=0)
    spread = np.where(spread > 0, spread, 1)
    return Sides(*((side - mean) / spread for side in sides))


def _prdc(sides: Sides, seed: int) -> Mapping[str, float]:
    from prdc import compute_prdc

    points = _standardised(sides)
    with contextlib.redirect_stdout(io.StringIO()):
        found = compute_prdc(points.reference, points.synthetic, nearest_k=5)
    return {f"prdc {name}": float(value) for name, value in found.items()}


def _pot(sides: Sides, seed: int) -> Mapping[str, float]:
    from ot.bregman import empirical_sinkhorn_divergence

    points = _standardised(sides)
    return {"POT Sinkhorn": float(empirical_sinkhorn_divergence(points.reference, points.synthetic, reg=1.0))}


def _monai_fid(sides: Sides, seed: int) -> Mapping[str, float]:
    import torch
    from monai.metrics.fid import FIDMetric

    return {"MONAI FID": float(FIDMetric()(torch.tensor(sides.synthetic), torch.tensor(sides.reference)))}


def _monai_mmd(sides: Sides, seed: int) -> Mapping[str, float]:
    import torch
    from monai.metrics.mmd import MMDMetric

    return {"MONAI MMD": float(MMDMetric()(torch.tensor(sides.reference), torch.tensor(sides.synthetic)))}


def _frames(sides: Sides) -> tuple[list[pd.DataFrame], dict[str, Any]]:
    names = [f"x{j}" for j in range(sides.reference.shape[1])]
    return [pd.DataFrame(side, columns=names) for side in sides], {
        "columns": {name: {"sdtype": "numerical"} for name in names}
    }


def _sdmetrics_quality(sides: Sides, seed: int) -> Mapping[str, float]:
    from sdmetrics.reports.single_table import QualityReport

    (real, synthetic, _), metadata = _frames(sides)
    report = QualityReport()
    report.generate(real, synthetic, metadata, verbose=False)
    scores = report.get_properties().set_index("Property")["Score"]
    return {
        "SDMetrics Column Shapes": float(scores["Column Shapes"]),
        "SDMetrics Column Pair Trends": float(scores["Column Pair Trends"]),
        "SDMetrics Quality": float(report.get_score()),
    }


def _sdmetrics_detection(sides: Sides, seed: int) -> Mapping[str, float]:
    from sdmetrics.single_table import LogisticDetection

    (real, synthetic, _), metadata = _frames(sides)
    return {"SDMetrics LogisticDetection": float(LogisticDetection.compute(real, synthetic, metadata))}


def _sdmetrics_privacy(sides: Sides, seed: int) -> Mapping[str, float]:
    from sdmetrics.single_table import DCRBaselineProtection, DCROverfittingProtection, NewRowSynthesis

    (real, synthetic, train), metadata = _frames(sides)
    metadata_of = {"tables": {"table": metadata}} | metadata
    overfitting = DCROverfittingProtection.compute_breakdown(train, synthetic, real, metadata_of, "table")
    baseline = DCRBaselineProtection.compute_breakdown(train, synthetic, metadata_of, "table")
    return {
        "SDMetrics DCROverfittingProtection": float(overfitting["score"]),
        "SDMetrics DCRBaselineProtection": float(baseline["score"]),
        "SDMetrics NewRowSynthesis": float(NewRowSynthesis.compute(train, synthetic, metadata)),
    }


_PEERS = {
    "prdc": _Peer(
        "prdc",
        "prdc",
        _prdc,
        {
            "prdc precision": ("fidelity", "higher", 1.0, _SHARE, "columns"),
            "prdc recall": ("diversity", "higher", 1.0, _SHARE, "columns"),
            "prdc density": ("fidelity", "higher", 1.0, _OPEN, "columns"),
            "prdc coverage": ("diversity", "higher", 1 - 2.0**-5, _SHARE, "columns"),
        },
    ),
    "POT": _Peer("ot", "POT", _pot, {"POT Sinkhorn": ("fidelity", "lower", 0.0, _OPEN, "columns")}),
    "MONAI FID": _Peer(
        "monai", "monai", _monai_fid, {"MONAI FID": ("fidelity", "lower", 0.0, _OPEN, "noise")}, VOLUME
    ),
    "MONAI MMD": _Peer(
        "monai", "monai", _monai_mmd, {"MONAI MMD": ("fidelity", "lower", 0.0, _OPEN, "noise")}, VOLUME
    ),
    "SDMetrics quality": _Peer(
        "sdmetrics",
        "sdmetrics",
        _sdmetrics_quality,
        {
            "SDMetrics Column Shapes": ("fidelity", "higher", 1.0, _SHARE, "uniform"),
            "SDMetrics Column Pair Trends": ("fidelity", "higher", 1.0, _SHARE, "columns"),
            "SDMetrics Quality": ("fidelity", "higher", 1.0, _SHARE, "columns"),
        },
    ),
    "SDMetrics detection": _Peer(
        "sdmetrics",
        "sdmetrics",
        _sdmetrics_detection,
        {"SDMetrics LogisticDetection": ("fidelity", "higher", 1.0, _SHARE, "columns")},
    ),
    "SDMetrics privacy": _Peer(
        "sdmetrics",
        "sdmetrics",
        _sdmetrics_privacy,
        {
            "SDMetrics DCROverfittingProtection": ("privacy", "higher", 1.0, _SHARE, "copies"),
            "SDMetrics DCRBaselineProtection": ("privacy", "higher", 1.0, _SHARE, "copies"),
            "SDMetrics NewRowSynthesis": ("privacy", "higher", 1.0, _SHARE, "copies"),
        },
    ),
}
STORED: dict[str, Mapping[str, _Declared]] = {
    "synthcity": {
        "synthcity delta_precision_alpha_naive": ("fidelity", "higher", 1.0, _SHARE, "columns"),
        "synthcity delta_coverage_beta_naive": ("diversity", "higher", 0.5, _SHARE, "columns"),
        "synthcity delta_precision_alpha_OC": ("fidelity", "higher", 1.0, _SHARE, "columns"),
        "synthcity delta_coverage_beta_OC": ("diversity", "higher", 0.5, _SHARE, "columns"),
        "synthcity authenticity_naive": ("privacy", "higher", 0.5, _SHARE, "copies"),
        "synthcity authenticity_OC": ("privacy", "higher", 0.5, _SHARE, "copies"),
        "synthcity precision": ("fidelity", "higher", 1.0, _SHARE, "columns"),
        "synthcity recall": ("diversity", "higher", 1.0, _SHARE, "columns"),
        "synthcity density": ("fidelity", "higher", 1.0, _OPEN, "columns"),
        "synthcity coverage": ("diversity", "higher", 1 - 2.0**-5, _SHARE, "columns"),
        "synthcity Wasserstein": ("fidelity", "lower", 0.0, _OPEN, "columns"),
        "synthcity MMD": ("fidelity", "lower", 0.0, _OPEN, "columns"),
        "synthcity Jensen-Shannon": ("fidelity", "lower", 0.0, _SHARE, "uniform"),
        "synthcity Kolmogorov-Smirnov": ("fidelity", "higher", 1.0, _SHARE, "uniform"),
        "synthcity detection_gmm": ("fidelity", "lower", 0.5, _SHARE, "columns"),
        "synthcity detection_linear": ("fidelity", "lower", 0.5, _SHARE, "columns"),
    }
}
NAMES = (*_PEERS, *STORED)


def installed() -> list[Instrument]:
    """Return the peers that are installed, and those that are stored."""
    return [peer(name) for name in _PEERS if importlib.util.find_spec(_PEERS[name].package)] + [
        peer(name) for name in STORED if stored(name)
    ]


def peer(name: str) -> Instrument:
    """Return a peer as an instrument.

    Args:
        name: One of :data:`NAMES`.
    """
    if name in STORED:
        return _stored_instrument(name)
    chosen = _PEERS[name]

    def compute(trial: Trial, key: str) -> list[Score]:
        if not _meant_for(chosen.needs, trial):
            return [Score(output, math.nan, reason=NOT_HERE) for output in chosen.outputs]
        found = chosen.measure(arrays_of(trial), trial.seed)
        return [Score(output, value) for output, value in found.items()]

    return Instrument(
        name,
        f"{chosen.distribution} {version(chosen.distribution)}",
        _traits(chosen.outputs, chosen.needs),
        compute,
    )


def _meant_for(needs: frozenset[str], trial: Trial) -> bool:
    """Whether a trial is one of arrays, and of the modality that a peer takes: people have missing values."""
    return trial.reference.cohort.modalities == needs


def _traits(outputs: Mapping[str, _Declared], needs: frozenset[str]) -> tuple[Trait, ...]:
    return tuple(
        Trait(name, kind, direction, ideal, span, needs, False, null)
        for name, (kind, direction, ideal, span, null) in outputs.items()
    )


@cache
def stored(name: str) -> Mapping[str, Any]:
    """Return the stored numbers of a peer: its version, and the values of each output by the trial's key."""
    file = files("mmbench.validity") / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _stored_instrument(name: str) -> Instrument:
    numbers = stored(name)

    def compute(trial: Trial, key: str) -> list[Score]:
        row = numbers["scores"].get(key, {})
        return [
            Score(output, math.nan, reason=NOT_HERE)
            if output not in row
            else Score(output, math.nan if row[output] is None else row[output])
            for output in STORED[name]
        ]

    return Instrument(name, f"{name} {numbers['version']}", _traits(STORED[name], TABLE), compute)
