import numpy as np
import pytest

from mmbench.api import Geometry
from mmbench.metrics._body import circumference, closed, dilated, eroded, filled_holes, shading
from mmbench.metrics._volume import neighbour_correlation, upright

SPACING = (4.0, 5.0, 6.0)


def _disc(shape, spacing, a, b=None, hole=0.0):
    x, y = ((np.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, spacing, strict=False))
    away = np.hypot(x[:, None] / a, y[None] / (b or a))
    return (away < 1) & (away >= hole)


@pytest.mark.parametrize("radius", [3.9, 4.0, 7.0, 15.0, 22.0])
def test_dilation_is_that_by_a_disc(radius):
    mask = np.random.default_rng(0).random((30, 26, 2)) < 0.01
    x, y = (np.arange(n) * step for n, step in zip(mask.shape[:2], SPACING, strict=False))
    expected = np.zeros_like(mask)
    for i, j, k in np.argwhere(mask):
        expected[..., k] |= (x[:, None] - x[i]) ** 2 + (y[None] - y[j]) ** 2 <= radius**2 + 1e-6
    assert np.array_equal(dilated(mask, radius, SPACING), expected)
    assert np.array_equal(eroded(~mask, radius, SPACING), ~expected)


@pytest.mark.parametrize(("gap", "holds"), [(8.0, True), (24.0, True), (48.0, False)])
def test_closing_carries_a_wall_over_its_gaps(gap, holds):
    wall = _disc((60, 60), (4, 4), 100, hole=0.9)[..., None]
    x = (np.arange(60) - 29.5) * 4
    wall[:, 40:] &= ~(np.abs(x) < gap / 2)[:, None, None]
    whole = closed(wall, 15.0, (4, 4, 6))
    assert whole[30, 30, 0] == holds
    assert not whole[0, 0, 0]
    if holds:
        disc = _disc((60, 60), (4, 4), 100)
        assert (whole[..., 0] ^ disc).sum() < 0.02 * disc.sum()


def test_holes_are_filled_slice_by_slice():
    ring = np.repeat(_disc((30, 30), (4, 4), 50, hole=0.6)[..., None], 3, axis=2)
    ring[14:, 15, 1] = False
    solid = filled_holes(ring)
    assert solid[15, 15, 0]
    assert solid[15, 15, 2]
    assert not solid[15, 15, 1]


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 5.0), (5.0, 5.0, 30.0), (4.0, 5.0, 6.0)])
@pytest.mark.parametrize(("a", "b"), [(150.0, 100.0), (210.0, 160.0)])
def test_circumference_of_an_ellipse(spacing, a, b):
    h = ((a - b) / (a + b)) ** 2
    expected = np.pi * (a + b) * (1 + 3 * h / (10 + np.sqrt(4 - 3 * h)))  # Ramanujan 1914
    fine = _disc((1000, 800), (0.5, 0.5), a, b).astype(float)
    steps = [round(step / 0.5) for step in spacing[:2]]
    shape = [n // step for n, step in zip(fine.shape, steps, strict=True)]
    share = fine[: shape[0] * steps[0], : shape[1] * steps[1]]
    share = share.reshape(shape[0], steps[0], shape[1], steps[1]).mean(axis=(1, 3))
    assert circumference(share, share > 0.5, spacing) == pytest.approx(expected, rel=0.005)


def test_the_tape_spans_hollows_and_leaves_out_arms():
    trunk = _disc((100, 60), (5, 5), 150, 100)
    hollow = trunk.copy()
    hollow[48:52, :14] = False
    x, y = np.ogrid[:100, :60]
    arms = (np.hypot(x - 11, y - 30) < 8) | (np.hypot(x - 88, y - 30) < 8)
    length = circumference(trunk * 1.0, trunk, (5, 5, 30))
    assert circumference(hollow * 1.0, hollow, (5, 5, 30)) == pytest.approx(length, rel=0.01)
    both = trunk | arms
    assert circumference(both * 1.0, both, (5, 5, 30)) == pytest.approx(length, rel=0.01)


def test_an_outline_cut_by_the_edge_has_no_circumference():
    cut = _disc((100, 60), (5, 5), 150, 100)[25:]
    assert np.isnan(circumference(cut * 1.0, cut, (5, 5, 30)))
    assert np.isnan(circumference(cut * 0.0, cut & False, (5, 5, 30)))


def test_shading_is_found_from_a_tissue_under_the_skin():
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in (60, 50, 20)), indexing="ij")
    gain = 3.0 * np.exp(0.2 * x - 0.15 * y**2 + 0.1 * x * y) * np.where(z > 0, 1.06, 1.0)
    rim = (np.hypot(x, y) < 0.9) & (np.hypot(x, y) > 0.75)
    noise = 0.05 * np.random.default_rng(0).standard_normal(gain.shape)
    found = shading(gain * (1 + noise), (6.0, 6.0, 25.0), rim)
    inside = np.hypot(x, y) < 0.9
    assert np.abs(found / gain - 1)[inside].max() < 0.06


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("flip", [(1, 1, 1), (-1, 1, -1), (-1, -1, 1)])
def test_a_volume_is_turned_upright(order, flip):
    image = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    stored = image[:: flip[0], :: flip[1], :: flip[2]].transpose(order)
    matrix = np.zeros((4, 4))
    for voxel, anatomical in enumerate(order):
        matrix[anatomical, voxel] = flip[anatomical] * SPACING[anatomical]
    tilt = np.eye(4)
    tilt[:2, :2] = [[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]]
    affine = tuple(map(tuple, (tilt @ matrix + np.diag([0, 0, 0, 1])).tolist()))
    turned, spacing = upright(stored, Geometry(stored.shape, affine, ("a",)))
    assert np.array_equal(turned, image)
    assert spacing == pytest.approx(SPACING)


def test_neighbours_of_noise_do_not_correlate():
    noise = np.random.default_rng(0).standard_normal((40, 40, 5))
    smooth = np.cumsum(noise, axis=0)
    assert abs(neighbour_correlation(noise)) < 0.03
    assert neighbour_correlation(smooth) > 0.4
    half = np.zeros(noise.shape, bool)
    half[:20] = True
    mixed = np.where(half, noise, smooth)
    assert abs(neighbour_correlation(mixed, half)) < 0.05
    assert neighbour_correlation(np.ones((4, 4, 4))) == 0
