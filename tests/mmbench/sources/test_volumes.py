"""Volumes from files: decoded once, cached by content, scaled and scaled back, brought to one grid."""

import gzip
import multiprocessing
import shutil

import nibabel
import numpy as np
import pytest

from mmbench.cohort import load_cohort, save_cohort
from mmbench.volume_file import VolumeFile


@pytest.fixture
def decoded(monkeypatch):
    """Count the volumes that nibabel decodes."""
    count = []
    real = nibabel.arrayproxy.ArrayProxy.__array__

    def counted(self, *args, **kwargs):
        count.append(self.file_like)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(nibabel.arrayproxy.ArrayProxy, "__array__", counted)
    return count


class TestCache:
    def test_a_load_decodes_each_file_once(self, bids, decoded):
        cohort = bids.load()
        cohort.images.stack()
        cohort.fingerprint()
        assert len(decoded) == 4
        assert isinstance(cohort.images.store, VolumeFile)

    def test_unchanged_files_are_not_decoded_again(self, bids, decoded, tmp_path):
        first = bids.load(cache=tmp_path / "cache")
        again = bids.load(cache=tmp_path / "cache")
        assert len(decoded) == 4
        assert again.fingerprint() == first.fingerprint() == bids.load().fingerprint()
        np.testing.assert_array_equal(again.images.scales, first.images.scales)

    def test_only_changed_content_is_decoded(self, bids, decoded, tmp_path):
        bids.load(cache=tmp_path / "cache")
        content = gzip.decompress(bids.path(1).read_bytes())
        bids.path(1).write_bytes(gzip.compress(content, 1))
        bids.path(2).touch()
        bids.write(bids.path(3), bids.image(30))
        cohort = bids.load(cache=tmp_path / "cache", normalise="none")
        assert len(decoded) == 8, "another normalisation needs all volumes"
        cohort = bids.load(cache=tmp_path / "cache")
        assert len(decoded) == 10, "two files have other bytes"
        np.testing.assert_allclose(cohort.images.original(2)[0], bids.image(30), rtol=1e-6)

    def test_another_grid_makes_other_entries(self, bids, tmp_path):
        for values in (
            {},
            {"spacing": [5, 5, 5]},
            {"shape": [4, 4, 4]},
            {"shape": [4, 4, 4], "align": "centre"},
        ):
            assert (
                bids.load(cache=tmp_path / "cache", **values).fingerprint()
                == bids.load(**values).fingerprint()
            )
        assert len(list((tmp_path / "cache").rglob("*.volume"))) == 16

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda data: data[:-5],
            lambda data: data[:50],
            lambda data: b"",
            lambda data: data[:-5] + bytes([data[-5] ^ 1]) + data[-4:],
            lambda data: data.replace(b'"levels": [', b'"levels": [1'),
            lambda data: data.replace(b'"shape": [1, 6, 5, 4]', b'"shape": [1, 5, 6, 4]'),
            lambda data: bytes(len(data)),
        ],
    )
    def test_damaged_entries_are_made_anew(self, bids, decoded, tmp_path, spoil):
        first = bids.load(cache=tmp_path / "cache")
        for entry in (tmp_path / "cache").rglob("*.volume"):
            entry.write_bytes(spoil(entry.read_bytes()))
        again = bids.load(cache=tmp_path / "cache")
        assert len(decoded) == 8
        assert again.fingerprint() == first.fingerprint()
        np.testing.assert_array_equal(again.images.scales, first.images.scales)
        bids.load(cache=tmp_path / "cache")
        assert len(decoded) == 8

    def test_several_runs_may_share_a_cache(self, bids, tmp_path):
        methods = multiprocessing.get_context("fork")
        processes = [
            methods.Process(target=bids.load, kwargs={"cache": tmp_path / "cache"}) for _ in range(3)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0, 0, 0]
        files = [file.name for file in (tmp_path / "cache").rglob("*") if file.is_file()]
        assert len(files) == 4
        assert all(name.endswith(".volume") for name in files)

    def test_cache_that_cannot_be_written(self, bids, tmp_path):
        (tmp_path / "file").write_text("")
        assert "cache" in bids.problems(cache=tmp_path / "file")[0]

    def test_no_room_in_the_scratch_folder(self, bids, monkeypatch):
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(9, 9, 100))
        (problem,) = bids.problems()
        assert "scratch space" in problem
        assert "TMPDIR" in problem

    def test_a_saved_cohort_shares_the_scratch_file(self, bids, tmp_path):
        cohort = bids.load()
        folder = save_cohort(cohort, bids.context.folder / "saved")
        assert (folder / "volumes.npy").stat().st_ino == cohort.images.store.path.stat().st_ino


class TestScales:
    @pytest.mark.parametrize("rule", ["percentile", "shared-percentile", "none"])
    def test_the_scanners_intensities_come_back(self, bids, tmp_path, rule):
        for i in range(1, 5):
            bids.write(bids.path(i, suffix="T2w"), bids.image(i + 10) * 7)
        cohort = bids.load(suffix=["T1w", "T2w"], normalise=rule)
        saved = load_cohort(save_cohort(cohort, tmp_path / "saved"))
        part = saved.take([2, 0])
        for volumes, index, subject in ((cohort.images, 3, 4), (saved.images, 1, 2), (part.images, 0, 3)):
            found = volumes.original(index)
            np.testing.assert_allclose(found[0], bids.image(subject), rtol=1e-6)
            np.testing.assert_allclose(found[1], bids.image(subject + 10) * 7, rtol=1e-6)
        if rule == "none":
            assert saved.images.scales is None
        else:
            expected = [np.percentile(bids.image(i), 99) for i in range(1, 5)]
            if rule == "shared-percentile":
                stacked = [np.stack([bids.image(i), bids.image(i + 10) * 7]) for i in range(1, 5)]
                expected = [np.percentile(both, 99) for both in stacked]
            np.testing.assert_allclose(cohort.images.divisors[:, 0], expected, rtol=1e-6)
            np.testing.assert_array_equal(part.images.divisors, cohort.images.divisors[[2, 0]])

    def test_scales_are_no_part_of_the_fingerprint(self, bids):
        cohort = bids.load(normalise="none")
        plain = cohort.fingerprint()
        object.__setattr__(cohort.volumes, "scales", np.full((4, 1), 3.0))
        assert cohort.fingerprint() == plain

    @pytest.mark.parametrize("scales", [[[0.0]] * 4, [[1.0]] * 3, "nothing"])
    def test_damaged_scales(self, bids, tmp_path, scales):
        from mmbench.api import CohortError
        from mmbench.files import read_json, write_json

        folder = save_cohort(bids.load(), tmp_path / "saved")
        write_json(folder / "cohort.json", read_json(folder / "cohort.json") | {"scales": scales})
        with pytest.raises(CohortError, match=r"cohort\.json.*cannot be read"):
            load_cohort(folder)


class TestGrids:
    def test_many_on_one_other_grid_are_one_line(self, bids):
        lines = bids.table.read_text().splitlines()
        for i in range(5, 45):
            bids.write(bids.path(i), bids.image(i, (6, 5, 5) if i > 20 else (6, 5, 4)))
            lines.append(f"sub-{i}\tF\t{i}")
        bids.rows(*lines)
        (problem,) = bids.problems()
        for word in ("20 of 44 volumes", "sub-20_T1w", "(6, 5, 4), expected (6, 5, 5)", "'spacing'"):
            assert word in problem

    def test_many_other_grids_are_summed_up(self, bids):
        lines = bids.table.read_text().splitlines()
        for i in range(5, 15):
            bids.write(bids.path(i), bids.image(i, (6, 5, i)))
            lines.append(f"sub-{i}\tF\t{i}")
        bids.rows(*lines)
        (problem,) = bids.problems()
        for word in (
            "10 other grids in 10 of 14 volumes",
            "(6, 5, 5) at 4 x 4 x 4 mm",
            "5 more",
            "'spacing'",
        ):
            assert word in problem

    def test_tables_at_other_heights_are_aligned_by_their_middles(self, bids):
        for i in range(2, 5):
            moved = bids.affine.copy()
            moved[:3, 3] = [0, 3 * i, -100 * i]
            bids.write(bids.path(i), bids.image(i), moved)
        assert len(bids.problems()) == 1
        images = bids.load(align="centre", normalise="none").images
        for i in range(1, 5):
            np.testing.assert_allclose(images[i - 1][0], bids.image(i), rtol=1e-6)

    @staticmethod
    def ball(affine, shape, centre, radius):
        grid = np.stack(np.meshgrid(*map(np.arange, shape), [1], indexing="ij"))[..., 0].reshape(4, -1)
        place = (affine @ grid)[:3] - np.array(centre)[:, None]
        inside = 1 / (1 + np.exp(np.linalg.norm(place, axis=0) - radius))
        return (100 * inside.reshape(shape)).astype(np.float32)

    def test_oblique_volumes_come_to_lie_where_their_affines_say(self, bids):
        """A ball in space stays where it is, in its size, whatever the grid that sampled it."""
        centre, radius = (30.0, 40.0, 35.0), 18.0
        turned = {}
        for i, angle in enumerate((0, 20, -35, 70), start=1):
            c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
            matrix = np.eye(4)
            matrix[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.diag([2.0, 3.0, 2.5])
            matrix[:3, 3] = np.array(centre) - matrix[:3, :3] @ (np.array([40, 30, 30]) / 2)
            turned[i] = matrix
            bids.write(bids.path(i), self.ball(matrix, (41, 31, 31), centre, radius + i / 10), matrix)
        images = bids.load(spacing=[2, 2, 2], normalise="none").images
        places = images.geometry.matrix
        for i, volume in enumerate(images, start=1):
            inside = np.argwhere(volume[0] > 50)
            middle = places[:3, :3] @ inside.mean(axis=0) + places[:3, 3]
            np.testing.assert_allclose(middle, centre, atol=0.3)
            litres = len(inside) * images.geometry.voxel_litres
            assert litres == pytest.approx(4 / 3 * np.pi * (radius + i / 10) ** 3 * 1e-6, rel=0.04)

    def test_the_common_grid_covers_an_oblique_volume(self, bids):
        c, s = np.cos(0.5), np.sin(0.5)
        turn = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) @ bids.affine
        for i in range(1, 5):
            bids.write(bids.path(i), bids.image(i), turn)
        cohort = bids.load(spacing=[4, 4, 4])
        assert cohort.images.geometry.shape == (8, 8, 4)
        assert cohort.images.geometry.obliqueness == 0
        assert bids.load().images.geometry.obliqueness == pytest.approx(np.degrees(0.5), abs=1e-3)

    def test_what_the_common_grid_cuts_off_is_told(self, bids):
        (warning,) = bids.load(shape=[3, 5, 4]).warnings
        assert "outside the common grid" in warning
        assert str(bids.path(4)) in warning


class TestChannelsInOneFile:
    def test_the_last_dimension_holds_the_channels(self, bids):
        for i in range(1, 5):
            both = np.stack([bids.image(i), bids.image(i + 10)], axis=-1)
            bids.write(bids.path(i), both if i < 4 else both[..., None, :])
        cohort = bids.load(channels=["water", "fat"], normalise="none")
        assert cohort.images.geometry.channels == ("water", "fat")
        for i, volume in enumerate(cohort.images, start=1):
            np.testing.assert_allclose(volume, [bids.image(i), bids.image(i + 10)], rtol=1e-6)

    def test_another_number_of_channels(self, bids):
        for i in range(1, 5):
            bids.write(bids.path(i), bids.image(i, (6, 5, 4, 2 if i < 3 else 3)))
        first, second = bids.problems(channels=["water", "fat"])
        assert "(6, 5, 4, 3)" in first
        assert str(bids.path(4)) in second

    def test_a_bad_channel_is_named(self, bids):
        for i in range(1, 5):
            both = np.stack([bids.image(i), bids.image(i + 10) * (i != 3)], axis=-1)
            bids.write(bids.path(i), both)
        (problem,) = bids.problems(channels=["water", "fat"])
        assert f"{bids.path(3)}, channel 'fat': every voxel is 0" in problem
