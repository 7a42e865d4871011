import numpy as np
import pytest

from mmbench.api import Geometry
from mmbench.metrics._anatomy import asymmetry, connectedness, shape_of


def box(low, high, shape=(20, 16, 12)):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    return mask


def test_one_solid_piece_is_connected():
    assert connectedness(box((4, 4, 2), (16, 12, 10))) == (0, 0, 0)


def test_pieces_and_holes_are_counted_by_their_voxels():
    mask = box((4, 4, 2), (14, 12, 10))
    mask[8:10, 6:8, 4:6] = False
    mask |= box((17, 2, 2), (19, 4, 4))
    body = 10 * 8 * 8 - 8
    stray, fragments, hollow = connectedness(mask)
    assert stray == pytest.approx(8 / (body + 8))
    assert fragments == pytest.approx(np.log(2))
    assert hollow == pytest.approx(8 / (body + 8))


def test_a_hole_that_reaches_the_border_is_none():
    mask = box((4, 4, 0), (14, 12, 12))
    mask[8:10, 6:8] = False
    assert connectedness(mask)[2] == 0
    assert connectedness(np.ones((4, 4, 4), bool)) == (0, 0, 0)


def test_a_mirror_image_of_itself_is_symmetrical_wherever_it_lies():
    mask = box((3, 4, 2), (12, 12, 10))
    image = np.where(mask, 1.0, 0.0)[None]
    assert asymmetry(image, mask) == pytest.approx((0, 0))
    moved = np.roll(image, 5, axis=1)
    assert asymmetry(moved, moved[0] > 0) == pytest.approx((0, 0))


def test_sides_that_differ_are_told_in_outline_and_intensity():
    mask = box((4, 4, 2), (16, 12, 10))
    image = np.where(mask, 1.0, 0.0)[None]
    image[:, 4:10] *= 3
    outline, intensity = asymmetry(image, mask)
    assert outline == 0
    assert intensity == pytest.approx(2 / 4)
    dented = mask & ~box((4, 4, 2), (7, 8, 10))
    assert asymmetry(np.where(dented, 1.0, 0.0)[None], dented)[0] > 0.05


def test_the_lateral_axis_follows_the_affine():
    volume = np.full((1, 20, 16, 12), 0.01)
    volume[0] += np.random.default_rng(0).random((20, 16, 12)) * 1e-4
    volume[0, 4:16, 4:12, 2:10] = 1
    volume[0, 4:16, 4:8, 2:10] = 2  # left and right alike, front and back not
    across = Geometry.regular((20, 16, 12), (2, 2, 2), ["c"])
    along = Geometry((20, 16, 12), ((0, 2.0, 0, 0), (2.0, 0, 0, 0), (0, 0, 2.0, 0), (0, 0, 0, 1)), ("c",))
    assert shape_of(volume, across)[4] < 0.01
    assert shape_of(volume, along)[4] > 0.2


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_volume_without_meaning_gives_nothing(value):
    geometry = Geometry.regular((20, 16, 12), (2, 2, 2), ["c"])
    volume = np.zeros((1, 20, 16, 12))
    assert np.isnan(shape_of(volume, geometry)).all()
    volume[0, 3, 3, 3] = value
    assert np.isnan(shape_of(volume, geometry)).all()
