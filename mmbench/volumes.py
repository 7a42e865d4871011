"""Volumes of a cohort and the grid that they share."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class Geometry:
    """Where the voxels of a volume lie.

    Attributes:
        shape: Voxels along x, y, z.
        affine: 4x4 matrix, row by row, from voxel indices to millimetres (RAS+).
        channels: Name of each channel, e.g. ``("water", "fat")`` or ``("T1w",)``.
    """

    shape: tuple[int, int, int]
    affine: tuple[tuple[float, ...], ...]
    channels: tuple[str, ...]

    @classmethod
    def regular(
        cls,
        shape: Sequence[int],
        spacing: Sequence[float],
        channels: Sequence[str],
        origin: Sequence[float] = (0, 0, 0),
    ) -> Geometry:
        """Return an axis-aligned grid with ``spacing`` in millimetres."""
        affine = np.diag([*map(float, spacing), 1.0])
        affine[:3, 3] = origin
        return cls((int(shape[0]), int(shape[1]), int(shape[2])), _rows(affine), tuple(channels))

    @property
    def matrix(self) -> np.ndarray:
        """The affine as an array of shape (4, 4), float64."""
        return np.array(self.affine, dtype=float)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel spacing in millimetres."""
        x, y, z = np.linalg.norm(self.matrix[:3, :3], axis=0)
        return (float(x), float(y), float(z))

    @property
    def field_of_view(self) -> tuple[float, float, float]:
        """Extent along the voxel axes in millimetres, from outer edge to outer edge."""
        x, y, z = np.array(self.shape) * np.array(self.spacing)
        return (float(x), float(y), float(z))

    @property
    def orientation(self) -> str:
        """Direction in which each voxel axis runs, nearest of R/L, A/P, S/I; ``RAS`` for canonical volumes."""
        nearest = np.abs(self.matrix[:3, :3] / self.spacing).argmax(axis=0)
        letters = (("L", "R"), ("P", "A"), ("I", "S"))
        return "".join(letters[row][int(self.matrix[row, axis] > 0)] for axis, row in enumerate(nearest))

    @property
    def obliqueness(self) -> float:
        """Largest angle in degrees between a voxel axis and the axis of the body that it runs along."""
        cosines = np.abs(self.matrix[:3, :3] / self.spacing).max(axis=0)
        return float(np.degrees(np.arccos(np.clip(cosines.min(), -1, 1))))

    @property
    def voxel_litres(self) -> float:
        """Volume of one voxel in litres."""
        return float(np.prod(self.spacing)) * 1e-6

    @property
    def full_shape(self) -> tuple[int, int, int, int]:
        """Shape of one subject's array: (channels, x, y, z)."""
        return (len(self.channels), *self.shape)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able form."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Geometry:
        """Read what :meth:`to_dict` returned."""
        x, y, z = data["shape"]
        return cls((x, y, z), _rows(data["affine"]), tuple(data["channels"]))


def _rows(matrix: Any) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(value) for value in row) for row in matrix)


class VolumeStore(Protocol):
    """Anything that gives one subject's volume at a time: an array, a file of volumes, a reader of files."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> np.ndarray: ...


@dataclass(frozen=True)
class Volumes:
    """The volumes of a cohort, read when asked for.

    Attributes:
        store: Gives the volume of one record, shape (channels, x, y, z).
        geometry: Grid and channels that all volumes share.
        rows: Positions in ``store``, in the cohort's order; all of them by default.
        scales: What each channel of each volume in ``store`` was divided by, float64 of shape
            (len(store), channels); ``None`` where nothing is known to have been divided.
    """

    store: VolumeStore
    geometry: Geometry
    rows: np.ndarray | None = None
    scales: np.ndarray | None = None

    def __post_init__(self) -> None:
        expected = (len(self.store), len(self.geometry.channels))
        if self.scales is not None and self.scales.shape != expected:
            raise ValueError(f"scales of shape {self.scales.shape}, expected {expected}.")

    def __len__(self) -> int:
        return len(self.store) if self.rows is None else len(self.rows)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return one volume as float32 of shape (channels, x, y, z)."""
        return np.asarray(self.store[self._row(index)], dtype=np.float32)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(len(self)))

    def take(self, indices: Sequence[int] | np.ndarray) -> Volumes:
        """Return the volumes at ``indices``, still unread."""
        rows = np.arange(len(self.store)) if self.rows is None else self.rows
        return Volumes(self.store, self.geometry, rows[np.asarray(indices, dtype=int)], self.scales)

    @property
    def divisors(self) -> np.ndarray | None:
        """``scales`` in the order of these volumes, shape (n, channels)."""
        return self.scales if self.scales is None or self.rows is None else self.scales[self.rows]

    def original(self, index: int) -> np.ndarray:
        """Return one volume in the units of its file, float32 of shape (channels, x, y, z)."""
        volume = self[index]
        if self.scales is None:
            return volume
        return (volume * self.scales[self._row(index)][:, None, None, None]).astype(np.float32)

    def _row(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return index if self.rows is None else int(self.rows[index])

    def batches(self, size: int) -> Iterator[np.ndarray]:
        """Yield arrays of shape (up to ``size``, channels, x, y, z), float32, in order."""
        for start in range(0, len(self), size):
            yield np.stack([self[index] for index in range(start, min(start + size, len(self)))])

    def stack(self) -> np.ndarray:
        """Return all volumes as one array; only for cohorts known to fit into memory."""
        return np.stack(list(self)) if len(self) else np.empty((0, *self.geometry.full_shape), np.float32)
