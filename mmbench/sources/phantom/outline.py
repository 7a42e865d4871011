"""A trunk's nested surfaces: skin, fascia under the subcutaneous fat, and the inside of the body wall.

Surfaces are radii about the body's axis, by angle and height, which makes volumes exact integrals and lets
girth, subcutaneous fat, wall muscle and the room within be balanced before anything is drawn.

Axes are RAS: x grows to the subject's right, y from back to front, z from foot to head, in millimetres; the
axis is x = y = 0 and z = 0 the lower end of the field of view. Levels ``t`` run along the trunk from the hip
joint (0) to the shoulder joint (1).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from scipy.interpolate import PchipInterpolator

from .canvas import Box, solve

BOTTOM = 0.04  # level of z = 0: just above the hip joint
WAIST = 0.34  # midway between the lowest rib and the iliac crest
THORACIC_VERTEBRA_9 = 0.72  # level up to which UK Biobank counts abdominal subcutaneous fat
TRUNK_TOP = 0.80  # armpit: level up to which trunk muscle is counted
TOP = 1.08

SKELETON_L = 0.75  # pelvis, ribs and spine within the layer of muscle, chosen as the mean of rendered bodies
INNER_MUSCLE_L = 0.62  # psoas and iliacus of a man of average muscle, inside the wall
OTHER_ORGANS_L = 0.85  # lumbar vertebrae, spleen, kidneys, pancreas, stomach, vessels, bladder


@dataclass(frozen=True)
class Person:
    """What the anatomy depends on.

    Attributes:
        woman: Sex.
        height_cm: Standing height.
        waist_cm: Waist circumference, midway between the lowest rib and the iliac crest.
        hip_cm: Hip circumference.
        visceral_l: Visceral fat, litres: intraperitoneal, mesenteric and retroperitoneal.
        abdominal_subcutaneous_l: Subcutaneous fat between hip joint and the ninth thoracic vertebra, litres.
        trunk_muscle_l: Skeletal muscle between hip joint and armpit, litres.
        liver_l: Liver, litres.
        arms: Whether the arms lie beside the trunk.
    """

    woman: bool
    height_cm: float
    waist_cm: float
    hip_cm: float
    visceral_l: float
    abdominal_subcutaneous_l: float
    trunk_muscle_l: float
    liver_l: float
    arms: bool = False


class Traits:
    """Individual variation that neither sex nor size explains: named standard normals, and smooth modes.

    Args:
        rng: Draws them; the order of draws does not depend on any grid.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._normals = rng.standard_normal(200).clip(-2.5, 2.5)
        self._next = 0
        self.modes = [rng.standard_normal((2, 5, 2)) for _ in range(3)]
        self.phases = rng.uniform(0, 2 * np.pi, (2, 5, 2))

    def draw(self, spread: float = 1.0) -> float:
        """Return the next normal variate, clipped to 2.5 standard deviations."""
        self._next += 1
        return spread * float(self._normals[self._next - 1])

    def rewind(self) -> None:
        """Start over after the outline's draws."""
        self._next = 50


def along(t: np.ndarray, *knots: tuple[float, float]) -> np.ndarray:
    """Return a smooth function of level, given as (level, value)."""
    return np.interp(t, _LEVELS, _table(knots))


_LEVELS = np.linspace(-0.1, 1.2, 651)


@lru_cache(maxsize=256)
def _table(knots: tuple[tuple[float, float], ...]) -> np.ndarray:
    levels, values = zip(*knots, strict=True)
    return PchipInterpolator(levels, values)(np.clip(_LEVELS, levels[0], levels[-1]))


class Outline:
    """The surfaces of one person.

    Attributes:
        length: From hip joint to shoulder joint, millimetres.
        room: How far girth away from the waist, length and diaphragm had to leave what is most likely for
            the drawn volumes to fit, in [-1, 1].
        fat: Factor of the thickness of subcutaneous fat.
        muscle: Factor of the thickness of muscle, 1 in a man of average build.
    """

    def __init__(self, person: Person, traits: Traits) -> None:
        self.person, self.traits = person, traits
        # Hip joint to shoulder joint is 52.7 cm in UK Biobank silhouettes at a mean height of about 170 cm.
        self._usual_length = 3.1 * person.height_cm * float(np.exp(traits.draw(0.018)))
        self._depth_by_breadth = float(np.exp(traits.draw(0.03)))
        self._lordosis, self._kyphosis = traits.draw(3.0), traits.draw(3.0)
        self._belly, self._loin = traits.draw(0.15), traits.draw(0.15)
        self._gaps = [abs(traits.draw()) for _ in range(4)]
        self._scoliosis = traits.draw(3.0), traits.draw(3.0)
        self._balance(bowel=2.4 * float(np.exp(traits.draw(0.15))))

    def _balance(self, bowel: float) -> None:
        """Find the room that leaves the bowel its volume, and with it fat and muscle."""

        def left(room: float) -> float:
            self.room = room
            self.length = self._usual_length * (1 + 0.03 * room)
            self.scale = 1.0
            waist = Layers(self, np.array([self.waist])).skin[:, 0]
            self.scale = 10 * self.person.waist_cm / circumference(waist)
            layers = Layers(self, np.arange(6.0, TRUNK_TOP * self.length, 12.0), 90)
            self.fat = solve(layers.subcutaneous, self.person.abdominal_subcutaneous_l, 0.0, 200.0, 13)
            layers.fat = self.fat
            self.muscle = solve(layers.muscle, self.person.trunk_muscle_l, 0.1, 3.0, 10)
            return layers.cavity(self.muscle) - self._contents()

        self.room = solve(left, bowel, -1.0, 1.25, 7)
        self.left = left(self.room)

    def _contents(self) -> float:
        return self.person.visceral_l + self.person.liver_l + OTHER_ORGANS_L

    @property
    def waist(self) -> float:
        """Height of the waist, millimetres."""
        return (WAIST - BOTTOM) * self.length

    @property
    def diaphragm(self) -> float:
        """Level of the diaphragm's costal edge, millimetres."""
        return self.length * 0.555 + 22 * self.room

    @cached_property
    def _coarse(self) -> Layers:
        return Layers(self, np.arange(-20.0, 1.15 * self.length, 8.0), 36, fixed=True)

    @cached_property
    def _inside(self) -> np.ndarray:
        outer, bone, inner = self._coarse.wall
        return self._coarse.fascia - self.muscle * (outer + inner) - bone

    def spine(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return x and y of the middle of the vertebral bodies (of sacrum and neck) at heights z."""
        t = z / self.length + BOTTOM
        depth = along(
            t,
            (0.0, 26),
            (0.06, 24),
            (0.11, 30),
            (0.16, 48),
            (0.22, 66),
            (0.35, 70),
            (0.5, 62),
            (0.75, 54),
            (1.0, 50),
        )
        x = self._scoliosis[0] * np.sin(2.2 * np.pi * t) + self._scoliosis[1] * np.sin(4.1 * np.pi * t)
        fascia = np.interp(z, self._coarse.z, self._coarse.fascia[27])
        return x, depth * (self.length / 527) - fascia

    def inner_radius(self, level: float, degrees: float) -> float:
        """Return the radius of the body wall's inside at a level and angle."""
        z = (level - BOTTOM) * self.length
        return float(np.interp(z, self._coarse.z, self._inside[round(degrees / 10) % 36]))


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
                weights, phases = traits.modes[which][part, k], traits.phases[part, k]
                height = weights[0] * np.cos(2.6 * self.t + phases[0]) + weights[1] * np.cos(
                    9 * self.t + phases[1] + which
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
        waist_depth *= o._depth_by_breadth
        # Breadths beyond 40 cm grow at a lower rate: lying, fat hips rise rather than spread.
        hip_breadth = _bent((3.47 if woman else 3.39) * person.hip_cm, 390, 0.45)
        hip_depth = (2.18 if woman else 2.26) * person.hip_cm
        girth = (person.waist_cm / (86 if woman else 94)) ** 0.55 * (
            person.height_cm / (165 if woman else 178)
        ) ** 0.5
        chest_breadth, chest_depth = (298 if woman else 325) * girth, (220 if woman else 240) * girth
        a = 0.5 * along(
            t,
            (-0.1, hip_breadth * 0.99),
            (0.05, hip_breadth),
            (0.13, 0.78 * hip_breadth + 0.22 * waist_breadth),
            (0.22, 0.42 * hip_breadth + 0.58 * waist_breadth),
            (WAIST, waist_breadth),
            (0.50, 0.55 * waist_breadth + 0.45 * chest_breadth),
            (0.68, chest_breadth),
            (0.80, chest_breadth * 1.07),
            (0.90, chest_breadth * 1.18),
            (0.96, chest_breadth * 1.16),
            (1.00, chest_breadth * 0.98),
            (1.03, 190 if woman else 215),
            (1.06, 122 if woman else 140),
            (1.10, 112 if woman else 128),
        )
        depth = along(
            t,
            (-0.1, hip_depth),
            (0.05, hip_depth * 0.99),
            (0.15, 0.6 * hip_depth + 0.38 * waist_depth),
            (0.24, 0.24 * hip_depth + 0.78 * waist_depth),
            (WAIST, waist_depth),
            (0.50, 0.5 * waist_depth + 0.5 * chest_depth),
            (0.70, chest_depth),
            (0.84, chest_depth * 0.90),
            (0.93, chest_depth * 0.76),
            (1.00, chest_depth * 0.62),
            (1.04, 128 if woman else 142),
            (1.10, 112 if woman else 126),
        )
        # The back stays nearly straight, lying; lumbar lordosis, thoracic kyphosis, buttocks; the belly rises.
        base = 0.30 * waist_depth + 32
        sway = along(
            t,
            (-0.1, 14 + 0.12 * (hip_depth - 235)),
            (0.05, 14 + 0.12 * (hip_depth - 235)),
            (0.16, 6),
            (0.30, -6 - o._lordosis),
            (0.42, -3 - o._lordosis),
            (0.68, 9 + o._kyphosis),
            (0.82, 8 + o._kyphosis),
            (0.97, -14),
            (1.05, -38),
            (1.10, -44),
        )
        back = np.minimum(base + sway, 0.62 * depth)
        front = depth - back
        away = along(
            t,
            (0.0, 0.85),
            (0.15, 1.0),
            (0.26, 0.4),
            (WAIST - 0.03, 0.0),
            (WAIST + 0.03, 0.0),
            (0.45, 0.6),
            (0.55, 1.0),
            (0.72, 0.9),
            (0.88, 0.0),
        )
        grown = 1 + 0.13 * o.room * away
        rounder = 1 + 0.05 * o.room * np.exp(-(((t - WAIST) / 0.15) ** 2))  # a rounder waist holds more
        a, front, back = a * grown, front * grown * rounder, back * (1 + 0.5 * (grown - 1))
        # Fields of view are 44 to 50 cm wide: the broadest hips are drawn rounder rather than broader.
        a = np.where(a > 205, 205 + 0.25 * (a - 205), a)
        flat = 2.55 - 0.3 * np.clip((person.waist_cm - 80) / 40, 0, 1)
        n_front = along(t, (0, 2.5), (0.2, flat), (0.45, flat), (0.7, 2.6), (1.0, 2.3))
        n_back = along(t, (0, 2.5), (0.2, 2.7), (0.7, 2.6), (1.0, 2.2))
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
                * along(
                    t, (0.0, 1.0), (0.08, 0.5), (0.14, 0.1), (0.2, 0.3), (0.4, 0.45), (0.9, 0.35), (1.0, 0.0)
                )
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
                (0, 1.35),
                (0.12, 1.25),
                (0.25, 1.05),
                (0.35, 0.92),
                (0.5, 0.68),
                (0.68, 0.50),
                (0.9, 0.45),
                (1.08, 0.30),
            )
            loin = along(t, (0, 1.1), (0.2, 1.2), (0.35, 0.6), (0.5, 0.3), (0.7, 0.3), (1.0, 0.4))
        else:
            level = along(
                t, (0, 0.85), (0.15, 1.0), (0.3, 1.05), (0.5, 0.68), (0.68, 0.45), (0.9, 0.4), (1.08, 0.30)
            )
            loin = along(t, (0, 0.7), (0.2, 1.1), (0.35, 0.9), (0.5, 0.35), (0.7, 0.4), (1.0, 0.6))
        belly = along(t, (0, 0.3), (0.15, 0.9), (0.25, 1.1), (0.4, 0.8), (0.55, 0.2), (0.7, 0.05), (1.0, 0.0))
        around = 0.72 + (0.5 + o._belly) * belly * self.front + (0.7 + o._loin) * loin * self.back
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
    def wall(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Thickness of muscle at factor 1 outside of the bone, of bone, and of muscle inside of the bone."""
        o, t, front, back, side = self.outline, self.t, self.front, self.back, self.side
        fascia = self.fascia
        x, y = fascia * self.c, fascia * self.s
        across = np.abs(x)
        # Millimetres in a man of average muscle, after atlases of sectional anatomy.
        thick_front = along(
            t,
            (0, 26),
            (0.08, 17),
            (0.2, 11),
            (0.5, 11),
            (0.62, 7),
            (0.72, 9),
            (0.8, 13),
            (0.9, 18),
            (0.97, 26),
            (1.03, 46),
            (1.1, 50),
        )
        thick_side = along(
            t,
            (0, 40),
            (0.1, 36),
            (0.2, 30),
            (0.25, 27),
            (0.32, 24),
            (0.45, 19),
            (0.58, 9),
            (0.7, 10),
            (0.8, 17),
            (0.88, 34),
            (0.95, 56),
            (1.03, 50),
            (1.1, 50),
        )
        thick_back = along(
            t,
            (0, 52),
            (0.08, 46),
            (0.16, 34),
            (0.24, 22),
            (0.45, 14),
            (0.6, 10),
            (0.8, 17),
            (0.95, 30),
            (1.03, 50),
            (1.1, 55),
        )
        outer = thick_front * front + thick_side * side + thick_back * back
        # Erector spinae, from the sacrum to the neck, beside the spinous processes.
        erector = along(
            t, (0.02, 0), (0.12, 18), (0.2, 34), (0.32, 34), (0.5, 28), (0.75, 20), (0.95, 14), (1.05, 0)
        )
        reach = along(t, (0.1, 50), (0.25, 72), (0.4, 70), (0.75, 58), (1.0, 50))
        outer = outer + erector * np.exp(-((across / reach) ** 6)) * (y < 0)
        outer = outer * self._wave(2, 0.04)
        alba, semilunaris, navel, lumbar = o._gaps
        stretched = np.clip((o.person.waist_cm - (75 if o.person.woman else 85)) / 40, 0, 1.2)
        abdominal = along(t, (0.06, 0), (0.1, 0.6), (0.16, 1), (0.52, 1), (0.6, 0))
        straight = 66 + 12 * stretched
        gap = (
            (
                _notch(
                    across,
                    0,
                    (2 + 4 * alba + 5 * stretched) * along(t, (0.1, 0.3), (0.27, 1.1), (0.5, 1.0)),
                    3,
                )
                + 0.9
                * _notch(across, straight + 6, 2 + 3.5 * semilunaris, 4)
                * along(t, (0.1, 1), (0.42, 1), (0.52, 0))
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
        outer = outer * (1 - np.clip(gap, 0, 1))
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
        bone = np.maximum(bone, plate * along(t, (0.0, 26), (0.06, 20), (0.12, 11), (0.2, 9), (0.26, 12)))
        inner = plate * along(t, (0.0, 16), (0.06, 14), (0.14, 16), (0.25, 6))
        return outer, bone, inner

    def muscle(self, factor: float) -> float:
        """Return the litres of muscle expected at a factor of its thickness."""
        outer, bone, inner = self.wall
        fascia = self.fascia
        thick = np.minimum(factor * (outer + inner), 0.75 * fascia)
        shell = self._volume(fascia, fascia - thick, BOTTOM, TRUNK_TOP)
        return shell + INNER_MUSCLE_L * factor - SKELETON_L

    def cavity(self, factor: float) -> float:
        """Return the litres expected inside the wall and below the diaphragm."""
        outer, bone, inner = self.wall
        fascia = self.fascia
        inside = np.maximum(fascia - factor * (outer + inner) - bone, 0.1 * fascia)
        dome = 40.0  # mm: mean height of the domes above the costal edge
        top = (self.outline.diaphragm + dome) / self.outline.length + BOTTOM
        return self._volume(inside, np.zeros(1), BOTTOM, top) - INNER_MUSCLE_L * factor

    def on(self, box: Box, *tables: np.ndarray) -> list[np.ndarray]:
        """Return tables at a box's points; its heights must be those of the tables."""
        turn = np.arctan2(box.y, box.x)[:, :, 0] / (2 * np.pi) % 1 * len(self.angle)
        low = turn.astype(int) % len(self.angle)
        high, part = (low + 1) % len(self.angle), (turn % 1).astype(np.float32)[..., None]
        result = []
        for table in tables:
            table = table.astype(np.float32)
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
