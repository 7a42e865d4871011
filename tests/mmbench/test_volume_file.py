import resource

import numpy as np
import pytest

from mmbench.errors import CohortError
from mmbench.volume_file import VolumeFile

SHAPE = (5, 2, 4, 3, 2)


@pytest.fixture
def file(tmp_path):
    return VolumeFile.create(tmp_path / "volumes.npy", SHAPE)


def volume(seed):
    return np.random.default_rng(seed).random(SHAPE[1:], np.float32)


def test_gives_back_what_was_written_in_any_order(file):
    for index in (3, 0, 4):
        file.write(index, volume(index))
    again = VolumeFile.open(file.path)
    assert len(again) == 5
    for index in (0, 3, 4):
        np.testing.assert_array_equal(again[index], volume(index))
    assert not again[1].any()


def test_numpy_reads_the_file(file):
    file.write(2, volume(2))
    np.testing.assert_array_equal(np.load(file.path, allow_pickle=False)[2], volume(2))


def test_reads_what_numpy_wrote(tmp_path):
    array = np.stack([volume(seed) for seed in range(5)])
    np.save(tmp_path / "array.npy", array)
    np.testing.assert_array_equal(VolumeFile.open(tmp_path / "array.npy")[4], array[4])


@pytest.mark.parametrize("index", [-1, 5])
def test_there_is_nothing_beyond_the_ends(file, index):
    with pytest.raises(IndexError):
        file[index]
    with pytest.raises(IndexError):
        file.write(index, volume(0))


def test_another_shape_is_refused(file):
    with pytest.raises(ValueError, match="expected"):
        file.write(0, np.zeros((1, 4, 3, 2)))


def test_a_second_name_holds_the_same_voxels_when_the_first_is_gone(file, tmp_path):
    file.write(1, volume(1))
    file.place_at(tmp_path / "other.npy")
    file.path.unlink()
    np.testing.assert_array_equal(VolumeFile.open(tmp_path / "other.npy")[1], volume(1))


def test_memory_does_not_grow_with_the_file(tmp_path):
    large = VolumeFile.create(tmp_path / "large.npy", (64, 1, 128, 128, 64))  # 256 MiB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for index in range(len(large)):
        large.write(index, large[index] + np.float32(1))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 64 * 2**20


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-4]), "cut short"),
        (lambda path: path.write_bytes(b"no array"), "cannot be read"),
        (lambda path: np.save(path, np.zeros((2, 2), np.float64)), "float64"),
        (lambda path: np.save(path, np.array([{}], dtype=object), allow_pickle=True), "object"),
    ],
)
def test_a_spoilt_file_is_refused(file, spoil, message):
    spoil(file.path)
    with pytest.raises(CohortError, match=message):
        VolumeFile.open(file.path)
