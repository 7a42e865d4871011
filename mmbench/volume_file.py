"""Volumes of many subjects in one ``.npy`` file, read and written one subject at a time.

A memory map of the whole file would do as well, but its pages count as the process's own memory once they were
touched, and a scan over a large cohort touches them all. Here memory is one subject's, whatever the file's size,
and the operating system's page cache makes repeated reads as fast.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmbench.errors import CohortError

DTYPE = np.dtype("<f4")


@dataclass(frozen=True)
class VolumeFile:
    """A file of volumes; safe to hand to other processes, which may write different subjects at once.

    Attributes:
        path: The ``.npy`` file (format 1.0, float32, C order).
        shape: (subjects, channels, x, y, z).
        offset: Bytes before the first voxel.
    """

    path: Path
    shape: tuple[int, ...]
    offset: int

    @classmethod
    def create(cls, path: Path, shape: Sequence[int]) -> VolumeFile:
        """Make a file of zeros; it takes space on the disk as subjects are written."""
        size = tuple(map(int, shape))
        with path.open("wb") as file:
            header = {"descr": DTYPE.str, "fortran_order": False, "shape": size}
            np.lib.format.write_array_header_1_0(file, header)
            offset = file.tell()
            file.truncate(offset + int(np.prod(size, dtype=np.int64)) * DTYPE.itemsize)
        return cls(path, size, offset)

    @classmethod
    def open(cls, path: Path) -> VolumeFile:
        """Open a file that was written before.

        Raises:
            CohortError: It holds something else, or fewer voxels than its header says.
            FileNotFoundError: It is absent.
        """
        with path.open("rb") as file:
            try:
                version = np.lib.format.read_magic(file)
                if version != (1, 0):
                    raise ValueError(f"format {version}")
                shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
            except ValueError as error:
                raise CohortError(
                    f"{path}: the volumes cannot be read ({error}); make the file anew."
                ) from None
            offset = file.tell()
        if fortran or dtype != DTYPE:
            raise CohortError(f"{path}: {dtype} in another order, expected float32 in C order; make it anew.")
        expected = offset + int(np.prod(shape, dtype=np.int64)) * DTYPE.itemsize
        if (size := path.stat().st_size) != expected:
            raise CohortError(
                f"{path}: {size} bytes, expected {expected}: the file is cut short; make it anew."
            )
        return cls(path, shape, offset)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int, /) -> np.ndarray:
        """Return one subject's volume, float32 of shape (channels, x, y, z)."""
        with self.path.open("rb", buffering=0) as file:
            file.seek(self._place(index))
            volume = np.fromfile(file, DTYPE, int(np.prod(self.shape[1:], dtype=np.int64)))
        return volume.reshape(self.shape[1:])

    def write(self, index: int, volume: np.ndarray) -> None:
        """Write one subject's volume of shape (channels, x, y, z).

        Raises:
            ValueError: It has another shape.
        """
        if volume.shape != self.shape[1:]:
            raise ValueError(f"a volume of shape {volume.shape}, expected {self.shape[1:]}")
        with self.path.open("r+b", buffering=0) as file:
            file.seek(self._place(index))
            np.ascontiguousarray(volume, DTYPE).tofile(file)

    def place_at(self, path: Path) -> None:
        """Give the file a second name, or copy it where the file system has no hard links between the places."""
        try:
            os.link(self.path, path)
        except OSError:
            shutil.copyfile(self.path, path)

    def _place(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.offset + index * int(np.prod(self.shape[1:], dtype=np.int64)) * DTYPE.itemsize
