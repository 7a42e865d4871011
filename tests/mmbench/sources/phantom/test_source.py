import dataclasses

import numpy as np
import pandas as pd
import psutil
import pytest

from mmbench.api import CohortError, Interrupted
from mmbench.cohort import load_cohort, save_cohort
from mmbench.sources.phantom import PhantomSource
from mmbench.sources.phantom.population import draw_population

SMALL = {"subjects": 10, "shape": (44, 32, 9), "spacing": (10.0, 10.0, 56.0)}
OFF = {"noise": 0.0, "bias_field": 0.0, "slab_steps": 0.0, "breathing": 0.0, "swap": 0.0}


class Context:
    device, seed = "cpu", 0

    def __init__(self, folder, stop_after=None, interrupt_at=None):
        self.folder, self.stop_after, self.interrupt_at = folder, stop_after, interrupt_at

    def steps(self, total, label):
        for step in range(total):
            if step == self.interrupt_at:
                raise Interrupted("stopped")
            if step == self.stop_after:
                return
            yield step

    def log(self, name, value, step):
        raise AssertionError("a source trains nothing")


def make(folder, **parameters):
    return PhantomSource(**{**SMALL, **parameters}).load(Context(folder))


def workers():
    """Processes that this one started, without Python's own keepers of shared resources."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return make(tmp_path_factory.mktemp("phantom"))


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return make(tmp_path_factory.mktemp("clean"), **OFF)


def test_volumes_have_the_declared_grid_and_channels(cohort):
    volume = cohort.images[0]
    assert volume.shape == (2, 44, 32, 9)
    assert volume.dtype == np.float32
    assert np.isfinite(cohort.images.stack()).all()
    assert cohort.images.stack().min() >= 0
    assert cohort.images.geometry.channels == ("water", "fat")
    assert cohort.images.geometry.spacing == pytest.approx((10.0, 10.0, 56.0))
    assert cohort.shareable
    assert cohort.ids[0] == "phantom-00001"


@pytest.mark.parametrize("workers", [1, 2])
def test_same_seed_gives_the_same_bits_whatever_the_workers(cohort, tmp_path, workers):
    again = make(tmp_path, workers=workers)
    assert again.fingerprint() == cohort.fingerprint()
    pd.testing.assert_frame_equal(again.truth, cohort.truth)


def test_another_seed_gives_other_people(cohort, tmp_path):
    assert make(tmp_path, seed=2).fingerprint() != cohort.fingerprint()


def test_subjects_do_not_depend_on_how_many_there_are(cohort, tmp_path):
    fewer = make(tmp_path, subjects=3)
    assert fewer.fingerprint() == cohort.take([0, 1, 2]).fingerprint()


def test_two_cohorts_in_one_folder_keep_their_volumes(tmp_path):
    first = make(tmp_path, subjects=2)
    before = first.fingerprint()
    make(tmp_path, subjects=2, seed=9)
    assert first.fingerprint() == before


def test_volumes_are_linked_not_copied_when_the_cohort_is_saved(tmp_path):
    cohort = make(tmp_path, subjects=2)
    saved = save_cohort(cohort, tmp_path / "saved")
    (scratch,) = tmp_path.glob("*.npy")
    assert scratch.samefile(saved / "volumes.npy")
    scratch.unlink()
    read = load_cohort(saved)
    assert read.fingerprint() == make(tmp_path, subjects=2).fingerprint()
    pd.testing.assert_frame_equal(read.truth, cohort.truth)


def test_truth_adds_up(cohort):
    truth = cohort.truth
    assert (truth.fat_l + truth.lean_l + truth.lung_l <= truth.body_l + 1e-9).all()
    assert (truth.fat_l + truth.lean_l + truth.lung_l > 0.97 * truth.body_l).all()  # the rest is gas
    assert (truth.visceral_fat_l + truth.subcutaneous_fat_l < truth.fat_l).all()
    assert (truth.muscle_l + truth.liver_l < truth.body_l - truth.lung_l).all()
    assert (truth.abdominal_subcutaneous_fat_l <= truth.subcutaneous_fat_l).all()
    assert truth.liver_fat_fraction.between(0, 0.6).all()
    assert (truth.drop(columns="swapped") > 0).all().all()


def test_rendered_volumes_are_the_drawn_ones(tmp_path):
    cohort = PhantomSource(subjects=24).load(Context(tmp_path))
    population = draw_population(24, seed=1)
    pd.testing.assert_frame_equal(cohort.table.reset_index(drop=True), population.table)
    for truth, wanted in (
        ("visceral_fat_l", "visceral_l"),
        ("abdominal_subcutaneous_fat_l", "abdominal_subcutaneous_l"),
        ("trunk_muscle_l", "trunk_muscle_l"),
        ("liver_l", "liver_l"),
    ):
        np.testing.assert_allclose(cohort.truth[truth], population.composition[wanted], rtol=0.02)
    np.testing.assert_allclose(cohort.truth.waist_cm, cohort.rows.waist_cm, rtol=0.01)
    np.testing.assert_array_equal(cohort.truth.liver_fat_fraction, population.composition.liver_fat_fraction)


def test_without_artefacts_air_is_zero_and_fat_in_phase_is_one(clean, tmp_path):
    water, fat = np.moveaxis(clean.images.stack(), 1, 0)
    assert (fat[:, 0, 0] == 0).all()
    assert (water[:, 0, 0] == 0).all()
    in_phase = make(tmp_path, subjects=3, channels=["in"], **OFF).images.stack()
    assert in_phase.max() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("name", OFF)
def test_artefacts_change_the_image_and_not_the_truth(clean, tmp_path, name):
    strength = 1.0 if name == "swap" else getattr(PhantomSource, name)
    spoilt = make(tmp_path, subjects=4, **OFF | {name: strength})
    assert (spoilt.images.stack() != clean.take([0, 1, 2, 3]).images.stack()).any()
    truth = clean.truth.iloc[:4]
    pd.testing.assert_frame_equal(spoilt.truth.drop(columns="swapped"), truth.drop(columns="swapped"))
    assert (spoilt.truth.swapped > 0).all() == (name == "swap")
    pd.testing.assert_frame_equal(spoilt.table, clean.table.iloc[:4])


def test_swaps_are_recorded(clean, tmp_path):
    swapped = make(tmp_path, **OFF | {"swap": 1.0})
    # Nine thick slices belong to four slabs: two or three to each.
    assert set(np.round(9 * swapped.truth.swapped)) <= {2, 3, 9}
    for before, after, share in zip(clean.images, swapped.images, swapped.truth.swapped, strict=True):
        exchanged = (before[::-1] == after).all(axis=(0, 1, 2))
        assert exchanged.mean() == share


def test_any_channels_in_any_order(clean, tmp_path):
    several = make(tmp_path, subjects=2, channels=["t1", "opposed", "fat"], **OFF)
    assert several.images.geometry.channels == ("t1", "opposed", "fat")
    assert several.images[1].shape == (3, 44, 32, 9)
    np.testing.assert_array_equal(several.images[1][2], clean.images[1][1])


def test_the_protocol_follows_the_preset(tmp_path):
    uk, same, other = (
        make(tmp_path, subjects=2, preset="ukb", protocol=protocol, **OFF).images.stack()
        for protocol in ("auto", "ukb", "nako")
    )
    np.testing.assert_array_equal(uk, same)
    assert (uk != other).any()


def test_a_voxel_size_replaces_the_grid(tmp_path):
    source = PhantomSource(subjects=1, voxel=8.0)
    geometry = source.load(Context(tmp_path)).images.geometry
    assert geometry.shape == (56, 44, 40)
    assert geometry.spacing == pytest.approx((8.0, 8.0, 12.0))


def test_ethnic_groups_can_be_chosen(tmp_path):
    table = make(tmp_path, ethnicities={"East Asian": 1.0}).table
    assert set(table.ethnicity) == {"East Asian"}


def test_composition_shows_in_the_volume(tmp_path):
    cohort = make(tmp_path, subjects=40, bias_field=0.05, swap=0.0)
    fat = np.array([volume[1].sum() for volume in cohort.images])
    assert np.corrcoef(fat, cohort.truth.fat_l)[0, 1] > 0.95
    assert np.corrcoef(fat, cohort.rows.bmi)[0, 1] > 0.7
    waists = np.corrcoef(cohort.truth.waist_cm, cohort.rows.waist_cm)[0, 1]
    assert waists > 0.9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": (80, 64)}, "three numbers"),
        ({"shape": (80, 64, 2)}, "at least 4"),
        ({"spacing": (5.5, 0.0, 32.0)}, "positive"),
        ({"spacing": (2.0, 2.0, 20.0)}, "cuts the torso"),
        ({"voxel": 4.0}, "give voxel, or both"),
        ({"channels": ["water", "fats"]}, "Did you mean 'fat'"),
        ({"channels": ["fat", "fat"]}, "each name once"),
        ({"channels": []}, "at least one"),
        ({"ethnicities": {"Martian": 1.0}}, "Martian"),
        ({"subjects": 10**9}, "GiB left"),
    ],
)
def test_what_cannot_be_made_is_refused(change, message, tmp_path):
    with pytest.raises(CohortError, match=message):
        make(tmp_path, **change)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("processes", [1, 2])
def test_a_spent_time_budget_is_an_error(tmp_path, processes):
    source = PhantomSource(**SMALL, workers=processes)
    with pytest.raises(CohortError, match="after 2 of 10 subjects"):
        source.load(Context(tmp_path, stop_after=2))
    assert workers() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("processes", [1, 2])
def test_an_interruption_passes_through(tmp_path, processes):
    source = PhantomSource(**SMALL, workers=processes)
    with pytest.raises(Interrupted):
        source.load(Context(tmp_path, interrupt_at=1))
    assert workers() == []
    assert list(tmp_path.iterdir()) == []


def test_every_parameter_is_documented():
    assert all(field.metadata["doc"] for field in dataclasses.fields(PhantomSource))


def test_cohort_make_takes_the_options_of_the_phantom(mmbench, tmp_path):
    options = ["--subjects", "2", "--preset", "ukb", "--voxel", "16", "--seed", "5", "--set", "channels=[t1]"]
    made = mmbench("cohort", "make", *options, "--out", "deep/made")
    assert made.returncode == 0, made.stderr
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["made"]
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    cohort = load_cohort(tmp_path / "deep" / "made")
    assert cohort.images.geometry.channels == ("t1",)
    assert cohort.images.geometry.spacing == pytest.approx((16, 16, 24))
    pd.testing.assert_frame_equal(
        cohort.table.reset_index(drop=True), draw_population(2, seed=5, preset="ukb").table
    )
    refused = mmbench("cohort", "make", "--preset", "nakoo", "--out", "other")
    assert refused.returncode == 2
    assert "Did you mean 'nako'" in refused.stderr
