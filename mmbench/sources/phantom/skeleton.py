"""The bones of the trunk's axis: spine, sacrum and hips. Ribs and iliac wings lie in the body wall."""

from __future__ import annotations

from math import prod

import numpy as np

from .canvas import ellipse, ellipsoid
from .frame import Frame
from .layers import along

SPINE = np.linspace(0.165, 1.1, 400)  # levels from the lumbosacral disc upwards


def place_spine(frame: Frame) -> None:
    """Vertebrae and discs from sacrum to neck, canal, arches and processes."""
    canvas, size, length = frame.canvas, np.float32(frame.size), np.float32(frame.outline.length)
    box = canvas.box((-75, 75), (float(frame.spine_y.min()) - 75, float(frame.spine_y.max()) + 30))
    t = box.of(frame.t)
    x, y = box.x - box.of(frame.spine_x), box.y - box.of(frame.spine_y)
    right = np.abs(x)

    def profile(levels: tuple[float, ...], values: tuple[float, ...]) -> np.ndarray:
        return along(t, levels, values).astype(np.float32) * size

    wide = profile((0.0, 0.06, 0.12, 0.155, 0.18, 0.4, 0.6, 1.08), (14, 38, 48, 34, 26, 23.5, 17, 13))
    deep = profile((0.0, 0.06, 0.12, 0.17, 0.4, 0.7, 1.08), (7, 10, 16, 18, 17, 15, 9))
    body = ellipse(x, y, wide, deep)
    # Vertebra with disc: 36 mm in the lumbar spine, 20 at the upper thoracic spine.
    pitch = along(SPINE, (0.165, 0.5, 0.62, 1.0, 1.1), (36, 31, 26, 20, 17)) * frame.size
    count = np.cumsum(frame.outline.length * (SPINE[1] - SPINE[0]) / pitch)
    phase = np.interp(t, SPINE, count).astype(np.float32)
    part = np.mod(phase, 1)
    thick = along(t, (0.165, 0.4, 0.6, 1.1), (0.32, 0.27, 0.2, 0.2)).astype(np.float32)
    disc = np.where(t > 0.16, np.minimum(part, thick - part) * 28 * size, np.float32(-9))
    box.claim("disc", np.minimum(body, disc))
    box.claim("marrow", body - 1.2)
    box.claim("bone", body)
    behind = y + deep  # from the bodies' back
    canal = np.minimum(
        ellipse(x, behind + 9.5, np.atleast_1d(11 * size), np.atleast_1d(7.5 * size)), length * (t - 0.09)
    )
    box.claim("fluid", canal)
    box.claim("other_fat", canal + 2.5)
    # Arches and processes belong to the vertebra; ligament and fat lie between.
    middle = (0.5 - np.abs(np.mod(phase + 0.35, 1) - 0.5)) * 34 - 3
    tip = profile((0.05, 0.2, 0.5, 1.0), (27, 50, 45, 40))
    reach = profile((0.16, 0.6, 1.0), (34, 32, 28))
    between = (np.float32(0.17) - np.abs(np.mod(phase + np.float32(0.1), 1) - np.float32(0.5))) * 34
    parts = (
        (canal + 8.5, middle),
        (4.2 - right, np.minimum(behind + tip, -behind - 10), middle - 2),
        (4.5 - np.abs(behind + 6), reach - right, np.minimum(between, length * (t - np.float32(0.165)))),
    )
    for tissue, shell in (("marrow", np.float32(1.8)), ("bone", np.float32(0))):
        # Products of ramps: at corners the ramp of the nearest face would take in too much.
        shares = [prod(box.ramp(field - shell) for field in fields) for fields in parts]
        box.give(tissue, np.maximum(np.maximum(shares[0], shares[1]), shares[2]))
    # Sacral wings reach to the iliac bones.
    span = profile((0.03, 0.07, 0.12, 0.165, 0.18), (12, 46, 66, 58, 20))
    wings = np.minimum(
        ellipse(x, y + 5, span, np.atleast_1d(19 * size)), length * np.minimum(t - 0.045, 0.172 - t)
    )
    box.claim("marrow", wings - 1.2)
    box.claim("bone", wings)


def place_hips(frame: Frame) -> None:
    """Tops of the femoral heads, and the acetabular roofs from which the iliac wings rise."""
    canvas, size = frame.canvas, frame.size
    for side in (1, -1):
        x, y = side * 88 * size, 12 * size
        box = canvas.box((x - 30, x + 30), (y - 30, y + 30), (-60, 40))
        head = ellipsoid(
            box.x - np.float32(x), box.y - np.float32(y), box.z + np.float32(16), *[24 * size] * 3
        )
        box.claim("marrow", head - 1.5)
        box.claim("bone", head)
        column = [(x, y, -14), (x - side, y - 4, 14), (x - side * 2, y - 18, 40), (x - side * 14, y - 42, 62)]
        box, roof = canvas.tube(column, [36 * size, 28 * size, 17 * size, 11 * size])
        box.claim("marrow", roof - 2)
        box.claim("bone", roof)
