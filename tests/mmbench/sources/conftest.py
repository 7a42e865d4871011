"""A small BIDS dataset that tests may spoil, and a context for loads."""

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest

from mmbench import plugins
from mmbench.api import CohortError

SHAPE = (6, 5, 4)


class Quiet:
    """The context of a load that shows nothing."""

    device, seed = "cpu", 0

    def __init__(self, folder):
        self.folder = folder

    def steps(self, total, label):
        return iter(range(total))

    def log(self, name, value, step):
        pass


class Dataset:
    """A BIDS folder at ``root``; subjects are named by a number or a word."""

    affine = np.diag([4.0, 4.0, 4.0, 1.0])

    def __init__(self, root, context):
        self.root, self.context = root, context

    @property
    def table(self):
        return self.root / "participants.tsv"

    def image(self, seed, shape=SHAPE):
        return np.random.default_rng(seed).uniform(1, 100, shape).astype(np.float32)

    def path(self, subject, session="", suffix="T1w"):
        parts = [part for part in (f"sub-{subject}", session) if part]
        return self.root.joinpath(*parts, "anat", "_".join([*parts, suffix]) + ".nii.gz")

    def write(self, path, voxels, affine=None):
        path.parent.mkdir(parents=True, exist_ok=True)
        header = nibabel.Nifti1Header()
        header.set_data_dtype(voxels.dtype)
        nibabel.save(nibabel.Nifti1Image(voxels, self.affine if affine is None else affine, header), path)
        return path

    def patch(self, path, offset, content):
        """Overwrite bytes of a volume (NIfTI-1 header: srow_x at 280, dim at 40)."""
        data = bytearray(gzip.decompress(path.read_bytes()))
        data[offset : offset + len(content)] = content
        path.write_bytes(gzip.compress(bytes(data)))

    def rows(self, *lines):
        self.table.write_text("\n".join([*lines, ""]))

    def load(self, **values):
        return plugins.build("cohorts", "bids", {"path": self.root, **values}).load(self.context)

    def error(self, **values):
        with pytest.raises(CohortError) as caught:
            self.load(**values)
        return caught.value

    def problems(self, **values):
        return self.error(**values).problems


@pytest.fixture
def context(tmp_path_factory):
    return Quiet(tmp_path_factory.mktemp("scratch"))


@pytest.fixture
def bids(tmp_path, context):
    """A sound dataset of four participants."""
    dataset = Dataset(Path(tmp_path) / "data", context)
    for i in range(1, 5):
        dataset.write(dataset.path(i), dataset.image(i))
    dataset.rows(
        "participant_id\tsex\tage", "sub-1\tF\t31.5", "sub-2\tM\t44.25", "sub-3\tF\t60", "sub-4\tM\t52"
    )
    return dataset
