"""The BIDS source on small folders, each with one planted defect."""

import gzip
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from mmbench import plugins
from mmbench.api import CohortError
from mmbench.cohort import split_cohort
from mmbench.errors import ConfigError, PluginError

OASIS = Path(__file__).parents[4] / "shared" / "data" / "oasis1-bids"
SHAPE = (6, 5, 4)
AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])


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


def image(seed=0, shape=SHAPE):
    return np.random.default_rng(seed).uniform(1, 100, shape).astype(np.float32)


def write(path, voxels, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = nibabel.Nifti1Header()
    header.set_data_dtype(voxels.dtype)
    nibabel.save(nibabel.Nifti1Image(voxels, affine, header), path)
    return path


def volume(root, subject, session="", suffix="T1w"):
    parts = [part for part in (f"sub-{subject}", session) if part]
    return root.joinpath(*parts, "anat", "_".join([*parts, suffix]) + ".nii.gz")


@pytest.fixture
def root(tmp_path):
    """A sound dataset of four participants."""
    for i in range(1, 5):
        write(volume(tmp_path, i), image(i))
    rows = ["sub-1\tF\t31.5\t1\t7", "sub-2\tM\t44.25\tn/a\t8", "sub-3\tF\t60\t2\t9", "sub-4\tNA\t52\t3\t7"]
    (tmp_path / "participants.tsv").write_text(
        "\n".join(["participant_id\tsex\tage\tgrade\tvisits", *rows, ""])
    )
    return tmp_path


def load(root, **values):
    return plugins.build("cohorts", "bids", {"path": root, **values}).load(Quiet())


def problems(root, **values):
    with pytest.raises(CohortError) as caught:
        load(root, **values)
    return caught.value.problems


def only_problem(root, *words, **values):
    found = problems(root, **values)
    assert len(found) == 1, found
    for word in words:
        assert str(word) in found[0]


def edit(root, old, new):
    path = root / "participants.tsv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_sound_folder_loads(root):
    cohort = load(root, normalise="none")
    assert cohort.ids.tolist() == ["sub-1", "sub-2", "sub-3", "sub-4"]
    assert cohort.images.geometry.channels == ("T1w",)
    assert cohort.images.geometry.spacing == (4, 4, 4)
    assert not cohort.shareable
    for i, voxels in enumerate(cohort.images):
        assert voxels.dtype == np.float32
        np.testing.assert_allclose(voxels[0], image(i + 1), rtol=1e-6)


def test_only_the_marker_of_bids_is_missing(root):
    table = load(root).rows
    assert table["grade"].isna().tolist() == [False, True, False, False]
    assert table["sex"].tolist() == ["F", "M", "F", "NA"]


def test_rows_belong_to_their_volumes_whatever_the_order_of_the_table(root):
    lines = (root / "participants.tsv").read_text().splitlines()
    (root / "participants.tsv").write_text("\n".join([lines[0], *reversed(lines[1:])]))
    cohort = load(root, normalise="none")
    assert cohort.ids[0] == "sub-4"
    assert cohort.rows["age"].iloc[0] == 52
    np.testing.assert_allclose(cohort.images[0][0], image(4), rtol=1e-6)


def test_sidecar_gives_units_levels_and_descriptions(root):
    sidecar = {
        "age": {"Units": "years", "Description": "at the scan"},
        "sex": {"Levels": {"M": "male", "F": "female", "NA": "?"}},
        "grade": {"Levels": {"0": "none", "1": "low", "2": "mid", "3": "high"}},
        "elsewhere": {"Units": "kg"},
    }
    (root / "participants.json").write_text(json.dumps(sidecar))
    schema = load(root).schema
    assert (schema["age"].unit, schema["age"].description) == ("years", "at the scan")
    assert schema["sex"].levels == ("M", "F", "NA")
    assert schema["grade"].levels == (0, 1, 2, 3)


def test_value_outside_the_sidecars_levels(root):
    (root / "participants.json").write_text(json.dumps({"sex": {"Levels": {"M": "male", "F": "female"}}}))
    only_problem(root, "participants.tsv", "'sex'", "sub-4", "'NA'")


def test_unreadable_sidecar(root):
    (root / "participants.json").write_text("{")
    only_problem(root, "participants.json", "JSON")


@pytest.mark.parametrize("form", ["inline", "file"])
def test_schema_corrects_columns(root, tmp_path_factory, form):
    schema = {"age": {"kind": "continuous", "minimum": 18, "maximum": 99, "unit": "years"}}
    if form == "file":
        file = tmp_path_factory.mktemp("schema") / "schema.yaml"
        file.write_text("age: {kind: continuous, minimum: 18, maximum: 99, unit: years}\n")
        schema = file
    column = load(root, schema=schema).schema["age"]
    assert (column.kind, column.minimum, column.maximum, column.unit) == ("continuous", 18, 99, "years")


def test_schema_mistakes_name_the_nearest_valid_key(root):
    with pytest.raises(ConfigError, match=r"'agee'.*Did you mean 'age'"):
        load(root, schema={"agee": {"unit": "years"}})
    with pytest.raises(ConfigError, match=r"'units'.*Did you mean 'unit'"):
        load(root, schema={"age": {"units": "years"}})
    with pytest.raises(ConfigError, match=r"'age'.*'young'"):
        load(root, schema={"age": {"minimum": "young"}})
    with pytest.raises(ConfigError, match=r"drop.*'visit'.*Did you mean 'visits'"):
        load(root, drop=["visit"])


def test_percentile_normalisation(root):
    background = image(1)
    background[0] = 0
    write(volume(root, 1), background)
    voxels = load(root).images[0]
    assert np.percentile(voxels[voxels != 0], 99) == pytest.approx(1)
    assert (voxels[0, 0] == 0).all()


def test_channels_are_normalised_apart_or_together(root):
    for i in range(1, 5):
        write(volume(root, i, suffix="T2w"), image(i) * 3)
    apart = load(root, suffix=["T1w", "T2w"]).images[0]
    np.testing.assert_allclose(apart[0], apart[1], rtol=1e-5)
    together = load(
        root, suffix=["T1w", "T2w"], channels=["water", "fat"], normalise="shared-percentile"
    ).images
    assert together.geometry.channels == ("water", "fat")
    np.testing.assert_allclose(together[0][1], 3 * together[0][0], rtol=1e-5)


def test_sessions_are_records_of_one_subject(root):
    for i in range(1, 5):
        shutil.rmtree(root / f"sub-{i}")
        for session in ("ses-a", "ses-b"):
            write(volume(root, i, session), image(i))
    both = load(root)
    assert both.ids.tolist()[:3] == ["sub-1/ses-a", "sub-1/ses-b", "sub-2/ses-a"]
    assert both.people.tolist()[:3] == ["sub-1", "sub-1", "sub-2"]
    assert both.rows["age"].tolist()[:2] == [31.5, 31.5]
    one = load(root, session="b")
    assert one.ids.tolist() == ["sub-1", "sub-2", "sub-3", "sub-4"]


def test_unknown_session(root):
    for i in range(1, 5):
        write(volume(root, i, "ses-pre"), image(i))
    found = problems(root, session="ses-pro")
    assert found == [f"{root}: no subject has the session 'ses-pro'. Did you mean 'ses-pre'?"]


def test_orientation_is_made_canonical(root):
    flipped = np.diag([-4.0, 4.0, 4.0, 1.0])
    flipped[0, 3] = 4.0 * (SHAPE[0] - 1)
    write(volume(root, 2), image(2)[::-1].copy(), flipped)
    turned = AFFINE[:, [2, 0, 1, 3]]
    write(volume(root, 3), np.moveaxis(image(3), [2, 0, 1], [0, 1, 2]).copy(), turned)
    images = load(root, normalise="none").images
    np.testing.assert_allclose(images[1][0], image(2), rtol=1e-6)
    np.testing.assert_allclose(images[2][0], image(3), rtol=1e-6)


def test_resampling_brings_different_grids_together(root):
    """A linear ramp in millimetres stays the same ramp on any grid inside its field of view."""

    def ramp(shape, spacing, origin=0.0):
        grid = np.stack(np.meshgrid(*(origin + spacing * np.arange(n) for n in shape), indexing="ij"))
        return (10 + grid[0] + 2 * grid[1] - grid[2] / 2 + 40).astype(np.float32)

    for i in range(1, 5):
        write(volume(root, i), ramp((16, 16, 16), 4.0) + 10 * i)
    fine = np.diag([2.0, 2.0, 2.0, 1.0])
    fine[:3, 3] = -2.0
    write(volume(root, 4), ramp((34, 34, 34), 2.0, -2.0) + 10, fine)
    write(volume(root, 1), ramp((16, 16, 16), 4.0))
    images = load(root, spacing=[8, 8, 8], normalise="none").images
    assert images.geometry.shape == (8, 8, 8)
    inner = (0, slice(1, -1), slice(1, -1), slice(1, -1))
    origin = images.geometry.matrix[0, 3]
    np.testing.assert_allclose(images[0][inner], ramp((8, 8, 8), 8.0, origin)[1:-1, 1:-1, 1:-1], rtol=1e-5)
    np.testing.assert_allclose(images[3][inner] - 10, images[0][inner], rtol=1e-5)
    assert load(root, shape=[10, 9, 8]).images.geometry.shape == (10, 9, 8)


def test_resampled_volume_outside_the_common_grid(root):
    far = AFFINE.copy()
    far[0, 3] = 1000
    write(volume(root, 4), image(4), far)
    only_problem(root, volume(root, 4), "outside the common grid", spacing=[4, 4, 4])


def test_common_grid_is_limited_too(root):
    only_problem(root, "common grid", "max_voxels=1000", spacing=[0.1, 0.1, 0.1], max_voxels=1000)


def test_no_such_folder(tmp_path):
    only_problem(tmp_path / "absent", tmp_path / "absent", "no such folder")


def test_unknown_parameter():
    with pytest.raises(PluginError, match=r"'sufix'.*Did you mean 'suffix'"):
        plugins.build("cohorts", "bids", {"path": "x", "sufix": "T1w"})


def test_no_subject_folders(root):
    for i in range(1, 5):
        shutil.rmtree(root / f"sub-{i}")
    only_problem(root, root, "sub-*")


def test_no_table(root):
    (root / "participants.tsv").unlink()
    only_problem(root, "participants.tsv", "no such file")


def test_table_without_rows(root):
    (root / "participants.tsv").write_text("participant_id\tage\n")
    only_problem(root, "participants.tsv", "no rows")


def test_table_of_another_encoding(root):
    (root / "participants.tsv").write_bytes(
        (root / "participants.tsv").read_text().replace("\tNA\t", "\tM\xe4nnlich\t").encode("latin-1")
    )
    only_problem(root, "participants.tsv, line 5", "UTF-8")


def test_line_with_too_few_fields(root):
    edit(root, "sub-3\tF\t60\t2\t9", "sub-3\tF\t60")
    only_problem(root, "participants.tsv, line 4", "3 fields, expected 5")


def test_repeated_column(root):
    edit(root, "grade", "age")
    only_problem(root, "participants.tsv", "repeated: age")


def test_table_without_participant_id(root):
    edit(root, "participant_id", "who")
    only_problem(root, "participants.tsv", "'participant_id'", "who, sex, age")


def test_comma_separated_table(root):
    edit(root, "\t", ",")
    only_problem(root, "participants.tsv", "','")


def test_empty_participant_id(root):
    edit(root, "sub-2\t", "\t")
    line, folder = problems(root)
    assert "participants.tsv, line 3: no participant_id" in line
    assert f"{root / 'sub-2'}: volumes without a row" in folder


@pytest.mark.parametrize("name", ["sub-1", "1"])
def test_duplicate_participant(root, name):
    with (root / "participants.tsv").open("a") as file:
        file.write(f"{name}\tF\t30\t1\t9\n")
    only_problem(root, "participants.tsv", "repeated: sub-1")


def test_participants_without_the_prefix_are_understood(root):
    edit(root, "sub-", "")
    assert load(root).ids[0] == "sub-1"


def test_participant_without_a_volume(root):
    shutil.rmtree(root / "sub-2")
    only_problem(root, "participants.tsv", "participant sub-2 has no T1w volume")


def test_participant_with_another_suffix(root):
    volume(root, 2).rename(volume(root, 2, suffix="T2w"))
    only_problem(root, "sub-2 has no T1w volume", "has T2w")


def test_volume_without_a_participant(root):
    write(volume(root, 9), image())
    only_problem(root, root / "sub-9", "without a row", "participants.tsv")


def test_missing_channel(root):
    for i in range(1, 4):
        write(volume(root, i, suffix="T2w"), image(i + 10))
    only_problem(root, root / "sub-4", "no T2w volume", suffix=["T1w", "T2w"])


def test_several_files_match(root):
    for run in ("run-1", "run-2"):
        write(volume(root, 3, suffix=f"{run}_T1w"), image(3))
    volume(root, 3).unlink()
    only_problem(root, "sub-3", "2 runs match", "'run'", "sub-3_run-1_T1w.nii.gz", "sub-3_run-2_T1w.nii.gz")


def test_entities_tell_files_apart(root):
    for i in range(1, 5):
        write(volume(root, i, suffix="acq-fast_run-2_T1w"), image(i + 10))
    np.testing.assert_allclose(
        load(root, suffix="run-2_T1w", normalise="none").images[0][0], image(11), rtol=1e-6
    )


def test_file_named_after_another_subject(root):
    volume(root, 3).rename(volume(root, 3).with_name("sub-4_T1w.nii.gz"))
    assert any(
        "sub-4_T1w.nii.gz" in text and "does not begin with 'sub-3_'" in text for text in problems(root)
    )


@pytest.mark.parametrize("where", ["subject", "dataset"])
def test_dicom_gets_advice(root, where):
    shutil.rmtree(root / "sub-2")
    (root / "sub-2" / "anat").mkdir(parents=True)
    (root / "sub-2" / "anat" / "IM0001").write_bytes(bytes(128) + b"DICM" + bytes(64))
    if where == "subject":
        only_problem(root, "sub-2", "DICOM", "dcm2niix")
    else:
        (root / "sub-2").rename(root / "export")
        for i in (1, 3, 4):
            shutil.rmtree(root / f"sub-{i}")
        only_problem(root, "DICOM", "dcm2niix")


def test_truncated_volume(root):
    path = volume(root, 2)
    path.write_bytes(path.read_bytes()[:-40])
    only_problem(root, path, "truncated")


def test_truncated_uncompressed_volume(root):
    path = volume(root, 2)
    content = gzip.decompress(path.read_bytes())
    path.unlink()
    path.with_suffix("").write_bytes(content[:-40])
    only_problem(root, path.with_suffix(""), "truncated")


def test_file_that_is_no_volume(root):
    volume(root, 2).write_text("not a volume")
    only_problem(root, volume(root, 2), "cannot be read as NIfTI")


def test_broken_link(root):
    volume(root, 2).unlink()
    volume(root, 2).symlink_to(root / "annex" / "key")
    only_problem(root, volume(root, 2), "no such file", "datalad get")


def test_another_shape(root):
    write(volume(root, 3), image(3, (6, 5, 5)))
    only_problem(root, volume(root, 3), "(6, 5, 5)", "expected (6, 5, 4)", "spacing")


@pytest.mark.parametrize(("defect", "distance"), [((0, 0, 4.01), "0.05"), ((1, 3, 2.0), "2 mm")])
def test_another_affine(root, defect, distance):
    row, column, value = defect
    affine = AFFINE.copy()
    affine[row, column] = value
    write(volume(root, 3), image(3), affine)
    only_problem(root, volume(root, 3), "another affine", distance)


def test_affine_within_rounding_is_the_same(root):
    affine = AFFINE.copy()
    affine[0, 3] = 5e-4
    write(volume(root, 3), image(3), affine)
    assert len(load(root)) == 4


def patched(path, offset, content):
    """Overwrite bytes of a volume's header (NIfTI-1: srow_x at 280, dim at 40)."""
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[offset : offset + len(content)] = content
    path.write_bytes(gzip.compress(bytes(data)))


def test_singular_affine(root):
    patched(volume(root, 3), 280, np.array([0, 4, 0, 0], "<f4").tobytes())
    only_problem(root, volume(root, 3), "affine is singular")


def test_affine_that_is_not_finite(root):
    patched(volume(root, 3), 280, np.array([np.nan, 0, 0, np.inf], "<f4").tobytes())
    only_problem(root, volume(root, 3), "affine holds NaN or infinite")


def test_header_that_claims_too_much_is_refused_unread(root):
    patched(volume(root, 3), 40, np.array([3, 32767, 32767, 32767], "<i2").tobytes())
    only_problem(root, volume(root, 3), "max_voxels", "32767")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.filterwarnings("ignore")
def test_damaged_headers_are_read_or_reported_by_name(root, seed):
    """Whatever bytes a header is damaged in, nothing but a report of that file comes out."""
    path = volume(root, 3).with_suffix("")
    sound = gzip.decompress(volume(root, 3).read_bytes())
    volume(root, 3).unlink()
    rng = np.random.default_rng(seed)
    for _ in range(30):
        content = bytearray(sound)
        for place in rng.integers(0, 348, 3):
            content[place] = rng.integers(0, 256)
        path.write_bytes(content)
        try:
            assert len(load(root, max_voxels=10**6)) == 4
        except CohortError as error:
            assert all(str(path) in text for text in error.problems)  # noqa: PT017


def test_zero_size_header(root):
    patched(volume(root, 3), 40, np.array([3, 6, 0, 4], "<i2").tobytes())
    assert any(str(volume(root, 3)) in text for text in problems(root))


def test_four_dimensions(root):
    write(volume(root, 3), image(3, (*SHAPE, 2)))
    only_problem(root, volume(root, 3), "4-D", "expected a 3-D volume")


def test_trailing_axis_of_one_is_fine(root):
    write(volume(root, 3), image(3)[..., None])
    assert len(load(root)) == 4


def test_complex_voxels(root):
    write(volume(root, 3), image(3).astype(np.complex64))
    only_problem(root, volume(root, 3), "complex64", "real number")


@pytest.mark.parametrize("normalise", ["percentile", "none"])
def test_all_zero(root, normalise):
    write(volume(root, 3), np.zeros(SHAPE, np.float32))
    only_problem(root, volume(root, 3), "every voxel is 0", normalise=normalise)


def test_constant_volume(root):
    write(volume(root, 3), np.full(SHAPE, 7, np.float32))
    only_problem(root, volume(root, 3), "every voxel is 7", normalise="none")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_not_finite(root, value):
    voxels = image(3)
    voxels[0, 0, :2] = value
    write(volume(root, 3), voxels)
    only_problem(root, volume(root, 3), "2 of 120 voxels are NaN or infinite")


def test_negative_intensities_cannot_be_divided_by_a_percentile(root):
    write(volume(root, 3), -image(3))
    only_problem(root, volume(root, 3), "99th percentile", "normalise: none")
    assert len(load(root, normalise="none")) == 4


def test_constant_column(root):
    for value in ("7", "8", "9"):
        edit(root, f"\t{value}\n", "\t5\n")
    only_problem(root, "participants.tsv", "'visits'", "one value", "drop")
    assert "visits" not in load(root, drop=["visits"]).schema.names


def test_empty_column(root):
    for value in ("7", "8", "9"):
        edit(root, f"\t{value}\n", "\tn/a\n")
    only_problem(root, "participants.tsv", "'visits'", "every value is missing")


def test_text_in_a_column_of_numbers(root):
    edit(root, "44.25", "forty")
    only_problem(root, "'age'", "row sub-2", "'forty'", schema={"age": {"kind": "continuous"}})


def test_value_outside_the_range(root):
    only_problem(
        root, "'age'", "row sub-3", "60", "at most 55", schema={"age": {"minimum": 18, "maximum": 55}}
    )


def test_value_outside_the_levels(root):
    only_problem(root, "'grade'", "row sub-4", "'3'", schema={"grade": {"kind": "ordinal", "levels": [1, 2]}})


def test_missing_value_where_none_may_be(root):
    only_problem(root, "'grade'", "row sub-2", "missing", schema={"grade": {"missing": False}})


def test_column_of_identifiers(tmp_path):
    lines = ["participant_id\tcode\tage"]
    for i in range(12):
        write(volume(tmp_path, i), image(i))
        lines.append(f"sub-{i}\tX{i}\t{20 + i}")
    (tmp_path / "participants.tsv").write_text("\n".join(lines))
    only_problem(tmp_path, "'code'", "12 distinct values", "'drop'")
    assert load(tmp_path, drop=["code"]).schema.names == ["age"]


def test_all_problems_come_at_once_and_none_twice(root):
    """Sixteen defects of different kinds in one folder."""
    names = [f"x{letter}" for letter in "abcdefghijklmnopqrst"]
    lines = ["participant_id\tsex\tage\tempty\tconstant\ttext"]
    for i, name in enumerate(names):
        write(volume(root, name), image(i))
        lines.append(f"sub-{name}\t{'FM'[i % 2]}\t{20 + i}.5\tn/a\t1\tword{i}")
    for i in range(1, 5):
        shutil.rmtree(root / f"sub-{i}")
    (root / "participants.tsv").write_text("\n".join(lines) + "\nsub-gone\tF\t33\tn/a\t1\tword\n")
    (root / "participants.json").write_text("[]")
    write(volume(root, "extra"), image())
    write(volume(root, "xa"), image(0, (3, 3, 3)))
    write(volume(root, "xb"), image(1), np.diag([5.0, 4, 4, 1]))
    write(volume(root, "xc"), np.zeros(SHAPE, np.float32))
    write(volume(root, "xd"), np.full(SHAPE, np.nan, np.float32))
    write(volume(root, "xe"), image(4, (*SHAPE, 3)))
    volume(root, "xf").write_bytes(b"nothing")
    patched(volume(root, "xg"), 280, np.zeros(4, "<f4").tobytes())
    patched(volume(root, "xh"), 40, np.array([3, 30000, 30000, 30000], "<i2").tobytes())
    write(volume(root, "xi", suffix="run-2_T1w"), image(8))
    volume(root, "xj").write_bytes(volume(root, "xj").read_bytes()[:-30])
    found = problems(root, schema={"age": {"maximum": 39}})
    culprits = [f"sub-{name}" for name in names[:10]]
    culprits += ["sub-gone", "sub-extra", "participants.json", "'empty'", "'constant'", "'text'", "'age'"]
    for culprit in culprits:
        assert sum(culprit in text for text in found) == 1, (culprit, found)
    assert len(found) == len(culprits)


def test_long_lists_are_cut_in_the_message_only(root):
    lines = ["participant_id\tage", *(f"sub-{i}\t{i}" for i in range(1, 200))]
    (root / "participants.tsv").write_text("\n".join(lines))
    with pytest.raises(CohortError, match="and 145 more") as caught:
        load(root)
    assert len(caught.value.problems) == 195


@pytest.mark.skipif(not OASIS.is_dir(), reason=f"the OASIS-1 data are not at {OASIS}")
def test_oasis():
    cohort = load(OASIS)
    assert len(cohort) == 436
    assert len(np.unique(cohort.people)) == 416
    assert sum(name.endswith("/ses-MR2") for name in cohort.ids) == 20
    kinds = {column.name: column.kind for column in cohort.schema}
    assert kinds["cdr"] == kinds["education_code"] == kinds["ses_code"] == "ordinal"
    assert kinds["mmse"] == "integer"
    assert cohort.rows["mmse"].isna().sum() > 150
    roles = split_cohort(cohort, seed=0)
    people = [set(cohort.people[indices]) for _, indices in roles.items()]
    assert sum(map(len, people)) == len(set.union(*people)) == 416
