"""The exam that every generator and metric sits, built-in or not. For plug-in authors' own tests."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pandas as pd

from mmbench.anchors import responses
from mmbench.api import Cohort, Column, Evidence, Generator, Geometry, Metric, Schema, Trial, Volumes
from mmbench.cell import synthetic_cohort
from mmbench.context import WorkContext, seed_everything
from mmbench.plan import Cell
from mmbench.sweep import AUTO, Given, make_sweep


def toy_cohort(n: int = 40, seed: int = 0, channels: int = 1) -> Cohort:
    """Return a small cohort whose volumes show what the table says: a ball whose radius follows ``bmi``.

    Args:
        n: Number of subjects.
        seed: Seed of every draw.
        channels: Channels of the volumes, named ``c0``, ``c1``, ...
    """
    rng = np.random.default_rng(seed)
    schema = Schema(
        (
            Column("sex", "categorical", levels=("F", "M")),
            Column("height_cm", "continuous", "cm", 140, 210, decimals=1),
            Column("weight_kg", "continuous", "kg", 35, 200, decimals=1),
            Column("bmi", "continuous", "kg/m2", decimals=2, formula="weight_kg / (height_cm / 100) ** 2"),
            Column("children", "integer", None, 0, 9, missing=True),
            Column("activity", "ordinal", levels=("low", "moderate", "high"), missing=True),
            Column("smoker", "boolean"),
        )
    )
    sex = rng.choice(["F", "M"], n)
    height = np.clip(rng.normal(166 + 12 * (sex == "M"), 6.5), 140, 210).round(1)
    bmi = np.clip(np.exp(rng.normal(3.25, 0.18, n)), 17, 45)
    table = pd.DataFrame(
        {
            "sex": sex,
            "height_cm": height,
            "weight_kg": (bmi * (height / 100) ** 2).round(1),
            "bmi": bmi,
            "children": np.where(rng.random(n) < 0.15, np.nan, rng.poisson(1.4, n).clip(0, 9)),
            "activity": rng.choice(["low", "moderate", "high", "n/a"], n, p=[0.3, 0.4, 0.2, 0.1]),
            "smoker": rng.random(n) < 0.3,
        }
    )
    table = schema.derive(schema.coerce(table.replace("n/a", None)))
    geometry = Geometry.regular((12, 10, 8), (20.0, 20.0, 30.0), [f"c{i}" for i in range(channels)])
    axes = [(np.arange(size) - (size - 1) / 2) / size for size in geometry.shape]
    distance = np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")))
    radius = 0.12 + 0.009 * table["bmi"].to_numpy()
    edge = 1 / (1 + np.exp(40 * (distance[None] - radius[:, None, None, None])))
    noise = rng.normal(0, 0.02, (n, channels, *geometry.shape))
    volumes = np.maximum(edge[:, None] + noise, 0).astype(np.float32)
    ids = np.array([f"toy-{i:03d}" for i in range(n)])
    return Cohort("toy", schema, ids, table, Volumes(volumes, geometry), shareable=True)


def check_generator(generator: Generator, cohort: Cohort, folder: Path) -> Cohort:
    """Fit a generator, sample from it, and check every promise of the contract.

    Args:
        generator: A fresh, unfitted generator with parameters that make it quick.
        cohort: Training cohort, e.g. :func:`toy_cohort`.
        folder: Empty folder for its files.

    Returns:
        A sample of seven records.

    Raises:
        AssertionError: A promise is broken; the message says which.
        SampleError: A sample is not of the promised kind and size, or its rows have not the value that was given.
    """
    name = type(generator).__name__
    before = cohort.fingerprint()
    fresh = copy.deepcopy(generator)
    seed_everything(1)
    generator.fit(cohort, WorkContext(seed=1, folder=folder))
    _require(cohort.fingerprint() == before, f"{name}.fit changed the training cohort")

    def draw(n: int, seed: int, source: Generator = generator, given: Given | None = None) -> Cohort:
        seed_everything(seed)
        modalities = tuple(sorted(source.modalities & cohort.modalities))
        cell = Cell("exam", name, "", {}, 0, (), modalities, source.copies_training_data)
        geometry = cohort.volumes.geometry if cohort.volumes is not None else None
        drawn = source.sample(n, seed, {given.column: given.value}) if given else source.sample(n, seed)
        lazy = synthetic_cohort(drawn, n, cell, cohort.schema, geometry, given)
        if lazy.volumes is None:
            return lazy
        whole = Volumes(lazy.volumes.stack(), lazy.volumes.geometry)
        return Cohort(name, lazy.schema, lazy.ids, lazy.table, whole)

    first = draw(7, 3)
    _require(len(first) == 7, f"{name}.sample(7) gave {len(first)} records")
    _require(first.fingerprint() == draw(7, 3).fingerprint(), f"{name}: the same seed gave another sample")
    _require(first.fingerprint() != draw(7, 4).fingerprint(), f"{name}: another seed gave the same sample")
    for given in make_sweep(AUTO, cohort, 1) if generator.conditional else ():
        what = f"{name}, given {given.column} = {given.value}"
        at_value = draw(7, 3, given=given)
        _require(
            at_value.fingerprint() == draw(7, 3, given=given).fingerprint(),
            f"{what}: the same seed gave another sample",
        )
    if generator.persistent:
        saved = folder / "model"
        saved.mkdir()
        generator.save(saved)
        fresh.load(saved)
        same = first.fingerprint() == draw(7, 3, fresh).fingerprint()
        _require(same, f"{name}: a loaded model gave another sample than the one that was saved")
    return first


def check_metric(metric: Metric, trial: Trial) -> None:
    """Check that a metric keeps its promises on a trial: every output once, finite or with a reason.

    Raises:
        AssertionError: A promise is broken; the message says which.
    """
    name = type(metric).__name__
    scores = list(metric.scores(trial))
    heads = [score.output for score in scores if not score.item]
    _require(sorted(heads) == sorted(o.name for o in metric.outputs), f"{name}: headlines are {heads}")
    for score in scores:
        known = np.isfinite(score.value) or score.reason
        _require(bool(known), f"{name}: {score.output} {score.item} is {score.value} without a reason")
        if np.isfinite(score.low):
            inside = score.low <= score.value + 1e-9 and score.value <= score.high + 1e-9
            _require(
                inside, f"{name}: {score.output} = {score.value} lies outside [{score.low}, {score.high}]"
            )
    again = list(metric.scores(trial))
    same = all(
        a.value == b.value or (a.value != a.value and b.value != b.value)
        for a, b in zip(scores, again, strict=True)
    )
    _require(same, f"{name}: the same trial gave other scores")


def toy_trial(n: int = 40, seed: int = 0) -> Trial:
    """Return a trial of three independent toy cohorts with measured radius and simple features.

    Synthetic records near a value stand for those that were drawn there.
    """
    reference, synthetic, train = (
        _toy_evidence(n, seed),
        _toy_evidence(n, seed + 1),
        _toy_evidence(3 * n, seed + 2),
    )
    answers = responses(synthetic, make_sweep(AUTO, train.cohort, n))
    return Trial(reference, synthetic, train, seed, answers)


def _toy_evidence(n: int, seed: int) -> Evidence:
    cohort = toy_cohort(n, seed)
    volumes = cohort.images.stack()
    size = volumes.sum(axis=(1, 2, 3, 4)).astype(float)
    composition = pd.DataFrame({"size": size}, index=pd.Index(cohort.ids, name="id"))
    means = np.concatenate(
        [volumes.mean(axis=axes).reshape(n, -1) for axes in ((1, 3, 4), (1, 2, 4))], axis=1
    )
    return Evidence(cohort, composition, means[:, None, :].astype(float))


def _require(promise: bool, message: str) -> None:
    if not promise:
        raise AssertionError(message)
