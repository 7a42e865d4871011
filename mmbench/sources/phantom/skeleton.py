"""Bones and muscles of the trunk, and the fat between them."""

from __future__ import annotations

import numpy as np

from .canvas import Box, Canvas, Field, Noise, ellipse, ellipsoid, solve
from .outline import BOTTOM, TRUNK_TOP, Layers, Outline, along


class Frame:
    """What organs are placed by: the body's surfaces as fields on the canvas, the spine, and sizes.

    Attributes:
        size: Length of the trunk relative to a mean one.
        depth: Distance from the skin, positive inside.
        cavity: Distance from the inside of the body wall, positive inside.
        spine_x, spine_y: Middle of the vertebral bodies, by height, of shape (1, 1, z).
    """

    def __init__(self, canvas: Canvas, outline: Outline, rng: np.random.Generator) -> None:
        self.canvas, self.outline, self.traits = canvas, outline, outline.traits
        self.size = outline.length / 527
        self.warps = [Noise(rng, 95.0) for _ in range(3)]
        self.seams = Noise(rng, 26.0)
        self.all = canvas.box()
        z = canvas.z.ravel().astype(float)
        self.t = (canvas.z / outline.length + BOTTOM).astype(np.float32)
        self.layers = layers = Layers(outline, z)
        radius = np.sqrt(canvas.x**2 + canvas.y**2)
        skin, skin_slope, self.fascia, self.fascia_slope, self.outer, self.bone, self.inner = layers.on(
            self.all,
            layers.skin,
            layers.slope(layers.skin),
            layers.fascia,
            layers.slope(layers.fascia),
            *layers.wall,
        )
        self.depth = (skin - radius) * skin_slope
        self.fascia = self.fascia - radius
        spine = outline.spine(z)
        self.spine_x, self.spine_y = (axis.astype(np.float32)[None, None] for axis in spine)
        self._heights = z

    def spine_at(self, level: float) -> np.ndarray:
        """Return x, y, z of the middle of the column at a level."""
        z = (level - BOTTOM) * self.outline.length
        x, y = self.outline.spine(np.array([z]))
        return np.array([x[0], y[0], z])

    def height(self, level: float) -> float:
        """Return the height of a level in millimetres."""
        return (level - BOTTOM) * self.outline.length

    def wall(self, factor: float) -> Field:
        """Return the distance from the inside of the body wall at a factor of its muscle's thickness."""
        thick = np.float32(factor) * (self.outer + self.inner) + self.bone
        return (self.fascia - thick) * self.fascia_slope


def place_skin(frame: Frame) -> None:
    """Leave free what is body, and claim the subcutaneous fat."""
    canvas, everything = frame.canvas, frame.all
    np.copyto(canvas.free, everything.ramp(frame.depth))
    frame.lean = np.minimum(everything.ramp(frame.fascia * frame.fascia_slope), canvas.free)
    everything.give("subcutaneous", canvas.free - frame.lean)


def place_spine(frame: Frame) -> None:
    """Vertebrae and discs from sacrum to neck, canal, arches and spinous processes."""
    canvas, size, length = frame.canvas, frame.size, frame.outline.length
    box = canvas.box((-75, 75), (float(frame.spine_y.min()) - 75, float(frame.spine_y.max()) + 30))
    t = box.of(frame.t)
    x, y = box.x - box.of(frame.spine_x), box.y - box.of(frame.spine_y)
    right = np.abs(x)
    wide = (
        along(
            t, (0.0, 14), (0.06, 38), (0.12, 48), (0.155, 34), (0.18, 26), (0.4, 23.5), (0.6, 17), (1.08, 13)
        )
        * size
    )
    deep = along(t, (0.0, 7), (0.06, 10), (0.12, 16), (0.17, 18), (0.4, 17), (0.7, 15), (1.08, 9)) * size
    body = ellipse(x, y, wide, deep)
    # Vertebra and disc are 36 mm in the lumbar spine, 27 at its top and 20 at the upper thoracic spine.
    pitch = (
        along(np.linspace(0.165, 1.1, 400), (0.165, 36), (0.5, 31), (0.62, 26), (1.0, 20), (1.1, 17)) * size
    )
    phase = np.interp(t, np.linspace(0.165, 1.1, 400), np.cumsum(length * 0.935 / 400 / pitch)).astype(
        np.float32
    )
    part = np.mod(phase, 1)
    thick = along(t, (0.165, 0.32), (0.4, 0.27), (0.6, 0.2), (1.1, 0.2))
    disc = (np.minimum(part, thick - part) * 28 * size).astype(np.float32)
    disc = np.where(t > 0.16, disc, -9).astype(np.float32)
    box.claim("disc", np.minimum(body, disc))
    box.claim("marrow", body - 1.2)
    box.claim("bone", body)
    canal = ellipse(x, y + deep + 9.5, 11.0 * np.float32(size), 7.5 * np.float32(size))
    box.claim("fluid", np.minimum(canal, length * (t - 0.09)))
    box.claim("other_fat", np.minimum(canal + 2.5, length * (t - 0.09)))
    lamina = np.minimum(canal + 8.5, length * (t - 0.07))
    process = np.minimum(
        4.2 - right,
        np.minimum(
            y + deep + 50 * along(t, (0.05, 0.55), (0.2, 1.0), (0.5, 0.9), (1.0, 0.8)), -y - deep - 10
        ),
    )
    # Arches and processes belong to the vertebra; ligament and fat lie between.
    height = np.mod(phase + 0.35, 1)
    process = np.minimum(process, (0.36 - np.abs(height - 0.5)) * 34)
    transverse = np.minimum(
        np.minimum(
            4.5 - np.abs(y + deep + 6),
            along(t, (0.16, 34), (0.4, 34), (0.6, 32), (1.0, 28)).astype(np.float32) * np.float32(size)
            - right,
        ),
        (0.17 - np.abs(np.mod(phase + 0.1, 1) - 0.5)) * 34,
    )
    transverse = np.minimum(transverse, length * (t - 0.165))
    arch = np.maximum(np.maximum(np.minimum(lamina, (0.42 - np.abs(height - 0.5)) * 34), process), transverse)
    box.claim("marrow", arch - 2.2)
    box.claim("bone", arch)
    # Sacral wings reach to the iliac bones.
    wings = np.minimum(
        ellipse(
            x,
            y + 4,
            along(t, (0.03, 12), (0.07, 42), (0.12, 58), (0.165, 48), (0.18, 20)).astype(np.float32)
            * np.float32(size),
            17.0,
        ),
        length * np.minimum(t - 0.045, 0.172 - t),
    )
    box.claim("marrow", wings - 1.2)
    box.claim("bone", wings)


def place_hips(frame: Frame) -> None:
    """Acetabular roofs and the tops of the femoral heads."""
    canvas, size = frame.canvas, frame.size
    for side in (1, -1):
        x, y = side * 88 * size, 12 * size
        box = canvas.box((x - 30, x + 30), (y - 30, y + 30), (-60, 40))
        head = ellipsoid(
            box.x - np.float32(x), box.y - np.float32(y), box.z + 21, 25 * size, 25 * size, 25 * size
        )
        box.claim("marrow", head - 1.5)
        box.claim("bone", head)
        box, roof = canvas.tube(
            [(x, y, -10), (x - side * 1, y - 4, 14), (x - side * 2, y - 18, 40), (x - side * 14, y - 42, 62)],
            [34 * size, 27 * size, 17 * size, 11 * size],
        )
        box.claim("marrow", roof - 2)
        box.claim("bone", roof)


def place_muscles(frame: Frame, diaphragm: Field) -> None:
    """Ribs and iliac wings in the body wall, and muscle of the drawn volume with the fat between."""
    canvas, outline, everything, t = frame.canvas, frame.outline, frame.all, frame.t
    size = frame.size
    # Ribs fall by about 6 cm from the back to the front.
    radius = np.sqrt(canvas.x**2 + canvas.y**2)
    forward = canvas.y / np.maximum(radius, 20)
    phase = np.mod((canvas.z + np.float32(52 * size) * forward) * np.float32(1 / (25 * size)), 1)
    rib = (0.26 - np.abs(phase - 0.5)) * np.float32(25 * size)
    sternum = np.minimum(19 - np.abs(canvas.x), outline.length * np.minimum(t - 0.60, 0.90 - t))
    rib = np.maximum(rib, np.where(canvas.y > 0, sternum, -9))
    rib = np.where((t > 0.42) & (frame.bone > 0.5), rib, np.float32(-9))
    plate = np.where(t < 0.3, np.float32(9), np.float32(-9))
    solid = np.maximum(rib, plate)
    psoas = _psoas(frame)
    # Fat between muscles: sheets, where muscle is thick.
    # Their planes follow the body's surface, as between the gluteal muscles, and the side of erector spinae.
    half = np.minimum(0.6 + 0.1 * min(outline.person.visceral_l, 8), (frame.outer - 15) * 0.1)
    wander = frame.seams(everything)
    away = np.abs(frame.fascia - (np.float32(0.5) + np.float32(0.14) * wander) * frame.outer)
    reach = along(t, (0.0, 30), (0.14, 48), (0.25, 70), (0.4, 67), (0.75, 56), (1.1, 50)).astype(np.float32)
    beside = np.abs(np.abs(canvas.x) - reach - 3 * wander) + np.maximum(canvas.y + 25, 0)
    away = np.minimum(away, beside)
    seam = np.maximum(everything.ramp(half - away) + everything.ramp(half + away) - 1, 0)
    sheet = everything.ramp(diaphragm + 1.2) - everything.ramp(diaphragm - 1.2)
    counted = np.clip((TRUNK_TOP - t) * (outline.length / canvas.step) + 0.5, 0, 1)

    def layers(factor: float) -> tuple[Field, np.ndarray, np.ndarray]:
        """Return the distance from the inside of the wall, and the shares of bone and of muscle with fat."""
        cavity = frame.wall(factor)
        inside = everything.ramp(cavity)
        inward = cavity + np.float32(factor) * frame.inner
        bone = np.minimum(
            everything.ramp(inward + frame.bone) - everything.ramp(inward), everything.ramp(solid)
        )
        bone = np.minimum(bone, canvas.free)
        muscle = np.maximum(frame.lean - inside, np.minimum(sheet, inside))
        muscle = np.maximum(muscle, everything.ramp(psoas + np.float32(14 * (factor**0.5 - 1))))
        return cavity, bone, np.minimum(muscle, canvas.free - bone)

    def volume(factor: float) -> float:
        return everything.litres(layers(factor)[2] * (1 - seam) * counted)

    def find() -> float:
        guess = outline.muscle
        return solve(volume, outline.person.trunk_muscle_l, 0.6 * guess, 1.6 * guess, 10)

    cavity, bone, muscle = layers(everything.level("muscle", find))
    everything.give("marrow", bone * 0.5)
    everything.give("bone", bone * 0.5)
    everything.give("other_fat", muscle * seam)
    everything.give("muscle", muscle * (1 - seam))
    frame.cavity = cavity


def _psoas(frame: Frame) -> Field:
    """Return the distance to psoas and iliopsoas, as in a man of average muscle."""
    field = np.full(frame.all.shape, -1e3, np.float32)
    size = frame.size
    for side in (1, -1):
        points, radii = [], []
        for level, out, fore, radius in (
            (0.50, 26, -6, 5),
            (0.44, 33, -2, 11),
            (0.36, 40, 1, 18),
            (0.27, 47, 7, 23),
            (0.20, 56, 20, 24),
            (0.13, 70, 36, 23),
            (0.06, 86, 50, 24),
            (0.02, 90, 52, 24),
        ):
            x, y, z = frame.spine_at(level)
            points.append((x + side * out * size, min(y + fore * size, 60), z))
            radii.append(radius * size * 0.92)
        box, tube = frame.canvas.tube(points, radii)
        view = box.of(field)
        np.maximum(view, tube, out=view)
    return field
