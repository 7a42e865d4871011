import numpy as np
import pandas as pd
import pytest

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
    return PhantomSource(subjects=40, seed=11).load(Context(tmp_path_factory.mktemp("phantoms")))


@pytest.fixture(scope="module")
def measured(phantoms):
    measurer = DixonComposition()
    rows = [measurer.measure(volume, phantoms.images.geometry) for volume in phantoms.images]
    return pd.DataFrame(rows, index=phantoms.ids)


@pytest.mark.parametrize(
    ("quantity", "least_r2", "most_bias"),
    [("fat_l", 0.98, 0.03), ("lean_l", 0.97, 0.04), ("body_l", 0.995, 0.01)],
)
def test_agrees_with_ground_truth(phantoms, measured, quantity, least_r2, most_bias):
    truth, read = phantoms.truth[quantity], measured[quantity]
    r2 = 1 - ((read - truth) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()
    assert r2 >= least_r2
    assert abs(read.mean() / truth.mean() - 1) < most_bias


def test_returns_the_declared_quantities(measured):
    assert list(measured.columns) == [quantity.name for quantity in DixonComposition.quantities]


def test_the_scale_of_the_intensities_does_not_matter(phantoms, measured):
    scaled = DixonComposition().measure(phantoms.images[0] * 731.0, phantoms.images.geometry)
    assert scaled == pytest.approx(measured.iloc[0].to_dict(), rel=1e-4)


def test_litres_follow_the_voxel_size(phantoms, measured):
    geometry = phantoms.images.geometry
    wider = Geometry.regular(geometry.shape, np.multiply(geometry.spacing, 2), geometry.channels)
    read = DixonComposition().measure(phantoms.images[0], wider)
    assert read["body_l"] == pytest.approx(8 * measured.body_l.iloc[0])


def test_channels_are_found_by_name(phantoms, measured):
    geometry = phantoms.images.geometry
    swapped = Geometry(geometry.shape, geometry.affine, ("fat", "water"))
    read = DixonComposition().measure(phantoms.images[0][::-1], swapped)
    assert read == pytest.approx(measured.iloc[0].to_dict())


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
        case "inside out":
            return volume.max() - volume
        case "fills everything":
            return 1 + 0.1 * np.cumsum(np.ones_like(volume), axis=1) / volume.shape[1]
        case "shuffled voxels":
            return rng.permutation(volume.reshape(2, -1), axis=1).reshape(volume.shape)
        case "a small spot":
            spot = np.zeros_like(volume)
            spot[:, 30:35, 30:35, 7:9] = 1
            return spot
        case "only fat":
            fat = np.where(volume[1] > 0.3, volume[1], 0)
            return np.stack([0.02 * fat, fat])
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
        ("inside out", "."),
        ("fills everything", "."),
        ("shuffled voxels", "noise"),
        ("a small spot", "fills"),
        ("only fat", "lean"),
    ],
)
def test_what_shows_no_body_is_not_measurable(phantoms, kind, reason):
    with pytest.raises(NotMeasurable, match=reason):
        DixonComposition().measure(_nothing(kind, phantoms.images[0]), phantoms.images.geometry)
