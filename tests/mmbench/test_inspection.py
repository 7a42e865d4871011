"""The card of a cohort."""

import dataclasses
import io
import json
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

from mmbench.cli import app
from mmbench.cohort import Cohort, Geometry, Volumes, save_cohort
from mmbench.inspection import PERCENTILES, describe
from mmbench.printing import print_card
from mmbench.schema import Column, Schema
from mmbench.volume_file import VolumeFile

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
    assert data["geometry"]["field_of_view"] == [20, 24, 30]
    assert data["geometry"]["orientation"] == "RAS"
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
    # Identifiers take some bytes each, a volume 3840.
    assert peak(200) < peak(4) + 400 * 200


def test_how_often_persons_were_scanned(cohort):
    assert describe(cohort).scans == {1: 2, 2: 1}


def test_what_volumes_were_divided_by(cohort):
    assert describe(cohort).channels[0].divisors == {}
    scales = np.array([[1.0, 10], [2, 20], [3, 30], [6, 60]])
    volumes = Volumes(Drawn(4), GEOMETRY, scales=scales)
    card = describe(dataclasses.replace(cohort, volumes=volumes.take([0, 1, 3]).take([0, 1, 2, 0])))
    assert card.channels[0].divisors == {"minimum": 1, "median": 1.5, "maximum": 6}
    assert card.channels[1].divisors == {"minimum": 10, "median": 15, "maximum": 60}


def test_who_was_left_out_and_what_is_suspicious(cohort):
    told = dataclasses.replace(cohort, left_out={"e": "no volume"}, warnings=("odd",))
    card = describe(told)
    assert (card.left_out, card.warnings) == ({"e": "no volume"}, ("odd",))
    assert card.fingerprint == cohort.fingerprint()
    assert "e: no volume" in printed(card)
    assert "odd" in printed(card)


def test_the_printed_card_names_what_there_is(cohort):
    text = printed(describe(cohort))
    for words in (
        "made: 4 records of 3 subjects, 1 of them with 2",
        "age continuous years 25.0% 30 to 50, median 40",
        "grade ordinal 25.0% 0: 1, 1: 0, 2: 2",
        "10 x 8 x 6 voxels of 2 x 3 x 5 mm, field of view 20 x 24 x 30 mm, axes RAS",
        "at the scan",
        "known composition: column kind values fat_l truth 1 to 6, median 2.5",
    ):
        assert words in text


def test_markup_in_a_cohort_is_text(cohort):
    schema = Schema((dataclasses.replace(SCHEMA["age"], description="[red]not red[/red]"), SCHEMA["grade"]))
    assert "[red]not red[/red]" in printed(describe(dataclasses.replace(cohort, schema=schema)))


def printed(card):
    console = Console(file=io.StringIO(), width=200)
    print_card(console, card)
    return " ".join(console.file.getvalue().split())


def test_inspecting_a_saved_cohort_reads_each_volume_once(cohort, tmp_path, monkeypatch):
    """The volumes of a saved cohort are checked, hashed and described in one pass, before the montage."""
    save_cohort(cohort, tmp_path / "saved")
    reads = []
    real = VolumeFile.__getitem__
    monkeypatch.setattr(
        VolumeFile, "__getitem__", lambda file, index: reads.append(index) or real(file, index)
    )
    done = CliRunner().invoke(app, ["cohort", "inspect", str(tmp_path / "saved"), "--json"])
    assert json.loads(done.stdout)["fingerprint"] == cohort.fingerprint()
    assert reads == [0, 1, 2, 3]


def test_inspecting_refuses_a_changed_or_bad_saved_cohort(cohort, tmp_path):
    folder = save_cohort(cohort, tmp_path / "saved")
    voxels = np.load(folder / "volumes.npy", mmap_mode="r+")
    voxels[1, 0, 3, 3, 3] += 1
    voxels.flush()
    done = CliRunner().invoke(app, ["cohort", "inspect", str(folder)])
    assert "fingerprint" in str(done.exception)
    voxels[2, 1, 3, 3, 3] = np.nan
    voxels.flush()
    done = CliRunner().invoke(app, ["cohort", "inspect", str(folder)])
    assert "record c, channel 'fat': 1 of 480 voxels are NaN" in str(done.exception)
