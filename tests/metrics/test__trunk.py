import numpy as np
import pytest

from mmbench.api import NotMeasurable
from mmbench.metrics._trunk import Trunk

SPACING = (3.0, 3.0, 6.0)
SKIN, WALL, CAVITY = 150.0, 130.0, 118.0
"""Radii in millimetres of a round trunk, of its body wall and of its cavity."""


def _trunk(gap=0.0, marrow=0.0, organ=0.0, lungs=False):
    """Return a round trunk of fat with a body wall, and where asked for a gap, a spine, an organ, and lungs."""
    shape = (112, 112, 60)
    x, y = (((np.arange(112) - 55.5) * 3)[:, None], ((np.arange(112) - 55.5) * 3)[None])
    away = np.hypot(x, y)
    body = np.broadcast_to((away < SKIN)[..., None], shape).copy()
    adipose = np.where((away < WALL) & (away >= CAVITY) & ~((y > 0) & (np.abs(x) < gap / 2)), 0.0, 1.0)
    if marrow:
        adipose[np.hypot(x, y + 90) < 22] = marrow
    adipose[np.hypot(x - 30, y) < organ] = 0.03
    adipose = np.where(body, adipose[..., None], 0)
    filled = body.astype(float)
    if lungs:
        for side in (-55, 55):
            filled[np.hypot(x - side, y) < 45, 40:] = 0.02
        adipose[filled < 0.1] = 0
    return Trunk(body, filled, adipose, SPACING)


def _litres(area, height):
    return area * height * 1e-6


@pytest.mark.parametrize("gap", [0, 12, 24])
def test_fat_is_split_at_the_wall_over_its_gaps(gap):
    read = _trunk(gap=gap, organ=40).compartments()
    assert read["body_l"] == pytest.approx(_litres(np.pi * SKIN**2, 360), rel=0.01)
    assert read["subcutaneous_fat_l"] == pytest.approx(_litres(np.pi * (SKIN**2 - WALL**2), 360), rel=0.02)
    assert read["visceral_fat_l"] == pytest.approx(_litres(np.pi * (CAVITY**2 - 40**2), 360), rel=0.02)
    assert read["lean_l"] + read["fat_l"] == pytest.approx(read["body_l"])


@pytest.mark.parametrize("share", [0.35, 0.6])
def test_marrow_is_no_visceral_fat(share):
    with_spine, without = _trunk(marrow=share).compartments(), _trunk().compartments()
    spine = _litres(np.pi * 22**2, 360)
    assert without["visceral_fat_l"] - with_spine["visceral_fat_l"] == pytest.approx(spine, rel=0.15)


def test_fat_beside_the_lungs_is_no_visceral_fat():
    trunk = _trunk(lungs=True)
    read, lungs = trunk.compartments(), 2 * _litres(np.pi * 45**2, 120)
    assert trunk.lungs.sum() * trunk.voxel_litres == pytest.approx(lungs, rel=0.05)
    assert read["visceral_fat_l"] == pytest.approx(_litres(np.pi * CAVITY**2, 240), rel=0.02)
    assert read["body_l"] - read["fat_l"] - read["lean_l"] == pytest.approx(lungs, rel=0.05)


def test_the_waist_needs_lungs_to_be_found():
    assert _trunk(lungs=True).compartments()["waist_cm"] == pytest.approx(0.2 * np.pi * SKIN, rel=0.01)
    assert np.isnan(_trunk().compartments()["waist_cm"])


def test_gas_in_the_bowel_is_neither_lung_nor_lean():
    trunk = _trunk(lungs=True)
    x, y = (np.arange(112) - 55.5)[:, None] * 3, (np.arange(112) - 55.5)[None] * 3
    trunk.filled[np.hypot(x, y - 60) < 30, 10:20] = 0.01
    trunk.adipose[trunk.filled < 0.1] = 0
    read, gas = trunk.compartments(), _litres(np.pi * 30**2, 60)
    assert not trunk.lungs[..., :38].any()
    assert trunk.air[..., :38].sum() * trunk.voxel_litres == pytest.approx(gas, rel=0.05)
    assert read["visceral_fat_l"] == pytest.approx(_litres(np.pi * CAVITY**2, 240) - gas, rel=0.02)


def test_fat_without_a_wall_is_no_trunk():
    trunk = _trunk()
    trunk.adipose[:] = trunk.body
    with pytest.raises(NotMeasurable, match="no body wall"):
        trunk.compartments()
