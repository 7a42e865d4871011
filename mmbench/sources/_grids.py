"""Grids of volumes: the one that most share, one that all are brought to, and who lies on another."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmbench.api import Geometry
from mmbench.sources._checks import listed
from mmbench.sources._nifti import millimetres

TOLERANCE = 1e-3
"""Distance in millimetres by which corresponding corner voxels of two volumes may differ."""

MAX_GROUPS = 5
"""Other grids that are reported one by one; more are summed up in a line."""


def corner_distance(grid: Geometry, other: Geometry) -> float:
    """Return how far apart in millimetres the corner voxels of two grids of one shape lie at most."""
    ends = np.array([[*corner, 1] for corner in np.ndindex(2, 2, 2)], float)
    ends[:, :3] *= np.array(grid.shape) - 1
    return float(np.linalg.norm(ends @ (grid.matrix - other.matrix).T, axis=1).max())


def same_grid(grid: Geometry, other: Geometry) -> bool:
    """Return whether voxels of both lie at the same places, within :data:`TOLERANCE`."""
    return grid.shape == other.shape and corner_distance(grid, other) <= TOLERANCE


def commonest(grids: Sequence[Geometry]) -> Geometry:
    """Return the grid that most volumes share, the first of equals."""

    def rounded(grid: Geometry) -> tuple[Any, ...]:
        return grid.shape, *np.round(grid.matrix, 2).ravel().tolist()

    usual = Counter(map(rounded, grids)).most_common(1)[0][0]
    return next(grid for grid in grids if rounded(grid) == usual)


def common_grid(
    usual: Geometry, spacing: tuple[float, float, float] | None, shape: tuple[int, int, int] | None
) -> Geometry:
    """Return an axis-aligned grid around the centre of ``usual`` that covers it where no shape is given."""
    steps = np.array(spacing or usual.spacing, dtype=float)
    # The box around a grid that lies obliquely in space.
    extent = np.abs(usual.matrix[:3, :3]) @ np.array(usual.shape)
    # Without the allowance a spacing stored in float32 would add a voxel.
    sizes = np.array(shape) if shape else np.ceil(extent / steps - 1e-3).astype(int)
    origin = _centre(usual) - steps * (sizes - 1) / 2
    return Geometry.regular(sizes.tolist(), steps.tolist(), usual.channels, origin)


def centred(grid: Geometry, other: Geometry) -> Geometry:
    """Return ``grid`` moved, not turned, so that its middle is that of ``other``."""
    matrix = grid.matrix
    matrix[:3, 3] += _centre(other) - _centre(grid)
    return Geometry(grid.shape, tuple(map(tuple, matrix.tolist())), grid.channels)


def resampled(voxels: np.ndarray, grid: Geometry, target: Geometry) -> np.ndarray:
    """Return voxels on another grid: linear interpolation, zero outside, smoothed first where it is coarser.

    The Gaussian's width makes the point spread of the source that of the target: a full width at half maximum
    of sqrt(t^2 - s^2) for spacings s and t (Cardoso et al. 2015, Scale factor point spread function matching,
    MICCAI, equation 6 with the covariances of both grids).

    Args:
        voxels: Shape (x, y, z).
        grid: Grid of ``voxels``.
        target: Grid of the result.
    """
    if same_grid(grid, target):
        return voxels
    from scipy import ndimage

    ratio = np.maximum(np.array(target.spacing) / np.array(grid.spacing), 1)
    sigma = np.sqrt(ratio**2 - 1) / np.sqrt(8 * np.log(2))
    matrix = np.linalg.inv(grid.matrix) @ target.matrix
    # Cut at two sigma, so that a background of zeros stays zero but for the partial-volume rim.
    smooth = ndimage.gaussian_filter(voxels, sigma, mode="constant", truncate=2)
    # grid-constant: a voxel that rounding puts a hair outside keeps its value instead of turning zero.
    return ndimage.affine_transform(
        smooth, matrix, output_shape=target.shape, order=1, mode="grid-constant", prefilter=False
    )


def grid_problems(found: Sequence[tuple[Path, Geometry]], expected: Geometry) -> list[str]:
    """Return what is to be said of volumes that do not lie on the expected grid.

    Args:
        found: Every volume's file and grid.
        expected: Grid of most of them.

    Returns:
        One line for each other combination of shape and spacing, naming the files; a single line where there
        are more than :data:`MAX_GROUPS`.
    """
    groups: dict[tuple[Any, ...], list[tuple[Path, Geometry]]] = defaultdict(list)
    for file, grid in found:
        if not same_grid(grid, expected):
            groups[grid.shape, *np.round(grid.spacing, 2).tolist()].append((file, grid))
    advice = "give 'spacing' or 'shape' to resample all volumes to one grid, or leave the subjects out."
    if len(groups) > MAX_GROUPS:
        largest = sorted(groups.values(), key=len, reverse=True)
        lines = [f"{len(group)} of {_shown(group[0][1])}" for group in largest[:MAX_GROUPS]]
        others = sum(map(len, largest))
        return [
            f"{len(groups)} other grids in {others} of {len(found)} volumes: {'; '.join(lines)}; and "
            f"{len(groups) - MAX_GROUPS} more; expected {_shown(expected)} as in "
            f"{len(found) - others} of them; e.g. {listed([str(file) for file, _ in largest[0]])}; {advice}"
        ]
    return [_group_line(group, expected, len(found), advice) for group in groups.values()]


def span(geometry: Geometry) -> str:
    """Return where a grid begins and ends in space, as text."""
    ends = geometry.matrix @ np.array([[0, 0, 0, 1], [*(np.array(geometry.shape) - 1), 1]], float).T
    axes = (f"{axis} {low:.0f} to {high:.0f}" for axis, (low, high) in zip("xyz", ends[:3], strict=True))
    return ", ".join(axes) + " mm"


def _group_line(group: Sequence[tuple[Path, Geometry]], expected: Geometry, total: int, advice: str) -> str:
    grid = group[0][1]
    files = listed([str(file) for file, _ in group])
    where = files if len(group) == 1 else f"{len(group)} of {total} volumes ({files})"
    if grid.shape != expected.shape:
        return (
            f"{where}: shape {grid.shape}, expected {expected.shape} as in most volumes (spacing "
            f"{millimetres(grid.spacing)}, expected {millimetres(expected.spacing)}); {advice}"
        )
    distance = max(corner_distance(other, expected) for _, other in group)
    if all(same_grid(centred(other, expected), expected) for _, other in group):
        advice = f"set 'align: centre' where only the position differs; {advice}"
    return (
        f"{where}: another affine than most volumes: corners lie {'up to ' * (len(group) > 1)}{distance:.4g} mm "
        f"off (spacing {millimetres(grid.spacing)}, expected {millimetres(expected.spacing)}); {advice}"
    )


def _shown(grid: Geometry) -> str:
    return f"{grid.shape} at {millimetres(grid.spacing)}"


def _centre(grid: Geometry) -> np.ndarray:
    return (grid.matrix @ [*((np.array(grid.shape) - 1) / 2), 1])[:3]
