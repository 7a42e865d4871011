"""A cohort written as a BIDS-like folder comes back through ``source: bids`` as it was, without being told how."""

import dataclasses
import json

import nibabel
import numpy as np
import pandas as pd
import pytest

from mmbench import plugins
from mmbench.bids_writer import recorded_reading, write_bids
from mmbench.context import WorkContext
from mmbench.errors import CohortError, ConfigError, UsageError
from mmbench.schema import Column, Schema
from mmbench.testing import toy_cohort
from mmbench.volumes import Geometry, Volumes

AFFINE = ((2.0, 0.1, 0.0, -31.5), (-0.1, 2.0, 0.0, 14.25), (0.0, 0.0, 3.3, 7.0), (0.0, 0.0, 0.0, 1.0))


@pytest.fixture
def written(tmp_path):
    """Return a function that writes a cohort and returns its folder."""

    def write(cohort):
        folder = tmp_path / "written"
        folder.mkdir()
        write_bids(cohort, folder, {"seed": 0}, WorkContext())
        return folder

    return write


@pytest.fixture
def read(tmp_path_factory):
    def load(folder, **parameters):
        source = plugins.build("cohorts", "bids", {"path": folder, **parameters})
        return source.load(WorkContext(folder=tmp_path_factory.mktemp("scratch")))

    return load


def with_channels(cohort, *names):
    geometry = Geometry(cohort.images.geometry.shape, AFFINE, names)
    return dataclasses.replace(cohort, volumes=Volumes(cohort.images.store, geometry))


def assert_same(found, cohort):
    """Compare all but identifiers, and whether values may be missing where none is."""
    assert found.modalities == cohort.modalities
    assert len(found) == len(cohort)
    if cohort.table is not None:
        columns = [dataclasses.replace(column, missing=False) for column in found.schema]
        assert columns == [dataclasses.replace(column, missing=False) for column in cohort.schema]
        pd.testing.assert_frame_equal(
            found.rows.reset_index(drop=True), cohort.rows.reset_index(drop=True), rtol=1e-12, atol=0
        )
    if cohort.volumes is not None:
        assert found.images.geometry.channels == cohort.images.geometry.channels
        np.testing.assert_allclose(
            found.images.geometry.matrix, cohort.images.geometry.matrix, rtol=1e-6, atol=1e-6
        )
        assert found.images.scales is None
        np.testing.assert_array_equal(found.images.stack(), cohort.images.stack())


@pytest.mark.parametrize(
    "channels",
    [
        ("T1w",),
        ("water", "fat"),
        ("acq-water_T1w", "acq-fat_T1w"),
        ("T1w", "acq-fat_T1w"),
        ("fat fraction", "T2*"),
        ("%", "+"),
    ],
)
def test_tables_and_volumes_come_back(written, read, channels):
    cohort = with_channels(toy_cohort(12, channels=len(channels)), *channels)
    found = read(written(cohort))
    assert_same(found, cohort)
    assert found.ids[0] == "sub-0001"
    assert found.rows.isna().any(axis=None)


def test_every_kind_of_column_comes_back_even_where_it_shows_one_value_or_none(written, read):
    schema = Schema(
        (
            Column("grade", "ordinal", levels=(3, 1, 2)),
            Column("dose", "ordinal", "mg", levels=(0.5, 1.0), description="per day"),
            Column("code", "categorical", levels=("1", "02", 'a "b"', "ü\tx")),
            Column("answer", "boolean", levels=("no", "yes")),
            Column("flag", "boolean"),
            Column("count", "integer", None, 0, 2**40),
            Column("level", "continuous", "mmol/l", decimals=None),
            Column("twice", "continuous", formula="2 * level"),
            Column("empty", "continuous", "kg", 0, 9, decimals=1),
        )
    )
    level = np.array([1 / 3, 1e-17, -2.5e300, np.nan])
    frame = pd.DataFrame(
        {
            "grade": [3, None, 2, 1],
            "dose": [1.0] * 4,
            "code": ["1", "02", 'a "b"', "ü\tx"],
            "answer": ["no", "yes", None, "no"],
            "flag": [True] * 4,
            "count": [0, 2**40, np.nan, 7],
            "level": level,
            "twice": 2 * level,
            "empty": [np.nan] * 4,
        }
    )
    tolerant = Schema(tuple(dataclasses.replace(column, missing=True) for column in schema))
    toy = toy_cohort(4)
    cohort = dataclasses.replace(toy, schema=schema, table=tolerant.coerce(frame), volumes=None)
    folder = written(cohort)
    found = read(folder)
    assert_same(found, cohort)
    assert found.schema["empty"].missing
    assert not found.schema["dose"].missing
    assert not list(folder.glob("sub-*"))
    sidecar = json.loads((folder / "participants.json").read_text())
    assert sidecar["dose"]["Units"] == "mg"
    assert list(sidecar["grade"]["Levels"]) == ["3", "1", "2"]
    assert (sidecar["count"]["Minimum"], sidecar["count"]["Maximum"]) == (0, 2**40)
    assert read(folder, drop=["twice"]).schema.names == [name for name in schema.names if name != "twice"]
    assert read(folder, schema={"count": {"unit": "times"}}).schema["count"].unit == "times"


def test_volumes_alone_come_back_repeated_or_not(written, read):
    cohort = dataclasses.replace(toy_cohort(5).take([0, 1, 0]), table=None, schema=Schema(()))
    folder = written(cohort)
    found = read(folder)
    assert_same(found, cohort)
    assert (folder / "participants.tsv").read_text().splitlines()[0] == "participant_id"
    with pytest.raises(CohortError, match="same voxels"):
        read(folder, copies="refuse")


def test_the_users_parameters_go_first(written, read):
    cohort = with_channels(toy_cohort(6, channels=2), "water", "fat")
    folder = written(cohort)
    divided = read(folder, normalise="percentile")
    assert divided.images.scales is not None
    one = read(folder, suffix="fat")
    assert one.images.geometry.channels == ("fat",)
    np.testing.assert_array_equal(one.images.stack()[:, 0], cohort.images.stack()[:, 1])
    assert read(folder, suffix=[]).modalities == {"table"}


def test_files_are_plain_nifti_in_millimetres(written):
    folder = written(with_channels(toy_cohort(3, channels=2), "water", "fat"))
    assert sorted(path.name for path in (folder / "sub-0002" / "anat").iterdir()) == [
        "sub-0002_fat.nii.gz",
        "sub-0002_water.nii.gz",
    ]
    image = nibabel.load(folder / "sub-0002" / "anat" / "sub-0002_fat.nii.gz")
    assert image.get_data_dtype() == np.float32
    assert image.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(image.affine, AFFINE, rtol=1e-6)


@pytest.mark.parametrize("level", ["n/a", "", " F"])
def test_a_level_that_a_text_table_cannot_hold_is_refused(written, level):
    schema = Schema((Column("sex", "categorical", levels=(level, "M")),))
    toy = toy_cohort(2)
    cohort = dataclasses.replace(toy, schema=schema, table=schema.coerce(pd.DataFrame({"sex": ["M", level]})))
    with pytest.raises(UsageError, match="column 'sex': the level"):
        written(cohort)


def test_other_folders_say_nothing_and_damaged_ones_are_refused(written, tmp_path):
    assert recorded_reading(tmp_path) == {}
    path = tmp_path / "dataset_description.json"
    path.write_text('{"Name": "another", "BIDSVersion": "1.8.0"}')
    assert recorded_reading(tmp_path) == {}
    for damaged in ('{"mmbench": ', '{"mmbench": {}}', '{"mmbench": {"reading": {"suffix": "T1w"}}}'):
        path.write_text(damaged)
        with pytest.raises(CohortError, match=r"dataset_description\.json"):
            recorded_reading(tmp_path)


def test_a_damaged_schema_is_one_message(written, read):
    folder = written(toy_cohort(4))
    path = folder / "participants.json"
    entries = json.loads(path.read_text())
    del entries["sex"]["mmbench"]["kind"]
    path.write_text(json.dumps(entries))
    with pytest.raises(ConfigError, match=r"participants\.json: schema: column 'sex': 'kind' is absent"):
        read(folder)
