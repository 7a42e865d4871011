"""What is made of a record's NIfTI files: one array on the common grid, its intensities normalised."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmbench.api import CohortError, Geometry
from mmbench.sources._cache import Prepared, content_key, digests
from mmbench.sources._grids import centred, resampled, span
from mmbench.sources._nifti import read_volume

NORMALISATIONS = ("percentile", "shared-percentile", "none")


@dataclass(frozen=True)
class Recipe:
    """What is made of a record's files.

    Attributes:
        geometry: Grid that every volume is brought to.
        resample: Whether a volume on another grid is resampled; otherwise it is refused.
        centre: Whether a volume's middle is put on that of the grid first.
        normalise: One of :data:`NORMALISATIONS`.
        max_voxels: Largest volume that is read.
    """

    geometry: Geometry
    resample: bool
    centre: bool
    normalise: str
    max_voxels: int

    def key(self, files: Sequence[Path]) -> str:
        """Return what a record's prepared volume is known by: its files' content, and this recipe."""
        return content_key(
            files,
            {
                "shape": self.geometry.full_shape,
                "affine": self.geometry.affine,
                "centre": self.centre,
                "normalise": self.normalise,
            },
        )

    def prepare(self, files: Sequence[Path]) -> Prepared:
        """Return a record's volume, decoded, on the common grid and normalised.

        Raises:
            CohortError: A file cannot be read, lies on another grid that may not be resampled, or has nothing to
                be divided by.
        """
        depth = len(self.geometry.channels) // len(files)
        volume = np.empty(self.geometry.full_shape, np.float32)
        kept = 1.0
        for position, file in enumerate(files):
            grid, channels = read_volume(file, self.max_voxels, depth)
            if self.centre:
                grid = centred(grid, self.geometry)
            for channel, voxels in enumerate(channels, start=position * depth):
                volume[channel] = resampled(voxels, grid, self.geometry) if self.resample else voxels
                if self.resample:
                    if voxels.any() and not volume[channel].any():
                        raise CohortError(
                            f"{file}: every voxel that is not zero lies outside the common grid, which spans "
                            f"{span(self.geometry)}; check the affine, set 'align: centre', or another spacing and "
                            "shape."
                        )
                    kept = min(kept, _kept(voxels, grid, volume[channel], self.geometry))
        levels = _levels(volume, self.normalise, files)
        if self.normalise != "none":
            volume /= np.array(levels, np.float32)[:, None, None, None]
        return Prepared(volume, levels, kept, digests(volume))


def _levels(volume: np.ndarray, rule: str, files: Sequence[Path]) -> tuple[float, ...]:
    """Return the 99th percentile over the non-zero voxels of each channel, or one for all of them."""
    whole = rule == "shared-percentile"
    groups = [slice(None)] if whole else [slice(channel, channel + 1) for channel in range(len(volume))]
    levels: list[float] = []
    for group in groups:
        part = volume[group]
        level = 1.0
        # Where the check of the voxels will refuse the volume anyway there is nothing to divide by.
        if np.isfinite(part).all() and part.any():
            level = float(np.percentile(part[part != 0], 99))
            if level <= 0 and rule != "none":
                raise CohortError(
                    f"{files[len(levels) * len(files) // len(volume)]}: the 99th percentile of the non-zero voxels is "
                    f"{level:g}, expected a positive one to divide by; set 'normalise: none' or shift the intensities."
                )
        levels += [level] * len(part)
    return tuple(levels)


def _kept(voxels: np.ndarray, grid: Geometry, result: np.ndarray, target: Geometry) -> float:
    """Return the share of the summed intensities that resampling kept; 1 where they have no sign to sum by."""
    total = float(voxels.sum(dtype=float)) * grid.voxel_litres
    if not math.isfinite(total) or total <= 0 or voxels.min() < 0:
        return 1.0
    return float(result.sum(dtype=float)) * target.voxel_litres / total
