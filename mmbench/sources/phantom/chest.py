"""Organs of the chest, and the great vessels down to the groins."""

from __future__ import annotations

import numpy as np

from .canvas import ellipsoid
from .frame import Frame
from .layers import along

Path = tuple[tuple[float, float, float, float], ...]
"""Places on a tube's axis: level, x and y relative to the spine in a mean trunk, radius; millimetres."""

AORTA = (
    (0.23, -3, 27, 8.0),
    (0.36, -9, 31, 8.8),
    (0.50, -10, 29, 10.0),
    (0.60, -14, 25, 11.0),
    (0.74, -23, 21, 11.5),
    (0.88, -24, 22, 12.0),
    (0.935, -18, 32, 13.0),
    (0.955, -4, 50, 13.5),
    (0.93, 12, 68, 15.0),
    (0.87, 16, 78, 15.5),
    (0.81, 8, 78, 14.0),
)
LOWER_CAVA = (
    (0.22, 16, 24, 9.0),
    (0.36, 18, 28, 10.0),
    (0.50, 20, 34, 11.0),
    (0.60, 24, 42, 12.0),
    (0.68, 26, 50, 12.0),
    (0.74, 26, 58, 13.0),
)
UPPER_CAVA = ((0.74, 26, 60, 14.0), (0.82, 32, 62, 10.0), (0.93, 28, 56, 9.5), (0.99, 26, 54, 8.0))
TRACHEA = ((0.885, 1, 34, 8.5), (0.97, 1, 38, 8.5), (1.08, 0, 44, 8.5))
OESOPHAGUS = (
    (0.61, -16, 40, 6.5),
    (0.7, -8, 28, 6.5),
    (0.85, -6, 24, 6.5),
    (1.0, -4, 22, 6.0),
    (1.08, -2, 22, 6.0),
)
# To either side, x outwards.
ILIAC_VESSELS = ((0.235, 5, 27, 7.0), (0.17, 32, 26, 6.0), (0.10, 64, 42, 5.5), (0.04, 76, 62, 5.0))
NECK_VESSELS = ((0.94, 14, 46, 6.0), (1.02, 22, 34, 4.5), (1.09, 24, 30, 4.5))
LUNG_VESSELS = (
    ((0.865, 14, 46, 8.5), (0.875, 46, 40, 6.0), (0.92, 72, 22, 3.0), (0.96, 84, 8, 1.5)),
    ((0.86, 40, 44, 6.5), (0.81, 66, 34, 4.5), (0.74, 88, 12, 2.0)),
    ((0.85, 44, 48, 4.5), (0.83, 74, 70, 2.5), (0.81, 88, 92, 1.5)),
)
PULMONARY_TRUNK = ((0.80, -14, 98, 13.0), (0.85, -16, 86, 13.0), (0.875, -14, 62, 11.0), (0.865, 0, 48, 9.0))
MAIN_BRONCHI = ((0.885, 3, 34, 6.5), (0.85, 26, 30, 6.0), (0.82, 44, 32, 5.0))


def place_chest(frame: Frame) -> None:
    """Great vessels, airways, oesophagus, heart, mediastinal fat, and lungs in what is left."""
    heart_size = float(np.exp(frame.traits.draw(0.05)))
    below: tuple[tuple[str, Path], ...] = (("blood", AORTA), ("blood", LOWER_CAVA), ("bowel", OESOPHAGUS))
    above: tuple[tuple[str, Path], ...] = (
        ("blood", UPPER_CAVA),
        ("blood", PULMONARY_TRUNK),
        ("gas", TRACHEA),
    )
    for tissue, places in below:
        _vessel(frame, tissue, places)
    _pair(frame, "blood", ILIAC_VESSELS)
    if not frame.canvas.shown:
        return  # nothing that is solved for lies above the diaphragm
    for tissue, places in above:
        _vessel(frame, tissue, places)
    _pair(frame, "lung", MAIN_BRONCHI)
    for vessel in (NECK_VESSELS, *LUNG_VESSELS):
        _pair(frame, "blood", vessel)
    _place_heart(frame, heart_size)
    _place_mediastinum(frame)
    apex = np.float32(frame.outline.length) * (np.float32(1.045) - frame.t)
    frame.all.claim("lung", np.minimum(np.minimum(frame.cavity, frame.above - np.float32(1.2)), apex))


def _pair(frame: Frame, tissue: str, places: Path) -> None:
    """Claim a tube on either side; its x points outwards."""
    for side in (1, -1):
        _vessel(frame, tissue, tuple((level, side * x, y, radius) for level, x, y, radius in places))


def _vessel(frame: Frame, tissue: str, places: Path) -> None:
    points = frame.path(*(place[:3] for place in places))
    frame.tube(tissue, points, [place[3] for place in places], chest=True)


def _place_heart(frame: Frame, size: float) -> None:
    """Two ventricles and the atria, on the central tendon; its long axis points left, forward and down."""
    woman = frame.person.woman
    scale = (0.93 if woman else 1.0) * frame.size * size
    centre = (
        frame.at(0.70, -26, 0)[0],
        frame.inner_radius(0.70, 90) - 58 * scale,
        frame.base + 0.62 * frame.domes[1] + 40 * scale,
    )
    box = frame.canvas.box(*((c - 78 * scale, c + 78 * scale) for c in centre))
    x, y, z = (axis - np.float32(c) for axis, c in zip((box.x, box.y, box.z), centre, strict=True))
    long, across, high = -0.66 * x + 0.50 * y - 0.56 * z, 0.60 * x + 0.80 * y, 0.45 * x - 0.34 * y - 0.83 * z

    def part(shift: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
        u, v, w = (axis - np.float32(s * scale) for axis, s in zip((long, across, high), shift, strict=True))
        return ellipsoid(u, v, w, *(radius * scale for radius in radii))

    limit = np.minimum(box.of(frame.cavity) - 2, box.of(frame.above) + 3)
    heart = np.minimum(part((0, 0, 0), (68, 50, 48)), limit)
    left = part((12, -18, -4), (46, 28, 30))
    right = np.maximum(part((-4, 20, 2), (54, 24, 38)), part((-44, 2, 0), (24, 44, 40)))
    box.claim("blood", np.minimum(left - 9.5, heart - 3))
    box.claim("heart", np.minimum(left, heart))
    box.claim("blood", np.minimum(right - 2, heart - 4))
    box.claim("heart", np.minimum(right, heart - 2))
    fat = 0.45 * min(frame.person.visceral_l, 9) - 1  # mm: fat on the heart goes with visceral fat
    box.claim("other_fat", np.minimum(heart + np.float32(fat), limit + 1))


def _place_mediastinum(frame: Frame) -> None:
    """Fat between the great vessels, behind the breastbone and about the oesophagus."""
    box = frame.canvas.box((-70, 70), z=(frame.base, np.inf))
    x, y = box.x - box.of(frame.spine_x), box.y - box.of(frame.spine_y)
    size = np.float32(frame.size)
    half = (
        along(box.of(frame.t), (0.6, 0.75, 0.88, 0.97, 1.05), (28, 24, 31, 30, 24)).astype(np.float32) * size
    )
    half = half * (1 - np.float32(0.62) * np.clip((y - 55 * size) / (40 * size), 0, 1))
    half = half * np.sqrt(np.clip((y + 16) / 46, 0, 1))
    middle = np.minimum(half - np.abs(x + 3), box.of(frame.above) - np.float32(1.2))
    box.claim("other_fat", np.minimum(middle, box.of(frame.cavity)))
