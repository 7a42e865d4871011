"""Problems are gathered, not raised one by one; and the checks of voxels that every source makes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import numpy as np

from mmbench.api import CohortError, Context, Volumes


@contextlib.contextmanager
def gathered(problems: list[str]) -> Iterator[None]:
    """Append the problems of a :class:`CohortError` raised in the block to ``problems`` and go on."""
    try:
        yield
    except CohortError as error:
        problems += error.problems


def check_volumes(volumes: Volumes, name: Callable[[int, int], str], context: Context) -> list[str]:
    """Read every volume once and return what is wrong with it.

    Args:
        volumes: Volumes to check; one is held at a time.
        name: Names the volume of a record and channel, given their positions, in messages.
        context: Shows progress.

    Returns:
        One line for each volume that cannot be read, has another shape, holds values that are not finite, or
        has the same value everywhere.
    """
    problems: list[str] = []
    for index in context.steps(len(volumes), "checking volumes"):
        with gathered(problems):
            volume = volumes[index]
            if volume.shape != volumes.geometry.full_shape:
                problems.append(
                    f"{name(index, 0)}: shape {volume.shape} (channels, x, y, z), expected "
                    f"{volumes.geometry.full_shape}; make the volume anew."
                )
                continue
            for channel, voxels in enumerate(volume):
                if complaint := _complaint(voxels):
                    problems.append(f"{name(index, channel)}: {complaint}")
    return problems


def _complaint(voxels: np.ndarray) -> str:
    low, high = float(voxels.min()), float(voxels.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = int(np.count_nonzero(~np.isfinite(voxels)))
        return (
            f"{bad} of {voxels.size} voxels are NaN or infinite, expected finite intensities; "
            "replace them (background is 0) or export the volume anew."
        )
    if low == high == 0:
        return "every voxel is 0, expected an image; export the volume anew or leave the subject out."
    if low == high:
        return f"every voxel is {low:g}, expected an image; export the volume anew or leave the subject out."
    return ""
