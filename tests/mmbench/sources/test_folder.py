"""The folder source: a table whose rows name their volumes."""

import nibabel
import numpy as np
import pandas as pd
import pytest

from mmbench import plugins
from mmbench.api import CohortError
from mmbench.errors import ConfigError

SHAPE = (5, 4, 3)


class Quiet:
    """The context of a load that shows nothing."""

    device, seed, folder = "cpu", 0, None

    def steps(self, total, label):
        return iter(range(total))

    def log(self, name, value, step):
        pass


@pytest.fixture(autouse=True)
def _scratch(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(Quiet, "folder", tmp_path_factory.mktemp("scratch"))


def image(seed):
    return np.random.default_rng(seed).uniform(1, 100, SHAPE).astype(np.float32)


@pytest.fixture
def frame(tmp_path):
    (tmp_path / "scans").mkdir()
    for i in range(6):
        nibabel.save(nibabel.Nifti1Image(image(i), np.eye(4)), tmp_path / "scans" / f"{i}.nii.gz")
    return pd.DataFrame(
        {
            "id": [f"s{i}" for i in range(6)],
            "age": [30.5, 41, None, 52, 63, 28],
            "sex": ["F", "M", "F", "M", None, "F"],
            "volume": [f"scans/{i}.nii.gz" for i in range(6)],
        }
    )


def save(frame, folder, form="csv"):
    path = folder / f"cohort.{form}"
    if form == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="," if form == "csv" else "\t")
    return path


def load(path, **values):
    return plugins.build("cohorts", "folder", {"path": path, **values}).load(Quiet())


def only_problem(path, *words, **values):
    with pytest.raises(CohortError) as caught:
        load(path, **values)
    found = caught.value.problems
    assert len(found) == 1, found
    for word in words:
        assert str(word) in found[0]


@pytest.mark.parametrize("form", ["csv", "tsv", "parquet"])
def test_every_form_of_table_gives_the_same_cohort(frame, tmp_path, form):
    cohort = load(save(frame, tmp_path, form), normalise="none")
    assert cohort.ids.tolist() == frame["id"].tolist()
    assert cohort.schema.names == ["age", "sex"]
    assert cohort.rows["age"].tolist()[:2] == [30.5, 41]
    assert cohort.rows["age"].isna().sum() == cohort.rows["sex"].isna().sum() == 1
    for i, voxels in enumerate(cohort.images):
        np.testing.assert_allclose(voxels[0], image(i), rtol=1e-6)


def test_parquet_with_a_named_index(frame, tmp_path):
    assert load(save(frame.set_index("id"), tmp_path, "parquet")).ids[0] == "s0"


def test_rows_only(frame, tmp_path):
    cohort = load(save(frame.drop(columns="volume"), tmp_path), volume_column=None)
    assert cohort.modalities == {"table"}


def test_row_numbers_stand_in_for_identifiers(frame, tmp_path):
    assert load(save(frame.drop(columns="id"), tmp_path)).ids.tolist() == ["1", "2", "3", "4", "5", "6"]


def test_repeat_scans_share_a_subject(frame, tmp_path):
    frame["person"] = ["a", "a", "b", "b", "c", "c"]
    cohort = load(save(frame, tmp_path), subject_column="person")
    assert cohort.people.tolist() == ["a", "a", "b", "b", "c", "c"]
    assert "person" not in cohort.schema.names


def test_several_channels(frame, tmp_path):
    frame["fat"] = frame["volume"].to_numpy()[::-1]
    cohort = load(
        save(frame, tmp_path), volume_columns=["volume", "fat"], channels=["water", "fat"], normalise="none"
    )
    assert cohort.images.geometry.channels == ("water", "fat")
    np.testing.assert_allclose(cohort.images[0][1], image(5), rtol=1e-6)


def test_one_name_for_each_channel(frame, tmp_path):
    frame["fat"] = frame["volume"].to_numpy()[::-1]
    path = save(frame, tmp_path)
    columns = ["volume", "fat"]
    only_problem(path, "channels", "one name for each", volume_columns=columns, channels=["a", "b", "c"])
    only_problem(path, "channels", "one name for each", volume_columns=columns, channels=["a", "a"])


def test_files_that_do_not_hold_all_channels(frame, tmp_path):
    path = save(frame.drop(columns="sex"), tmp_path)
    only_problem(path, "6 files", "3-D", "fourth dimension of 2", "'channels'", channels=["water", "fat"])


def test_no_such_table(tmp_path):
    only_problem(tmp_path / "absent.csv", tmp_path / "absent.csv", "no such file")


def test_table_of_unknown_type(tmp_path):
    (tmp_path / "cohort.xlsx").write_bytes(b"PK")
    only_problem(tmp_path / "cohort.xlsx", "'.xlsx'", ".parquet")


def test_damaged_parquet(tmp_path):
    (tmp_path / "cohort.parquet").write_bytes(b"PAR1 nothing")
    only_problem(tmp_path / "cohort.parquet", "cannot be read as Parquet")


def test_semicolons(frame, tmp_path):
    frame.to_csv(tmp_path / "cohort.csv", index=False, sep=";")
    only_problem(tmp_path / "cohort.csv", "';'", "','")


def test_unknown_volume_column(frame, tmp_path):
    path = save(frame.rename(columns={"volume": "volumes"}), tmp_path)
    only_problem(path, "'volume'", "Did you mean 'volumes'", "volume_column: null")


def test_unknown_id_column(frame, tmp_path):
    only_problem(save(frame, tmp_path), "'idd'", "Did you mean 'id'", id_column="idd")


def test_repeated_identifiers(frame, tmp_path):
    frame.loc[3, "id"] = "s1"
    only_problem(save(frame, tmp_path), "repeated: s1", "subject_column")


def test_empty_path(frame, tmp_path):
    frame.loc[3, "volume"] = None
    only_problem(save(frame, tmp_path), "row s3", "'volume' is empty")


def test_missing_volume(frame, tmp_path):
    (tmp_path / "scans" / "3.nii.gz").unlink()
    only_problem(save(frame, tmp_path), tmp_path / "scans" / "3.nii.gz", "no such file")


def test_dicom_file(frame, tmp_path):
    (tmp_path / "scans" / "3.dcm").write_bytes(bytes(128) + b"DICM")
    frame.loc[3, "volume"] = "scans/3.dcm"
    only_problem(save(frame, tmp_path), tmp_path / "scans" / "3.dcm", "dcm2niix")


def test_dicom_folder(frame, tmp_path):
    (tmp_path / "scans" / "3").mkdir()
    (tmp_path / "scans" / "3" / "IM1").write_bytes(bytes(128) + b"DICM")
    frame.loc[3, "volume"] = "scans/3"
    only_problem(save(frame, tmp_path), tmp_path / "scans" / "3", "dcm2niix")


def test_other_image_format(frame, tmp_path):
    (tmp_path / "scans" / "3.png").write_bytes(b"PNG")
    frame.loc[3, "volume"] = "scans/3.png"
    only_problem(save(frame, tmp_path), "3.png", "expected a NIfTI file")


def test_bad_volumes_and_bad_values_come_together(frame, tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros(SHAPE), np.eye(4)), tmp_path / "scans" / "2.nii.gz")
    frame["age"] = frame["age"].astype(object)
    frame.loc[4, "age"] = "old"
    with pytest.raises(CohortError) as caught:
        load(save(frame, tmp_path), schema={"age": {"kind": "continuous"}})
    table, voxels = caught.value.problems
    assert "'age'" in table
    assert "'old'" in table
    assert "row s4" in table
    assert "2.nii.gz" in voxels


def test_no_clinical_columns(frame, tmp_path):
    only_problem(save(frame[["id", "volume"]], tmp_path), "no columns beside the identifiers")


@pytest.mark.parametrize(
    "text", ["nothing: [", "age: 7", "- age", "age: {units: years}", "age: {unit: a}\nage: {unit: b}"]
)
def test_schema_file_mistakes_name_the_file(frame, tmp_path, text):
    schema = tmp_path / "columns.yaml"
    schema.write_text(text)
    with pytest.raises(ConfigError, match=r"columns\.yaml"):
        load(save(frame, tmp_path), schema=schema)


def test_absent_schema_file(frame, tmp_path):
    with pytest.raises(ConfigError, match="no such schema file"):
        load(save(frame, tmp_path), schema=tmp_path / "columns.yaml")
