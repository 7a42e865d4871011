import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from mmbench.api import Geometry, NotMeasurable
from mmbench.metrics.dixon_composition import DixonComposition
from mmbench.metrics.t1_body import T1Body
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
    source = PhantomSource(subjects=20, seed=12, channels=("t1",))
    return source.load(Context(tmp_path_factory.mktemp("phantoms")))


@pytest.fixture(scope="module")
def measured(phantoms):
    rows = []
    for volume in phantoms.images:
        try:
            rows.append(T1Body().measure(volume, phantoms.images.geometry))
        except NotMeasurable:
            rows.append({})
    return pd.DataFrame(rows, index=phantoms.ids)


def _measure(volume, phantoms):
    return T1Body().measure(volume, phantoms.images.geometry)


@pytest.mark.parametrize(
    ("quantity", "least_r2", "most_bias"),
    [
        ("body_l", 0.995, 0.01),
        ("visceral_fat_l", 0.95, 0.08),
        ("subcutaneous_fat_l", 0.98, 0.05),
        ("waist_cm", 0.95, 0.02),
    ],
)
def test_agrees_with_ground_truth(phantoms, measured, quantity, least_r2, most_bias):
    seen = measured[quantity].notna()
    truth, read = phantoms.truth[quantity][seen], measured[quantity][seen]
    r2 = 1 - ((read - truth) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()
    assert seen.mean() >= 0.85
    assert r2 >= least_r2
    assert abs(read.mean() / truth.mean() - 1) < most_bias


def test_fat_within_other_tissues_counts_as_lean(phantoms, measured):
    seen = measured.fat_l.notna()
    truth = phantoms.truth[seen]
    assert np.corrcoef(measured.lean_l[seen], truth.lean_l)[0, 1] > 0.95
    assert (measured.lean_l[seen] > truth.lean_l).mean() > 0.9


def test_returns_the_quantities_of_dixon_composition_but_the_liver(measured):
    names = [quantity.name for quantity in T1Body.quantities]
    assert list(measured.columns) == names
    assert [*names, "liver_fat_fraction"] == [quantity.name for quantity in DixonComposition.quantities]


def test_the_scale_of_the_intensities_does_not_matter(phantoms, measured):
    index = int(np.flatnonzero(measured.body_l.notna())[0])
    scaled = _measure(phantoms.images[index] * 512.0, phantoms)
    assert scaled == pytest.approx(measured.iloc[index].to_dict(), rel=1e-4)


def test_litres_follow_the_voxel_size(phantoms, measured):
    index = int(np.flatnonzero(measured.body_l.notna())[0])
    geometry = phantoms.images.geometry
    wider = Geometry.regular(geometry.shape, np.multiply(geometry.spacing, 1.01), geometry.channels)
    read = T1Body().measure(phantoms.images[index], wider)
    assert read["body_l"] == pytest.approx(1.01**3 * measured.body_l.iloc[index], rel=1e-3)


def test_muscle_is_not_taken_for_thin_adipose_tissue(phantoms):
    volume = phantoms.images[0].astype(float)
    # Without adipose tissue muscle is the brightest.
    lean = np.where(volume > 0.75 * np.percentile(volume, 99), 0.6 * volume, volume)
    with pytest.raises(NotMeasurable, match="adipose"):
        _measure(lean, phantoms)


def _nothing(kind, volume):
    rng = np.random.default_rng(0)
    match kind:
        case "blank":
            return np.zeros_like(volume)
        case "not finite":
            broken = volume.copy()
            broken[0, 3, 4, 5] = np.inf
            return broken
        case "noise":
            return np.abs(rng.standard_normal(volume.shape))
        case "clouds":
            return np.maximum(ndimage.gaussian_filter(rng.standard_normal(volume.shape), (0, 4, 4, 1)), 0)
        case "large clouds":
            return np.maximum(ndimage.gaussian_filter(rng.standard_normal(volume.shape), (0, 12, 12, 2)), 0)
        case "inside out":
            return volume.max() - volume
        case "shuffled voxels":
            return rng.permutation(volume.ravel()).reshape(volume.shape)
        case "a uniform body":
            return np.where(volume > 0.2, 1.0, 0.0)
    raise AssertionError(kind)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("blank", "blank"),
        ("not finite", "1 of .* not finite"),
        ("noise", "noise"),
        ("clouds", "."),
        ("large clouds", "."),
        ("inside out", "."),
        ("shuffled voxels", "noise"),
        ("a uniform body", "adipose"),
    ],
)
def test_what_shows_no_body_is_not_measurable(phantoms, kind, reason):
    with pytest.raises(NotMeasurable, match=reason):
        _measure(_nothing(kind, phantoms.images[0]), phantoms)
