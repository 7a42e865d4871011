"""What a phantom's torso is made of: shares of soft tissue on a grid, with the drawn volumes solved for.

A person is first worked out in continuous space: surfaces are balanced so that fat, muscle and organs fit
under the drawn girth (:mod:`outline`), then the levels at which muscle, liver, visceral fat and bowel fill
their volumes are found on a fixed grid over the whole trunk. Any other grid shows that same person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .canvas import TISSUES, Canvas
from .organs import Organs
from .outline import BOTTOM, THORACIC_VERTEBRA_9, TRUNK_TOP, Layers, Outline, Person, Traits, circumference
from .skeleton import Frame, place_hips, place_muscles, place_skin, place_spine

__all__ = ["TISSUES", "Anatomy", "Person", "render"]

SOLVING_MM = (5.0, 5.0, 7.0)


@dataclass(frozen=True)
class Anatomy:
    """What a torso is made of.

    Attributes:
        shares: float32 of shape (tissues, x, y, z), in [0, 1], summing to the body's share of each voxel.
        litres: Volume in the field of view of each of :data:`TISSUES`; of the trunk without arms also
            ``abdominal_subcutaneous``, subcutaneous fat below the ninth thoracic vertebra, and
            ``trunk_muscle``, muscle below the armpit.
        waist_cm: Circumference of the rendered outline at the waist's level.
    """

    shares: np.ndarray
    litres: dict[str, float]
    waist_cm: float


def render(
    person: Person, shape: Sequence[int], spacing: Sequence[float], rng: np.random.Generator
) -> Anatomy:
    """Return each tissue's share of each voxel of a neck-to-hip torso.

    Args:
        person: Whose torso.
        shape: Voxels along x, y, z.
        spacing: Voxel spacing in millimetres.
        rng: Draws individual shape: posture, organ positions, bowel loops; as much whatever the grid.

    Returns:
        The anatomy.
    """
    traits_seed, shape_seed = rng.integers(2**63, size=2)
    outline = Outline(person, Traits(np.random.default_rng(traits_seed)))
    top = outline.length * (TRUNK_TOP - BOTTOM)
    coarse = Layers(outline, np.arange(0.0, outline.length * 1.1, 20.0), 72)
    reach_x = float(np.abs(coarse.skin * coarse.c).max()) + 6
    front, back = float((coarse.skin * coarse.s).max()), float((coarse.skin * coarse.s).min())
    middle, reach_y = (front + back) / 2, max(front, -back) + 6
    extent = (2 * reach_x, front - back + 12, top + 8)
    solving = Canvas(
        [int(np.ceil(size / step)) + 1 for size, step in zip(extent, SOLVING_MM, strict=True)],
        SOLVING_MM,
        (0.0, middle, 0.0),
        (reach_x, reach_y),
    )
    _draw(solving, outline, shape_seed)
    canvas = Canvas(shape, spacing, (0.0, middle, 0.0), (reach_x, reach_y), solving.levels)
    frame = _draw(canvas, outline, shape_seed)
    litres = {name: canvas.litres(name) for name in TISSUES}
    for name, tissue, level in (
        ("abdominal_subcutaneous", "subcutaneous", THORACIC_VERTEBRA_9),
        ("trunk_muscle", "muscle", TRUNK_TOP),
    ):
        thick = float(spacing[2])
        heights = (np.arange(shape[2]) + 0.5) * thick
        part = np.clip((outline.length * (level - BOTTOM) - heights) / thick + 0.5, 0, 1)
        by_slice = canvas.shares[TISSUES.index(tissue)].sum(axis=(0, 1), dtype=float)
        litres[name] = float(by_slice @ part) * canvas.voxel_litres
    waist = Layers(outline, np.array([outline.waist])).skin[:, 0]
    return Anatomy(canvas.whole, litres, circumference(waist) / 10)


def _draw(canvas: Canvas, outline: Outline, seed: int) -> Frame:
    rng = np.random.default_rng(seed)
    outline.traits.rewind()
    frame = Frame(canvas, outline, rng)
    organs = Organs(frame, rng)
    place_skin(frame)
    place_spine(frame)
    place_hips(frame)
    place_muscles(frame, organs.above)
    organs.place_chest()
    organs.place_abdomen()
    return frame
