"""Intervals cover and p-values are uniform; a small version of benchmarks/intervals.py."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmbench.metrics.associations import Associations
from mmbench.metrics.column_shapes import ColumnShapes
from mmbench.metrics.missingness import Missingness
from mmbench.metrics.mmd import TableMMD

ROOT = Path(__file__).resolve().parents[2]
REPETITIONS = 60
METRICS = (ColumnShapes, Associations, Missingness, TableMMD)
# Four standard errors: one of all these checks fails by chance less than once in a thousand runs.
REACH = 4 * np.sqrt(0.95 * 0.05 / REPETITIONS)


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("benchmark_intervals", ROOT / "benchmarks" / "intervals.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def wrong(people, seed):
    """Draw people of whom half have unrelated columns and all are heavier."""
    drawn = people.draw(100, seed)
    broken = people.columns_permuted(drawn.take(np.arange(50)), seed).cohort.rows
    mixed = pd.concat([broken, drawn.cohort.rows.iloc[50:]]).set_axis(range(100))
    return people.with_table(drawn, mixed.assign(bmi=1.05 * mixed["bmi"]))


@pytest.fixture(scope="module", params=["real", "wrong"])
def lines(request, people, benchmark):
    rows = {metric: [] for metric in METRICS}
    for seed in range(REPETITIONS):
        synthetic = people.draw(100, 9 * seed + 2) if request.param == "real" else wrong(people, 9 * seed + 2)
        trial = people.trial(synthetic, n=100, seed=9 * seed)
        for metric, found in rows.items():
            found.extend(benchmark.rows_of(metric(), trial))
    return [
        benchmark.summarise(scores, metric.__name__, request.param, 100)
        for metric, found in rows.items()
        for _, scores in pd.DataFrame(found).groupby("output")
    ]


def test_intervals_hold_the_expectation(lines):
    for line in lines:
        assert line.coverage >= 0.95 - REACH, line
        assert 0.5 < line.width < 2, line


def test_p_values_are_uniform_under_real_against_real(lines):
    for line in lines:
        if line.scenario == "real" and np.isfinite(line.p_uniform):
            assert line.p_uniform > 0.001, line
            assert line.p_rejects < 0.05 + REACH, line


def test_the_benchmark_names_what_lies_outside(benchmark):
    rng = np.random.default_rng(0)
    values = rng.standard_normal(200)
    p = rng.random(200) ** 2
    scores = pd.DataFrame(
        {"output": "x", "value": values, "low": values - 1, "high": values + 1, "p": p, "alarm": p}
    ).assign(least=-np.inf, most=np.inf)
    line = benchmark.summarise(scores, "m", "real", 100)
    assert line.coverage == pytest.approx(0.68, abs=0.1)
    assert line.width == pytest.approx(1 / 1.96, abs=0.06)
    assert "coverage" in line.wrong
    assert "not uniform" in line.wrong
    uniform = rng.random(200)
    right = scores.assign(low=values - 1.96, high=values + 1.96, p=uniform, alarm=uniform)
    assert benchmark.summarise(right, "m", "real", 100).wrong == ""
    bounds = scores.assign(output="coherence", low=values - 1.96, high=values + 1.96, p=np.sqrt(uniform))
    assert "p" not in benchmark.summarise(bounds, "m", "real", 100).wrong
    assert "not uniform" in benchmark.summarise(bounds.assign(p=uniform**2), "m", "real", 100).wrong
    assert benchmark.band(0.95, 200) == pytest.approx((0.92, 0.98), abs=0.001)


def test_only_scores_near_an_end_of_their_range_may_be_held_too_often(benchmark):
    values = np.random.default_rng(0).uniform(0, 0.1, 200)
    scores = pd.DataFrame(
        {"output": "x", "value": values, "low": 0.0, "high": 1.0, "p": np.nan, "alarm": np.nan}
    )
    near, far = (scores.assign(least=least, most=1.0) for least in (0.0, -1.0))
    assert benchmark.summarise(near, "m", "real", 100).wrong == ""
    assert "coverage 100.0%" in benchmark.summarise(far, "m", "real", 100).wrong
