"""Compute synthcity's scores on the arrays that dump_cases.py wrote; runs in an environment of its own.

    python3.11 -m venv synthcity-env && synthcity-env/bin/pip install synthcity==0.2.12
    synthcity-env/bin/python benchmarks/peers/synthcity_scores.py cases.npz mmbench/validity/synthcity.json

Only numbers leave it. Parameters are synthcity's defaults; the cache is off, because its key ignores parameters.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from synthcity.metrics import eval_detection, eval_statistical
from synthcity.plugins.core.dataloader import GenericDataLoader

warnings.filterwarnings("ignore")

NAMES = {
    "AlphaPrecision": {
        f"{measure}_{variant}": f"synthcity {measure}_{variant}"
        for measure in ("delta_precision_alpha", "delta_coverage_beta", "authenticity")
        for variant in ("naive", "OC")
    },
    "PRDCScore": {name: f"synthcity {name}" for name in ("precision", "recall", "density", "coverage")},
    "WassersteinDistance": {"joint": "synthcity Wasserstein"},
    "MaximumMeanDiscrepancy": {"joint": "synthcity MMD"},
    "JensenShannonDistance": {"marginal": "synthcity Jensen-Shannon"},
    "KolmogorovSmirnovTest": {"marginal": "synthcity Kolmogorov-Smirnov"},
    "SyntheticDetectionGMM": {"mean": "synthcity detection_gmm"},
    "SyntheticDetectionLinear": {"mean": "synthcity detection_linear"},
}

ABOUT_COPIES = ("V0/", "V1/", "V2/", "V18/", "V19/")
"""Series whose tests say something about privacy."""


def main() -> None:
    """Compute and write the scores, going on with a file that is there already."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after so long")
    given = parser.parse_args()
    torch.set_num_threads(1)
    stored = json.loads(given.out.read_text()) if given.out.exists() else {"scores": {}}
    stored["version"] = version("synthcity")
    cases = np.load(given.cases, allow_pickle=False)
    keys = list(dict.fromkeys(name.rpartition("|")[0] for name in cases.files))
    start = time.monotonic()
    for key in keys:
        if key in stored["scores"] or time.monotonic() - start > given.seconds:
            continue
        sides = {role: cases[f"{key}|{role}"] for role in ("reference", "synthetic", "train")}
        stored["scores"][key] = scores(sides, key.startswith(ABOUT_COPIES))
        given.out.write_text(json.dumps(stored, indent=0, sort_keys=True) + "\n")


def scores(sides: dict[str, np.ndarray], about_copies: bool) -> dict[str, float | None]:
    """Return every score of one trial; ``None`` where synthcity raises or gives no number.

    Args:
        sides: Arrays of the trial.
        about_copies: Whether authenticity is taken against training records; everything else is against the
            reference.
    """
    found: dict[str, float | None] = {}
    for name, outputs in NAMES.items():
        module = eval_detection if name.startswith("Synthetic") else eval_statistical
        metric = getattr(module, name)
        values = _evaluated(metric, sides["reference"], sides["synthetic"])
        if name == "AlphaPrecision" and about_copies:
            size = len(sides["synthetic"])
            train = _evaluated(metric, sides["train"][:size], sides["synthetic"][: len(sides["train"])])
            values |= {key: value for key, value in train.items() if key.startswith("authenticity")}
        for key, output in outputs.items():
            value = values.get(key, math.nan)
            found[output] = round(float(value), 6) if math.isfinite(value) else None
    return found


def _evaluated(metric: Callable[..., Any], real: np.ndarray, synthetic: np.ndarray) -> dict[str, float]:
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(0)
    names = [f"x{j}" for j in range(real.shape[1])]
    with tempfile.TemporaryDirectory() as folder:
        try:
            loaders = [GenericDataLoader(pd.DataFrame(side, columns=names)) for side in (real, synthetic)]
            return dict(metric(use_cache=False, workspace=Path(folder)).evaluate(*loaders))
        except Exception as error:  # what fails is a result too
            print(f"{metric.__name__}: {type(error).__name__}: {error}")
            return {}


if __name__ == "__main__":
    main()
