import dataclasses
import itertools

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from mmbench.anchors import destroyed
from mmbench.api import Cohort, Column, Evidence, Geometry, Schema, Trial, Volumes
from mmbench.metrics.image_diversity import ImageDiversity, mean_over_pairs
from mmbench.testing import check_metric

NAME = "image-diversity"
SHAPE = (44, 32, 12)
AXES = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")


def bodies(n, seed, margin=0):
    """Return ellipsoids that differ in build and in two lumps within: (n, 1, x, y, z)."""
    rng = np.random.default_rng(seed)
    volumes = []
    for _ in range(n):
        radii = rng.normal(0.75, 0.07, 3)
        depth = 1 - np.sqrt(sum((axis / r) ** 2 for axis, r in zip(AXES, radii, strict=True)))
        body = 1 / (1 + np.exp(-20 * depth))
        for _ in range(2):
            centre = rng.uniform(-0.4, 0.4, 3)
            apart = sum((axis - c) ** 2 for axis, c in zip(AXES, centre, strict=True))
            body = body * (1 - 0.7 * np.exp(-apart / 0.05))
        volumes.append(body + 0.02 * rng.standard_normal(SHAPE))
    whole = np.array(volumes, dtype=np.float32)[:, None]
    return np.pad(whole, [(0, 0)] * 2 + [(margin, margin)] * 3)


def evidence(volumes):
    geometry = Geometry.regular(volumes.shape[2:], (5.0, 5.0, 20.0), ["c0"])
    ids = np.array([f"s{i}" for i in range(len(volumes))])
    schema = Schema((Column("a", "continuous"),))
    return Evidence(Cohort("bodies", schema, ids, volumes=Volumes(volumes.astype(np.float32), geometry)))


def trial(real, synthetic, seed=0):
    return Trial(evidence(real), evidence(synthetic), evidence(real), seed)


@pytest.fixture(scope="module")
def samples():
    return bodies(40, 1), bodies(40, 2)


@pytest.fixture(scope="module")
def diversity(samples):
    def score(volumes, item="", metric=None):
        found = (metric or ImageDiversity()).scores(trial(samples[0], volumes))
        return next(s for s in found if s.item == item)

    return score


def test_real_against_real_is_about_one():
    pool = bodies(120, 3)
    rng = np.random.default_rng(0)
    ratios, values, covered, repetitions = [], [], 0, 20
    for _ in range(repetitions):
        order = rng.permutation(len(pool))
        scores = list(ImageDiversity().scores(trial(pool[order[:40]], pool[order[40:80]])))
        ratios.append(scores[1].value)
        values.append(scores[0].value)
        covered += scores[1].low <= 1 <= scores[1].high
    assert np.mean(ratios) == pytest.approx(1, abs=0.05)
    assert covered >= 0.85 * repetitions
    folded = [min(r, 1 / r) for r in ratios]
    assert abs(np.mean(values) - 1) < min(1 - np.mean(folded), 0.03)


def test_collapse_to_fewer_modes_is_seen(samples, diversity):
    _, fresh = samples
    values = [diversity(fresh[np.arange(40) % modes]).value for modes in (40, 10, 4, 2, 1)]
    assert all(more > less for more, less in itertools.pairwise(values))
    assert values[-1] == pytest.approx(0, abs=1e-9)
    assert diversity(fresh[np.arange(40) % 4]).high < 0.95


def test_noise_on_copies_does_not_pass_for_diversity(samples, diversity):
    _, fresh = samples
    noise = 0.1 * np.random.default_rng(0).standard_normal(fresh.shape)
    assert diversity(fresh[np.zeros(40, int)] + noise).value < 0.2
    assert diversity(fresh + noise).value > 0.8


def test_too_little_and_too_much_spread_are_both_worse_than_the_real_one(samples, diversity):
    _, fresh = samples
    mean = fresh.mean(axis=0)
    values = {s: diversity(mean + s * (fresh - mean)).value for s in (0.3, 0.6, 1.0, 2.0, 3.0)}
    assert values[0.3] < values[0.6] < values[1.0] > values[2.0] > values[3.0]
    assert diversity(mean + 2 * (fresh - mean), "ratio").low > 1
    assert diversity(mean + 0.3 * (fresh - mean), "ratio").high < 1
    assert diversity(mean + 2 * (fresh - mean)).high < 1


def test_the_destroyed_reference_marks_the_bad_end(samples, diversity):
    real, fresh = samples
    bad = destroyed(ImageDiversity.null, evidence(real), evidence(fresh), 0, Evidence)
    found = list(ImageDiversity().scores(Trial(evidence(real), bad, evidence(real), 0)))
    assert found[0].high < diversity(fresh).low
    assert found[1].value < 1


def test_air_around_the_bodies_changes_little(headline):
    values = []
    for margin in (0, 4):
        real, fresh = bodies(24, 1, margin), bodies(24, 2, margin)
        collapsed = fresh[np.arange(24) % 3]
        metric = ImageDiversity()
        values.append(headline(metric, trial(real, collapsed))[NAME].value)
    assert values[0] == pytest.approx(values[1], abs=0.05)


def test_smoothing_texture_away_leaves_it(samples, diversity):
    _, fresh = samples
    assert diversity(gaussian_filter(fresh, (0, 0, 0.7, 0.7, 0))).value > 0.85


def test_variance_over_pairs_covers_the_truth():
    rng = np.random.default_rng(0)
    scales = np.array([2, 1, 1, 0.5])

    def distances(points, first, second):
        return np.linalg.norm(points[first] - points[second], axis=1)

    far = rng.standard_normal((200_000, 4)) * scales
    truth = distances(far, slice(None, 100_000), slice(100_000, None)).mean()
    n, reach, covered, repetitions = 60, 8, 0, 400
    first = np.repeat(np.arange(n), reach)
    second = (first + np.tile(np.arange(1, reach + 1), n)) % n
    for _ in range(repetitions):
        points = rng.standard_normal((n, 4)) * scales
        mean, variance = mean_over_pairs(np.stack([first, second], axis=1), distances(points, first, second))
        covered += abs(mean - truth) < 1.96 * np.sqrt(variance)
    assert 0.91 <= covered / repetitions <= 0.98


def test_contract_determinism_seeds_and_unequal_sizes(samples):
    real, fresh = samples
    check_metric(ImageDiversity(), trial(real, fresh))
    few = list(ImageDiversity().scores(trial(real, fresh[:11])))
    assert few[1].low < 1 < few[1].high
    sparse = ImageDiversity(pairs=40)
    values = {next(iter(sparse.scores(trial(real, fresh, seed)))).value for seed in (0, 0, 1)}
    assert len(values) == 2


def test_the_reference_itself_has_the_reference_s_diversity(samples, diversity):
    assert diversity(samples[0], "ratio").value == pytest.approx(1, abs=1e-9)
    assert diversity(samples[0]).low < 1 <= diversity(samples[0]).high


def test_duplicates_among_the_volumes_are_counted(samples, diversity):
    _, fresh = samples
    assert diversity(fresh, "near-duplicates").value < 0.02
    # Half of the volumes stand twice: one pair in 39 is a pair of copies.
    twice = diversity(fresh[np.arange(40) // 2], "near-duplicates", ImageDiversity(pairs=2000)).value
    assert twice == pytest.approx(20 / (40 * 39 / 2), abs=0.02)


@pytest.mark.parametrize("n", [4, 5, 6])
def test_every_pair_of_a_handful_counts_at_most_once(samples, n):
    real, fresh = samples
    scores = list(ImageDiversity().scores(trial(real, fresh[:n])))
    assert np.isfinite(scores[0].value)
    assert scores[0].low <= scores[0].value <= scores[0].high


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda v: v[:3], "3 records"),
        (lambda v: np.where(np.arange(40)[:, None, None, None, None] == 7, np.nan, v), "'s7' holds values"),
        (lambda v: np.where(np.arange(40)[:, None, None, None, None] == 7, 0, v), "'s7' has one value"),
        (lambda v: v[:, :, 1:], "(43, 32, 12) voxels"),
    ],
)
def test_degenerate_input_gives_a_reason(samples, diversity, make, reason):
    score = diversity(make(samples[1]))
    assert np.isnan(score.value)
    assert reason in score.reason


def test_a_reference_of_copies_gives_a_reason(samples, headline):
    real, fresh = samples
    same = dataclasses.replace(trial(real, fresh), reference=evidence(real[np.zeros(20, int)]))
    score = headline(ImageDiversity(), same)[NAME]
    assert np.isnan(score.value)
    assert "all alike" in score.reason


def test_a_grid_too_coarse_to_average_out_noise_is_refused(samples, headline):
    real, fresh = (sample[:, :, ::3, ::3] for sample in samples)
    score = headline(ImageDiversity(), trial(real, fresh))[NAME]
    assert np.isnan(score.value)
    assert "(15, 11, 12) voxels is too coarse" in score.reason


def test_a_reference_without_bodies_gives_a_reason(samples, headline):
    _, fresh = samples
    dots = np.zeros_like(fresh)
    dots.reshape(40, -1)[np.arange(40), np.arange(40) * 400] = 1
    score = headline(ImageDiversity(), trial(dots, fresh))[NAME]
    assert np.isnan(score.value)
    assert "no body" in score.reason
