"""Cohort: taking records, saving and loading, the fingerprint, and the split by subject."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbench.cohort import Cohort, Geometry, Volumes, load_cohort, save_cohort, split_cohort
from mmbench.errors import CohortError
from mmbench.schema import Column, Schema

GEOMETRY = Geometry.regular((4, 3, 2), (2.0, 3.0, 5.0), ("water", "fat"), origin=(-4, 0, 7))
SCHEMA = Schema(
    (
        Column("age", "continuous", "years", missing=True),
        Column("sex", "categorical", levels=("F", "M")),
        Column("grade", "ordinal", levels=(0, 0.5, "high"), missing=True),
        Column("smoker", "boolean", missing=True),
    )
)


class CountingStore:
    """Gives volumes one at a time and counts how often it was asked."""

    def __init__(self, voxels):
        self.voxels, self.reads = voxels, 0

    def __len__(self):
        return len(self.voxels)

    def __getitem__(self, index):
        self.reads += 1
        return self.voxels[index]


def make(n=6, subjects=None, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": np.where(np.arange(n) % 4 == 3, np.nan, rng.uniform(20, 80, n)),
            "sex": rng.choice(["F", "M"], n),
            "grade": [[0, 0.5, "high", None][i % 4] for i in range(n)],
            "smoker": [[True, False, None][i % 3] for i in range(n)],
        }
    )
    store = CountingStore(rng.normal(size=(n, *GEOMETRY.full_shape)).astype(np.float32))
    ids = np.array([f"r{i}" for i in range(n)])
    truth = pd.DataFrame({"fat_l": rng.uniform(1, 9, n)})
    return Cohort("made", SCHEMA, ids, SCHEMA.coerce(frame), Volumes(store, GEOMETRY), subjects, truth)


class TestGeometry:
    def test_quantities(self):
        assert GEOMETRY.spacing == (2, 3, 5)
        assert GEOMETRY.voxel_litres == pytest.approx(30e-6)
        assert GEOMETRY.full_shape == (2, 4, 3, 2)
        assert GEOMETRY.matrix[:3, 3].tolist() == [-4, 0, 7]

    def test_on_disk(self):
        assert Geometry.from_dict(json.loads(json.dumps(GEOMETRY.to_dict()))) == GEOMETRY


class TestVolumes:
    def test_read_only_when_asked_for(self):
        cohort = make()
        part = cohort.images.take([4, 1])
        assert cohort.images.store.reads == 0
        np.testing.assert_array_equal(part[0], cohort.images[4])
        assert cohort.images.store.reads == 2

    def test_batches_are_in_order(self):
        images = make().images
        batches = list(images.batches(4))
        assert [len(batch) for batch in batches] == [4, 2]
        np.testing.assert_array_equal(np.concatenate(batches), images.stack())

    def test_take_of_take(self):
        images = make().images
        np.testing.assert_array_equal(images.take([5, 3, 1]).take([2, 0]).stack(), images.stack()[[1, 5]])

    @pytest.mark.parametrize("index", [-1, 6])
    def test_outside(self, index):
        with pytest.raises(IndexError):
            make().images[index]

    def test_none(self):
        assert make().images.take([]).stack().shape == (0, *GEOMETRY.full_shape)


class TestTake:
    @settings(deadline=None)
    @given(indices=st.lists(st.integers(0, 5), max_size=12))
    def test_records_stay_together(self, indices):
        cohort = make(subjects=np.array(["p", "p", "q", "q", "r", "s"]))
        taken = cohort.take(indices)
        assert len(taken) == len(indices) == len(set(taken.ids))
        assert taken.people.tolist() == cohort.people[indices].tolist()
        assert taken.rows.index.tolist() == taken.ids.tolist()
        np.testing.assert_array_equal(SCHEMA.codes(taken.rows), SCHEMA.codes(cohort.rows)[indices])
        np.testing.assert_array_equal(taken.images.stack(), cohort.images.stack()[indices])
        np.testing.assert_array_equal(taken.truth["fat_l"], cohort.truth["fat_l"].to_numpy()[indices])

    def test_identifiers_stay_unless_repeated(self):
        assert make().take([2, 0]).ids.tolist() == ["r2", "r0"]


class TestChecks:
    def test_repeated_identifiers(self):
        with pytest.raises(CohortError, match="repeated: a"):
            Cohort("x", SCHEMA, np.array(["a", "a"]))

    def test_parts_of_another_length(self):
        cohort = make()
        with pytest.raises(CohortError, match="table has 6 records, expected 2"):
            Cohort("x", SCHEMA, np.array(["a", "b"]), cohort.rows)
        with pytest.raises(CohortError, match="volumes has 6 records, expected 2"):
            Cohort("x", SCHEMA, np.array(["a", "b"]), volumes=cohort.images)

    def test_absent_parts(self):
        cohort = make()
        rows, volumes = dataclasses.replace(cohort, volumes=None), dataclasses.replace(cohort, table=None)
        assert (rows.modalities, volumes.modalities) == ({"table"}, {"volume"})
        with pytest.raises(CohortError, match="no volumes"):
            _ = rows.images
        with pytest.raises(CohortError, match="no table"):
            _ = volumes.rows


class TestSave:
    @pytest.mark.parametrize("parts", [("table", "volumes"), ("table",), ("volumes",)])
    def test_round_trip(self, tmp_path, parts):
        cohort = make(subjects=np.array(["p", "p", "q", "q", "r", "s"]))
        cohort = dataclasses.replace(cohort, **dict.fromkeys({"table", "volumes"} - set(parts)))
        found = load_cohort(save_cohort(cohort, tmp_path / "saved"))
        assert (found.name, found.schema, found.modalities) == (cohort.name, cohort.schema, cohort.modalities)
        assert found.ids.tolist() == cohort.ids.tolist()
        assert found.people.tolist() == cohort.people.tolist()
        assert found.fingerprint() == cohort.fingerprint()
        pd.testing.assert_frame_equal(found.truth, cohort.truth, check_names=False)
        if cohort.table is not None:
            pd.testing.assert_frame_equal(found.rows, cohort.rows)
        if cohort.volumes is not None:
            np.testing.assert_array_equal(found.images.stack(), cohort.images.stack())

    def test_volumes_are_read_once(self, tmp_path):
        cohort = make()
        save_cohort(cohort, tmp_path / "saved")
        assert cohort.images.store.reads == len(cohort)

    def test_fingerprint_is_recorded(self, tmp_path):
        folder = save_cohort(make(), tmp_path / "saved")
        assert json.loads((folder / "cohort.json").read_text())["fingerprint"] == make().fingerprint()

    def test_nothing_is_overwritten(self, tmp_path):
        folder = save_cohort(make(), tmp_path / "saved")
        with pytest.raises(FileExistsError):
            save_cohort(make(seed=1), folder)

    def test_failure_leaves_nothing(self, tmp_path):
        cohort = make()
        broken = CountingStore([np.zeros((1, 1, 1, 1), np.float32), np.zeros(7)] * 3)
        with pytest.raises(ValueError, match="a volume of shape"):
            save_cohort(dataclasses.replace(cohort, volumes=Volumes(broken, GEOMETRY)), tmp_path / "saved")
        assert list(tmp_path.iterdir()) == []


class TestFingerprint:
    def test_same_content(self):
        assert make().fingerprint() == make().fingerprint()
        assert make().take(range(6)).fingerprint() == make().fingerprint()

    def test_every_part_counts(self):
        cohort = make()
        voxels = cohort.images.stack()
        voxels[5, 1, 3, 2, 1] += 1e-3
        table = cohort.rows.copy()
        table.loc["r5", "sex"] = "M" if table.loc["r5", "sex"] == "F" else "F"
        unit = Schema((dataclasses.replace(SCHEMA["age"], unit="months"), *SCHEMA.columns[1:]))
        shifted = dataclasses.replace(GEOMETRY, channels=("fat", "water"))
        changed = [
            cohort,
            cohort.take([1, 0, 2, 3, 4, 5]),
            cohort.take(range(5)),
            dataclasses.replace(cohort, volumes=Volumes(voxels, GEOMETRY)),
            dataclasses.replace(cohort, volumes=Volumes(cohort.images.store, shifted)),
            dataclasses.replace(cohort, table=table),
            dataclasses.replace(cohort, schema=unit),
            dataclasses.replace(cohort, subjects=np.array(["p", "p", "q", "r", "s", "t"])),
            dataclasses.replace(cohort, volumes=None),
        ]
        assert len({one.fingerprint() for one in changed}) == len(changed)


def people_only(subjects, sex=None):
    n = len(subjects)
    schema = Schema((Column("sex", "categorical", levels=("F", "M")), Column("age", "continuous")))
    frame = pd.DataFrame({"sex": ["F"] * n if sex is None else sex, "age": np.arange(n, dtype=float)})
    ids = np.array([f"r{i}" for i in range(n)])
    return Cohort("people", schema, ids, schema.coerce(frame), subjects=np.asarray(subjects, dtype=str))


class TestSplit:
    @settings(deadline=None)
    @given(
        scans=st.lists(st.integers(1, 3), min_size=20, max_size=60),
        seed=st.integers(0, 2**31),
        shares=st.sampled_from([(0.6, 0.2, 0.2), (0.5, 0.25, 0.25), (0.8, 0.1, 0.1)]),
        stratify=st.sampled_from([(), ("sex",), ("sex", "age")]),
    )
    def test_no_subject_straddles_and_sizes_are_as_asked(self, scans, seed, shares, stratify):
        rng = np.random.default_rng(seed)
        subjects = rng.permutation(np.repeat(np.arange(len(scans)), scans))
        cohort = people_only(subjects, rng.choice(["F", "M"], len(subjects)))
        roles = dict(split_cohort(cohort, seed, shares, stratify).items())
        people = {role: set(cohort.people[indices]) for role, indices in roles.items()}
        assert sum(len(group) for group in people.values()) == len(set.union(*people.values())) == len(scans)
        for share, group in zip(shares, people.values(), strict=True):
            assert abs(len(group) - share * len(scans)) <= 1.5
        assert len(roles["reference"]) == len(people["reference"])
        assert len(roles["floor"]) == len(people["floor"])
        repeats = np.isin(cohort.people, list(people["train"]))
        assert roles["train"].tolist() == np.flatnonzero(repeats).tolist()

    def test_held_out_subjects_give_their_first_record(self):
        cohort = people_only(np.repeat(np.arange(20), 2))
        roles = split_cohort(cohort, 0)
        assert (roles.reference % 2 == 0).all()
        assert (roles.floor % 2 == 0).all()

    def test_seeded(self):
        cohort = people_only(np.arange(50))
        first, again, other = (split_cohort(cohort, seed) for seed in (1, 1, 2))
        assert first.train.tolist() == again.train.tolist()
        assert first.train.tolist() != other.train.tolist()

    @pytest.mark.parametrize("seed", range(5))
    def test_stratified(self, seed):
        sex = np.where(np.arange(200) % 10 == 0, "M", "F")
        cohort = people_only(np.arange(200), sex)
        for _, indices in split_cohort(cohort, seed, stratify=["sex"]).items():
            assert abs((cohort.rows["sex"].iloc[indices] == "M").mean() - 0.1) <= 1 / len(indices)
        for _, indices in split_cohort(cohort, seed, stratify=["age"]).items():
            assert abs((cohort.rows["age"].iloc[indices] > 99.5).mean() - 0.5) <= 1 / len(indices)

    def test_mistakes(self):
        with pytest.raises(CohortError, match="no column 'sec'"):
            split_cohort(people_only(np.arange(50)), 0, stratify=["sec"])
        with pytest.raises(CohortError, match="too few"):
            split_cohort(people_only(np.arange(5)), 0)
        with pytest.raises(CohortError, match="sum to 1"):
            split_cohort(people_only(np.arange(50)), 0, shares=(0.5, 0.2, 0.2))
