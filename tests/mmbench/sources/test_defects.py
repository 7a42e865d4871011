"""Every defect of one folder comes out in one pass: named, with where it is and what to do."""

import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from mmbench.cli import app
from mmbench.errors import UsageError

SCHEMA = {
    "age": {"kind": "continuous", "minimum": 18, "maximum": 90},
    "sex": {"kind": "categorical", "levels": ["F", "M"]},
    "steps": {"kind": "integer"},
    "bmi": {"kind": "continuous", "formula": "weight / (height / 100) ** 2"},
}


def plant(bids):
    """Spoil a dataset in every way; return the words that the line of each defect must hold."""
    shutil.rmtree(bids.root)
    names = [f"s{i:02d}" for i in range(48)]
    header = ["participant_id", "sex", "age", "steps", "height", "weight", "bmi", "empty", "constant", "code"]
    header += ["mood", "pulse", "pulse"]
    rows = {}
    for i, name in enumerate(names):
        bids.write(bids.path(name), bids.image(i))
        bids.write(bids.path(name, suffix="T2w"), bids.image(1000 + i))
        height, weight = 150 + i, 50 + i
        bmi = f"{weight / (height / 100) ** 2:.2f}"
        rows[name] = [
            f"sub-{name}",
            "FM"[i % 2],
            f"{20 + i}.5",
            str(i),
            str(height),
            str(weight),
            bmi,
            "n/a",
            "7",
        ]
        rows[name] += [f"id{i}", str(i % 20), str(60 + i % 20), "61"]
    expected = {}

    def volume(name, **more):
        return bids.path(name, **more)

    volume("s00").write_bytes(volume("s00").read_bytes()[:-40])
    expected["truncated file"] = [volume("s00"), "truncated", "copy"]
    volume("s01").write_bytes(b"no volume at all")
    expected["no NIfTI"] = [volume("s01"), "cannot be read as NIfTI", "export it anew"]
    bids.write(volume("s02"), bids.image(2, (6, 5, 4, 3)))
    expected["four dimensions"] = [volume("s02"), "4-D", "channels"]
    voxels = bids.image(3)
    voxels[0, 0, 0] = np.nan
    bids.write(volume("s03"), voxels)
    expected["NaN voxels"] = [volume("s03"), "1 of 120 voxels are NaN", "replace them"]
    bids.write(volume("s04"), np.zeros((6, 5, 4), np.float32))
    expected["all zero"] = [volume("s04"), "every voxel is 0", "leave the subject out"]
    bids.write(volume("s05"), np.full((6, 5, 4), 7, np.float32))
    expected["constant volume"] = [volume("s05"), "every voxel is 1", "export the volume anew"]
    bids.patch(volume("s06"), 280, np.array([0, 4, 0, 0], "<f4").tobytes())
    expected["singular affine"] = [volume("s06"), "affine is singular", "correct the header"]
    bids.patch(volume("s07"), 280, np.array([np.nan, 0, 0, 0], "<f4").tobytes())
    expected["affine of NaN"] = [volume("s07"), "affine holds NaN", "correct the header"]
    bids.patch(volume("s08"), 40, np.array([3, 30000, 30000, 30000], "<i2").tobytes())
    expected["huge header"] = [volume("s08"), "max_voxels", "30000"]
    bids.write(volume("s09"), bids.image(9, (6, 5, 5)))
    expected["other shape"] = [volume("s09"), "(6, 5, 5)", "expected (6, 5, 4)", "'spacing'"]
    bids.write(volume("s10"), bids.image(10), np.diag([5.0, 4, 4, 1]))
    expected["other spacing"] = [volume("s10"), "spacing 5 x 4 x 4 mm", "'spacing'"]
    moved = bids.affine.copy()
    moved[2, 3] = 30
    bids.write(volume("s11"), bids.image(11), moved)
    expected["other origin"] = [volume("s11"), "30 mm off", "align: centre"]
    volume("s12").unlink()
    volume("s12").symlink_to(bids.root / "annex" / "key")
    expected["broken link"] = [volume("s12"), "no such file", "datalad get"]
    volume("s13").write_bytes(bytes(128) + b"DICM" + bytes(500))
    expected["DICOM named .nii.gz"] = [volume("s13"), "DICOM", "dcm2niix"]
    bids.write(volume("s14"), bids.image(14).astype(np.complex64))
    expected["complex voxels"] = [volume("s14"), "complex64", "convert the file"]
    bids.write(volume("s15"), -bids.image(15))
    expected["nothing to divide by"] = [volume("s15"), "99th percentile", "normalise: none"]
    volume("s16", suffix="T2w").unlink()
    expected["missing channel"] = [volume("s16").parent, "no T2w volume", "add it"]
    for run in (1, 2):
        bids.write(volume("s17", suffix=f"run-{run}_T1w"), bids.image(170 + run))
    volume("s17").unlink()
    expected["two runs"] = [volume("s17").parent, "run-1_T1w.nii.gz", "run-2_T1w.nii.gz", "set 'run'"]
    bids.write(volume("s18", suffix="acq-fast_T1w"), bids.image(180))
    expected["two acquisitions"] = [volume("s18").parent, "acq-fast", "entity"]
    volume("s19").rename(volume("s19").with_name("sub-s20_T1w.nii.gz"))
    expected["named for another subject"] = [
        "sub-s20_T1w.nii.gz",
        "does not begin with 'sub-s19_'",
        "rename it",
    ]
    bids.write(volume("s21"), bids.image(22))
    expected["copied scan"] = [volume("s22"), f"same voxels as {volume('s21')}", "find out whose"]
    bids.write(volume("s23", suffix="T2w"), bids.image(23))
    expected["copied channel"] = [
        volume("s23", suffix="T2w"),
        f"same voxels as {volume('s23')}",
        "channel anew",
    ]
    for file in volume("s24").parent.iterdir():
        file.unlink()
    (volume("s24").parent / "IM0001").write_bytes(bytes(128) + b"DICM" + bytes(64))
    expected["subject of DICOM"] = ["participant sub-s24", "DICOM", "dcm2niix"]
    bids.write(volume("s25", session="ses-b"), bids.image(250))
    bids.write(volume("s25", session="ses-b", suffix="T2w"), bids.image(251))
    sessions = bids.root / "sub-s25" / "sub-s25_sessions.tsv"
    for suffix in ("T1w", "T2w"):
        volume("s25", suffix=suffix).unlink()
    volume("s25").parent.rmdir()
    sessions.write_text("session_id\tweight\tcode\nses-b\t77\tb\nses-gone\t78\tg\n")
    rows["s25"][6] = f"{77 / 1.75**2:.2f}"
    expected["absent session"] = [f"{sessions}, line 3", "sub-s25/ses-gone has no", "remove the row"]
    (bids.root / "sub-s26" / "ses-x").mkdir()
    (bids.root / "sub-s26" / "ses-x" / "1.dcm").write_bytes(b"")
    expected["session of DICOM"] = [bids.root / "sub-s26" / "ses-x", "DICOM", "dcm2niix"]
    bids.write(bids.path("extra"), bids.image(500))
    bids.write(bids.path("extra", suffix="T2w"), bids.image(501))
    expected["folder without a row"] = [bids.root / "sub-extra", "without a row", "add a row"]
    rows["gone"] = ["sub-gone", *rows["s00"][1:9], "gone", "3", "60", "61"]
    expected["row without a folder"] = ["participant sub-gone has no", "remove the row"]
    rows["s27"][2] = "17"
    expected["below the range"] = ["'age'", "row sub-s27", "17", "at least 18", "correct"]
    rows["s28"][2] = "431"
    expected["above the range"] = ["'age'", "row sub-s28", "431", "at most 90"]
    rows["s29"][1] = "X"
    expected["unknown level"] = ["'sex'", "row sub-s29", "'X'", "not among the levels"]
    rows["s30"][3] = "many"
    expected["text in a declared number"] = ["'steps'", "row sub-s30", "'many'", "mark it n/a"]
    rows["s31"][10] = "sad"
    expected["text among numbers"] = ["'mood'", "row sub-s31", "'sad'", "kind: categorical"]
    expected["empty column"] = ["'empty'", "every value is missing", "'drop'"]
    expected["constant column"] = ["'constant'", "one value", "'drop'"]
    expected["column of identifiers"] = ["'code'", "distinct values", "'drop'"]
    expected["repeated column name"] = ["participants.tsv", "repeated: pulse", "rename"]
    text = ["\t".join(header), *("\t".join(row) for row in rows.values())]
    text += ["\t".join(rows["s32"])]
    expected["same row twice"] = ["repeated: sub-s32", "lines 34, 51", "the same values", "keep one row"]
    text += ["\t".join(["s33", "F", *rows["s33"][2:]])]
    expected["same participant without prefix"] = ["repeated: sub-s33", "other values"]
    text += ["\t".join(["n/a", *rows["s33"][1:]])]
    expected["missing participant_id"] = ["participants.tsv, line 53", "no participant_id", "give it one"]
    text[text.index("\t".join(rows["s34"]))] += "\t99"
    expected["ragged row"] = ["participants.tsv, line 36", "14 fields, expected 13", "separators"]
    content = ("\n".join(text) + "\n").encode()
    bids.table.write_bytes(content.replace(b"sub-s35\tM", b"sub-s35\t\xe9"))
    expected["encoding"] = ["participants.tsv, line 37", "UTF-8"]
    expected["level in another encoding"] = ["'sex'", "row sub-s35", "'é'"]
    bids.table.with_suffix(".json").write_text("{")
    expected["damaged sidecar"] = ["participants.json", "cannot be read as JSON", "correct or remove"]
    return expected


def unmatched(expected, lines):
    return [
        defect
        for defect, words in expected.items()
        if sum(all(str(word) in line for word in words) for line in lines) != 1
    ]


def test_every_defect_is_named_once_in_one_pass(bids):
    expected = plant(bids)
    found = bids.problems(suffix=["T1w", "T2w"], schema=SCHEMA)
    assert unmatched(expected, found) == []
    assert len(found) == len(expected) >= 40, found


def test_formula_that_does_not_fit_its_columns(bids):
    bids.rows(
        "participant_id\theight\tweight\tbmi",
        "sub-1\t170\t70\t24.2",
        "sub-2\t180\t80\t24.7",
        "sub-3\t160\t60\t32.4",
        "sub-4\t165\t66\t24.4",
    )
    schema = {"bmi": SCHEMA["bmi"]} | {name: {"kind": "continuous"} for name in ("height", "weight")}
    (problem,) = bids.problems(schema=schema)
    for word in ("'bmi'", "1 of 4 rows", "sub-3: 32.4 for 23.4", "correct the values"):
        assert word in problem
    metres = schema | {"bmi": {"kind": "continuous", "formula": "weight / height ** 2"}}
    assert "4 of 4 rows" in bids.problems(schema=metres)[0]


def test_what_is_suspicious_but_usable_is_a_warning(bids):
    """Sides, scales and headers without an orientation are told, and the cohort is read all the same."""
    flipped = np.diag([-4.0, 4, 4, 1])
    flipped[0, 3] = 20
    bids.write(bids.path(2), bids.image(2)[::-1].copy(), flipped)
    bids.write(bids.path(3), bids.image(3) * 1000)
    warnings = bids.load().warnings
    assert len(warnings) == 2
    for words in (
        [bids.path(2), "stored as LAS", "most volumes as RAS", "mirrored", "montage"],
        [bids.path(3), "100 times", "scaling"],
    ):
        assert sum(all(str(word) in text for word in words) for text in warnings) == 1, warnings
    bids.path(4).unlink()
    error = bids.error()
    assert len(error.problems) == 1
    assert [note[:150] for note in error.__notes__] == [warning[:150] for warning in warnings]


def test_guessed_orientation_and_implausible_spacing_are_warnings(bids):
    for i in range(1, 5):
        bids.patch(bids.path(i), 252, np.array([0, 0], "<i2").tobytes())
    (guess,) = bids.load().warnings
    assert "no orientation" in guess
    assert str(bids.path(4)) in guess
    for i in range(1, 5):
        bids.write(bids.path(i), bids.image(i), np.diag([0.004, 0.004, 0.004, 1]))
    assert sum("unit of the header" in text for text in bids.load().warnings) == 4


def test_identical_sessions_of_a_subject_are_a_warning(bids):
    for session in ("ses-a", "ses-b"):
        bids.write(bids.path(9, session), bids.image(9))
    bids.rows(*bids.table.read_text().splitlines(), "sub-9\tF\t50")
    (warning,) = bids.load().warnings
    assert "same subject" in warning
    assert str(bids.path(9, "ses-b")) in warning


@pytest.mark.parametrize("as_json", [False, True])
def test_validate_prints_it_all(bids, as_json):
    """A line each and a summary; status 2."""
    bids.write(bids.path(2), np.zeros((6, 5, 4), np.float32))
    bids.path(3).write_bytes(b"nothing")
    bids.write(bids.path(4), bids.image(4) * 1e4)
    command = ["cohort", "validate", str(bids.root), *["--json"] * as_json]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, UsageError)
    assert "problems found: 2; warnings: 1" in str(done.exception)
    if as_json:
        found = json.loads(done.stdout)
        assert (len(found["problems"]), len(found["warnings"])) == (2, 1)
    else:
        lines = done.stdout.splitlines()
        assert len(lines) == 3
        assert lines[0].startswith("warning: ")


def test_validate_names_who_was_left_out(bids):
    bids.path(2).unlink()
    command = ["cohort", "validate", str(bids.root), "--set", "incomplete=leave-out"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0
    assert "left out: sub-2: " in done.stdout
    assert "3 records, 1 left out" in done.stdout
