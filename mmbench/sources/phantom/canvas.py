"""A grid of tissue shares on which structures, given as smooth fields in millimetres, claim their part.

A field is positive inside its structure and falls off by about one millimetre a millimetre; its linear ramp
over one in-plane voxel is the share of a voxel that it covers. Thick slices are rendered in thinner ones and
averaged. Structures claim what those before them left free, so shares sum to the body's share of a voxel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, prod, sqrt

import numpy as np

TISSUES = (
    "subcutaneous",
    "visceral",
    "muscle",
    "liver",
    "spleen",
    "kidney",
    "bowel",
    "contents",
    "fluid",
    "marrow",
    "disc",
    "heart",
    "blood",
    "lung",
    "bone",
    "pancreas",
    "gas",
    "other_fat",
)
"""Tissues in the order of the first axis of the shares. ``bowel`` is the wall of stomach and bowel, and soft
tissue of the pelvis; ``contents`` what they hold, ``gas`` theirs and the trachea's; ``fluid`` urine, bile and
cerebrospinal fluid; ``bone`` is cortical; ``other_fat`` lies between muscles and in the mediastinum."""

THICKEST_SLICE = 8.0  # mm: domes and kidneys are cut in steps by thicker ones

Field = np.ndarray
"""Distance in millimetres to a structure's surface, positive inside, float32 of shape (x, y, z)."""


class Canvas:
    """A grid on which structures claim their share of each voxel.

    Args:
        shape: Voxels along x, y, z.
        spacing: Voxel spacing in millimetres.
        origin: Position of the middle of the field of view along x and y, and of its lower face along z.
        reach: Largest extent of the body to either side of the axis along x and y: nothing further out is
            worked on.
        levels: Levels found by another canvas for the same body; without, this canvas solves for them.
        complete: Whether the field of view holds the trunk: levels are adjusted to the grid then.
        shown: Whether the body is looked at afterwards, or only solved for levels.
    """

    def __init__(
        self,
        shape: Sequence[int],
        spacing: Sequence[float],
        origin: tuple[float, float, float],
        reach: tuple[float, float],
        levels: dict[str, float] | None = None,
        complete: bool = True,
        shown: bool = True,
    ) -> None:
        self.complete, self.shown = complete, shown
        self.fold = ceil(spacing[2] / THICKEST_SLICE)
        self.edge = sqrt(spacing[0] * spacing[1])
        self.voxel_litres = prod(spacing) * 1e-6
        self.solving = levels is None
        self.levels: dict[str, float] = {} if levels is None else levels
        across = [
            (np.arange(n) - (n - 1) / 2) * step + o for n, step, o in zip(shape, spacing, origin, strict=True)
        ][:2]
        crop = [
            slice(np.searchsorted(axis, -r - step), np.searchsorted(axis, r + step))
            for axis, r, step in zip(across, reach, spacing, strict=False)
        ]
        self.step = spacing[2] / self.fold
        z = (np.arange(shape[2] * self.fold) + 0.5) * self.step + origin[2]
        axes = (across[0][crop[0]], across[1][crop[1]], z)
        self._axes = [(float(axis[0]), float(axis[1] - axis[0]), axis.size) for axis in axes]
        self.x, self.y, self.z = np.meshgrid(
            *(axis.astype(np.float32) for axis in axes), indexing="ij", sparse=True
        )
        self.whole = np.zeros((len(TISSUES), *shape), np.float32)
        self.shares = self.whole[:, crop[0], crop[1]]
        self.free = np.ones([axis.size for axis in axes], np.float32)

    def litres(self, tissue: str) -> float:
        """Return the volume that a tissue has claimed so far."""
        return float(self.shares[TISSUES.index(tissue)].sum(dtype=float)) * self.voxel_litres

    def box(
        self,
        x: tuple[float, float] = (-np.inf, np.inf),
        y: tuple[float, float] = (-np.inf, np.inf),
        z: tuple[float, float] = (-np.inf, np.inf),
    ) -> Box:
        """Return the part of the grid between the given positions, with a margin for partial volume."""

        def first(axis: tuple[float, float, int], position: float) -> int:
            start, step, size = axis
            return ceil(min(max((position - start) / step, 0), size))

        i, j, k = (
            (first(axis, low - self.edge), first(axis, high + self.edge))
            for axis, (low, high) in zip(self._axes, (x, y, z), strict=True)
        )
        k = k[0] // self.fold, -(-k[1] // self.fold)  # whole slices
        return Box(self, slice(*i), slice(*j), slice(k[0] * self.fold, k[1] * self.fold), slice(*k))

    def tube(self, points: Sequence[Sequence[float]], radii: Sequence[float] | float) -> tuple[Box, Field]:
        """Return a tube of varying radius about a smooth curve through points given in millimetres."""
        curve, radius = _smooth(np.asarray(points, float), np.broadcast_to(radii, len(points)))
        widest = np.maximum(radius[:-1], radius[1:])[:, None]
        low, high = np.minimum(curve[:-1], curve[1:]) - widest, np.maximum(curve[:-1], curve[1:]) + widest
        box = self.box(*zip(low.min(axis=0), high.max(axis=0), strict=True))
        field = np.full(box.shape, -1e3, np.float32)
        if not field.size:
            return box, field
        for n, (p, q) in enumerate(pairwise(curve)):
            part = self.box(*zip(low[n], high[n], strict=True))
            d, (px, py, pz) = (q - p).astype(np.float32), p.astype(np.float32)
            x, y, z = part.x - px, part.y - py, part.z - pz
            along = np.clip((x * d[0] + y * d[1] + z * d[2]) / max(float(d @ d), 1e-6), 0, 1)
            away = np.sqrt((x - along * d[0]) ** 2 + (y - along * d[1]) ** 2 + (z - along * d[2]) ** 2)
            view = field[part.inside(box)]
            np.maximum(
                view, np.float32(radius[n]) + along * np.float32(radius[n + 1] - radius[n]) - away, out=view
            )
        return box, field


@dataclass(frozen=True)
class Box:
    """A block of a canvas.

    Attributes:
        canvas: Whose.
        i, j, k: Where along x, y and the thin slices along z.
        slices: Where along the grid's own slices.
    """

    canvas: Canvas
    i: slice
    j: slice
    k: slice
    slices: slice

    @property
    def x(self) -> np.ndarray:
        return self.canvas.x[self.i]

    @property
    def y(self) -> np.ndarray:
        return self.canvas.y[:, self.j]

    @property
    def z(self) -> np.ndarray:
        return self.canvas.z[:, :, self.k]

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.x.size, self.y.size, self.z.size

    def inside(self, other: Box) -> tuple[slice, slice, slice]:
        """Return where this box lies in another."""
        return tuple(
            slice(max(a.start - b.start, 0), max(a.stop - b.start, 0))
            for a, b in ((self.i, other.i), (self.j, other.j), (self.k, other.k))
        )  # type: ignore[return-value]

    def of(self, full: np.ndarray) -> np.ndarray:
        """Return this block of an array over the whole canvas; axes of length one are kept."""
        return full[
            tuple(
                slice(None) if n == 1 else part
                for n, part in zip(full.shape, (self.i, self.j, self.k), strict=True)
            )
        ]

    def ramp(self, field: Field) -> np.ndarray:
        """Return the share of each voxel inside a structure."""
        share = field * np.float32(1 / self.canvas.edge)
        share += np.float32(0.5)
        return np.clip(share, 0, 1, out=share)

    def claim(self, tissue: str, field: Field) -> None:
        """Give a structure what is still free of the voxels that it covers."""
        self.give(tissue, self.ramp(field))

    def give(self, tissue: str, share: np.ndarray) -> None:
        """Give a tissue a share, in [0, 1], of each voxel, as far as that is still free."""
        free = self.canvas.free[self.i, self.j, self.k]
        given = np.minimum(share, free)  # not their product: neighbours share their border's voxels
        free -= given
        fold = self.canvas.fold
        target = self.canvas.shares[TISSUES.index(tissue), self.i, self.j, self.slices]
        if fold == 1:
            target += given
        else:
            given *= np.float32(1 / fold)
            for part in range(fold):
                target += given[:, :, part::fold]

    def litres(self, share: np.ndarray) -> float:
        """Return the volume of a share of each voxel."""
        return float(share.sum(dtype=float)) * self.canvas.voxel_litres / self.canvas.fold

    def level(self, name: str, find: Callable[[], float]) -> float:
        """Return the level of this name, which the canvas that solves finds and others take over."""
        if self.canvas.solving:
            self.canvas.levels[name] = find()
        return self.canvas.levels[name]

    def claim_litres(self, name: str, tissue: str, field: Field, litres: float, room: np.ndarray) -> None:
        """Claim the part of ``field`` above the level at which it fills ``litres`` of ``room``.

        Args:
            name: Of the level.
            tissue: What claims.
            field: Any smooth field in millimetres; only its order and slope matter.
            litres: Volume to fill; where there is less room, the room is filled.
            room: Share of each voxel that may be claimed.
        """

        def find() -> float:
            free = self.canvas.free[self.i, self.j, self.k]
            inside = (room > 0) & (free > 0)
            values, most, free = field[inside], room[inside], free[inside]
            if not values.size:
                return 0.0
            low, high = float(values.min()) - self.canvas.edge, float(values.max()) + self.canvas.edge

            def filled(level: float) -> float:
                return self.litres(np.minimum(np.minimum(self.ramp(values - np.float32(level)), most), free))

            if self.canvas.solving:
                return solve(filled, litres, high, low)
            # Partial volume shifts what thin fat and bowel fill by a few per cent from grid to grid.
            known = self.canvas.levels[name]
            return solve(filled, litres, known + self.canvas.edge / 2, known - self.canvas.edge / 2)

        level = find() if self.canvas.complete else self.canvas.levels[name]
        if self.canvas.solving:
            self.canvas.levels[name] = level
        self.give(tissue, np.minimum(self.ramp(field - np.float32(level)), room))


class Noise:
    """A smooth random field of standard deviation about 1: cubic B-splines over white noise on a lattice.

    Args:
        rng: Draws the lattice.
        grain: Lattice spacing in millimetres; the field's bumps are about twice that wide.
        low: Lowest corner of the lattice in millimetres.
        high: Highest corner.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        grain: float,
        low: tuple[float, float, float] = (-400, -300, -100),
        high: tuple[float, float, float] = (400, 300, 800),
    ) -> None:
        self.grain, self.low = grain, low
        nodes = [ceil((b - a) / grain) + 3 for a, b in zip(low, high, strict=True)]
        # The squared weights of a cubic B-spline sum to .4794 a dimension on average.
        self.lattice = rng.standard_normal(nodes, np.float32) * np.float32(0.4794**-1.5)

    def __call__(self, box: Box) -> np.ndarray:
        """Return the field on a box, float32."""
        field = self.lattice
        for axis, positions in ((2, box.z), (1, box.y), (0, box.x)):
            u = np.clip((positions.ravel() - self.low[axis]) / self.grain, 0, field.shape[axis] - 3.001)
            node = u.astype(int)
            f = (u - node).astype(np.float32)
            shape = [1, 1, 1]
            shape[axis] = f.size
            weights = ((1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3)
            total = np.zeros(1, np.float32)
            for step, weight in enumerate(weights):
                part = field.take(np.minimum(node + step, field.shape[axis] - 1), axis)
                part *= (weight / np.float32(6)).reshape(shape)
                total = part if step == 0 else np.add(total, part, out=total)
            field = total
        return field


def solve(
    volume: Callable[[float], float], wanted: float, low: float, high: float, tolerance: float = 1e-3
) -> float:
    """Return the argument in [low, high] at which a monotone volume comes nearest to the wanted one.

    ``low`` gives the smaller volume; it may be the larger number. Regula falsi, of the Illinois kind.

    Args:
        volume: A continuous, monotone function.
        wanted: Its value.
        low: Where it is smaller.
        high: Where it is larger.
        tolerance: How near to come, relative to ``wanted``.
    """
    below, above = volume(low) - wanted, volume(high) - wanted
    if below >= 0:
        return low
    if above <= 0:
        return high
    side = 0
    for _ in range(30):
        # A slope may be steep at one end: at least a twentieth of the interval is cut off.
        share = min(max(below / (below - above), 0.05), 0.95)
        middle = low + share * (high - low)
        error = volume(middle) - wanted
        if abs(error) <= tolerance * abs(wanted):
            return middle
        if error < 0:
            low, below = middle, error
            above, side = (above / 2 if side < 0 else above), -1
        else:
            high, above = middle, error
            below, side = (below / 2 if side > 0 else below), 1
    return (low + high) / 2


def ellipse(x: np.ndarray, y: np.ndarray, a: np.ndarray, b: np.ndarray) -> Field:
    """Return the distance to an upright elliptic cylinder's surface, first order, positive inside."""
    u, v = x / a, y / b
    q = np.sqrt(u * u + v * v) + np.float32(1e-3)
    slope = np.sqrt((u / a) ** 2 + (v / b) ** 2) + np.float32(1e-4)
    return q * (1 - q) / slope


def ellipsoid(x: np.ndarray, y: np.ndarray, z: np.ndarray, a: float, b: float, c: float) -> Field:
    """Return the distance to an ellipsoid's surface, first order, positive inside."""
    u, v, w = x * np.float32(1 / a), y * np.float32(1 / b), z * np.float32(1 / c)
    q = np.sqrt(u * u + v * v + w * w) + np.float32(1e-3)
    slope = np.sqrt((u / np.float32(a)) ** 2 + (v / np.float32(b)) ** 2 + (w / np.float32(c)) ** 2)
    return q * (1 - q) / (slope + np.float32(1e-4))


def _smooth(points: np.ndarray, radii: np.ndarray, steps: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Return points on the Catmull-Rom spline through points, and radii there."""
    if len(points) < 3:
        return points, np.asarray(radii, float)
    ends = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    p0, p1, p2, p3 = (ends[n : len(points) - 1 + n, None] for n in range(4))
    u = (np.arange(steps) / steps)[None, :, None]
    curve = p1 + 0.5 * u * (p2 - p0 + u * (2 * p0 - 5 * p1 + 4 * p2 - p3 + u * (3 * (p1 - p2) + p3 - p0)))
    at = np.arange((len(points) - 1) * steps + 1) / steps
    return np.concatenate([curve.reshape(-1, 3), points[-1:]]), np.interp(at, np.arange(len(points)), radii)
