"""Solid organs of the abdomen, and what lies in the pelvis."""

from __future__ import annotations

import numpy as np

from .canvas import ellipsoid
from .frame import Frame, Point


def place_liver(frame: Frame) -> None:
    """Liver of the drawn volume: a wedge under the right dome with a lobe across the midline."""
    canvas, size = frame.canvas, np.float32(frame.size)
    right, left = (frame.inner_radius(0.56, angle) for angle in (0, 180))
    front = frame.inner_radius(0.50, 90)
    box = canvas.box((-0.9 * left, np.inf), z=(frame.height(0.2), np.inf))
    x = box.x + 4 * frame.warps[0](box)
    y = box.y + 4 * frame.warps[1](box)
    u, v = x * np.float32(1 / right), y * np.float32(1 / front)
    slope = np.float32(122 * (1 + frame.traits.draw(0.12)))
    # Height of the lower face above its lowest tip: it rises to the left, and behind for the kidney.
    lower = (
        slope * (1 - u)
        - 26 * np.clip(v, -0.8, 0.9)
        + 46 * np.clip(-v - 0.15, 0, 1) * np.clip(4 - 4 * u, 0, 1)
    )
    under = (box.z - np.float32(frame.base) - np.float32(0.8) * lower) * np.float32(0.62)
    # Left of the midline a lobe lies before the stomach only.
    behind = 92 + 60 * np.clip(0.2 - u, 0, 1) - 190 * np.clip(u - 0.14, 0, 1)
    before = y - box.of(frame.spine_y) - behind * size
    fissure = 16 * np.exp(-(((x - 0.14 * right) / 6) ** 2)) * np.clip(v - 0.2, 0, 1)
    field = np.minimum(under - fissure, before)
    field -= 8 * np.exp(-(((under - before) / 16) ** 2))  # a rounded edge
    # Gallbladder; portal and hepatic veins.
    z = frame.base
    bottom = (0.38 * right, 0.62 * front, z - 50)
    frame.tube("fluid", [(0.36 * right, 0.52 * front, z - 26), bottom], [8.0, 13.0])
    hilum, cava = frame.at(0.52, 26, 52), frame.at(0.66, 26, 48)
    for start, radius, ends in (
        (hilum, 5.5, ((0.45, 12.0, 22), (0.62, -25.0, 8), (0.12, 0.45 * front, 26))),
        (cava, 5.0, ((0.66, -10.0, 40), (0.40, 0.4 * front, 44), (-0.1, 0.5 * front, 40))),
    ):
        for across, forward, rise in ends:
            frame.tube("blood", [start, (across * right, forward, z + rise)], [radius, 2.5])
    room = box.ramp(frame.below(box))
    box.claim_litres("liver", "liver", field, frame.person.liver_l, room)


def place_spleen(frame: Frame) -> None:
    """Spleen behind, against the left wall under the dome."""
    angle = np.deg2rad(205 + frame.traits.draw(4))
    reach = 0.90 * frame.inner_radius(0.57, 210)
    z = frame.base + 22 + frame.traits.draw(6)
    litres = 0.19 * float(np.exp(frame.traits.draw(0.28)))
    box = frame.canvas.box((-np.inf, -20), (-200, 60), (z - 85, z + 85))
    field = -np.sqrt(
        ((box.x - np.float32(reach * np.cos(angle))) / 0.72) ** 2
        + ((box.y - np.float32(reach * np.sin(angle))) / 1.25) ** 2
        + ((box.z - np.float32(z)) / 1.45) ** 2
    )
    box.claim_litres("spleen", "spleen", field, litres, box.ramp(frame.below(box)))


def place_kidneys(frame: Frame) -> list[Point]:
    """Kidneys on psoas with fat in the sinus; upper poles lean to the spine and back, the right one lies lower.

    Returns:
        Their centres.
    """
    centres = []
    scale = float(np.exp(frame.traits.draw(0.05))) * (0.94 if frame.person.woman else 1.0) * frame.size**0.5
    for side, level, angle in ((1, 0.425, -38), (-1, 0.45, 218)):
        behind = frame.inner_radius(level, angle)
        out = min(0.60 * behind, 66 * frame.size)
        back = 0.96 * float(np.sqrt(max(behind**2 - out**2, 0))) - 30 * frame.size
        shift = [frame.traits.draw(spread) for spread in (3, 3, 7)]
        centre = (side * out + shift[0], shift[1] - back, frame.height(level) + shift[2])
        centres.append(centre)
        box = frame.canvas.box(*((c - r, c + r) for c, r in zip(centre, (50, 45, 66), strict=True)))
        x, y, z = (axis - np.float32(c) for axis, c in zip((box.x, box.y, box.z), centre, strict=True))
        hilum = ellipsoid(x + side * 17, y - 7, z, 17 * scale, 9 * scale, 27 * scale)
        lean_x, lean_y = x + side * np.float32(0.22) * z, y + np.float32(0.18) * z
        lean_x, lean_y = lean_x + 3 * frame.warps[0](box), lean_y + 3 * frame.warps[1](box)
        kidney = np.minimum(
            ellipsoid(lean_x, lean_y, z, 30 * scale, 24 * scale, 55 * scale), frame.below(box, 2)
        )
        box.claim("visceral", np.minimum(hilum, kidney + 3))
        box.claim("kidney", kidney)
        vessels = (centre[0] - side * 12, centre[1] + 8, centre[2])
        frame.tube("blood", [vessels, frame.at(level, 8 * side, 30)], 4.0)
    return centres


def place_pancreas(frame: Frame) -> None:
    """Pancreas: from the duodenum before the column to the hilum of the spleen."""
    course = frame.path((0.445, 36, 52), (0.475, 14, 58), (0.50, -16, 56), (0.52, -48, 44), (0.535, -74, 34))
    frame.tube("pancreas", course, [14.0, 11.5, 9.5, 9.5, 8.0])


def place_pelvis(frame: Frame) -> None:
    """Bladder, and uterus with ovaries, or the seminal vesicles."""
    filling = float(np.exp(frame.traits.draw(0.18)))
    lean = frame.traits.draw(6)
    x, y, _ = frame.at(0.06, 0, 92)
    y = min(y, frame.inner_radius(0.06, 90) - 24 * filling)
    z = frame.height(0.05) + 8 * filling
    reach = 42 * filling
    box = frame.canvas.box((x - reach, x + reach), (y - reach, y + reach), (z - reach, z + reach))
    across, forward, up = box.x - np.float32(x), box.y - np.float32(y), box.z - np.float32(z)
    bladder = ellipsoid(across, forward, up, 38 * filling, 27 * filling, 26 * filling)
    bladder = np.minimum(bladder, box.of(frame.cavity))
    box.claim("fluid", bladder - 2.5)
    box.claim("bowel", bladder)
    low, high = frame.height(0.05), frame.height(0.105)
    if frame.person.woman:
        middle = (x + lean, y - 30, frame.height(0.09))
        frame.tube(
            "bowel",
            [(x + 0.3 * lean, y - 40, low), middle, (x + lean, y - 8, z + 34 * filling)],
            [13.0, 17.0, 20.0],
        )
        for side in (1, -1):
            frame.tube("fluid", [(x + side * 44, y - 34, high), (x + side * 48, y - 33, high + 5)], 9.0)
    else:
        frame.tube("bowel", [(x - 24, y - 36, low), (x, y - 33, low - 3), (x + 24, y - 36, low)], 7.0)
