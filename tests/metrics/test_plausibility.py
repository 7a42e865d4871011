import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from mmbench.anchors import destroyed
from mmbench.api import Cohort, Column, Evidence, Geometry, Schema, Trial, Volumes
from mmbench.metrics.plausibility import Anatomy, CompositionRange, ImageRange, Measurable
from mmbench.testing import check_metric

SHAPE = (40, 30, 14)
AXES = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")


def bodies(n, seed):
    """Return ellipsoids with two unlike lungs, (n, 1, x, y, z), and sizes (n, 2)."""
    rng = np.random.default_rng(seed)
    volumes, sizes = [], []
    for _ in range(n):
        radii = rng.normal(0.7, 0.06, 3)
        depth = 1 - np.sqrt(sum((axis / r) ** 2 for axis, r in zip(AXES, radii, strict=True)))
        body = 1 / (1 + np.exp(-25 * depth))
        lung = rng.normal(0.03, 0.004, 2)
        for side, width in zip((-0.25, 0.25), lung, strict=True):
            centre = (side + 0.02 * rng.standard_normal(), 0, 0)
            apart = sum((axis - c) ** 2 for axis, c in zip(AXES, centre, strict=True))
            body = body * (1 - 0.95 * np.exp(-((apart / width) ** 2)))
        volumes.append(body + 0.02 * rng.standard_normal(SHAPE))
        sizes.append((body.sum() / 1000, lung.sum() * 100))
    return np.array(volumes, dtype=np.float32)[:, None], np.array(sizes)


def evidence(volumes, sizes, reasons=None):
    geometry = Geometry.regular(volumes.shape[2:], (8.0, 8.0, 20.0), ["c0"])
    ids = np.array([f"s{i}" for i in range(len(volumes))])
    cohort = Cohort("bodies", Schema((Column("a", "continuous"),)), ids, volumes=Volumes(volumes, geometry))
    coarse = volumes[:, 0, ::8, ::6, ::4].reshape(len(volumes), 1, -1).astype(float)
    told = pd.Series(reasons or [""] * len(ids), index=ids, dtype=object)
    return Evidence(cohort, pd.DataFrame(sizes, columns=["body_l", "lung_l"], index=ids), coarse, told)


@pytest.fixture(scope="module")
def real():
    return {
        name: bodies(n, seed) for seed, (name, n) in enumerate([("train", 120), ("ref", 80), ("fresh", 80)])
    }


def trial_of(real, volumes, sizes=None, reasons=None):
    sizes = real["fresh"][1][: len(volumes)] if sizes is None else sizes
    sides = (evidence(*real["ref"]), evidence(volumes, sizes, reasons), evidence(*real["train"]))
    return Trial(*sides, 0)


@pytest.mark.parametrize("metric", [Measurable(), CompositionRange(), Anatomy(), ImageRange()])
def test_contract_and_fresh_real_subjects_at_their_rate(real, headline, metric):
    trial = trial_of(real, real["fresh"][0])
    check_metric(metric, trial)
    for output in metric.outputs:
        score = headline(metric, trial)[output.name]
        assert score.low <= output.ideal <= score.high
        assert score.value >= 0.85


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("connectedness", lambda v: np.maximum(v, np.roll(v, 14, axis=2) * (AXES[0] > 0.85))),
        ("connectedness", lambda v: np.where(np.abs(AXES[2]) < 0.12, 0.0, v)),
        ("symmetry", lambda v: np.where(AXES[0] > 0.1, 0.6 * v, v)),
        ("symmetry", lambda v: np.where((AXES[0] > 0.1) & (AXES[1] > 0.1), 0.0, v)),
        ("symmetry", lambda v: (v + v[:, :, ::-1]) / 2),
    ],
)
def test_broken_anatomy_is_implausible(real, headline, name, spoil):
    volumes = real["fresh"][0]
    rng = np.random.default_rng(0)
    values = []
    for share in (0, 0.5, 1):
        chosen = rng.permutation(len(volumes)) < share * len(volumes)
        mixed = np.where(chosen[:, None, None, None, None], spoil(volumes), volumes).astype(np.float32)
        values.append(headline(Anatomy(), trial_of(real, mixed))[name])
    assert values[0].value > values[1].value > values[2].value
    assert values[2].high < values[0].low
    assert values[2].value < 0.35


def test_degradation_lowers_the_share_within_feature_range(real, headline):
    volumes = real["fresh"][0]
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(volumes.shape).astype(np.float32)
    for spoilt in (
        [volumes + level * noise for level in (0, 0.05, 0.3)],
        [gaussian_filter(volumes, (0, 0, width, width, 0)) for width in (1, 3, 5)],
    ):
        values = [headline(ImageRange(), trial_of(real, side))["image-range"].value for side in spoilt]
        assert values[0] > values[1] >= values[2]
        assert values[2] < 0.3


def test_the_strangest_volumes_are_named_by_their_position(real):
    volumes = real["fresh"][0].copy()
    volumes[[6, 40]] = 0.7
    details = [s for s in ImageRange().scores(trial_of(real, volumes)) if s.item.startswith("volume")]
    assert {"volume 7", "volume 41"} <= {score.item for score in details}
    assert len(details) <= 5
    assert all(score.value <= 0.05 for score in details)


def test_sizes_out_of_range_and_unmeasurable_volumes_lie_outside(real, headline):
    volumes, sizes = real["fresh"]
    base = headline(CompositionRange(), trial_of(real, volumes))["composition-range"]
    large, lost = sizes.copy(), sizes.copy()
    large[:40, 0] *= 2
    lost[:40] = np.nan
    for changed in (large, lost):
        trial = trial_of(real, volumes, changed)
        found = {s.item: s.value for s in CompositionRange().scores(trial)}
        assert found[""] == pytest.approx(base.value / 2, abs=0.06)
        assert found["p"] < 0.01
    assert found["body_l"] < 0.6
    below = sizes.copy()
    below[:, 1] = 0
    assert headline(CompositionRange(), trial_of(real, volumes, below))["composition-range"].value == 0


def test_measurable_counts_with_its_reasons(real):
    volumes, sizes = real["fresh"]
    sizes = sizes.copy()
    sizes[:20] = np.nan
    reasons = ["the body fills 3% of the volume"] * 12 + ["the body fills 4% of the volume"] * 8 + [""] * 60
    found = {s.item: s for s in Measurable().scores(trial_of(real, volumes, sizes, reasons))}
    assert found[""].value == 0.75
    assert found[""].low < 0.75 < found[""].high
    assert found["the body fills #% of the volume"].value == 0.25
    assert found["p"].value < 1e-4


def test_noise_marks_the_bad_end(real, headline):
    trial = trial_of(real, real["fresh"][0])

    def measure(cohort):
        volumes = cohort.images.stack()
        return evidence(volumes, np.full((len(volumes), 2), np.nan))

    bad = dataclasses.replace(trial, synthetic=destroyed("noise", trial.train, trial.synthetic, 0, measure))
    for metric in (Measurable(), CompositionRange(), Anatomy()):
        good, null = headline(metric, trial), headline(metric, bad)
        for output in metric.outputs:
            assert null[output.name].high < good[output.name].low


def test_blank_and_broken_volumes_are_implausible_and_stop_nothing(real, headline):
    volumes = real["fresh"][0].copy()
    volumes[:40] = 0
    volumes[40] = np.nan
    trial = trial_of(real, volumes)
    features = np.asarray(trial.synthetic.features).copy()
    features[40:60] = np.nan
    trial = dataclasses.replace(trial, synthetic=dataclasses.replace(trial.synthetic, features=features))
    for score in headline(Anatomy(), trial).values():
        assert score.value < 0.55
    assert headline(ImageRange(), trial)["image-range"].value < 0.55


def test_degenerate_input_gives_a_reason(real, headline):
    trial = trial_of(real, real["fresh"][0])
    without = dataclasses.replace(trial.synthetic, composition=None, features=None)
    blank = evidence(np.zeros_like(real["train"][0]), np.full((120, 2), np.nan))
    cases = [
        (
            dataclasses.replace(trial, synthetic=without),
            (CompositionRange, ImageRange, Measurable),
            "a side has no",
        ),
        (
            dataclasses.replace(trial, train=trial.train.take(np.arange(5))),
            (CompositionRange, Anatomy),
            "5 records",
        ),
        (dataclasses.replace(trial, train=blank), (Anatomy,), "blank"),
        (dataclasses.replace(trial, train=blank), (CompositionRange,), "nothing was measured"),
        (dataclasses.replace(trial, train=blank), (ImageRange,), "nothing varies"),
    ]
    for broken, metrics, reason in cases:
        for metric in metrics:
            for score in headline(metric(), broken).values():
                assert np.isnan(score.value)
                assert reason in score.reason


def test_copies_of_training_subjects_are_plausible(real, headline):
    """Plausibility cannot tell copies: that is for the scores of privacy."""
    volumes, sizes = (part[:80] for part in real["train"])
    trial = trial_of(real, volumes, sizes)
    for metric in (Measurable(), CompositionRange(), Anatomy(), ImageRange()):
        for score in headline(metric, trial).values():
            assert score.high >= 0.95
