import numpy as np
import pytest

from mmbench.api import Geometry
from mmbench.sources.phantom import anatomy
from mmbench.sources.phantom.artefacts import Artefacts
from mmbench.sources.phantom.physics import (
    CHANNELS,
    PROTOCOLS,
    TISSUES,
    Scanner,
    fat_phasors,
    separate,
    tissue_signals,
)

NAKO, UKB = PROTOCOLS["nako"], PROTOCOLS["ukb"]
NOTHING = Artefacts(noise=0, bias_field=0, slab_steps=0, breathing=0, swap=0)
NAMES = ("subcutaneous", "muscle", "lung", "marrow")


def scan(shares, channels, artefacts=NOTHING, protocol=NAKO, seed=0):
    geometry = Geometry.regular(shares.shape[1:], (4.0, 4.0, 6.0), channels)
    scanner = Scanner(geometry, protocol, artefacts)
    return scanner.scan(NAMES, shares.astype(np.float32), {}, np.random.default_rng(seed))[0]


def shares_of(**parts):
    """One voxel row of the given shares of tissues."""
    shares = np.zeros((len(NAMES), 4, 4, 8))
    for name, share in parts.items():
        shares[NAMES.index(name)] = share
    return shares


def echoes(water, fat, protocol):
    phasors = fat_phasors(protocol)
    return (np.complex64(water[i] + fat[i] * phasors[i]) for i in range(2))


def test_every_tissue_of_the_anatomy_has_a_signal():
    assert set(anatomy.TISSUES) <= set(TISSUES)
    for protocol in (NAKO, UKB, NAKO.t1_weighted):
        signals = tissue_signals(anatomy.TISSUES, protocol)
        assert signals.shape == (2, 2, len(anatomy.TISSUES))
        assert (signals >= 0).all()
        assert np.isfinite(signals).all()


def test_fat_never_cancels_fully_nor_comes_fully_into_phase():
    opposed, in_phase = fat_phasors(NAKO)
    assert abs(opposed) == pytest.approx(0.797, abs=0.001)
    assert abs(in_phase) == pytest.approx(0.791, abs=0.001)
    assert np.angle(opposed, deg=True) == pytest.approx(170, abs=1)
    assert np.angle(in_phase, deg=True) == pytest.approx(-18, abs=1)
    # Half the field at twice the echo time is the same spectrum.
    assert np.abs(fat_phasors(UKB)) == pytest.approx(np.abs(fat_phasors(NAKO)), abs=0.02)


@pytest.mark.parametrize(
    ("name", "fat", "in_phase", "opposed", "water", "fat_signal"),
    [
        # Simulated at 3 T, TR 4.36 ms, TE 1.23 and 2.46 ms, 9 degrees; subcutaneous fat in phase is 1000.
        ("subcutaneous", None, 1000, 927, 61, 1192),
        ("visceral", None, 967, 835, 89, 1116),
        ("muscle", 0.03, 626, 603, 602, 32),
        ("liver", 0.04, 625, 601, 596, 39),
        ("liver", 0.20, 646, 365, 496, 196),
        ("spleen", None, 482, 499, 482, 0),
        ("kidney", None, 564, 580, 564, 0),
        ("pancreas", None, 731, 625, 667, 85),
        ("marrow", None, 477, 53, 254, 289),
        ("blood", None, 439, None, 439, 0),
        ("fluid", None, 248, None, 248, 0),
        ("disc", None, 494, None, 494, 0),
        ("lung", None, 12, None, 12, 0),
    ],
)
def test_intensities_are_the_predicted_ones(name, fat, in_phase, opposed, water, fat_signal):
    signals = tissue_signals([name], NAKO, {} if fat is None else {name: fat})[..., 0]
    first, second = echoes(signals[:, 0], signals[:, 1], NAKO)
    assert 1000 * abs(second) == pytest.approx(in_phase, rel=0.1)
    assert 1000 * signals[1] == pytest.approx([water, fat_signal], rel=0.1)
    if opposed is not None:
        assert 1000 * abs(first) == pytest.approx(opposed, rel=0.1)


def test_both_protocols_see_fat_alike_and_the_unit_is_fat_in_phase():
    for protocol in (NAKO, UKB, NAKO.t1_weighted, UKB.t1_weighted):
        water, fat = tissue_signals(["subcutaneous"], protocol)[1, :, 0]
        assert abs(water + fat * fat_phasors(protocol)[1]) == pytest.approx(1)
    names = ["subcutaneous", "visceral", "marrow", "muscle", "liver"]
    np.testing.assert_allclose(
        tissue_signals(names, UKB)[1].sum(axis=0), tissue_signals(names, NAKO)[1].sum(axis=0), rtol=0.1
    )


@pytest.mark.parametrize("protocol", [NAKO, UKB])
def test_water_and_fat_come_back_where_the_decay_is_that_of_fat(protocol):
    for share in np.linspace(0, 1, 11):
        signals = tissue_signals(["subcutaneous"], protocol, {"subcutaneous": share})[..., 0]
        water, fat = separate(*echoes(signals[:, 0], signals[:, 1], protocol), protocol)
        assert water == pytest.approx(signals[1, 0], abs=1e-5)
        assert fat == pytest.approx(signals[1, 1], abs=1e-5)


def test_faster_decay_hides_a_little_fat():
    signals = tissue_signals(["liver"], NAKO, {"liver": 0.1})[..., 0]
    water, fat = separate(*echoes(signals[:, 0], signals[:, 1], NAKO), NAKO)
    assert 0.85 * signals[1, 1] < abs(fat) < signals[1, 1]
    assert abs(water) == pytest.approx(signals[1, 0], rel=0.02)


def test_borders_of_water_and_fat_are_dark_in_the_opposed_phase_only():
    fat, half, muscle = (
        scan(shares_of(subcutaneous=share, muscle=1 - share), ("in", "opposed"))[:, 0, 0, 0]
        for share in (1.0, 0.4, 0.0)
    )
    assert muscle[0] < half[0] < fat[0]
    assert half[1] < 0.3 * min(fat[1], muscle[1])


def test_images_are_linear_in_shares_and_dark_outside():
    volume = scan(shares_of(subcutaneous=0.5), CHANNELS)
    whole = scan(shares_of(subcutaneous=1.0), CHANNELS)
    np.testing.assert_allclose(volume, whole / 2, rtol=1e-5)
    np.testing.assert_array_equal(scan(shares_of(), CHANNELS), 0)
    assert whole[CHANNELS.index("in")] == pytest.approx(1)


def test_channels_come_in_the_order_asked_for():
    shares = shares_of(subcutaneous=0.7, muscle=0.2)
    volume = scan(shares, CHANNELS, Artefacts(swap=0))
    for index, name in enumerate(CHANNELS):
        np.testing.assert_array_equal(scan(shares, (name,), Artefacts(swap=0))[0], volume[index])


def test_t1_shows_fat_bright_and_fluid_dark():
    names = ["subcutaneous", "liver", "kidney", "spleen", "fluid"]
    signals = tissue_signals(names, NAKO.t1_weighted)[1]
    shown = np.abs(signals[0] + signals[1] * fat_phasors(NAKO)[1])
    assert (np.diff(shown) < 0).all()
    assert shown[-1] < 0.25


def test_noise_in_air_follows_the_separation():
    shares = np.zeros((len(NAMES), 60, 60, 30))
    volume = scan(shares, ("in", "opposed", "water", "fat", "t1"), Artefacts(noise=0.05, swap=0), seed=3)
    in_phase, opposed, water, fat, t1 = volume
    sigma = np.sqrt(np.mean(in_phase**2, dtype=float) / 2)
    assert 0.6 * 0.05 < sigma < 1.65 * 0.05
    for image in (in_phase, opposed, t1):
        assert image.mean(dtype=float) == pytest.approx(sigma * np.sqrt(np.pi / 2), rel=0.01)  # Rayleigh
        assert np.sqrt(np.mean(image**2, dtype=float) / 2) == pytest.approx(sigma, rel=0.01)
    first, second = fat_phasors(NAKO)
    decay = np.exp(-1.23 / TISSUES["subcutaneous"].t2star_ms)
    of_fat = np.hypot(1, decay) / abs(second - first)
    of_water = np.hypot(abs(first), abs(second) * decay) / abs(second - first)
    assert np.sqrt(np.mean(fat**2, dtype=float) / 2) == pytest.approx(sigma * of_fat, rel=0.01)
    assert np.sqrt(np.mean(water**2, dtype=float) / 2) == pytest.approx(sigma * of_water, rel=0.01)
    assert abs(np.corrcoef(in_phase.ravel(), opposed.ravel())[0, 1]) < 0.02


def test_noise_lifts_dark_tissue_and_hardly_bright():
    shares = np.zeros((len(NAMES), 40, 40, 20))
    shares[0, 20:] = 1
    volume = scan(shares, ("in",), Artefacts(0.05, 0, 0, 0, 0), seed=5)[0]
    sigma = volume[:20].mean(dtype=float) / np.sqrt(np.pi / 2)
    # Rice: mean of a bright magnitude is signal + sigma^2 / (2 signal), its spread sigma.
    assert volume[20:].mean(dtype=float) == pytest.approx(1 + sigma**2 / 2, abs=0.001)
    assert volume[20:].std(dtype=float) == pytest.approx(sigma, rel=0.02)
