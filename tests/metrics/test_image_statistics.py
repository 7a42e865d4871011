import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

from mmbench.api import Cohort, Column, Evidence, Geometry, Schema, Trial, Volumes, stats
from mmbench.metrics.image_statistics import ImageStatistics, Shells, gap_variance, squared_gap
from mmbench.testing import check_metric

SPECTRUM, HISTOGRAM = "power-spectrum", "intensity-histogram"
SHAPE, SPACING = (32, 28, 12), (5.0, 5.0, 12.0)
GRID = np.stack(
    np.meshgrid(
        *((np.arange(n) - (n - 1) / 2) * step for n, step in zip(SHAPE, SPACING, strict=True)), indexing="ij"
    )
)


def bodies(n, seed):
    """Return bodies with a bright rim, textured inside, in faintly noisy air: (n, 2, x, y, z)."""
    rng = np.random.default_rng(seed)
    volumes = []
    for _ in range(n):
        axes = np.array([55, 45, 60])[:, None, None, None] * rng.normal(1, 0.08)
        depth = (1 - np.sqrt(((GRID / axes) ** 2).sum(axis=0))) * 50
        body = 1 / (1 + np.exp(-depth))
        rim = body / (1 + np.exp((depth - rng.uniform(8, 16)) / 2))
        texture = gaussian_filter(rng.standard_normal(SHAPE), 1) * 0.2
        water = body * (0.8 + texture) - 0.6 * rim
        volumes.append(np.stack([water, rim]) + 0.01 * rng.standard_normal((2, *SHAPE)))
    return np.array(volumes, dtype=np.float32)


def evidence(volumes, spacing=SPACING):
    geometry = Geometry.regular(volumes.shape[2:], spacing, [f"c{k}" for k in range(volumes.shape[1])])
    ids = np.array([f"s{i}" for i in range(len(volumes))])
    schema = Schema((Column("a", "continuous"),))
    return Evidence(Cohort("bodies", schema, ids, volumes=Volumes(volumes.astype(np.float32), geometry)))


def trial(real, synthetic, seed=0):
    return Trial(evidence(real), evidence(synthetic), evidence(real[:4]), seed)


def noise(v, level):
    return v + level * np.random.default_rng(5).standard_normal(v.shape)


def blur(v, width):
    return gaussian_filter(v, (0, 0, width, width, 0))


def ghost(v, share):
    return (1 - share) * v + share * np.roll(v, SHAPE[1] // 2, axis=3)


def bias(v, strength):
    return v * (1 + strength * np.linspace(-1, 1, SHAPE[0])[:, None, None])


def checkerboard(v, height):
    return v + height * (np.indices(SHAPE).sum(axis=0) % 2 * 2 - 1)


def gain(v, excess):
    return v * (1 + excess)


@pytest.fixture(scope="module")
def samples():
    return bodies(30, 1), bodies(30, 2)


@pytest.mark.parametrize(
    ("degrade", "levels", "seen_by"),
    [
        (noise, (0.005, 0.01, 0.03, 0.1, 0.3), (SPECTRUM,)),
        (noise, (0.1, 0.2, 0.3, 0.45, 0.6), (HISTOGRAM, SPECTRUM)),
        (blur, (0.35, 0.5, 0.7, 1, 1.5), (SPECTRUM,)),
        (ghost, (0.05, 0.1, 0.2, 0.3, 0.4), (SPECTRUM, HISTOGRAM)),
        (bias, (0.2, 0.4, 0.6, 0.8, 1.0), (HISTOGRAM,)),
        (checkerboard, (0.003, 0.006, 0.012, 0.025, 0.05), (SPECTRUM,)),
        (gain, (0.05, 0.1, 0.2, 0.4, 0.8), (HISTOGRAM,)),
    ],
)
def test_distances_grow_with_the_degradation(samples, headline, degrade, levels, seen_by):
    real, fresh = samples
    base = headline(ImageStatistics(), trial(real, fresh))
    found = [headline(ImageStatistics(), trial(real, degrade(fresh, level))) for level in levels]
    for name in seen_by:
        values = [scores[name].value for scores in found]
        assert spearmanr(levels, values).statistic >= 0.9, values
        assert values[-1] > base[name].high
        assert found[-1][name].low > 0


def test_the_sign_of_the_excess_tells_blur_from_noise(samples):
    real, fresh = samples
    excess = {
        degrade: [
            s.value for s in ImageStatistics().scores(trial(real, degrade(fresh, 0.5))) if "upper" in s.item
        ]
        for degrade in (blur, noise)
    }
    assert excess[blur][0] < -1
    assert excess[noise][0] > 1


def test_real_against_real_is_about_nothing(headline):
    pool = bodies(160, 3)
    rng = np.random.default_rng(0)
    squares = {SPECTRUM: [], HISTOGRAM: []}
    covered = {SPECTRUM: 0, HISTOGRAM: 0}
    repetitions = 25
    for _ in range(repetitions):
        order = rng.permutation(len(pool))
        scores = headline(ImageStatistics(), trial(pool[order[:20]], pool[order[20:50]]))
        for name, score in scores.items():
            squares[name].append(np.sign(score.value) * score.value**2)
            covered[name] += score.low <= 0 <= score.high
    for name, tolerance in ((SPECTRUM, 0.5), (HISTOGRAM, 0.08)):
        error = np.std(squares[name]) / np.sqrt(repetitions)
        assert abs(np.mean(squares[name])) < 3.5 * error
        assert np.median(np.sqrt(np.abs(squares[name]))) < tolerance
        assert covered[name] >= 0.8 * repetitions


@pytest.mark.parametrize("shift", [0.0, 0.3, 2.0])
def test_interval_of_the_gap_covers_it_for_curves_that_vary_in_few_ways(shift):
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((3, 40)) * np.array([2, 1, 0.5])[:, None]
    offset = shift * mixing[0]
    covered, repetitions = 0, 300
    for _ in range(repetitions):
        x = rng.standard_normal((60, 3)) @ mixing
        y = 1.2 * rng.standard_normal((80, 3)) @ mixing + offset
        low, high = stats.score_interval(squared_gap(x, y), *gap_variance(x, y))
        covered += low <= (offset**2).mean() <= high
    assert 0.91 <= covered / repetitions <= 0.99


def test_squared_gap_is_unbiased_and_keeps_its_value_at_unequal_sizes():
    rng = np.random.default_rng(0)
    shift = np.array([0.5, 0, 1.0])
    for n, m in ((20, 20), (10, 60)):
        draws = [
            squared_gap(rng.standard_normal((n, 3)) * (1, 2, 3), rng.standard_normal((m, 3)) + shift)
            for _ in range(3000)
        ]
        error = np.std(draws) / np.sqrt(len(draws))
        assert np.mean(draws) == pytest.approx((shift**2).mean(), abs=3.5 * error)


def test_squared_gap_is_the_u_statistic():
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((7, 4)), rng.standard_normal((5, 4)) + 1

    def off_diagonal(a):
        inner = a @ a.T
        return (inner.sum() - np.trace(inner)) / (len(a) * (len(a) - 1))

    expected = off_diagonal(x) + off_diagonal(y) - 2 * (x @ y.T).mean()
    assert squared_gap(x, y) == pytest.approx(expected / 4, rel=1e-12)


@pytest.mark.parametrize("shape", [(32, 28, 12), (31, 27, 9), (20, 20, 1)])
def test_power_of_white_noise_is_flat_and_sums_up_as_parseval_says(shape):
    shells = Shells.of(shape, SPACING)
    assert shells.weights.sum() == np.prod(shape)
    rng = np.random.default_rng(0)
    power = np.mean([shells.power(rng.standard_normal(shape)) for _ in range(200)], axis=0)
    counts = np.bincount(shells.members, shells.weights)[:-1]
    assert (power * counts).sum() == pytest.approx(np.prod(shape) - 1)
    assert np.abs(power - 1).max() < 0.5
    assert np.average(power, weights=counts) == pytest.approx(1)


def test_frequencies_are_in_cycles_per_millimetre_along_every_axis():
    shells = Shells.of(SHAPE, SPACING)
    for axis, cycles in ((0, 4), (1, 7), (2, 3)):
        length = SHAPE[axis] * SPACING[axis]
        wave = np.cos(2 * np.pi * cycles * (GRID[axis] - GRID[axis].min()) / length)
        peak = shells.frequencies[shells.power(wave).argmax()]
        assert peak == pytest.approx(cycles / length, abs=0.51 * shells.frequencies[0])


def test_a_body_has_the_same_spectrum_at_another_spacing():
    spectra = []
    for shape, spacing in (((40, 40, 40), (4, 4, 4)), ((32, 20, 16), (5, 8, 10))):
        axes = ((np.arange(n) - n / 2) * step for n, step in zip(shape, spacing, strict=True))
        radius = np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")))
        shells = Shells.of(shape, spacing)
        # The power of a coefficient, relative to the sum over all of them, does not depend on the grid.
        power = shells.power(np.exp(-((radius / 14) ** 2) / 2)) / (np.prod(shape) - 1)
        low = shells.frequencies < 0.03
        spectra.append(10 * np.log10(power[low]))
    np.testing.assert_allclose(*spectra, atol=0.1)


def test_units_of_a_channel_change_nothing(samples, headline):
    real, fresh = samples
    scale = np.array([40.0, 0.5])[:, None, None, None]
    before = headline(ImageStatistics(), trial(real, fresh))
    after = headline(ImageStatistics(), trial(real * scale, fresh * scale))
    for name in (SPECTRUM, HISTOGRAM):
        assert after[name].value == pytest.approx(before[name].value, abs=2e-3)


def test_contract_determinism_and_unequal_sizes(samples, headline):
    real, fresh = samples
    check_metric(ImageStatistics(), trial(real, fresh))
    few = headline(ImageStatistics(), trial(real, fresh[:12]))
    assert few[SPECTRUM].low < 0 < few[SPECTRUM].high
    assert abs(few[HISTOGRAM].value) < 0.3
    same = headline(ImageStatistics(), trial(real, real))
    assert all(score.value <= 0 for score in same.values())


def broken(volumes, how):
    changed = volumes.copy()
    changed[2, 1] = how(changed[2, 1])
    return changed


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda v: v[:3], "3 records"),
        (
            lambda v: broken(v, lambda image: np.where(image > 0.5, np.nan, image)),
            "'s2' holds values that are not",
        ),
        (
            lambda v: broken(v, lambda image: np.where(image > 0.5, np.inf, image)),
            "'s2' holds values that are not",
        ),
        (lambda v: broken(v, np.zeros_like), "'s2' has one value throughout in channel 'c1'"),
        (lambda v: v[:, :, :-1], "(31, 28, 12) voxels"),
        (lambda v: v[:, :1], "with c0, the reference's"),
    ],
)
def test_degenerate_input_gives_a_reason(samples, headline, make, reason):
    real, fresh = samples
    for score in headline(ImageStatistics(), trial(real, make(fresh))).values():
        assert np.isnan(score.value)
        assert reason in score.reason


def test_another_spacing_is_not_comparable(samples, headline):
    real, fresh = samples
    other = Trial(evidence(real), evidence(fresh, (5, 5, 6)), evidence(real), 0)
    for score in headline(ImageStatistics(), other).values():
        assert np.isnan(score.value)
        assert "5 x 5 x 6 mm" in score.reason


def test_volumes_are_streamed(samples, headline):
    class Once:
        def __init__(self, volumes):
            self.volumes, self.asked = volumes, []

        def __len__(self):
            return len(self.volumes)

        def __getitem__(self, index):
            self.asked.append(index)
            return self.volumes[index]

    real, fresh = (Once(sample) for sample in samples)
    geometry = evidence(samples[0]).cohort.images.geometry
    schema = Schema((Column("a", "continuous"),))
    sides = [
        Evidence(Cohort("b", schema, np.arange(len(s)).astype(str), volumes=Volumes(s, geometry)))
        for s in (real, fresh)
    ]
    headline(ImageStatistics(), Trial(sides[0], sides[1], sides[0], 0))
    assert real.asked == fresh.asked == list(range(30))
