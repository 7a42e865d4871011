"""The saved source: what was written comes back, and nothing else does."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmbench import plugins
from mmbench.api import Cohort, CohortError, Geometry, Schema, Volumes
from mmbench.cohort import save_cohort

GEOMETRY = Geometry.regular((4, 3, 5), (2, 3, 4), ("water", "fat"))


class Quiet:
    """The context of a load that shows nothing."""

    device, seed, folder = "cpu", 0, Path()

    def steps(self, total, label):
        return iter(range(total))

    def log(self, name, value, step):
        pass


@pytest.fixture
def cohort():
    frame = pd.DataFrame({"age": [30.5, 41.0, None, 52.25], "grade": ["low", "high", "low", None]})
    schema = Schema.infer(
        frame, {"age": {"kind": "continuous"}, "grade": {"kind": "ordinal", "levels": ("low", "high")}}
    )
    voxels = np.random.default_rng(0).uniform(1, 9, (4, *GEOMETRY.full_shape)).astype(np.float32)
    return Cohort(
        "made",
        schema,
        np.array(["a", "b", "c", "d"]),
        schema.coerce(frame),
        Volumes(voxels, GEOMETRY),
        subjects=np.array(["p", "p", "q", "r"]),
        truth=pd.DataFrame({"fat_l": [1.0, 2, 3, 4]}),
    )


def load(path):
    return plugins.build("cohorts", "saved", {"path": path}).load(Quiet())


def test_round_trip(cohort, tmp_path):
    found = load(save_cohort(cohort, tmp_path / "saved"))
    assert found.fingerprint() == cohort.fingerprint()
    assert found.people.tolist() == cohort.people.tolist()
    assert found.truth["fat_l"].tolist() == [1, 2, 3, 4]
    np.testing.assert_array_equal(found.images.stack(), cohort.images.stack())
    pd.testing.assert_frame_equal(found.rows, cohort.rows)


def test_no_such_folder(tmp_path):
    with pytest.raises(CohortError, match=r"no such folder.*mmbench cohort make"):
        load(tmp_path / "absent")


def test_folder_without_a_cohort(tmp_path):
    with pytest.raises(CohortError, match=r"cohort\.json: no such file"):
        load(tmp_path)


@pytest.mark.parametrize("file", ["cohort.json", "table.parquet", "volumes.npy", "truth.parquet"])
@pytest.mark.parametrize("content", [b"", b"nothing"])
def test_damaged_file(cohort, tmp_path, file, content):
    folder = save_cohort(cohort, tmp_path / "saved")
    (folder / file).write_bytes(content)
    with pytest.raises(CohortError, match="cannot be read"):
        load(folder)


@pytest.mark.parametrize("file", ["table.parquet", "volumes.npy"])
def test_lost_file(cohort, tmp_path, file):
    folder = save_cohort(cohort, tmp_path / "saved")
    (folder / file).unlink()
    with pytest.raises(CohortError, match=f"{file}: no such file"):
        load(folder)


def test_changed_voxel(cohort, tmp_path):
    folder = save_cohort(cohort, tmp_path / "saved")
    array = np.load(folder / "volumes.npy", mmap_mode="r+")
    array[2, 0, 1, 1, 1] += 1
    array.flush()
    with pytest.raises(CohortError, match="fingerprint"):
        load(folder)


def test_changed_value(cohort, tmp_path):
    folder = save_cohort(cohort, tmp_path / "saved")
    table = pd.read_parquet(folder / "table.parquet")
    table.loc["a", "age"] = 31.0
    table.to_parquet(folder / "table.parquet")
    with pytest.raises(CohortError, match="fingerprint"):
        load(folder)


@pytest.mark.parametrize("key", ["subjects", "ids", "geometry"])
def test_changed_header(cohort, tmp_path, key):
    path = save_cohort(cohort, tmp_path / "saved") / "cohort.json"
    header = json.loads(path.read_text())
    match key:
        case "subjects":
            header[key] = ["p", "x", "q", "r"]
        case "ids":
            header[key] = ["a", "b", "c", "e"]
        case _:
            header[key]["affine"][0][0] = 9.0
    path.write_text(json.dumps(header))
    with pytest.raises(CohortError, match="fingerprint"):
        load(path.parent)


def test_bad_volumes_are_named_by_record_and_channel(cohort, tmp_path):
    voxels = cohort.images.stack()
    voxels[1, 1] = 0
    voxels[3, 0, 0, 0, 0] = np.nan
    bad = Cohort("bad", cohort.schema, cohort.ids, cohort.rows, Volumes(voxels, GEOMETRY))
    with pytest.raises(CohortError) as caught:
        load(save_cohort(bad, tmp_path / "saved"))
    first, second = caught.value.problems
    assert "record b, channel 'fat': every voxel is 0" in first
    assert "record d, channel 'water': 1 of 60 voxels are NaN" in second


def test_another_format(cohort, tmp_path):
    path = save_cohort(cohort, tmp_path / "saved") / "cohort.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(CohortError, match="format 99, expected 1"):
        load(path.parent)
