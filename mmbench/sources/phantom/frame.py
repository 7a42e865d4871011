"""What structures of one body are placed by on one canvas: its surfaces, spine and diaphragm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .canvas import Box, Canvas, Field, Noise
from .layers import BOTTOM, Layers
from .outline import Outline, Traits

Point = tuple[float, float, float]


class Frame:
    """A body's surfaces as fields on a canvas, and where its parts lie.

    Attributes:
        size: Length of the trunk relative to a mean one.
        all: The whole canvas as a box.
        t: Level, of shape (1, 1, z).
        depth: Distance from the skin, positive inside.
        fascia: Radial distance from the inside of the subcutaneous fat, positive inside.
        lean: Share of each voxel inside of the subcutaneous fat.
        outer, bone, inner, gap: Thickness of parts of the body wall: see :attr:`Layers.wall`.
        cavity: Distance from the inside of the body wall, positive inside; set once muscle is placed.
        above: Distance from the diaphragm, positive in the chest.
        base: Height of the diaphragm's costal edge in millimetres.
        domes: Heights of its right and left dome above the edge.
        spine_x, spine_y: Middle of the vertebral bodies, by height, of shape (1, 1, z).
        warps: Smooth random fields that displace organs.
        seams: The same for the planes between muscles.
        loops: Two on whose common zeros the loops of small bowel lie.
    """

    cavity: Field

    def __init__(self, canvas: Canvas, outline: Outline, rng: np.random.Generator) -> None:
        self.canvas, self.outline, self.traits = canvas, outline, Traits(rng)
        self.person = outline.person
        self.size = outline.length / 527
        self.warps = Noise(rng, 95.0), Noise(rng, 95.0)
        self.seams = Noise(rng, 26.0)
        self.loops = Noise(rng, 15.5), Noise(rng, 15.5)
        self.all = canvas.box()
        z = canvas.z.ravel().astype(float)
        self.t = (canvas.z / outline.length + BOTTOM).astype(np.float32)
        layers = Layers(outline, z)
        surfaces = layers.skin, layers.slope(layers.skin), layers.fascia, layers.slope(layers.fascia)
        skin, slope, fascia, self._slope, self.outer, self._steady, self.bone, self.inner, self.gap = (
            layers.on(self.all, *surfaces, *layers.wall)
        )
        radius = np.sqrt(canvas.x**2 + canvas.y**2)
        self.depth = (skin - radius) * slope
        self.fascia = fascia - radius
        self.lean = np.minimum(self.all.ramp(self.fascia * self._slope), self.all.ramp(self.depth))
        self.spine_x, self.spine_y = (axis.astype(np.float32)[None, None] for axis in outline.spine(z))
        self._place_diaphragm()

    def _place_diaphragm(self) -> None:
        self.base = self.outline.diaphragm
        # Breathing out leaves the right dome about two centimetres higher than the left one.
        self.domes = 84 + self.traits.draw(5), 66 + self.traits.draw(6)
        right, left = (self.inner_radius(0.58, angle) for angle in (0, 180))
        front = self.inner_radius(0.58, 90)
        x, y = self.canvas.x, self.canvas.y
        rises = [
            rise - 78 * ((x - side * 0.47 * wide) / (0.55 * wide)) ** 2 - 70 * ((y - back) / front) ** 2
            for side, rise, wide, back in ((1, self.domes[0], right, 4), (-1, self.domes[1], left, -4))
        ]
        # Between them lies the central tendon, with the heart on it.
        tendon = self.domes[1] - 8 - 60 * (x / (0.6 * right)) ** 2 - 62 * ((y - 0.2 * front) / front) ** 2
        rises.append(tendon)
        rise = 9 * np.log(sum(np.exp(np.clip(rise, -120, 120) / 9) for rise in rises))
        height = np.float32(self.base) + np.clip(rise, -70, None)
        self.highest = float(height.max()) + 5
        self.above = (self.canvas.z - height) * np.float32(0.8)

    def height(self, level: float) -> float:
        """Return the height of a level in millimetres."""
        return (level - BOTTOM) * self.outline.length

    def inner_radius(self, level: float, degrees: float) -> float:
        """Return the radius of the inside of the body wall at a level and angle (0 right, 90 front)."""
        return self.outline.inner_radius(level, degrees)

    def at(self, level: float, x: float, y: float) -> Point:
        """Return a position relative to the spine at a level, in millimetres of a mean trunk."""
        z = self.height(level)
        spine_x, spine_y = self.outline.spine(np.array([z]))
        return spine_x[0] + x * self.size, spine_y[0] + y * self.size, z

    def path(self, *places: tuple[float, float, float]) -> list[Point]:
        """Return the positions of (level, x, y) relative to the spine."""
        return [self.at(*place) for place in places]

    def wall(self, factor: float) -> Field:
        """Return the distance from the inside of the body wall at a factor of its muscle's thickness."""
        thick = np.float32(factor) * (self.outer + self.inner)
        thick += self._steady
        thick += self.bone
        return (self.fascia - thick) * self._slope

    def below(self, box: Box, margin: float = 0.0) -> Field:
        """Return the distance from what bounds the abdomen, positive inside."""
        return np.minimum(box.of(self.cavity), -box.of(self.above) - np.float32(1.2)) - np.float32(margin)

    def tube(
        self, tissue: str, points: Sequence[Point], radii: Sequence[float] | float, chest: bool = False
    ) -> None:
        """Claim a tube inside of the body wall and, unless it lies in the chest, under the diaphragm."""
        box, field = self.canvas.tube(points, radii)
        box.claim(tissue, np.minimum(field, box.of(self.cavity) if chest else self.below(box, 1.0)))
