import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import betabinom, hypergeom

from mmbench.metrics._manifold import Lists, calibrated_coverage, covering_chances, fill
from mmbench.metrics._neighbours import nearest


def pair(seed, n=80, m=60, d=3, shift=0.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=(m, d)) + shift


@pytest.mark.parametrize(("n", "m", "d", "shift"), [(80, 80, 3, 0.7), (60, 90, 8, 0.0), (200, 40, 1, 0.3)])
def test_precision_recall_and_density_are_those_of_prdc(n, m, d, shift):
    prdc = pytest.importorskip("prdc", reason="the authors' implementation is not installed")
    real, synthetic = pair(1, n, m, d, shift)
    three = prdc.compute_prdc(real, synthetic, nearest_k=3)
    five = prdc.compute_prdc(real, synthetic, nearest_k=5)
    found = fill(real, synthetic, 5)
    assert found.precision == pytest.approx(three["precision"], abs=1e-12)
    assert found.recall == pytest.approx(three["recall"], abs=1e-12)
    assert found.unclipped_density == pytest.approx(five["density"], abs=1e-12)
    if n == m:
        assert found.coverage == pytest.approx(five["coverage"], abs=1e-12)


def test_clipped_scores_match_brute_force():
    real, synthetic = pair(0, 80, 80, shift=0.7)
    within, across, k = cdist(real, real), cdist(real, synthetic), 5
    radii = np.sort(within, axis=1)[:, k]
    clipped = np.minimum(radii, np.median(radii))
    score = [min(1, sum(across[i, j] <= clipped[i] for i in range(80)) / k) for j in range(80)]
    own = [min(1, sum(within[i, j] <= clipped[i] for i in range(80) if i != j) / k) for j in range(80)]
    found = fill(real, synthetic, k)
    assert found.density == pytest.approx(np.mean(score) / np.mean(own))

    raw = np.mean([min(k, (across[i] <= radii[i]).sum()) / k for i in range(80)])
    expected = [
        sum(min(k, t) / k * betabinom.pmf(t, good, k, 80 - k) for t in range(good + 1)) for good in range(81)
    ]
    assert found.clipped_coverage == pytest.approx(np.interp(raw, expected, np.linspace(0, 1, 81)))


def test_clipped_coverage_is_the_share_of_good_records():
    rng = np.random.default_rng(0)
    for share in (0.2, 0.5, 1.0):
        values = []
        for _ in range(30):
            real, synthetic = rng.normal(size=(2, 100, 4))
            synthetic[round(share * 100) :] += 1000
            values.append(fill(real, synthetic, 5).clipped_coverage)
        assert np.mean(values) == pytest.approx(share, abs=0.04)
    assert calibrated_coverage(0.0, 100, 5) == 0


@pytest.mark.parametrize(("n", "m"), [(60, 60), (60, 120), (40, 400), (120, 60)])
def test_coverage_of_equal_laws_has_the_published_expectation_at_any_sizes(n, m):
    k, equal = 5, min(n, m)
    expected = 1 - np.prod([(equal - j) / (2 * equal - j) for j in range(1, k + 1)])
    found = [fill(*pair(seed, n, m), k) for seed in range(40)]
    assert np.mean([f.coverage for f in found]) == pytest.approx(expected, abs=0.012)
    assert np.mean([f.clipped_coverage for f in found]) == pytest.approx(1, abs=0.05)
    assert np.mean([f.density for f in found]) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("n", "m"), [(12, 20), (20, 12)])
def test_chances_at_unequal_sizes_are_means_over_parts_of_the_larger_sample(n, m):
    real, synthetic = pair(3, n, m, 2)
    lists = Lists.of(real, synthetic, 2)
    found = covering_chances(real, synthetic, lists.within_real[:, :2], lists.to_synthetic).mean(axis=0)
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(3000):
        x = real[rng.choice(n, 12, replace=False)]
        y = synthetic[rng.choice(m, 12, replace=False)]
        radii = np.sort(cdist(x, x), axis=1)[:, 2:3]
        drawn.append((np.sort(cdist(x, y), axis=1)[:, :2] <= radii).mean(axis=0))
    np.testing.assert_allclose(found, np.mean(drawn, axis=0), atol=0.012)
    if m > n:
        members = (cdist(real, synthetic) <= lists.within_real[:, 1:2]).sum(axis=1)
        np.testing.assert_allclose(found[1], hypergeom.sf(1, m, members, n).mean(), rtol=1e-9)


def test_same_records_and_far_ones_are_the_ends():
    real, _ = pair(0)
    same = fill(real, real, 5)
    assert min(same.density, same.coverage, same.clipped_coverage, same.precision, same.recall) >= 1 - 1e-12
    assert fill(real, real + 1000, 5) == (0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("m", [20, 12, 30])
def test_all_records_alike_are_covered_because_the_surface_counts(m):
    found = fill(np.zeros((20, 2)), np.zeros((m, 2)), 5)
    assert (found.density, found.coverage, found.precision, found.recall) == pytest.approx((1, 1, 1, 1))


def test_known_lists_give_the_same_scores():
    real, synthetic = pair(5, 50, 50)
    lists = Lists(
        nearest(real, real, 9, same=True).distances,
        nearest(real, synthetic, 8).distances,
        nearest(synthetic, synthetic, 7, same=True).distances,
    )
    assert fill(real, synthetic, 5, lists) == fill(real, synthetic, 5)
