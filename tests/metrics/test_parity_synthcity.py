"""Parity with numbers that synthcity computed in an environment of its own."""

import json
from pathlib import Path

import numpy as np
import pytest

from mmbench.metrics.alpha_precision import precision_curve


def test_alpha_precision_in_the_naive_variant_and_normalisation_of_synthcity():
    stored = json.loads((Path(__file__).parent / "synthcity_alpha_precision.json").read_text())
    # synthcity takes the last column for a target and drops it, scales by the real range, and divides the sum of
    # gaps by the sum of the levels.
    real, synthetic = (np.array(stored[name])[:, :-1] for name in ("real", "synthetic"))
    low, span = real.min(axis=0), np.ptp(real, axis=0)
    shares = precision_curve((real - low) / span, (synthetic - low) / span)
    levels = np.linspace(0, 1, len(shares))
    value = 1 - np.abs(shares - levels).sum() / levels.sum()
    assert value == pytest.approx(stored["delta_precision_alpha_naive"], abs=1e-6)
