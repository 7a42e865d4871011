"""Store a small pair of samples with synthcity's naive alpha-precision; runs in an environment of its own.

synthcity-env/bin/python benchmarks/peers/synthcity_parity.py tests/metrics/synthcity_alpha_precision.json
"""

from __future__ import annotations

import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from synthcity.metrics.eval_statistical import AlphaPrecision
from synthcity.plugins.core.dataloader import GenericDataLoader


def main() -> None:
    """Write samples and score."""
    rng = np.random.default_rng(0)
    real = rng.standard_normal((40, 4)).round(3)
    synthetic = (1.2 * rng.standard_normal((40, 4)) + 0.3).round(3)
    loaders = [GenericDataLoader(pd.DataFrame(x, columns=list("abcd"))) for x in (real, synthetic)]
    with tempfile.TemporaryDirectory() as folder:
        found = AlphaPrecision(use_cache=False, workspace=Path(folder)).evaluate(*loaders)
    stored = {
        "synthcity": version("synthcity"),
        "real": real.tolist(),
        "synthetic": synthetic.tolist(),
        "delta_precision_alpha_naive": float(found["delta_precision_alpha_naive"]),
    }
    Path(sys.argv[1]).write_text(json.dumps(stored) + "\n")


if __name__ == "__main__":
    main()
