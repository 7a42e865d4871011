"""Subcutaneous fat and the body wall: ribs, iliac wings, muscle of the drawn volume and the fat between."""

from __future__ import annotations

import numpy as np

from .canvas import Field, solve
from .frame import Frame
from .layers import TRUNK_TOP, along

# Psoas and iliopsoas: level, distance from the spine to the side and to the front, radius; mm.
PSOAS = (
    (0.50, 26, -6, 5),
    (0.44, 33, -2, 10),
    (0.36, 40, 1, 17),
    (0.27, 47, 7, 21),
    (0.20, 56, 20, 22),
    (0.13, 70, 36, 21),
    (0.06, 86, 50, 22),
    (0.02, 90, 52, 22),
)
ARM = ((0.93, 36), (0.80, 38), (0.60, 36), (0.42, 32), (0.28, 33), (0.08, 25), (-0.05, 21))  # level, radius
ELBOW = 0.42
DIAPHRAGM_MM = 2.4  # chosen: muscle and tendon, 2 to 4 mm thick


def place_skin(frame: Frame) -> None:
    """Leave free what is body, and claim the subcutaneous fat."""
    canvas, everything = frame.canvas, frame.all
    np.copyto(canvas.free, everything.ramp(frame.depth))
    everything.give("subcutaneous", canvas.free - frame.lean)


def place_muscles(frame: Frame) -> None:
    """Claim the bones of the body wall and the muscle of wall, psoas and diaphragm, with the fat between."""
    canvas, outline, everything, t = frame.canvas, frame.outline, frame.all, frame.t
    solid, seam = _bones(frame), _seams(frame)
    psoas = _psoas(frame)
    half = np.float32(DIAPHRAGM_MM / 2)
    sheet = everything.ramp(frame.above + half) - everything.ramp(frame.above - half)
    counted = np.clip((TRUNK_TOP - t) * (outline.length / canvas.step) + 0.5, 0, 1)

    def layers(factor: float) -> tuple[Field, np.ndarray, np.ndarray]:
        """Return the distance from the inside of the wall, and the shares of bone and of muscle with fat."""
        cavity = frame.wall(factor)
        inside = everything.ramp(cavity)
        inward = cavity + np.float32(factor) * frame.inner
        bone = everything.ramp(inward + frame.bone)
        bone -= everything.ramp(inward)
        bone *= solid
        np.minimum(bone, canvas.free, out=bone)
        muscle = np.maximum(frame.lean - inside, np.minimum(sheet, inside, out=inside))
        grown = 14 * (factor**0.5 - 1)
        np.maximum(muscle, everything.ramp(psoas + np.float32(grown)), out=muscle)
        return cavity, bone, np.minimum(muscle, canvas.free - bone, out=muscle)

    def volume(factor: float) -> float:
        return everything.litres(layers(factor)[2] * pure)

    pure = (1 - seam) * counted
    factor = everything.level(
        "muscle",
        lambda: solve(volume, frame.person.trunk_muscle_l, 0.2 * outline.muscle, 1.8 * outline.muscle),
    )
    frame.cavity, bone, muscle = layers(factor)
    everything.give("marrow", bone * np.float32(0.5))
    everything.give("bone", bone * np.float32(0.5))
    everything.give("other_fat", muscle * seam)
    everything.give("muscle", muscle * (1 - seam))


def _bones(frame: Frame) -> np.ndarray:
    """Return where the wall's layer of bone is bone: ribs, breastbone, iliac wings; between 0 and 1."""
    canvas, t, size = frame.canvas, frame.t, np.float32(frame.size)
    # Ribs fall by about 10 cm from the back to the front, 25 mm apart.
    forward = canvas.y / np.maximum(np.sqrt(canvas.x**2 + canvas.y**2), 20)
    phase = np.mod((canvas.z + 52 * size * forward) * (1 / (25 * size)), 1)
    rib = (np.float32(0.27) - np.abs(phase - np.float32(0.5))) * (25 * size)
    sternum = np.minimum(19 - np.abs(canvas.x), frame.outline.length * np.minimum(t - 0.60, 0.90 - t))
    rib = np.where(canvas.y > 0, np.maximum(rib, sternum), rib)
    return frame.all.ramp(np.where(t < 0.3, np.float32(99), rib))


def _seams(frame: Frame) -> np.ndarray:
    """Return the share of muscle that is fat between muscles.

    Its planes follow the body's surface where the wall is thick, as between the gluteal muscles, and the side
    of the erector spinae.
    """
    canvas, everything, t = frame.canvas, frame.all, frame.t
    half = np.minimum(0.6 + 0.1 * min(frame.person.visceral_l, 8), (frame.outer - 14) * np.float32(0.1))
    wander = frame.seams(everything)
    away = np.abs(frame.fascia - (np.float32(0.5) + np.float32(0.14) * wander) * frame.outer)
    reach = along(t, (0.0, 0.14, 0.25, 0.4, 0.75, 1.1), (30, 48, 70, 67, 56, 50)).astype(np.float32)
    beside = np.abs(np.abs(canvas.x) - reach - 3 * wander) + np.maximum(canvas.y + 25, 0)
    away = np.minimum(away, beside, out=away)
    seam = everything.ramp(half - away)
    seam += everything.ramp(half + away)
    seam -= 1
    return np.maximum(seam, 0, out=seam)


def _psoas(frame: Frame) -> Field:
    """Return the distance to psoas and iliopsoas, as in a man of average muscle."""
    field = np.full(frame.all.shape, -1e3, np.float32)
    for side in (1, -1):
        points = []
        for level, out, fore, _ in PSOAS:
            x, y, z = frame.at(level, side * out, fore)
            points.append((x, min(y, 60.0), z))
        box, tube = frame.canvas.tube(points, [place[3] * frame.size for place in PSOAS])
        view = box.of(field)
        np.maximum(view, tube, out=view)
    return field


def place_arms(frame: Frame) -> None:
    """Place arms beside the trunk, in what it leaves of the field of view."""
    outline, size = frame.outline, frame.size
    build = size * outline.muscle**0.5 * (0.92 if frame.person.woman else 1.0)
    fat = 2.5 + 0.3 * min(outline.fat, 60.0)
    np.subtract(1, frame.all.ramp(frame.depth), out=frame.canvas.free)
    for side, degrees in ((1, 0.0), (-1, 180.0)):
        joints, skins, muscles = [], [], []
        for level, radius in ARM:
            muscles.append(radius * build)
            skins.append(muscles[-1] + fat * (1.0 if level > ELBOW else 0.6))
            trunk = outline.skin_radius(min(max(level, 0.05), 0.86), degrees)
            joints.append((side * (trunk + skins[-1] + 4), -12.0, frame.height(level)))
        for tissue, radii in (
            ("marrow", 7 * size),
            ("bone", 11 * size),
            ("muscle", muscles),
            ("subcutaneous", skins),
        ):
            box, field = frame.canvas.tube(joints, radii)
            box.claim(tissue, field)
