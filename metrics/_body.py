"""Where a trunk's skin, lungs and body wall lie: masks of a body-MRI volume in RAS order."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from mmbench.api import NotMeasurable

from ._threshold import otsu

Spacing = tuple[float, float, float]
"""Voxel spacing along x, y, z in millimetres."""

SHARES = (0.02, 0.85)
"""Least and largest share of the grid that a body fills."""
LEAST_CONTRAST = 2.5
"""Least ratio of the body's median signal to that of the air around it."""
LEAST_OVERLAP = 0.85
"""Least overlap (Dice) of neighbouring slices of a body; trunks have 0.94 and more in slices of 30 mm."""
LEAST_ROUNDNESS = 0.72
"""Least of what `_roundness` gives: trunks have 0.9, with arms beside them 0.75, random clouds 0.7 at most."""
ROUNDNESS_SLICES = 8
"""Slices, at least, that it is taken from."""
CHEST_WALL_MM = 12.0
"""Closing that makes a thin chest wall hold, so that its hole, the lungs, can be filled."""
BRIGHT_RANK = 0.9
"""Rank, in a slice, of the signal that stands for the body's."""
COIL = (0.4, 1.0)
"""Least and largest of it relative to the median slice's: slices beyond the body hold noise."""
KNOT_MM = 60.0
"""Distance of the knots between which shading is a straight line along z: half a slab and less."""
STIFF = 1e-3
"""Cost of shading's slopes relative to its misfit: little, to hold them where no tissue says otherwise."""
TRIM = 0.3
"""Departure of the logarithm of the signal beyond which a voxel is left out of the second fit of shading."""
FITTED = 5000
"""Voxels to which shading is fitted."""
ARM_MM = 40.0
"""Radius of the opening that cuts off arms, half as thick as an arm and far from a trunk's."""
MOST_CUT_MM = 100.0
"""Length of a trunk's outline that may lie beyond the grid before its circumference is unknown."""
DIRECTIONS = 90
"""Directions in which the hull's width is taken."""
IN_PLANE = np.zeros((3, 3, 3), bool)
IN_PLANE[:, 1, 1] = IN_PLANE[1, :, 1] = True


def dilated(mask: np.ndarray, radius: float, spacing: Spacing) -> np.ndarray:
    """Return a mask grown in each axial slice by a disc.

    The disc is a stack of runs along x, so that a radius of r voxels takes about 4 r shifts of the mask.

    Args:
        mask: bool of shape (x, y, z).
        radius: Of the disc, millimetres.
        spacing: Voxel spacing.
    """
    run, grown, reached = mask.copy(), np.zeros_like(mask), 0
    for offset in range(int(radius / spacing[1] + 1e-6), -1, -1):
        reach = int(np.sqrt(max(radius**2 - (offset * spacing[1]) ** 2, 0)) / spacing[0] + 1e-6)
        for step in range(reached + 1, reach + 1):
            run[step:] |= mask[:-step]
            run[:-step] |= mask[step:]
        reached = max(reached, reach)
        if offset:
            grown[:, offset:] |= run[:, :-offset]
            grown[:, :-offset] |= run[:, offset:]
        else:
            grown |= run
    return grown


def eroded(mask: np.ndarray, radius: float, spacing: Spacing) -> np.ndarray:
    """Return a mask shrunk in each axial slice by a disc; what lies beyond the grid counts as inside."""
    return ~dilated(~mask, radius, spacing)


def one_voxel(spacing: Spacing) -> float:
    """Return the radius in millimetres of a disc that holds a voxel and its eight neighbours in a slice."""
    return 1.5 * max(spacing[:2])


def opened(mask: np.ndarray, spacing: Spacing) -> np.ndarray:
    """Return a mask without what is thinner than three voxels in its slice."""
    return dilated(eroded(mask, one_voxel(spacing), spacing), one_voxel(spacing), spacing)


def closed(mask: np.ndarray, radius: float, spacing: Spacing) -> np.ndarray:
    """Return a mask closed by a disc and with its holes filled, slice by slice."""
    margin = [int(np.ceil(radius / step)) + 1 for step in spacing[:2]]
    padded = np.pad(mask, ((margin[0],) * 2, (margin[1],) * 2, (0, 0)))
    whole = eroded(filled_holes(dilated(padded, radius, spacing)), radius, spacing)
    return whole[margin[0] : -margin[0], margin[1] : -margin[1]]


def filled_holes(mask: np.ndarray) -> np.ndarray:
    """Return a mask with the holes of each axial slice filled."""
    background = np.pad(~mask, ((1, 1), (1, 1), (0, 0)), constant_values=True)
    regions, _ = ndimage.label(background, IN_PLANE)
    outside = np.zeros(regions.max() + 1, bool)
    outside[regions[0, 0]] = True
    return ~outside[regions[1:-1, 1:-1]]


def largest(mask: np.ndarray) -> np.ndarray:
    """Return the largest connected region of a mask that has one."""
    regions, count = ndimage.label(mask)
    return mask if count < 2 else regions == 1 + np.argmax(np.bincount(regions.ravel())[1:])


def body_mask(total: np.ndarray, spacing: Spacing) -> np.ndarray:
    """Return the mask of the body: the largest bright region, holes filled slice by slice.

    Args:
        total: Signal of all tissue, shape (x, y, z).
        spacing: Voxel spacing.

    Raises:
        NotMeasurable: There is none, it fills the grid, stands out too little, or is no trunk by its shape.
    """
    cap = float(np.percentile(total, 99))
    if cap <= total.min():
        raise NotMeasurable("no body: what stands out fills less than 1% of the volume")
    inside = total > otsu(np.minimum(total, cap))
    # The ends of the coils see less: a slice's own brightest part says how much.
    level = np.quantile(total[::2, ::2], BRIGHT_RANK, axis=(0, 1))
    level = np.clip(level / np.median(level), *COIL)
    smooth = ndimage.uniform_filter(total, (3, 3, 1))
    mask = smooth > level * np.median(total[inside]) / 2
    mask = closed(mask, CHEST_WALL_MM, spacing)
    mask = opened(mask, spacing)
    if not mask.any():
        raise NotMeasurable("no body: nothing larger than a few voxels stands out")
    mask = largest(mask)
    share = float(mask.mean())
    if not SHARES[0] <= share <= SHARES[1]:
        raise NotMeasurable(
            f"the body fills {share:.0%} of the volume, expected {SHARES[0]:.0%} to {SHARES[1]:.0%}"
        )
    air, tissue = float(np.median(total[~mask])), float(np.median(total[mask]))
    if tissue < LEAST_CONTRAST * air:
        raise NotMeasurable(
            f"the body's signal is only {tissue / air:.1f} times that around it, expected {LEAST_CONTRAST:g}"
        )
    both = (mask[..., 1:] & mask[..., :-1]).sum()
    overlap = 2 * both / max(mask[..., 1:].sum() + mask[..., :-1].sum(), 1)
    if overlap < LEAST_OVERLAP:
        raise NotMeasurable(
            f"what stands out overlaps from slice to slice by {overlap:.0%} only, a trunk by more than "
            f"{LEAST_OVERLAP:.0%}: no body"
        )
    roundness = _roundness(mask, spacing)
    if roundness < LEAST_ROUNDNESS:
        raise NotMeasurable(
            f"the outline of what stands out has a roundness of {roundness:.2f}, that of a trunk is "
            f"{LEAST_ROUNDNESS:g} or more: no body"
        )
    return mask


def _roundness(body: np.ndarray, spacing: Spacing) -> float:
    """Return how round and how much of each slice its trunk is, the median over some slices: 1 for a lone circle.

    Roundness is 4 pi area / hull length^2.
    """
    values = []
    for z in np.flatnonzero(body.any(axis=(0, 1)))[:: max(body.shape[2] // ROUNDNESS_SLICES, 1)]:
        trunk = trunk_of(body[..., z], spacing)
        if not trunk.any():
            values.append(0.0)
            continue
        area = float(trunk.sum()) * spacing[0] * spacing[1]
        roundness = 4 * np.pi * area / _hull_length(trunk.astype(float), trunk, spacing) ** 2
        values.append(roundness * trunk.sum() / body[..., z].sum())
    return float(np.median(values))


def trunk_of(body: np.ndarray, spacing: Spacing) -> np.ndarray:
    """Return an axial slice of the body, shape (x, y), without the arms: the largest region after an opening."""
    core = eroded(np.pad(body, 1)[..., None], ARM_MM, spacing)
    if not core.any():
        return np.zeros_like(body)
    return dilated(largest(core), ARM_MM + one_voxel(spacing), spacing)[1:-1, 1:-1, 0] & body


def box_of(body: np.ndarray) -> tuple[slice, ...]:
    """Return the part of the grid that holds the body, with a margin of two voxels."""
    box = ndimage.find_objects(body.view(np.uint8))[0]
    return tuple(slice(max(side.start - 2, 0), side.stop + 2) for side in box)


def large(mask: np.ndarray, least: float) -> np.ndarray:
    """Return the connected regions of a mask that have at least ``least`` voxels."""
    regions, count = ndimage.label(mask)
    if not count:
        return mask
    keep = np.bincount(regions.ravel()) >= least
    keep[0] = False
    return keep[regions]


def circumference(filled: np.ndarray, body: np.ndarray, spacing: Spacing) -> float:
    """Return the length of a tape around one axial slice of the trunk: it spans hollows, as tapes do.

    The skin lies where a voxel is half filled, found by linear interpolation along both axes. The length of the
    hull around these points is the mean of its widths in all directions times pi (Cauchy's formula).

    Args:
        filled: Share of each voxel filled by tissue, shape (x, y).
        body: Mask of the body, shape (x, y), arms included.
        spacing: Voxel spacing.

    Returns:
        Millimetres; NaN where there is no body or the edge of the grid cuts more than 100 mm of the outline.
    """
    trunk = trunk_of(body, spacing)
    if not trunk.any():
        return float("nan")
    cut = spacing[1] * (trunk[0].sum() + trunk[-1].sum()) + spacing[0] * (
        trunk[:, 0].sum() + trunk[:, -1].sum()
    )
    if cut > MOST_CUT_MM:
        return float("nan")
    return _hull_length(ndimage.gaussian_filter(filled, 0.6), trunk, spacing)


def _hull_length(filled: np.ndarray, trunk: np.ndarray, spacing: Spacing) -> float:
    points = [_crossings(filled, trunk) * spacing[:2], _crossings(filled.T, trunk.T)[:, ::-1] * spacing[:2]]
    angles = np.linspace(0, np.pi, DIRECTIONS, endpoint=False)
    along = np.concatenate(points) @ np.stack([np.cos(angles), np.sin(angles)])
    return float(np.ptp(along, axis=0).mean() * np.pi)


def _crossings(filled: np.ndarray, trunk: np.ndarray) -> np.ndarray:
    """Return where lines along the second axis enter and leave the trunk, in voxels, shape (points, 2)."""
    lines = np.flatnonzero(trunk.any(axis=1))
    ends = []
    for step, edge in (
        (-1, np.argmax(trunk, axis=1)),
        (1, trunk.shape[1] - 1 - np.argmax(trunk[:, ::-1], axis=1)),
    ):
        last = edge[lines]
        beyond = np.clip(last + step, 0, trunk.shape[1] - 1)
        inner, outer = filled[lines, last], filled[lines, beyond]
        fraction = np.clip((inner - 0.5) / np.maximum(inner - outer, 1e-3), 0, 1)
        ends.append(np.column_stack([lines, last + step * fraction]))
    return np.concatenate(ends)


def shading(image: np.ndarray, spacing: Spacing, tissue: np.ndarray) -> np.ndarray:
    """Return the signal that a tissue has or would have in each voxel: its coil shading.

    The logarithm of the signal is a polynomial across the slices plus a broken line along z, which follows slabs
    and the ends of the coils. Voxels that depart by more than 30 %, such as those filled in part, are left out of a
    second fit.

    Args:
        image: Signal, shape (x, y, z).
        spacing: Voxel spacing.
        tissue: Mask of the tissue, not empty.
    """
    places = np.flatnonzero(tissue)
    x, y, z = np.unravel_index(places[:: max(len(places) // FITTED, 1)], image.shape)
    grid = [np.linspace(-1, 1, n) for n in image.shape]
    heights = np.arange(image.shape[2]) * spacing[2]
    knots = np.linspace(0, heights[-1], max(round(heights[-1] / KNOT_MM), 1) + 1)
    hats = np.stack([np.interp(heights, knots, row) for row in np.eye(len(knots))])
    across = _across(*(axis[at] for axis, at in zip(grid, (x, y, z), strict=True)))
    design = np.stack([*across, *hats[:, z]])
    value = np.log(np.maximum(image[x, y, z], 1e-12))
    # A broken line that bends costs a little, so that heights without this tissue follow their neighbours.
    steps = np.diff(np.eye(len(knots)), axis=0)
    penalty = np.diag([STIFF] * len(across) + [1e-9] * len(knots))
    penalty[len(across) :, len(across) :] += STIFF * steps.T @ steps
    weights = _solved(design, value, penalty)
    keep = np.abs(value - weights @ design) < TRIM
    if keep.mean() > 0.5:
        weights = _solved(design[:, keep], value[keep], penalty)
    slopes, levels = weights[: len(across)], weights[len(across) :]
    terms = _across(*np.meshgrid(*grid, indexing="ij", sparse=True))
    return np.exp(sum(w * term for w, term in zip(slopes, terms, strict=True)) + levels @ hats)


def _solved(design: np.ndarray, value: np.ndarray, penalty: np.ndarray) -> np.ndarray:
    return np.linalg.solve(design @ design.T + value.size * penalty, design @ value)


def _across(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> list[np.ndarray]:
    """Return the terms of shading that vary across a slice; axes run from -1 to 1."""
    return [x, y, x * x, y * y, x**4, x * y, x * z, y * z]
