"""What a phantom's torso is made of: soft tissue fractions on a grid, with the drawn volumes solved for.

Every structure is a smooth field in millimetres, positive inside; its share of a voxel is the field's linear
ramp over one in-plane voxel, which is partial volume at a straight edge. Structures claim what is left of a
voxel in a fixed order, so fractions always sum to the body's. Where a volume was drawn (subcutaneous and
visceral fat, muscle, liver), the field's level that gives this volume is solved for.

Axes are RAS: x grows to the subject's right, y from back to front, z from foot to head. Levels ``t`` run
along the trunk from the hip joint (0) to the shoulder joint (1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter
from scipy.special import gamma

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
)
"""Tissues in the order of the first axis of what :func:`render` returns."""

OUTLINE_EXPONENT = 2.4  # super-ellipse: area / (width x depth) is .82-.85 in UK Biobank body masks
ABDOMEN_TOP = 0.62  # level below which all but the domes of liver and diaphragm lies
THORACIC_VERTEBRA_9 = 0.72  # level up to which UK Biobank counts abdominal subcutaneous fat
LARGEST_FAT_SHARE = 0.62  # of the abdomen that may be subcutaneous fat, so that a cavity remains
SKELETON_L = 0.9  # lumbar spine, sacrum and pelvis
OTHER_ORGANS_L = 1.8  # spleen, kidneys, stomach, vessels, bladder, and the least of bowel
TRUNK_SHARE = 0.27  # of skeletal muscle lies between hip and shoulder joint: chosen, so that trunks come out at their girth


@dataclass(frozen=True)
class Person:
    """What the anatomy depends on.

    Attributes:
        woman: Sex.
        height_cm: Standing height.
        waist_cm: Waist circumference.
        hip_cm: Hip circumference.
        visceral_l: Visceral fat to be rendered, litres.
        abdominal_subcutaneous_l: Subcutaneous fat between hip joint and diaphragm, litres.
        muscle_kg: Skeletal muscle of the whole body.
        liver_l: Liver, litres.
    """

    woman: bool
    height_cm: float
    waist_cm: float
    hip_cm: float
    visceral_l: float
    abdominal_subcutaneous_l: float
    muscle_kg: float
    liver_l: float


Field = np.ndarray
"""Distance in millimetres to a structure's edge, positive inside, float32 of shape (x, y, z)."""


class Canvas:
    """A grid on which structures claim their share of each voxel.

    Args:
        shape: Voxels along x, y, z.
        spacing: Voxel spacing in millimetres.
    """

    def __init__(self, shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> None:
        self.spacing = spacing
        self.edge = float(np.sqrt(spacing[0] * spacing[1]))
        self.voxel_litres = float(np.prod(spacing)) * 1e-6
        x, y, z = ((np.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, spacing, strict=True))
        self.x, self.y, self.z = np.meshgrid(x, y, z + shape[2] * spacing[2] / 2, indexing="ij", sparse=True)
        self.x, self.y, self.z = (axis.astype(np.float32) for axis in (self.x, self.y, self.z))
        self.shares = np.zeros((len(TISSUES), *shape), np.float32)
        self.free = np.ones(shape, np.float32)

    def ramp(self, field: Field) -> np.ndarray:
        """Return the share of each voxel inside a structure."""
        return np.clip(field * np.float32(1 / self.edge) + np.float32(0.5), 0, 1)

    def claim(self, tissue: str, field: Field) -> None:
        """Give a structure what is still free of the voxels that it covers."""
        self.give(tissue, self.ramp(field))

    def give(self, tissue: str, share: np.ndarray | float) -> None:
        """Give a tissue a share, in [0, 1], of what is still free of each voxel."""
        given = share * self.free
        self.shares[TISSUES.index(tissue)] += given
        self.free -= given

    def litres(self, share: np.ndarray) -> float:
        """Return the volume of a share of each voxel."""
        return float(share.sum(dtype=float)) * self.voxel_litres

    def claim_litres(self, tissue: str, field: Field, litres: float, room: np.ndarray) -> None:
        """Claim the part of ``field`` above the level at which it fills ``litres`` of ``room``.

        Args:
            tissue: What claims.
            field: Any smooth field in millimetres; only its order and slope matter.
            litres: Volume to fill; where there is less room, the room is filled.
            room: Share of each voxel that may be claimed.
        """
        inside = room * self.free > 0
        if not inside.any():
            return
        values, weights = field[inside], (room * self.free)[inside]
        low, high = float(values.min()) - self.edge, float(values.max()) + self.edge
        level = solve(lambda c: self.litres(self.ramp(values - np.float32(c)) * weights), litres, high, low)
        self.give(tissue, self.ramp(field - np.float32(level)) * room)


def solve(volume: Callable[[float], float], wanted: float, low: float, high: float, steps: int = 14) -> float:
    """Return the argument in [low, high] at which a monotone volume comes nearest to the wanted one.

    ``low`` gives the smaller volume; it may be the larger number.
    """
    for _ in range(steps):
        middle = (low + high) / 2
        if volume(middle) < wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def render(
    person: Person, shape: tuple[int, int, int], spacing: tuple[float, float, float], rng: np.random.Generator
) -> np.ndarray:
    """Return each tissue's share of each voxel of a neck-to-hip torso.

    Args:
        person: Whose torso.
        shape: Voxels along x, y, z.
        spacing: Voxel spacing in millimetres.
        rng: Draws individual shape: posture, organ positions, bowel loops.

    Returns:
        float32 of shape (tissues, x, y, z), in [0, 1], summing to the body's share of a voxel.
    """
    canvas = Canvas(shape, spacing)
    torso = _Torso(person, canvas, rng)
    torso.shape_layers()
    torso.place_skeleton()
    torso.place_chest()
    torso.place_abdomen()
    return canvas.shares


class _Torso:
    """One subject's geometry, worked out from the skin inwards; each step builds on those before.

    Sizes in millimetres without a source are those of an adult of average build in anatomy atlases; organ
    positions are relative to the spine, the diaphragm's costal edge and the trunk's breadth.
    """

    def __init__(self, person: Person, canvas: Canvas, rng: np.random.Generator) -> None:
        self.person, self.canvas, self.rng = person, canvas, rng
        # Hip joint to shoulder joint is 52.7 cm in UK Biobank silhouettes at a mean height of about 170 cm.
        self.length = 3.1 * person.height_cm * float(np.exp(0.02 * rng.standard_normal()))
        # The field of view starts just above the hip joint, whoever lies in it: height shows in the levels.
        self.t = canvas.z / np.float32(self.length) + np.float32(0.04)
        self.x = canvas.x + self._wobble(3.0, 260)
        self._outline()

    def _wobble(self, amplitude: float, wavelength: float) -> np.ndarray:
        """Return a smooth random displacement in millimetres."""
        field = np.zeros(1, np.float32)
        for _ in range(3):
            waves = [
                np.sin(
                    2 * np.pi * axis / (wavelength * self.rng.uniform(0.7, 1.6)) + self.rng.uniform(0, 6.28)
                )
                for axis in (self.canvas.x, self.canvas.y, self.canvas.z)
            ]
            field = field + waves[0] * waves[1] * waves[2]
        return (amplitude * field).astype(np.float32)

    def _along(self, *knots: tuple[float, float]) -> np.ndarray:
        """Return a smooth function of level, given as (level, value), shape (1, 1, z)."""
        levels, values = zip(*knots, strict=True)
        inner = np.clip(self.t, levels[0], levels[-1])
        return PchipInterpolator(levels, values)(inner).astype(np.float32)

    def _outline(self) -> None:
        person, woman = self.person, self.person.woman
        # ANSUR II (n = 6,068): breadth and depth at the waist, hip, buttock and chest against circumference.
        if woman:
            waist_breadth, waist_depth = 29.0 + 3.147 * person.waist_cm, -38.4 + 2.921 * person.waist_cm
        else:
            waist_breadth, waist_depth = 46.3 + 2.978 * person.waist_cm, -41.9 + 2.974 * person.waist_cm
        hip_breadth = (3.47 if woman else 3.39) * person.hip_cm
        hip_depth = (2.28 if woman else 2.41) * person.hip_cm
        girth = (person.waist_cm / (86 if woman else 94)) ** 0.5
        chest_breadth = (290 if woman else 325) * girth
        chest_depth = (205 if woman else 240) * girth
        breadth = self._along(
            (-0.1, hip_breadth * 0.99),
            (0.06, hip_breadth),
            (0.20, 0.45 * hip_breadth + 0.55 * waist_breadth),
            (0.36, waist_breadth),
            (0.52, 0.55 * waist_breadth + 0.45 * chest_breadth),
            (0.74, chest_breadth),
            (0.88, chest_breadth * 1.05),
            (0.97, chest_breadth * 0.92),
            (1.03, 165 if woman else 190),
            (1.10, 112 if woman else 130),
        )
        depth = self._along(
            (-0.1, hip_depth),
            (0.06, hip_depth),
            (0.20, 0.4 * hip_depth + 0.6 * waist_depth),
            (0.36, waist_depth),
            (0.52, 0.5 * waist_depth + 0.5 * chest_depth),
            (0.74, chest_depth),
            (0.88, chest_depth * 0.88),
            (0.97, chest_depth * 0.66),
            (1.03, 125 if woman else 140),
            (1.10, 108 if woman else 125),
        )
        self.a, self.b = breadth / 2, depth / 2
        girth_factor = self._girth_factor()
        self.a, self.b = self.a * girth_factor, self.b * girth_factor
        # The back stays nearly straight, the belly comes forward; lumbar lordosis and thoracic kyphosis.
        sway = self._along((0, 0), (0.15, -4), (0.36, 8), (0.72, -8), (0.95, 0), (1.1, 12))
        self.middle = 0.6 * (self.b - chest_depth / 2) + sway - 0.3 * (waist_depth - chest_depth) / 2
        self.y = self.canvas.y - self.middle + self._wobble(2.5, 260)
        radius = np.sqrt(self.x**2 + self.y**2) + np.float32(1e-3)
        n = np.float32(OUTLINE_EXPONENT)
        level = ((np.abs(self.x) / self.a) ** n + (np.abs(self.y) / self.b) ** n) ** (1 / n)
        self.front = np.clip(self.y / radius, 0, 1)
        self.back = np.clip(-self.y / radius, 0, 1)
        self.side = np.abs(self.x) / radius
        self.bulge = 9 * self._pair(65, 45, 0.05, 0.10) * self.back
        if woman:
            size = 24 + 0.45 * (person.waist_cm - 80) + 5 * self.rng.standard_normal()
            self.bulge = (
                self.bulge + float(np.clip(size, 10, 45)) * self._pair(72, 42, 0.70, 0.075) * self.front
            )
        self.depth = radius / np.maximum(level, 1e-3) - radius + self.bulge

    def _girth_factor(self) -> np.float32:
        """Return by how much the outline must grow for the drawn fat, muscle and organs to fit in."""
        person, n = self.person, OUTLINE_EXPONENT
        area = 4 * self.a * self.b * gamma(1 + 1 / n) ** 2 / gamma(1 + 2 / n)
        abdomen = float(area[self.t < ABDOMEN_TOP].sum()) * self.canvas.spacing[2] * 1e-6
        muscle = TRUNK_SHARE * person.muscle_kg / 1.06
        needed = (
            0.85 * person.abdominal_subcutaneous_l
            + 0.70 * muscle
            + SKELETON_L
            + OTHER_ORGANS_L
            + person.liver_l
            + person.visceral_l / 0.9
        )
        return np.float32(np.clip(np.sqrt(needed / abdomen), 1.0, 1.2))

    def _pair(self, offset: float, width: float, level: float, height: float) -> np.ndarray:
        """Return two Gaussian hills, right and left of the midline."""
        across = np.exp(-(((np.abs(self.x) - offset) / width) ** 2))
        return across * np.exp(-(((self.t - level) / height) ** 2))

    def shape_layers(self) -> None:
        """Subcutaneous fat, then the cavity that the body wall's muscle leaves."""
        canvas, person, woman = self.canvas, self.person, self.person.woman
        body = canvas.ramp(self.depth)
        canvas.free = body.copy()
        by_level = (
            self._along(
                (0, 1.30), (0.15, 1.15), (0.35, 0.95), (0.5, 0.7), (0.68, 0.5), (0.9, 0.42), (1.1, 0.35)
            )
            if woman
            else self._along(
                (0, 0.9), (0.15, 1.05), (0.35, 1.0), (0.5, 0.7), (0.68, 0.45), (0.9, 0.4), (1.1, 0.35)
            )
        )
        belly = self._along((0, 0.5), (0.2, 1.0), (0.4, 0.9), (0.55, 0.2), (0.7, 0.0), (1.1, 0.0))
        loin = self._along((0, 1.0), (0.25, 0.9), (0.45, 0.4), (0.7, 0.3), (1.1, 0.4))
        lumps = 1 + self._wobble(0.06, 180)
        thickness = by_level * lumps * (0.75 + 0.45 * belly * self.front + 0.7 * loin * self.back)
        abdomen = body * (self.t < THORACIC_VERTEBRA_9)
        under_bulge = self.depth - self.bulge

        def fat(factor: float) -> float:
            return canvas.litres((1 - canvas.ramp(under_bulge - np.float32(factor) * thickness)) * abdomen)

        wanted = min(person.abdominal_subcutaneous_l, LARGEST_FAT_SHARE * canvas.litres(abdomen))
        factor = solve(fat, wanted, 0.0, 150.0)
        # Gluteal and breast tissue is fat: it adds to the layer and leaves what lies below in its place.
        self.inward = under_bulge - np.float32(factor) * thickness
        canvas.claim("subcutaneous", -self.inward)
        back_fat = factor * by_level * (0.75 + 0.7 * loin)
        self.spine_y = self.middle - self.b + back_fat + 63

    def place_skeleton(self) -> None:
        """Spine, canal and pelvis, then muscle around them with the drawn volume."""
        canvas, t = self.canvas, self.t
        x, y = self.x, canvas.y - self.spine_y
        wide = self._along((0, 30), (0.06, 48), (0.13, 42), (0.18, 26), (0.4, 22), (0.7, 16), (1.1, 13))
        deep = self._along((0, 10), (0.06, 16), (0.13, 18), (0.2, 17), (0.7, 15), (1.1, 11))
        vertebra = _ellipse(x, y, wide, deep)
        # A disc every 34 mm of a mean trunk, a fifth of the column: seen in proportion where slices are thick.
        phase = (canvas.z[..., None] + np.linspace(-0.5, 0.5, 9) * canvas.spacing[2] * 0.9) / (
            0.064 * self.length
        )
        disc = (np.mod(phase, 1) < 0.22).mean(axis=-1, dtype=np.float32) * (t > 0.16)
        canvas.give("disc", canvas.ramp(vertebra) * disc)
        canvas.claim("marrow", vertebra)
        canvas.claim("fluid", _ellipse(x, y + deep + 11, 9.0, 7.5))
        canvas.claim("bone", np.minimum(_ellipse(x, y + deep + 34, 3.5, 13.0), self.length * (t - 0.12)))
        # Iliac wings from the sacroiliac joint to the anterior spine; femoral heads at the bottom.
        flare = self._along((0, 0.50), (0.1, 0.62), (0.26, 0.72), (0.3, 0.72))
        right = np.abs(x)
        wing = 6.5 - _segment(right, y, 40.0, -14.0, flare * self.a, 55.0)
        canvas.claim("marrow", np.minimum(wing, self.length * np.minimum(t - 0.05, 0.27 - t)))
        head = 25 - np.sqrt(
            (right - 0.52 * self.a[..., :1]) ** 2 + (y - 40) ** 2 + (self.length * (t - 0.035)) ** 2
        )
        canvas.claim("marrow", head)

        # Body wall, millimetres in a man of average muscle: thin in front, thick at buttocks and shoulders.
        front = self._along(
            (0, 22), (0.1, 16), (0.2, 10), (0.5, 11), (0.7, 18), (0.82, 24), (0.95, 34), (1.03, 60)
        )
        side = self._along(
            (0, 55), (0.1, 50), (0.2, 28), (0.32, 16), (0.6, 18), (0.75, 23), (0.9, 42), (1.03, 60)
        )
        back = self._along(
            (0, 62), (0.1, 55), (0.2, 30), (0.35, 20), (0.6, 19), (0.8, 25), (0.95, 40), (1.03, 60)
        )
        wall = front * self.front**2 + back * self.back**2 + side * self.side**2
        linea_alba = 1 - 0.6 * np.exp(-((x / 9) ** 2)) * self.front * (t < 0.62)
        wall = wall * linea_alba
        erector = _ellipse(right - 31, y + 40, 29.0, self._along((0, 10), (0.2, 24), (0.5, 20), (0.9, 17)))
        erector = np.minimum(erector, self.length * (t - 0.08))
        psoas = _ellipse(
            right - self._along((0, 62), (0.2, 44), (0.45, 28)),
            y - self._along((0, 34), (0.3, 2)),
            19.0,
            22.0,
        )
        psoas = np.minimum(psoas, self.length * (0.46 - t))

        # Ribs keep the chest wall up however little muscle there is.
        chest = self._along((0.5, 0.0), (0.68, 1.0))

        def thick(scale: float) -> np.ndarray:
            return wall * (np.float32(scale) + chest * np.float32(max(0.85 - scale, 0.0)))

        def muscle(scale: float) -> np.ndarray:
            grown = np.maximum(erector, psoas) + np.float32(18 * (scale - 1))
            return canvas.ramp(np.maximum(thick(scale) - self.inward, grown))

        # Where girth, fat and muscle do not fit together, muscle gives way: organs and bowel need their room.
        person, abdomen = self.person, canvas.free * (t < ABDOMEN_TOP)
        organs = person.liver_l + person.visceral_l / 0.9 + OTHER_ORGANS_L
        inside = canvas.litres(abdomen)
        wanted = TRUNK_SHARE * person.muscle_kg / 1.06  # kg/L

        def surplus(scale: float) -> float:
            share = muscle(scale)
            room = inside - canvas.litres(share * abdomen)
            return max(canvas.litres(share * canvas.free) - wanted, organs - room)

        scale = solve(surplus, 0.0, 0.3, 1.7, 11)
        canvas.give("muscle", muscle(scale))
        self.cavity = self.inward - thick(scale)

    def place_chest(self) -> None:
        """Diaphragm, heart, great vessels and lungs."""
        canvas, rng, t = self.canvas, self.rng, self.t
        x, y = self.x, canvas.y - self.spine_y
        self.base = self.length * (0.57 + 0.012 * rng.standard_normal())  # costal edge of the diaphragm, mm
        z = self.length * t
        room = np.maximum(self.a * 0.78, 30)
        reach = np.maximum(self.b * 0.85, 30)
        dome = 1 - ((np.abs(x) - 0.5 * room) / (0.62 * room)) ** 2 - ((self.y - 5) / reach) ** 2
        rise = np.where(x > 0, 78, 64) * np.clip(dome, -0.25, 1)
        self.above = z - self.base - rise.astype(np.float32)
        canvas.claim("blood", _tube(x + 13, y - 30, 10.5, self.length, t, 0.24, 0.90))
        canvas.claim("blood", _tube(x - 17, y - 27, 10.0, self.length, t, 0.22, 0.60))
        size = (62 if self.person.woman else 68) * float(np.exp(0.06 * rng.standard_normal()))
        heart = _ellipsoid(x + 22, y - 78, z - self.base - 62, 0.92 * size, 0.72 * size, 0.78 * size)
        chamber = heart - 11
        canvas.claim("blood", np.minimum(chamber, self.cavity))
        canvas.claim("heart", np.minimum(np.minimum(heart, self.cavity), self.above + 25))
        canvas.claim("lung", _tube(x, y - 38, 8.0, self.length, t, 0.84, 1.2))
        mediastinum = _ellipse(x, y - 70, self._along((0.5, 34), (0.75, 26), (1, 20)), 88.0)
        canvas.claim("lung", np.minimum(np.minimum(self.cavity - 2, self.above), -mediastinum))
        canvas.claim("blood", np.minimum(np.minimum(mediastinum - 6, self.above), self.cavity))

    def place_abdomen(self) -> None:
        """Organs, visceral fat of the drawn volume, and bowel in what is left."""
        canvas, rng, t = self.canvas, self.rng, self.t
        x, y = self.x + self._wobble(4, 150), canvas.y - self.spine_y + self._wobble(4, 150)
        z = self.length * t - self.base
        half = np.maximum(self.a - 25, 60)[..., np.abs(self.t - 0.5).argmin()].item()
        below = canvas.ramp(np.minimum(self.cavity - 1, -self.above - 2))
        jitter = rng.normal(0, 5, (6, 3)).astype(np.float32)

        lobes = np.maximum(
            -_norm(x - 0.55 * half - jitter[0, 0], (y - 48) / 1.05, (z - 12 - jitter[0, 2]) / 1.35),
            -_norm((x - 0.12 * half) / 1.5, (y - 95) / 0.75, (z - 22 - jitter[0, 2]) / 0.75) - 8,
        )
        canvas.claim_litres("liver", lobes, self.person.liver_l, below)
        spleen = -_norm((x + 0.74 * half) / 0.75, (y - 5 - jitter[1, 1]) / 1.1, (z - 18) / 1.3)
        canvas.claim_litres("spleen", spleen, 0.2 * float(np.exp(0.25 * rng.standard_normal())), below)
        for side, drop in ((1, 62), (-1, 50)):
            shift = jitter[2 + (side > 0)]
            centre = x - side * (0.46 * half + shift[0]), y - 2 - 0.5 * shift[1], z + drop + shift[2]
            kidney = _ellipsoid(*centre, 28.0, 23.0, 54.0)
            sinus = _ellipsoid(centre[0] + side * 12, centre[1] - 3, centre[2], 13.0, 8.0, 24.0)
            canvas.claim("visceral", np.minimum(sinus, kidney))
            canvas.claim("kidney", np.minimum(kidney, self.cavity))
        stomach = _ellipsoid(x + 0.42 * half, y - 82 - jitter[4, 1], z - 8, 48.0, 34.0, 46.0)
        canvas.claim("bowel", np.minimum(np.minimum(stomach, self.cavity - 3), -self.above - 3))
        filling = float(np.exp(0.25 * rng.standard_normal()))
        bladder = _ellipsoid(x, y - 85, self.length * (t - 0.075), 36 * filling, 28 * filling, 26 * filling)
        canvas.claim("fluid", np.minimum(bladder, self.cavity))

        # Fat lies behind, around the kidneys, and between loops of bowel; loops gather in front.
        grain = np.array([10.0, 10.0, 18.0]) / canvas.spacing
        loops = gaussian_filter(rng.standard_normal(canvas.free.shape, np.float32), grain, mode="nearest")
        loops = loops / loops.std()
        behind = -12 * np.tanh((y - 45) / 50) + 10 * np.clip(np.abs(x) / half, 0, 1) ** 2
        below *= canvas.ramp(self.length * (0.62 - t))
        already = canvas.litres(canvas.shares[TISSUES.index("visceral")])
        space = canvas.litres(below * canvas.free)
        wanted = min(self.person.visceral_l, already + 0.9 * space) - already
        canvas.claim_litres("visceral", 10 * loops + behind, max(wanted, 0.02), below)
        canvas.claim("muscle", -self.length * (0.98 - t))
        canvas.claim("contents", np.minimum(6 * (np.abs(loops - 0.9) - 0.35), self.cavity - 6))
        canvas.give("bowel", 1.0)


def _ellipse(x: np.ndarray, y: np.ndarray, a: np.ndarray | float, b: np.ndarray | float) -> Field:
    """Return the distance to an upright elliptic cylinder's surface, first order, positive inside."""
    u, v = x / np.float32(a), y / np.float32(b)
    q = np.sqrt(u**2 + v**2) + np.float32(1e-3)
    slope = np.sqrt((u / np.float32(a)) ** 2 + (v / np.float32(b)) ** 2) + np.float32(1e-4)
    return q * (1 - q) / slope


def _ellipsoid(x: np.ndarray, y: np.ndarray, z: np.ndarray, a: float, b: float, c: float) -> Field:
    """Return the distance to an ellipsoid's surface, first order, positive inside."""
    u, v, w = x / np.float32(a), y / np.float32(b), z / np.float32(c)
    q = np.sqrt(u**2 + v**2 + w**2) + np.float32(1e-3)
    slope = np.sqrt((u / np.float32(a)) ** 2 + (v / np.float32(b)) ** 2 + (w / np.float32(c)) ** 2)
    return q * (1 - q) / (slope + np.float32(1e-4))


def _tube(
    x: np.ndarray, y: np.ndarray, radius: float, length: float, t: np.ndarray, low: float, high: float
) -> Field:
    """Return the distance to an upright vessel's surface between two levels, positive inside."""
    return np.minimum(np.float32(radius) - np.sqrt(x**2 + y**2), length * np.minimum(t - low, high - t))


def _segment(x: np.ndarray, y: np.ndarray, x0: float, y0: float, x1: np.ndarray, y1: float) -> np.ndarray:
    """Return the distance to a line segment in the axial plane."""
    dx, dy = x1 - np.float32(x0), y1 - np.float32(y0)
    along = np.clip(((x - x0) * dx + (y - y0) * dy) / (dx**2 + dy**2), 0, 1)
    return np.sqrt((x - x0 - along * dx) ** 2 + (y - y0 - along * dy) ** 2)


def _norm(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    return np.sqrt(x**2 + y**2 + z**2)
