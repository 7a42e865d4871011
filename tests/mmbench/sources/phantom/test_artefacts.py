import dataclasses

import numpy as np
import pytest

from mmbench.api import Geometry
from mmbench.sources.phantom.artefacts import SLABS, Artefacts
from mmbench.sources.phantom.physics import PROTOCOLS, Scanner

NAMES = ("subcutaneous", "muscle", "liver", "lung", "marrow")
NOTHING = Artefacts(noise=0, bias_field=0, slab_steps=0, breathing=0, swap=0)
CHANNELS = ("water", "fat", "in", "t1")
SPACING = (8.0, 8.0, 10.0)
SHAPE = (48, 40, 48)
DOME = 26  # slice at which lung takes over from liver


@pytest.fixture(scope="module")
def shares():
    """A box of fat around muscle, with a spine at the back, a liver, and lungs above it."""
    shares = np.zeros((len(NAMES), *SHAPE), np.float32)
    shares[0, 6:-6, 6:-6] = 1
    inside = (slice(10, -10), slice(10, -10))
    shares[0][inside] = 0
    shares[1][inside] = 1
    organs = (slice(14, -14), slice(18, -12))
    shares[1][organs] = 0
    shares[2][*organs, slice(0, DOME)] = 1
    shares[3][*organs, slice(DOME, None)] = 1
    spine = (slice(21, 27), slice(11, 16))
    shares[1][spine] = 0
    shares[4][spine] = 1
    return shares


def scan(shares, channels=CHANNELS, seed=0, **strengths):
    geometry = Geometry.regular(shares.shape[1:], SPACING, channels)
    scanner = Scanner(geometry, PROTOCOLS["nako"], dataclasses.replace(NOTHING, **strengths))
    return scanner.scan(NAMES, shares, {}, np.random.default_rng(seed))


def slab_gain(shares, seed, strength=0.055):
    whole = np.zeros_like(shares)
    whole[0] = 1
    return scan(whole, ("fat",), seed, slab_steps=strength)[0][0] / scan(whole, ("fat",), seed)[0][0]


def test_the_same_seed_gives_the_same_bits(shares):
    everything = dataclasses.asdict(Artefacts())
    np.testing.assert_array_equal(scan(shares, **everything)[0], scan(shares, **everything)[0])
    assert (scan(shares, seed=1, **everything)[0] != scan(shares, **everything)[0]).mean() > 0.9


@pytest.mark.parametrize("name", ["noise", "bias_field", "slab_steps", "breathing", "swap"])
def test_each_artefact_can_be_switched_on_alone(shares, name):
    clean, _ = scan(shares)
    strength = 1.0 if name == "swap" else getattr(Artefacts(), name)
    spoilt, swapped = scan(shares, **{name: strength})
    assert (spoilt != clean).any()
    assert (swapped > 0) == (name == "swap")
    if name != "noise":
        np.testing.assert_array_equal(spoilt[:, 0, 0], 0)  # air stays black


def test_switching_one_off_leaves_the_draws_of_the_others(shares):
    # Gains multiply: together they are what each is alone.
    both, shading, steps, none = (
        scan(shares, bias_field=bias, slab_steps=step)[0]
        for bias, step in ((0.15, 0.055), (0.15, 0), (0, 0.055), (0, 0))
    )
    np.testing.assert_allclose(both * none, shading * steps, rtol=1e-4)
    for seed in range(8):
        alone = scan(shares, seed=seed, swap=1.0)[1]
        assert scan(shares, seed=seed, **dataclasses.asdict(Artefacts()) | {"swap": 1.0})[1] == alone
    quiet, noisy = scan(shares, breathing=8.0)[0][2], scan(shares, breathing=8.0, noise=0.01)[0][2]
    air = scan(shares, noise=0.01)[0][2][:4]
    np.testing.assert_array_equal(noisy[:4], air)
    assert np.abs(noisy - quiet).max() < 0.1


def test_shading_is_smooth_around_one_and_alike_in_all_channels(shares):
    clean, _ = scan(shares)
    spreads = []
    for seed in range(12):
        shaded, _ = scan(shares, seed=seed, bias_field=0.15)
        seen = (clean > 0.02).all(axis=0)
        gains = shaded[:, seen] / clean[:, seen]
        np.testing.assert_allclose(gains, gains[:1].repeat(len(gains), 0), rtol=1e-3)
        gain = np.where(seen, shaded[2] / np.maximum(clean[2], 1e-6), np.nan)
        assert np.nanmax(np.abs(np.diff(gain, axis=0))) < 0.12
        spreads.append(np.nanstd(np.log(gain)))
        assert 0.6 < np.nanmedian(gain) < 1.6
    assert 0.08 < np.mean(spreads) < 0.3


def test_the_coil_falls_off_at_both_ends(shares):
    whole = np.zeros_like(shares)
    whole[0] = 1
    profiles = np.mean([scan(whole, ("fat",), seed, bias_field=0.2)[0][0] for seed in range(20)], axis=0)
    along_z, along_x = profiles.mean(axis=(0, 1)), profiles.mean(axis=(1, 2))
    for profile in (along_z, along_x):
        middle = profile[len(profile) // 3 : -len(profile) // 3].mean()
        assert profile[0] < 0.85 * middle
        assert profile[-1] < 0.85 * middle


def test_slabs_differ_by_small_steps(shares):
    for seed in range(10):
        gain = slab_gain(shares, seed)
        assert np.ptp(gain, axis=(0, 1)).max() < 1e-4
        along = gain[0, 0]
        centres = along[SHAPE[2] // (2 * SLABS) :: SHAPE[2] // SLABS]
        steps = np.abs(np.diff(np.log(centres)))
        assert (steps > 0.028).all()
        assert (steps < 0.085).all()
        # Blended: never the whole step from one 10 mm slice to the next.
        assert np.abs(np.diff(np.log(along))).max() < 0.6 * steps.max()


def test_breathing_blurs_what_lies_at_the_diaphragm_and_nothing_else(shares):
    clean, _ = scan(shares)
    blurred, _ = scan(shares, breathing=8.0)
    changed = (np.abs(blurred - clean) > 1e-4).any(axis=0)
    assert changed[14:-14, 20:-12, DOME - 1 : DOME + 1].all()
    assert not changed[..., : DOME - 18].any()
    assert not changed[..., DOME + 18 :].any()
    assert not changed[:, :16].any()  # the spine and what lies behind it rest
    column = (24, 24)
    before, after = clean[2][column], blurred[2][column]
    assert after[DOME] > before[DOME]
    assert after[DOME - 1] < before[DOME - 1]
    assert after.sum() == pytest.approx(before.sum(), rel=0.02)  # moved, not lost


def test_breathing_is_seen_in_thick_slices_too(shares):
    thick = shares.reshape(*shares.shape[:3], 16, 3).mean(axis=-1)
    geometry = Geometry.regular(thick.shape[1:], (8.0, 8.0, 30.0), ("in",))
    clean, blurred = (
        Scanner(geometry, PROTOCOLS["nako"], dataclasses.replace(NOTHING, breathing=mm)).scan(
            NAMES, thick, {}, np.random.default_rng(0)
        )[0][0]
        for mm in (0.0, 7.5)
    )
    change = np.abs(blurred - clean)[24, 24]
    # The neighbour's share of a box moved by a Gaussian of 5 to 10 mm is sigma / sqrt(2 pi) / 30 mm.
    assert 0.03 < change.max() / clean[24, 24, DOME // 3 - 1] < 0.15


def test_without_lungs_nothing_moves(shares):
    without = shares.copy()
    without[NAMES.index("lung")] = 0
    np.testing.assert_array_equal(scan(without, breathing=8.0)[0], scan(without)[0])


def test_a_swap_exchanges_water_and_fat_in_whole_slabs(shares):
    clean, _ = scan(shares)
    sizes = set()
    for seed in range(16):
        swapped, share = scan(shares, seed=seed, swap=1.0)
        sizes.add(share)
        exchanged = (swapped[0] == clean[1]).all(axis=(0, 1)) & (swapped[1] == clean[0]).all(axis=(0, 1))
        kept = (swapped[:2] == clean[:2]).all(axis=(0, 1, 2))
        assert (exchanged ^ kept).all()
        assert exchanged.mean() == share
        np.testing.assert_array_equal(swapped[2:], clean[2:])
    assert sizes == {0.25, 1.0}


def test_swaps_are_as_frequent_as_asked_for(shares):
    small = shares[:, ::8, ::8]
    swapped = [scan(small, ("fat",), seed, swap=0.2)[1] > 0 for seed in range(400)]
    assert np.mean(swapped) == pytest.approx(0.2, abs=0.06)


def test_without_water_and_fat_there_is_nothing_to_swap(shares):
    volume, share = scan(shares, ("in", "opposed"), swap=1.0)
    assert share == 0
    np.testing.assert_array_equal(volume, scan(shares, ("in", "opposed"))[0])


def test_artefacts_lie_in_millimetres(shares):
    fine, coarse = (np.ones((1, 24, 20, slices), np.float32) for slices in (48, 16))
    gains = []
    for grid, thickness in ((fine, 10.0), (coarse, 30.0)):
        geometry = Geometry.regular(grid.shape[1:], (16.0, 16.0, thickness), ("in",))
        zero = np.zeros_like(grid)
        scanner = Scanner(
            geometry, PROTOCOLS["nako"], dataclasses.replace(NOTHING, bias_field=0.15, slab_steps=0.05)
        )
        both = np.concatenate([grid, zero, zero])
        gains.append(
            scanner.scan(("subcutaneous", "lung", "marrow"), both, {}, np.random.default_rng(4))[0][0]
        )
    mean = gains[0].reshape(24, 20, 16, 3).mean(axis=-1)
    np.testing.assert_allclose(gains[1], mean, rtol=0.03)
