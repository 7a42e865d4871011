import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from mmbench.api import Geometry, NotMeasurable
from mmbench.metrics.dixon_composition import DixonComposition
from mmbench.sources.phantom import PhantomSource


class Context:
    device, seed = "cpu", 0

    def __init__(self, folder):
        self.folder = folder

    def steps(self, total, label):
        return iter(range(total))

    def log(self, name, value, step):
        pass


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    return PhantomSource(subjects=30, seed=11, swap=0.0).load(Context(tmp_path_factory.mktemp("phantoms")))


@pytest.fixture(scope="module")
def measured(phantoms):
    measurer = DixonComposition()
    rows = [measurer.measure(volume, phantoms.images.geometry) for volume in phantoms.images]
    return pd.DataFrame(rows, index=phantoms.ids)


def _measure(volume, phantoms):
    return DixonComposition().measure(volume, phantoms.images.geometry)


@pytest.mark.parametrize(
    ("quantity", "least_r2", "most_bias"),
    [
        ("fat_l", 0.98, 0.03),
        ("lean_l", 0.97, 0.03),
        ("body_l", 0.995, 0.01),
        ("visceral_fat_l", 0.98, 0.05),
        ("subcutaneous_fat_l", 0.98, 0.05),
        ("waist_cm", 0.95, 0.02),
        ("liver_fat_fraction", 0.80, 0.15),
    ],
)
def test_agrees_with_ground_truth(phantoms, measured, quantity, least_r2, most_bias):
    truth, read = phantoms.truth[quantity], measured[quantity]
    r2 = 1 - ((read - truth) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()
    assert r2 >= least_r2
    assert abs(read.mean() / truth.mean() - 1) < most_bias


def test_returns_the_declared_quantities(measured):
    assert list(measured.columns) == [quantity.name for quantity in DixonComposition.quantities]
    assert measured.notna().mean().min() > 0.9


def test_the_scale_of_the_intensities_does_not_matter(phantoms, measured):
    scaled = _measure(phantoms.images[0] * 731.0, phantoms)
    assert scaled == pytest.approx(measured.iloc[0].to_dict(), rel=1e-4)


def test_litres_follow_the_voxel_size(phantoms, measured):
    geometry = phantoms.images.geometry
    wider = Geometry.regular(geometry.shape, np.multiply(geometry.spacing, 1.01), geometry.channels)
    read = DixonComposition().measure(phantoms.images[0], wider)
    assert read["body_l"] == pytest.approx(1.01**3 * measured.body_l.iloc[0])


def test_channels_are_found_by_name(phantoms, measured):
    geometry = phantoms.images.geometry
    swapped = Geometry(geometry.shape, geometry.affine, ("fat", "water"))
    read = DixonComposition().measure(phantoms.images[0][::-1], swapped)
    assert read == pytest.approx(measured.iloc[0].to_dict())


def test_the_order_and_direction_of_the_voxel_axes_do_not_matter(phantoms, measured):
    geometry = phantoms.images.geometry
    turned = phantoms.images[0].transpose(0, 3, 1, 2)[:, ::-1, ::-1]
    matrix = np.zeros((4, 4))
    x, y, z = geometry.spacing
    matrix[2, 0], matrix[0, 1], matrix[1, 2], matrix[3, 3] = -z, -x, y, 1
    lying = Geometry(turned.shape[1:], tuple(map(tuple, matrix.tolist())), geometry.channels)
    assert DixonComposition().measure(turned, lying) == pytest.approx(measured.iloc[0].to_dict())


def test_coil_shading_does_not_matter(phantoms, measured):
    grid = np.meshgrid(*(np.linspace(-1, 1, n) for n in phantoms.images.geometry.shape), indexing="ij")
    gain = np.exp(0.25 * grid[0] - 0.2 * grid[1] ** 2 + 0.2 * grid[2])
    for index in range(4):
        read, before = _measure(phantoms.images[index] * gain, phantoms), measured.iloc[index]
        for name in ("body_l", "fat_l", "visceral_fat_l", "subcutaneous_fat_l", "waist_cm"):
            assert read[name] == pytest.approx(before[name], rel=0.03, abs=0.05)


@pytest.mark.parametrize("slab", [slice(0, 4), slice(4, 8), slice(12, 16)])
def test_a_swapped_slab_is_put_right(phantoms, measured, slab):
    for index in range(4):
        volume = phantoms.images[index]
        volume[..., slab] = volume[::-1, ..., slab].copy()
        read, before = _measure(volume, phantoms), measured.iloc[index]
        for name in ("body_l", "fat_l", "lean_l", "visceral_fat_l", "subcutaneous_fat_l", "waist_cm"):
            assert read[name] == pytest.approx(before[name], rel=0.01, abs=0.03)


def test_a_volume_swapped_as_a_whole_is_not_measurable(phantoms):
    for volume in phantoms.images:
        with pytest.raises(NotMeasurable, match="swapped"):
            _measure(volume[::-1], phantoms)


def test_what_the_field_of_view_does_not_show_is_nan(phantoms, measured):
    geometry = phantoms.images.geometry
    low = Geometry.regular((*geometry.shape[:2], 8), geometry.spacing, geometry.channels)
    for index in range(3):
        read = DixonComposition().measure(phantoms.images[index][..., :8], low)
        assert np.isnan(read["waist_cm"])
        assert np.isnan(read["liver_fat_fraction"])
        assert 0.5 < read["visceral_fat_l"] / measured.visceral_fat_l.iloc[index] < 1.05


def test_a_blurred_volume_gives_nearly_the_same(phantoms, measured):
    blurred = [
        _measure(ndimage.gaussian_filter(phantoms.images[i], (0, 1, 1, 0)), phantoms) for i in range(10)
    ]
    for name, most in (("body_l", 0.04), ("subcutaneous_fat_l", 0.15), ("visceral_fat_l", 0.2)):
        change = pd.DataFrame(blurred)[name].to_numpy() / measured[name].to_numpy()[:10]
        assert np.abs(change - 1).mean() < most


def _nothing(kind, volume):
    rng = np.random.default_rng(0)
    match kind:
        case "blank":
            return np.zeros_like(volume)
        case "constant":
            return np.full_like(volume, 0.5)
        case "one blank channel":
            return np.stack([volume[0], np.zeros_like(volume[1])])
        case "not finite":
            broken = volume.copy()
            broken[0, 3, 4, 5] = np.nan
            return broken
        case "noise":
            return np.abs(rng.standard_normal(volume.shape))
        case "uniform noise":
            return rng.random(volume.shape)
        case "clouds":
            return np.maximum(ndimage.gaussian_filter(rng.standard_normal(volume.shape), (0, 4, 4, 1)), 0)
        case "large clouds":
            return np.maximum(ndimage.gaussian_filter(rng.standard_normal(volume.shape), (0, 12, 12, 2)), 0)
        case "inside out":
            return volume.max() - volume
        case "fills everything":
            return 1 + 0.1 * np.cumsum(np.ones_like(volume), axis=1) / volume.shape[1]
        case "shuffled voxels":
            return rng.permutation(volume.reshape(2, -1), axis=1).reshape(volume.shape)
        case "shuffled slices":
            return np.stack([np.roll(image, (13 * z, 29 * z), (0, 1)) for z, image in enumerate(volume.T)]).T
        case "a small spot":
            spot = np.zeros_like(volume)
            spot[:, 30:35, 30:35, 7:9] = 1
            return spot
        case "only fat":
            fat = np.where(volume[1] > 0.3, volume[1], 0)
            return np.stack([0.02 * fat, fat])
        case "a ball of fat around water":
            x, y, z = np.ogrid[-44:44, -36:36, -8:8]
            away = (x / 30) ** 2 + (y / 25) ** 2 + (z / 20) ** 2
            return np.stack([0.6 * (away < 0.1), 1.0 * ((away >= 0.1) & (away < 1))])
    raise AssertionError(kind)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("blank", "blank"),
        ("constant", "blank"),
        ("one blank channel", "blank"),
        ("not finite", "1 of .* not finite"),
        ("noise", "noise"),
        ("uniform noise", "noise"),
        ("clouds", "."),
        ("large clouds", "."),
        ("inside out", "."),
        ("fills everything", "."),
        ("shuffled voxels", "noise"),
        ("shuffled slices", "overlaps from slice to slice"),
        ("a small spot", "fills"),
        ("only fat", "lean"),
        ("a ball of fat around water", "no body wall"),
    ],
)
def test_what_shows_no_body_is_not_measurable(phantoms, kind, reason):
    with pytest.raises(NotMeasurable, match=reason):
        _measure(_nothing(kind, phantoms.images[0]), phantoms)
