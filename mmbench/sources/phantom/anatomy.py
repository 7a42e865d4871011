"""What a phantom's torso is made of: shares of tissues on a grid, with the drawn volumes solved for.

A person is first worked out in continuous space: surfaces are balanced so that fat, muscle and organs fit
under the drawn waist, then the levels at which muscle, liver, visceral fat and bowel fill their volumes are
found: on the grid asked for where it holds the trunk and resolves it, otherwise on one of its own. Every grid
shows the same person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import abdomen, bowel, chest, muscles, skeleton
from .canvas import TISSUES, Canvas
from .frame import Frame
from .layers import BOTTOM, THORACIC_VERTEBRA_9, TRUNK_TOP, Layers, circumference
from .outline import Outline, Person, Traits

__all__ = ["TISSUES", "Anatomy", "Person", "render"]

SOLVING_MM = (5.0, 5.0, 7.0)  # finer grids find the same litres within 1 to 2 %
COARSEST_MM = 6.0  # voxel spacing in plane up to which a grid that holds the trunk may be solved on itself


@dataclass(frozen=True)
class Anatomy:
    """What a torso is made of.

    Attributes:
        shares: float32 of shape (tissues, x, y, z), in [0, 1], summing to the body's share of each voxel.
        litres: Volume in the field of view of each of :data:`TISSUES`, arms included; and, of the trunk
            without arms, ``abdominal_subcutaneous``: subcutaneous fat below the ninth thoracic vertebra, and
            ``trunk_muscle``: muscle below the armpit.
        waist_cm: Circumference of the trunk's outline at the waist's level.
        waist_mm: Height of that level above the lower end of the field of view.
    """

    shares: np.ndarray
    litres: dict[str, float]
    waist_cm: float
    waist_mm: float


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
        The anatomy. Visceral and abdominal subcutaneous fat, trunk muscle and liver have the person's volumes
        within 2 % where the field of view holds them.
    """
    traits_seed, shape_seed = (int(seed) for seed in rng.integers(2**63, size=2))
    outline = Outline(person, Traits(np.random.default_rng(traits_seed)))
    middle, front, across = outline.extent()
    reach = across + 6, front + abs(middle) + 6
    extent = 2 * across + 12, 2 * front + 12, (TRUNK_TOP - BOTTOM) * outline.length + 8
    origin = 0.0, middle, 0.0
    complete = all(n * step >= size - 2 * step for n, step, size in zip(shape, spacing, extent, strict=True))
    levels = None
    if not complete or max(spacing[:2]) > COARSEST_MM:
        voxels = [int(np.ceil(size / step)) for size, step in zip(extent, SOLVING_MM, strict=True)]
        solving = Canvas(voxels, SOLVING_MM, origin, reach, shown=False)
        _draw(solving, outline, shape_seed)
        levels = solving.levels
    canvas = Canvas(shape, spacing, origin, (np.inf, np.inf) if person.arms else reach, levels, complete)
    frame = _draw(canvas, outline, shape_seed)
    litres = {
        "abdominal_subcutaneous": _litres_below(canvas, outline, "subcutaneous", THORACIC_VERTEBRA_9),
        "trunk_muscle": _litres_below(canvas, outline, "muscle", TRUNK_TOP),
    }
    if person.arms:
        muscles.place_arms(frame)
    litres |= {name: canvas.litres(name) for name in TISSUES}
    waist = Layers(outline, np.array([outline.waist])).skin[:, 0]
    return Anatomy(canvas.whole, litres, circumference(waist) / 10, outline.waist)


def _draw(canvas: Canvas, outline: Outline, seed: int) -> Frame:
    """Draw the trunk on a canvas; later structures take what earlier ones left free."""
    frame = Frame(canvas, outline, np.random.default_rng(seed))
    muscles.place_skin(frame)
    skeleton.place_spine(frame)
    skeleton.place_hips(frame)
    muscles.place_muscles(frame)
    chest.place_chest(frame)
    abdomen.place_liver(frame)
    abdomen.place_spleen(frame)
    kidneys = abdomen.place_kidneys(frame)
    abdomen.place_pancreas(frame)
    bowel.place_stomach(frame)
    bowel.place_colon(frame)
    abdomen.place_pelvis(frame)
    bowel.place_fat_and_loops(frame, kidneys)
    frame.all.give("muscle", np.ones(1, np.float32))  # what is left lies in the neck
    return frame


def _litres_below(canvas: Canvas, outline: Outline, tissue: str, level: float) -> float:
    """Return the litres of a tissue in the field of view below a level."""
    share = canvas.shares[TISSUES.index(tissue)]
    thick = canvas.step * canvas.fold
    heights = (np.arange(share.shape[2]) + 0.5) * thick
    part = np.clip((outline.length * (level - BOTTOM) - heights) / thick + 0.5, 0, 1)
    return float(share.sum(axis=(0, 1), dtype=float) @ part) * canvas.voxel_litres
