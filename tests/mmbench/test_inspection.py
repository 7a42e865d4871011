"""The card and the picture of a cohort."""

import json
import tracemalloc

import numpy as np
import pandas as pd
import pytest

from mmbench.cohort import Cohort, Geometry, Volumes
from mmbench.errors import CohortError
from mmbench.inspection import PERCENTILES, describe, montage
from mmbench.schema import Column, Schema

GEOMETRY = Geometry.regular((10, 8, 6), (2.0, 3.0, 5.0), ("water", "fat"))
SCHEMA = Schema(
    (
        Column("age", "continuous", "years", missing=True, description="at the scan"),
        Column("grade", "ordinal", levels=(0, 1, 2), missing=True),
    )
)


class Drawn:
    """Volumes drawn anew whenever they are asked for, so that none is kept."""

    def __init__(self, n, geometry=GEOMETRY):
        self.n, self.geometry = n, geometry

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        voxels = rng.gamma(2, 3, self.geometry.full_shape).astype(np.float32)
        voxels[1] -= 4
        voxels[:, 0] = 0
        return voxels


@pytest.fixture
def cohort():
    frame = pd.DataFrame({"age": [30.0, 40, None, 50], "grade": [0, 2, 2, None]})
    return Cohort(
        "made",
        SCHEMA,
        np.array(["a", "b", "c", "d"]),
        SCHEMA.coerce(frame),
        Volumes(Drawn(4), GEOMETRY),
        subjects=np.array(["p", "p", "q", "r"]),
        truth=pd.DataFrame({"fat_l": [1.0, 2, 3, 6]}),
    )


def test_columns(cohort):
    card = describe(cohort)
    assert (card.name, card.records, card.subjects) == ("made", 4, 3)
    age, grade = card.columns
    assert (age.kind, age.unit, age.missing, age.description) == ("continuous", "years", 0.25, "at the scan")
    assert (age.minimum, age.median, age.maximum, age.counts) == (30, 40, 50, {})
    assert (grade.counts, grade.missing) == ({"0": 1, "1": 0, "2": 2}, 0.25)
    assert np.isnan(grade.median)
    (truth,) = card.truth
    assert (truth.name, truth.minimum, truth.median, truth.maximum) == ("fat_l", 1, 2.5, 6)


def test_intensities_equal_those_of_all_voxels_at_once(cohort):
    card = describe(cohort)
    voxels = cohort.images.stack()
    assert card.geometry == GEOMETRY
    for channel, name in enumerate(GEOMETRY.channels):
        found, values = card.channels[channel], voxels[:, channel]
        assert found.name == name
        assert (found.minimum, found.maximum) == (values.min(), values.max())
        assert found.foreground == pytest.approx((values != 0).mean())
        expected = np.percentile(values[values != 0], PERCENTILES, method="inverted_cdf")
        np.testing.assert_allclose(list(found.percentiles.values()), expected, rtol=1e-3)


def test_volume_of_zeros(cohort):
    zeros = Volumes(np.zeros((4, *GEOMETRY.full_shape), np.float32), GEOMETRY)
    card = describe(Cohort("zeros", SCHEMA, cohort.ids, cohort.rows, zeros)).channels[0]
    assert (card.foreground, card.minimum, card.maximum) == (0, 0, 0)
    assert all(np.isnan(value) for value in card.percentiles.values())


def test_plain_form_is_json(cohort):
    data = json.loads(json.dumps(describe(cohort).to_dict(), allow_nan=False))
    assert data["geometry"]["spacing"] == [2, 3, 5]
    assert data["columns"][1]["median"] is None
    assert data["channels"][0]["percentiles"].keys() == {str(q) for q in PERCENTILES}


def test_parts_may_be_absent(cohort):
    rows = describe(Cohort("rows", SCHEMA, cohort.ids, cohort.rows))
    assert (rows.geometry, rows.channels, rows.truth) == (None, (), ())
    volumes = describe(Cohort("volumes", SCHEMA, cohort.ids, volumes=cohort.images))
    assert volumes.columns == ()
    assert len(volumes.channels) == 2


def test_memory_does_not_grow_with_subjects():
    def peak(n):
        cohort = Cohort("many", SCHEMA, np.arange(n), volumes=Volumes(Drawn(n), GEOMETRY))
        tracemalloc.start()
        describe(cohort)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(2)
    assert peak(200) < peak(4) + 100 * 200


def test_montage_is_a_picture_of_a_few(cohort, tmp_path):
    from matplotlib.image import imread

    path = montage(cohort, tmp_path / "few.png")
    few = imread(path)
    assert few[..., :3].std() > 0.1
    many = Cohort("many", SCHEMA, np.arange(30), volumes=Volumes(Drawn(30), GEOMETRY))
    assert imread(montage(many, tmp_path / "many.png")).shape[1] < 2.1 * few.shape[1]


def test_montage_needs_volumes(cohort, tmp_path):
    with pytest.raises(CohortError, match="no volumes"):
        montage(Cohort("rows", SCHEMA, cohort.ids, cohort.rows), tmp_path / "none.png")
