"""A trunk's nested surfaces: skin, fascia under the subcutaneous fat, and the inside of the body wall.

Surfaces are radii about the body's axis, by angle and height, which makes volumes exact integrals and lets
girth, subcutaneous fat, wall muscle and the room within be balanced before anything is drawn.

Axes are RAS: x grows to the subject's right, y from back to front, z from foot to head, in millimetres; the
axis is x = y = 0 and z = 0 the lower end of the field of view. Levels ``t`` run along the trunk from the hip
joint (0) to the shoulder joint (1).
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy.interpolate import PchipInterpolator

from .canvas import Box

if TYPE_CHECKING:
    from .outline import Outline

BOTTOM = 0.04  # level of z = 0: just above the hip joint
WAIST = 0.34  # midway between the lowest rib and the iliac crest
THORACIC_VERTEBRA_9 = 0.72  # level up to which UK Biobank counts abdominal subcutaneous fat
TRUNK_TOP = 0.80  # armpit: level up to which trunk muscle is counted

# Means over rendered bodies.
SKELETON_L = 0.5  # pelvis, ribs and spine within the layer of muscle
INNER_MUSCLE_L = 0.62  # psoas and iliacus of a man of average muscle, inside of the wall


def along(t: np.ndarray, levels: tuple[float, ...], values: tuple[float, ...]) -> np.ndarray:
    """Return a smooth function of level that takes the given values at the given levels."""
    return np.interp(t, _LEVELS, _table(levels, values))


_LEVELS = np.linspace(-0.1, 1.2, 651)


@lru_cache(maxsize=256)
def _table(levels: tuple[float, ...], values: tuple[float, ...]) -> np.ndarray:
    return PchipInterpolator(levels, values)(np.clip(_LEVELS, levels[0], levels[-1]))


class Layers:
    """Tables of an outline's surfaces, of shape (angles, heights); angles run from x = +1 to y = +1.

    Args:
        outline: Whose.
        z: Heights, millimetres.
        angles: Number of angles.
        fixed: Leave out what is local: furrows, breasts, and lumps.
    """

    def __init__(self, outline: Outline, z: np.ndarray, angles: int = 360, fixed: bool = False) -> None:
        self.outline, self.z, self.fixed = outline, z, fixed
        self.t = (z / outline.length + BOTTOM)[None, :]
        self.angle = (np.arange(angles) * (2 * np.pi / angles))[:, None]
        self.c, self.s = np.cos(self.angle), np.sin(self.angle)
        self.front, self.back, self.side = np.clip(self.s, 0, 1) ** 2, np.clip(-self.s, 0, 1) ** 2, self.c**2
        self.skin, self.bulge = self._skin()
        self.fat = getattr(outline, "fat", 0.0)
        self._step = float(z[1] - z[0]) if len(z) > 1 else 1.0
        self._sector = np.pi / angles * self._step * 1e-6

    def _wave(self, which: int, amplitude: float) -> np.ndarray | float:
        """Return 1 plus smooth lumps around and along the body."""
        if self.fixed:
            return 1.0
        lumps = np.zeros(1)
        traits = self.outline.traits
        for k in range(5):
            for part, shape in enumerate((np.cos, np.sin)):
                weights, phases = traits.modes[which, part, k], traits.phases[which, part, k]
                height = weights[0] * np.cos(2.6 * self.t + phases[0]) + weights[1] * np.cos(
                    9 * self.t + phases[1]
                )
                lumps = lumps + height * shape((k + 1) * self.angle) / (k + 1.5)
        return 1 + amplitude * lumps

    def _skin(self) -> tuple[np.ndarray, np.ndarray]:
        o, t = self.outline, self.t
        person, woman = o.person, o.person.woman
        # ANSUR II (n = 6,068): breadth and depth at the waist, hip, buttock and chest against circumference.
        if woman:
            waist_breadth, waist_depth = 29.0 + 3.147 * person.waist_cm, -38.4 + 2.921 * person.waist_cm
        else:
            waist_breadth, waist_depth = 46.3 + 2.978 * person.waist_cm, -41.9 + 2.974 * person.waist_cm
        waist_depth *= o.depth_by_breadth
        # The broadest hips are drawn at a lower rate, so that fields of view hold them.
        hip_breadth = _bent((3.47 if woman else 3.39) * person.hip_cm, 390, 0.45)
        hip_depth = _bent((2.18 if woman else 2.26) * person.hip_cm, 240, 0.4)
        girth = (person.waist_cm / (86 if woman else 94)) ** 0.55 * (
            person.height_cm / (165 if woman else 178)
        ) ** 0.5
        chest_breadth, chest_depth = (298 if woman else 325) * girth, (220 if woman else 240) * girth
        a = 0.5 * along(
            t,
            (-0.1, 0.05, 0.13, 0.22, WAIST, 0.50, 0.68, 0.80, 0.90, 0.96, 1.00, 1.03, 1.06, 1.10),
            (
                hip_breadth * 0.99,
                hip_breadth,
                0.78 * hip_breadth + 0.22 * waist_breadth,
                0.42 * hip_breadth + 0.58 * waist_breadth,
                waist_breadth,
                0.55 * waist_breadth + 0.45 * chest_breadth,
                chest_breadth,
                chest_breadth * 1.07,
                chest_breadth * 1.18,
                chest_breadth * 1.16,
                chest_breadth * 0.98,
                190 if woman else 215,
                122 if woman else 140,
                112 if woman else 128,
            ),
        )
        depth = along(
            t,
            (-0.1, 0.05, 0.15, 0.24, WAIST, 0.50, 0.70, 0.84, 0.93, 1.00, 1.04, 1.10),
            (
                hip_depth,
                hip_depth * 0.99,
                0.6 * hip_depth + 0.38 * waist_depth,
                0.24 * hip_depth + 0.78 * waist_depth,
                waist_depth,
                0.5 * waist_depth + 0.5 * chest_depth,
                chest_depth,
                chest_depth * 0.90,
                chest_depth * 0.76,
                chest_depth * 0.62,
                128 if woman else 142,
                112 if woman else 126,
            ),
        )
        # The back stays nearly straight, lying; lumbar lordosis, thoracic kyphosis, buttocks; the belly rises.
        base = 0.30 * waist_depth + 32
        sway = along(
            t,
            (-0.1, 0.05, 0.16, 0.30, 0.42, 0.68, 0.82, 0.97, 1.05, 1.10),
            (
                14,
                14,
                6,
                -6 - o.lordosis,
                -3 - o.lordosis,
                9 + o.kyphosis,
                8 + o.kyphosis,
                -14,
                -38,
                -44,
            ),
        )
        back = np.minimum(base + sway, 0.62 * depth)
        front = depth - back
        away = along(
            t,
            (0.0, 0.15, 0.26, WAIST - 0.03, WAIST + 0.03, 0.45, 0.55, 0.72, 0.88),
            (0.85, 1.0, 0.4, 0.0, 0.0, 0.6, 1.0, 0.9, 0.0),
        )
        grown = 1 + 0.13 * o.room * away
        rounder = 1 + 0.05 * o.room * np.exp(-(((t - WAIST) / 0.15) ** 2))  # a rounder waist holds more
        a, front, back = a * grown, front * grown * rounder, back * (1 + 0.5 * (grown - 1))
        # Fields of view are 44 to 50 cm wide: the broadest hips are drawn rounder rather than broader.
        a = np.where(a > 200, 200 + 0.2 * (a - 200), a)
        flat = 2.55 - 0.3 * np.clip((person.waist_cm - 80) / 40, 0, 1)
        n_front = along(t, (0, 0.2, 0.45, 0.7, 1.0), (2.5, flat, flat, 2.6, 2.3))
        n_back = along(t, (0, 0.2, 0.7, 1.0), (2.5, 2.7, 2.6, 2.2))
        n = np.where(self.s > 0, n_front, n_back)
        b = np.where(self.s > 0, front, back)
        radius = ((np.abs(self.c) / a) ** n + (np.abs(self.s) / b) ** n) ** (-1 / n)
        radius = radius * self._wave(0, 0.008)
        bulge = np.zeros_like(radius)
        if not self.fixed:
            x = radius * self.c
            lean = np.clip(1.3 - person.abdominal_subcutaneous_l / 12, 0.3, 1)
            cleft = (
                16
                * np.exp(-((x / 16) ** 2))
                * self.back
                * along(t, (0.0, 0.08, 0.14, 0.2, 0.4, 0.9, 1.0), (1.0, 0.5, 0.1, 0.3, 0.45, 0.35, 0.0))
            )
            radius = radius - cleft * np.where(t < 0.14, 1, lean)
            if woman:
                size = float(np.clip(20 + 0.5 * (person.waist_cm - 78), 9, 42))
                hill = np.exp(-(((np.abs(x) - 76) / 46) ** 4) - ((t - 0.70) / 0.085) ** 2) * self.front
                bulge = size * hill
            radius = radius + bulge
        return radius * o.scale, bulge

    @cached_property
    def thickness(self) -> np.ndarray:
        """Subcutaneous fat's thickness before its factor."""
        o, t = self.outline, self.t
        if o.person.woman:
            level = along(
                t,
                (0, 0.12, 0.25, 0.35, 0.5, 0.68, 0.9, 1.08),
                (1.35, 1.25, 1.05, 0.92, 0.68, 0.50, 0.45, 0.30),
            )
            loin = along(t, (0, 0.2, 0.35, 0.5, 0.7, 1.0), (1.1, 1.2, 0.6, 0.3, 0.3, 0.4))
        else:
            level = along(t, (0, 0.15, 0.3, 0.5, 0.68, 0.9, 1.08), (0.85, 1.0, 1.05, 0.68, 0.45, 0.4, 0.30))
            loin = along(t, (0, 0.2, 0.35, 0.5, 0.7, 1.0), (0.7, 1.1, 0.9, 0.35, 0.4, 0.6))
        belly = along(t, (0, 0.15, 0.25, 0.4, 0.55, 0.7, 1.0), (0.3, 0.9, 1.1, 0.8, 0.2, 0.05, 0.0))
        around = 0.72 + (0.5 + o.belly) * belly * self.front + (0.7 + o.loin) * loin * self.back
        if not self.fixed:
            x = self.skin * self.c
            # Fat is thinnest over the spinous processes and the linea alba's attachment, thickest beside them.
            around = around * (1 - 0.35 * np.exp(-((x / 20) ** 2)) * (self.back + 0.4 * self.front))
        return level * around * self._wave(1, 0.06)

    def _under(self, fat: float) -> np.ndarray:
        """Return the thickness of subcutaneous fat, which leaves bones and organs their place."""
        thick = fat * self.thickness
        most = 0.42 * self.skin
        return 2.0 + most * np.tanh(thick / most) + self.bulge

    @cached_property
    def fascia(self) -> np.ndarray:
        """Radius of the surface under the subcutaneous fat."""
        return self.skin - self._under(self.fat)

    def _volume(self, outer: np.ndarray, inner: np.ndarray, low: float, high: float) -> float:
        """Return the litres between two surfaces and two levels."""
        # A height stands for its slab: the last one counts in part.
        slab = np.clip((high - self.t) * self.outline.length / self._step + 0.5, 0, 1) * (self.t >= low)
        return float(((outer**2 - inner**2) * slab).sum()) * self._sector

    def subcutaneous(self, fat: float) -> float:
        """Return the litres of abdominal subcutaneous fat at a factor of its thickness."""
        return self._volume(self.skin, self.skin - self._under(fat), BOTTOM, THORACIC_VERTEBRA_9)

    @cached_property
    def wall(self) -> tuple[np.ndarray, ...]:
        """Thickness of the body wall's parts, in millimetres in a man of average muscle.

        From the outside: muscle that goes with the factor of muscle, muscle that everybody has, bone, and muscle
        inside of the bone that goes with the factor; last, what gaps between muscles take away.
        """
        o, t, front, back, side = self.outline, self.t, self.front, self.back, self.side
        fascia = self.fascia
        x, y = fascia * self.c, fascia * self.s
        across = np.abs(x)
        # After atlases of sectional anatomy.
        thick_front = along(
            t,
            (0, 0.08, 0.2, 0.5, 0.62, 0.72, 0.8, 0.9, 0.97, 1.03, 1.1),
            (26, 17, 11, 11, 7, 9, 13, 18, 26, 46, 50),
        )
        thick_side = along(
            t,
            (0, 0.1, 0.2, 0.25, 0.32, 0.45, 0.58, 0.7, 0.8, 0.88, 0.95, 1.03, 1.1),
            (40, 36, 30, 27, 24, 19, 9, 10, 17, 34, 56, 50, 50),
        )
        thick_back = along(
            t,
            (0, 0.08, 0.16, 0.24, 0.45, 0.6, 0.8, 0.95, 1.03, 1.1),
            (52, 46, 34, 22, 14, 10, 17, 30, 50, 55),
        )
        outer = thick_front * front + thick_side * side + thick_back * back
        # Erector spinae, from the sacrum to the neck, beside the spinous processes.
        erector = along(t, (0.02, 0.12, 0.2, 0.32, 0.5, 0.75, 0.95, 1.05), (0, 18, 34, 34, 28, 20, 14, 0))
        reach = along(t, (0.1, 0.25, 0.4, 0.75, 1.0), (50, 72, 70, 58, 50))
        outer = outer + erector * np.exp(-((across / reach) ** 6)) * (y < 0)
        outer = outer * self._wave(2, 0.04)
        alba, semilunaris, navel, lumbar = o.gaps
        stretched = np.clip((o.person.waist_cm - (75 if o.person.woman else 85)) / 40, 0, 1.2)
        abdominal = along(t, (0.06, 0.1, 0.16, 0.52, 0.6), (0, 0.6, 1, 1, 0))
        straight = 66 + 12 * stretched
        gap = (
            (
                _notch(
                    across,
                    0,
                    (2 + 4 * alba + 5 * stretched) * along(t, (0.1, 0.27, 0.5), (0.3, 1.1, 1.0)),
                    3,
                )
                + 0.9
                * _notch(across, straight + 6, 2 + 3.5 * semilunaris, 4)
                * along(t, (0.1, 0.42, 0.52), (1, 1, 0))
            )
            * (y > 0)
            * abdominal
        )
        gap = gap + np.exp(
            -(((across / (5 + 4 * navel)) ** 2 + ((t - 0.275) * o.length / (6 + 4 * navel)) ** 2) ** 2)
        ) * (y > 0)
        gap = gap + _notch(across, 92 + 6 * stretched, 2 + 6 * lumbar, 5) * (y < 0) * np.exp(
            -(((t - 0.29) / 0.035) ** 2)
        )
        missing = outer * np.clip(gap, 0, 1)
        outer = outer - missing
        # Ribs: inside of the muscle, from the costal margin, which rises to the front, to the neck.
        margin = 0.43 + 0.17 * front
        bone = 9.0 * np.clip((t - margin) / 0.03, 0, 1) * np.clip((1.02 - t) / 0.03, 0, 1)
        inner = np.zeros_like(bone)
        # Iliac wing between gluteus medius and iliacus, from the sacroiliac joint to the anterior spine.
        azimuth = np.degrees(np.arctan2(self.s, np.abs(self.c)))
        crest = 0.255 - 0.055 * np.clip((azimuth + 8) / 45, -1, 1) ** 2
        plate = (
            np.clip((crest - t) * o.length / 5, 0, 1)
            * np.clip((36 - azimuth) / 5, 0, 1)
            * np.clip((azimuth + 66) / 6, 0, 1)
        )
        bone = np.maximum(bone, plate * along(t, (0.0, 0.06, 0.12, 0.2, 0.26), (26, 20, 11, 9, 12)))
        inner = plate * along(t, (0.0, 0.06, 0.14, 0.25), (16, 14, 16, 6))
        # Thin muscles, those of the abdominal wall above all, differ less between people than thick ones.
        share = 0.35 * along(t, (0.08, 0.2, 0.6, 0.85, 0.95), (0.0, 1.0, 1.0, 0.6, 0.0)) * (1 - back)
        return (1 - share) * outer, share * outer, bone, inner, missing

    def inside(self, factor: float) -> np.ndarray:
        """Return the radius of the inside of the body wall at a factor of its muscle's thickness."""
        outer, steady, bone, inner, _ = self.wall
        return np.maximum(self.fascia - factor * (outer + inner) - steady - bone, 0.1 * self.fascia)

    def muscle(self, factor: float) -> float:
        """Return the litres of muscle expected at a factor of its thickness."""
        outer, steady, _, inner, _ = self.wall
        fascia = self.fascia
        thick = np.minimum(factor * (outer + inner) + steady, 0.75 * fascia)
        shell = self._volume(fascia, fascia - thick, BOTTOM, TRUNK_TOP)
        return shell + INNER_MUSCLE_L * factor - SKELETON_L

    def cavity(self, factor: float) -> float:
        """Return the litres expected inside the wall and below the diaphragm."""
        dome = 40.0  # mm: mean height of the domes above the costal edge
        top = (self.outline.diaphragm + dome) / self.outline.length + BOTTOM
        return self._volume(self.inside(factor), np.zeros(1), BOTTOM, top) - INNER_MUSCLE_L * factor

    def on(self, box: Box, *tables: np.ndarray) -> list[np.ndarray]:
        """Return tables at a box's points; its heights must be those of the tables."""
        turn = np.arctan2(box.y, box.x)[:, :, 0] / (2 * np.pi) % 1 * len(self.angle)
        low = turn.astype(int) % len(self.angle)
        high, part = (low + 1) % len(self.angle), (turn % 1).astype(np.float32)[..., None]
        result = []
        for table in (table.astype(np.float32) for table in tables):
            value = table[high] - table[low]
            value *= part
            value += table[low]
            result.append(value)
        return result

    def slope(self, radius: np.ndarray) -> np.ndarray:
        """Return by how much a radial distance to a surface exceeds the true one: its cosine."""
        around = (
            (np.roll(radius, -1, 0) - np.roll(radius, 1, 0)) / (2 * (self.angle[1] - self.angle[0])) / radius
        )
        up = np.gradient(radius, self.z, axis=1) if len(self.z) > 1 else 0.0
        return 1 / np.sqrt(1 + around**2 + up**2)


def circumference(radii: np.ndarray) -> float:
    """Return the length of a closed polygon of radii at equal angles."""
    angle = np.arange(len(radii)) * (2 * np.pi / len(radii))
    points = radii * np.exp(1j * angle)
    return float(np.abs(np.diff(points, append=points[:1])).sum())


def _bent(value: float, knee: float, rate: float) -> float:
    return value if value < knee else knee + rate * (value - knee)


def _notch(across: np.ndarray, centre: float, half: np.ndarray | float, blur: float) -> np.ndarray:
    """Return 1 within ``half`` of ``centre``, falling to 0 over ``blur``."""
    return np.clip((half - np.abs(across - centre)) / blur + 0.5, 0, 1)
