"""The picture of a cohort: sides, proportions and scales as a radiologist expects them."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from mmbench.cohort import Cohort, Geometry, Volumes
from mmbench.errors import CohortError
from mmbench.montage import montage
from mmbench.schema import Column, Schema

GEOMETRY = Geometry.regular((20, 30, 10), (2.0, 2.0, 8.0), ("water", "fat"))
SCHEMA = Schema((Column("age", "continuous", "years"),))


def cohort(voxels):
    ids = np.arange(len(voxels)).astype(str)
    table = pd.DataFrame({"age": np.linspace(20, 70, len(voxels))})
    return Cohort("made", SCHEMA, ids, table, Volumes(np.asarray(voxels, np.float32), GEOMETRY))


def picture(voxels, path):
    """Return the picture's grey values and where it is bright, without the yellow marks and the captions."""
    image = imread(montage(cohort(voxels), path))[..., :3]
    grey = image[..., 0] - np.abs(image[..., 0] - image[..., 2])
    grey[:80] = 0
    grey[:, :135] = 0
    return grey


def rows(grey, channels):
    """Cut a picture of one record into its views."""
    heights = np.array([60, 80, 80] * channels) * (1.5 / 60) + 0.06
    ends = np.round((0.5 + np.cumsum(heights)) * 150).astype(int)
    return np.split(grey, ends[:-1])


@pytest.fixture
def block():
    """One record whose bright block lies to the right, in front and below."""
    voxels = np.zeros((1, *GEOMETRY.full_shape), np.float32)
    voxels[0, :, 9:19, 14:28, 1:6] = 1
    return voxels


def test_right_is_on_the_left_and_the_face_looks_left(block, tmp_path):
    views = rows(picture(block, tmp_path / "one.png"), 2)
    middle = 135 + 225 / 2
    axial, coronal, sagittal = (np.argwhere(view > 0.6) for view in views[:3])
    assert axial[:, 1].mean() < middle
    assert axial[:, 0].mean() < 75 + 225 / 2, "the front is up"
    assert coronal[:, 1].mean() < middle
    assert coronal[:, 0].mean() > len(views[1]) / 2, "the feet are down"
    assert sagittal[:, 1].mean() < middle


def test_one_scale_of_millimetres(block, tmp_path):
    """The block measures 20 x 28 x 40 mm; 60 mm are 225 points."""
    views = rows(picture(block, tmp_path / "one.png"), 2)
    for view, across, up in ((0, 20, 28), (1, 20, 40), (2, 28, 40)):
        bright = np.argwhere(views[view] > 0.5)
        height, width = np.ptp(bright, axis=0) * 60 / 225
        assert width == pytest.approx(across, abs=2.5)
        assert height == pytest.approx(up, abs=2.5)


def test_a_channel_has_one_scale_of_grey(tmp_path):
    rng = np.random.default_rng(0)
    voxels = rng.uniform(0.5, 1, (2, *GEOMETRY.full_shape))
    voxels[1, 0] *= 0.25
    voxels[:, 1] *= 1000
    grey = picture(voxels, tmp_path / "two.png")
    first, second = (rows(grey[:, columns], 2) for columns in (slice(175, 305), slice(410, 540)))
    assert second[0].mean() < 0.5 * first[0].mean()
    assert second[3].mean() == pytest.approx(first[3].mean(), rel=0.1)


def test_few_of_many_are_drawn(tmp_path):
    voxels = np.random.default_rng(0).random((30, *GEOMETRY.full_shape))
    few = imread(montage(cohort(voxels[:4]), tmp_path / "few.png"))
    many = imread(montage(cohort(voxels), tmp_path / "many.png"))
    assert few.shape[0] == many.shape[0]
    assert many.shape[1] < 2.1 * few.shape[1]


def test_negative_and_empty_channels_can_be_drawn(tmp_path):
    voxels = np.random.default_rng(0).normal(size=(2, *GEOMETRY.full_shape))
    voxels[:, 1] = 0
    assert montage(cohort(voxels), tmp_path / "odd.png").stat().st_size > 1000


def test_volumes_are_needed(tmp_path):
    rows_only = Cohort("rows", SCHEMA, np.array(["a"]), pd.DataFrame({"age": [1.0]}))
    with pytest.raises(CohortError, match="no volumes"):
        montage(rows_only, tmp_path / "none.png")
