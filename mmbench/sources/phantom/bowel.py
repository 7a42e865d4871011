"""Stomach, colon and rectum; then visceral fat of the drawn volume, and loops of small bowel within it."""

from __future__ import annotations

import numpy as np

from .frame import Frame, Point

# The colon's frame: level, angle about the body's axis in degrees (0 right, 90 front), depth under the wall and
# radius in millimetres; caecum to the left iliac fossa.
COLON = (
    (0.19, 28, 34, 26),
    (0.27, 14, 30, 25),
    (0.36, 6, 30, 23),
    (0.42, 22, 34, 21),
    (0.40, 60, 32, 20),
    (0.36, 90, 30, 19),
    (0.41, 122, 32, 20),
    (0.50, 160, 34, 19),
    (0.47, 182, 28, 17),
    (0.36, 186, 26, 15),
    (0.26, 176, 26, 15),
    (0.19, 158, 30, 16),
)
SIGMOID = ((0.15, 145, 42, 15), (0.12, 115, 52, 16))
RECTUM = ((0.13, -6, 56), (0.12, 6, 34), (0.07, 0, 32), (0.03, 0, 40))  # relative to the spine


def place_stomach(frame: Frame) -> None:
    """Stomach: fundus under the left dome behind, body to the front, antrum across the midline."""
    full = float(np.exp(frame.traits.draw(0.14)))
    left, front = frame.inner_radius(0.56, 180), frame.inner_radius(0.50, 90)
    base = frame.base
    course = [
        (-0.50 * left, 4 * frame.size, base + 34),
        (-0.50 * left, 26 * frame.size, base - 4),
        (-0.40 * left, 0.48 * front, base - 52),
        (-0.12 * left, 0.60 * front, base - 82),
        frame.at(0.455, 30, 66),
    ]
    _place_hollow(frame, course, [34 * full, 33 * full, 26 * full, 19.0, 13.0], 4.0, 0.48 * front, 0.0)


def place_colon(frame: Frame) -> None:
    """The frame of the colon, with gas where it lies in front, sigmoid colon and rectum."""
    front = frame.inner_radius(0.50, 90)
    wider = frame.traits.draw(1.5)
    sag = frame.traits.draw(0.03)

    def at_wall(level: float, degrees: float, inset: float) -> Point:
        sagging = sag * np.clip(np.sin(np.deg2rad(degrees)), 0, 1)
        radius = frame.inner_radius(level, degrees) - inset
        across, forward = radius * np.cos(np.deg2rad(degrees)), radius * np.sin(np.deg2rad(degrees))
        return across, forward, frame.height(level + sagging) + frame.traits.draw(5)

    course = [at_wall(*place[:3]) for place in COLON]
    _place_hollow(frame, course, [place[3] + wider for place in COLON], 2.5, 0.34 * front, 2.2)
    course = [at_wall(*place[:3]) for place in SIGMOID] + frame.path(*RECTUM)
    _place_hollow(frame, course, [15.0, 16.0, 15.0, 15.0, 17.0, 15.0], 3.0, 0.5 * front, 1.5)


def _place_hollow(
    frame: Frame, course: list[Point], radii: list[float], wall: float, gas: float, haustra: float
) -> None:
    """Claim a tube with a wall, contents, and gas where it lies further to the front than ``gas``."""
    box, field = frame.canvas.tube(course, radii)
    waves = np.sin((box.x + box.y * np.float32(0.7)) * np.float32(0.18)) * np.sin(box.z * np.float32(0.18))
    field = np.minimum(field + np.float32(haustra) * waves, frame.below(box, 1))
    lumen = field - np.float32(wall)
    box.claim("gas", np.minimum(lumen, box.y - np.float32(gas)))
    box.claim("contents", lumen)
    box.claim("bowel", field)


def place_fat_and_loops(frame: Frame, kidneys: list[Point]) -> None:
    """Visceral fat of the drawn volume; in what it leaves free small bowel.

    Loops are tubes about the curves on which two random fields vanish. Fat lies furthest from them, and behind,
    about the kidneys, at the root of the mesentery and under the diaphragm.
    """
    canvas, size = frame.canvas, np.float32(frame.size)
    box = canvas.box(z=(-50, frame.highest))
    first, second = (loops(box) for loops in frame.loops)
    fat = np.float32(15) * np.sqrt(first * first + second * second)
    t, y = box.of(frame.t), box.y - box.of(frame.spine_y)
    fat -= 12 * np.tanh((y - 60 * size) / 35)
    fat += 10 * np.exp(-(((y - 48 * size) / 26) ** 2)) * np.exp(-((box.x / 42) ** 2))
    fat += 80 * np.clip(0.14 - t, 0, 0.1) + 12 * np.clip((t - 0.46) / 0.1, 0, 1)
    for centre in kidneys:
        near = [
            np.exp(-(((axis - np.float32(c)) / r) ** 2))
            for axis, c, r in zip((box.x, box.y, box.z), centre, (56, 50, 84), strict=True)
        ]
        fat += 28 * near[0] * near[1] * near[2]
    cavity = box.of(frame.cavity)
    fat += 6 * np.clip(box.of(frame.gap) - np.maximum(cavity - 1, 0), 0, 8)  # in the gaps of the wall
    room = box.ramp(-box.of(frame.above) - np.float32(1.2))
    wanted = frame.person.visceral_l - canvas.litres("visceral")
    box.claim_litres("visceral", "visceral", fat, max(wanted, 0.01), room)
    lumen = np.minimum(cavity - 3, -fat)
    left = box.litres(np.minimum(canvas.free[box.i, box.j, box.k], room))
    box.claim_litres("contents", "contents", lumen, 0.5 * left, room)
    box.give("bowel", room)
