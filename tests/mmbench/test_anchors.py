"""A destroyed reference loses what it should lose, and nothing else."""

import numpy as np
import pytest

from mmbench.anchors import destroyed
from mmbench.api import Evidence
from mmbench.testing import toy_trial


@pytest.fixture(scope="module")
def trial():
    return toy_trial(60)


def destroy(trial, null, seed=0):
    return destroyed(null, trial.train, trial.reference, seed, Evidence)


def sorted_values(table, name):
    return sorted(map(str, table[name]))


def test_pairs_keep_both_margins_and_lose_the_link(trial):
    bad = destroy(trial, "pairs")
    real = trial.reference
    assert bad.cohort.table.equals(real.cohort.table)
    assert sorted(bad.composition["size"]) == sorted(real.composition["size"])

    def link(side):
        return np.corrcoef(side.composition["size"], side.cohort.rows["bmi"])[0, 1]

    assert link(real) > 0.9
    assert abs(link(bad)) < 0.4
    # Volumes, features and composition move together.
    for i in (0, 17):
        assert bad.cohort.images[i].sum() == pytest.approx(bad.composition["size"].iloc[i], rel=1e-4)


def test_columns_keep_each_column_and_lose_what_is_between(trial):
    bad = destroy(trial, "columns")
    real = trial.reference.cohort.rows
    for name in real:
        assert sorted_values(bad.cohort.rows, name) == sorted_values(real, name)
    assert abs(np.corrcoef(bad.cohort.rows["weight_kg"], bad.cohort.rows["bmi"])[0, 1]) < 0.4


def test_uniform_columns_stay_in_range_and_lose_their_shape(trial):
    bad = destroy(trial, "uniform").cohort
    real = trial.reference.cohort.rows
    for column in bad.schema:
        if column.kind == "continuous":
            assert bad.rows[column.name].between(real[column.name].min(), real[column.name].max()).all()
    assert not bad.rows["bmi"].equals(real["bmi"])


def test_noise_keeps_voxel_means_and_loses_anatomy(trial):
    bad = destroy(trial, "noise")
    real, noise = trial.train.cohort.images.stack(), bad.cohort.images.stack()
    assert np.corrcoef(real.mean(axis=0).ravel(), noise.mean(axis=0).ravel())[0, 1] > 0.98
    size = noise.sum(axis=(1, 2, 3, 4))
    assert size.std() < 0.5 * real.sum(axis=(1, 2, 3, 4)).std()
    assert np.array_equal(bad.cohort.images[3], bad.cohort.images[3])


def test_copies_are_training_records(trial):
    bad = destroy(trial, "copies")
    known = {volume.tobytes() for volume in trial.train.cohort.images}
    assert all(volume.tobytes() in known for volume in bad.cohort.images)
    assert len(bad) == len(trial.reference)


@pytest.mark.parametrize("null", ["pairs", "columns", "uniform", "copies"])
def test_destruction_is_seeded(trial, null):
    first, same, other = (destroy(trial, null, seed).cohort for seed in (1, 1, 2))
    assert first.fingerprint() == same.fingerprint()
    assert first.fingerprint() != other.fingerprint()
