"""Who is drawn, and the factors of girth, fat and muscle at which everything fits under the drawn waist."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .canvas import solve
from .layers import BOTTOM, TRUNK_TOP, WAIST, Layers, along, circumference

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
    """Individual variation that neither sex nor size explains.

    Args:
        rng: Draws all of it at once, so that nothing depends on a grid.

    Attributes:
        modes, phases: Normal weights and phases of the smooth lumps of skin, fat and wall.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._normals = iter(rng.standard_normal(100).clip(-2.5, 2.5).tolist())
        self.modes = rng.standard_normal((3, 2, 5, 2))
        self.phases = rng.uniform(0, 2 * np.pi, (3, 2, 5, 2))

    def draw(self, spread: float = 1.0) -> float:
        """Return the next normal variate of this standard deviation, clipped at 2.5 of them."""
        return spread * float(next(self._normals))


class Outline:
    """The surfaces of one person.

    Attributes:
        length: From hip joint to shoulder joint, millimetres.
        room: How far girth away from the waist, length and diaphragm had to leave what is most likely for
            the drawn volumes to fit, in [-1.2, 1.6]; 0 is nothing.
        fat: Factor of the thickness of subcutaneous fat.
        muscle: Factor of the thickness of muscle, 1 in a man of average build.
        scale: Factor of girth at which the waist is the drawn one.
        depth_by_breadth: Of the waist, relative to the mean.
        lordosis, kyphosis: Shift of the back to the front and to the back, millimetres.
        belly, loin: More of the subcutaneous fat there, relative to its mean thickness.
        gaps: Widths of linea alba, linea semilunaris, navel and lumbar triangles, in standard deviations.
    """

    def __init__(self, person: Person, traits: Traits) -> None:
        self.person, self.traits = person, traits
        # Hip joint to shoulder joint is 52.7 cm in UK Biobank silhouettes at a mean height of about 170 cm.
        self._usual_length = 3.1 * person.height_cm * float(np.exp(traits.draw(0.018)))
        self.depth_by_breadth = float(np.exp(traits.draw(0.03)))
        self.lordosis, self.kyphosis = traits.draw(3.0), traits.draw(3.0)
        self.belly, self.loin = traits.draw(0.15), traits.draw(0.15)
        self.gaps = [abs(traits.draw()) for _ in range(4)]
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
            self.fat = solve(layers.subcutaneous, self.person.abdominal_subcutaneous_l, 0.0, 200.0)
            layers.fat = self.fat
            self.muscle = solve(layers.muscle, self.person.trunk_muscle_l, 0.1, 3.0)
            return layers.cavity(self.muscle) - self._contents()

        self.room = solve(left, bowel, -1.2, 1.6, 0.02)
        left(self.room)

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
        return self._coarse.inside(self.muscle)

    def spine(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return x and y of the middle of the vertebral bodies (of sacrum and neck) at heights z."""
        t = z / self.length + BOTTOM
        depth = along(
            t, (0.0, 0.06, 0.11, 0.16, 0.22, 0.35, 0.5, 0.75, 1.0), (26, 24, 30, 48, 66, 70, 62, 54, 50)
        )
        x = self._scoliosis[0] * np.sin(2.2 * np.pi * t) + self._scoliosis[1] * np.sin(4.1 * np.pi * t)
        fascia = np.interp(z, self._coarse.z, self._coarse.fascia[27])
        return x, depth * (self.length / 527) - fascia

    def inner_radius(self, level: float, degrees: float) -> float:
        """Return the radius of the body wall's inside at a level and angle."""
        z = (level - BOTTOM) * self.length
        return float(np.interp(z, self._coarse.z, self._inside[round(degrees / 10) % 36]))

    def skin_radius(self, level: float, degrees: float) -> float:
        """Return the radius of the skin at a level and angle."""
        z = (level - BOTTOM) * self.length
        return float(np.interp(z, self._coarse.z, self._coarse.skin[round(degrees / 10) % 36]))

    def extent(self) -> tuple[float, float, float]:
        """Return the middle along y of the trunk's extent, half of that extent, and half of it along x."""
        layers = Layers(self, np.arange(0.0, 1.1 * self.length, 20.0), 72)
        across, forward = layers.skin * layers.c, layers.skin * layers.s
        front, back = float(forward.max()), float(forward.min())
        return (front + back) / 2, (front - back) / 2, float(np.abs(across).max())
