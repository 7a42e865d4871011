"""The compartments of a trunk whose adipose and lean tissue are known voxel by voxel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

from mmbench.api import NotMeasurable, Quantity

from ._body import Spacing, circumference, closed, dilated, eroded, large, one_voxel, opened

HALF = 0.5
"""Share from which a voxel counts as filled, or as adipose."""
DARK = 0.3
"""Neighbourhoods filled less than this hold lung or gas; bladder and spinal fluid have 0.36 of muscle's signal, and
cortical bone is thinner than a neighbourhood."""
DIM = 0.55
"""Voxels filled less than this count as air: halfway from lung, which noise lifts to 0.1, to lean tissue."""
GAP_MM = 15.0
"""Radius of the closing that carries the body wall over its gaps, of up to 25 mm between muscles."""
SKIN_MM = 4.0
"""Outermost layer that is skin, which is water, and partial volume: no part of the body wall."""
ISLAND_L = 0.02
"""Smaller pieces of lean tissue are vessels and glands within fat: no part of the body wall."""
DROP_L = 0.005
"""Smaller pieces of adipose tissue within the cavity are noise."""
PURE = 0.8
"""Adipose share of a voxel of visceral fat without lean tissue; vessels and connective tissue take the rest."""
LEAST_ENCLOSED = 0.3
"""Least share of a body within its wall; the most obese of 200 phantoms have 0.5."""
NECK_MM = 120.0
"""Lungs end less than this below the top of the body, and so does no bowel that holds gas."""
LEAST_LUNG_L = 0.15
"""Smaller regions are no lung: at the end of an expiration, small women have 0.3 L in each"""
LEAST_LUNG = 0.4
"""and the smaller lung at least this share of the larger one."""
LEAST_LUNGS = 0.12
"""Share of a slice that lungs fill where they are broadest; gas in the bowel fills less."""
LUNG_BASE = 0.05
"""Share of a slice of the body from which the lungs count as begun."""
MARROW = 0.75
"""Vertebral marrow holds less fat than this, visceral fat more."""
SPINE_MM = (26.0, 85.0)
"""Half breadth of a lumbar vertebra, and from the tip of its spinous process to its front."""
WAIST_BELOW_LUNGS_MM = 160.0
"""From the lungs' base to midway between rib and iliac crest. Chosen for the best agreement with phantoms; in a body it
is the distance from the eleventh thoracic vertebra, where lungs end in expiration, to the third lumbar disc."""
WAIST_BAND_MM = 30.0
"""The waist is the narrowest level within so much of that, for lungs are not filled alike."""

QUANTITIES = (
    Quantity("body_l", "L", "All within the skin, lungs included"),
    Quantity("fat_l", "L", "Adipose tissue, with the fat in other tissues counted as adipose tissue"),
    Quantity("lean_l", "L", "Body without fat, lungs and gas"),
    Quantity("visceral_fat_l", "L", "Adipose tissue within the body wall, below the diaphragm"),
    Quantity("subcutaneous_fat_l", "L", "Adipose tissue between skin and body wall"),
    Quantity(
        "waist_cm",
        "cm",
        "Circumference midway between lowest rib and iliac crest, its level found from the lungs",
    ),
)


@dataclass(frozen=True)
class Trunk:
    """A trunk, neck to hip or a part of it, on a grid in RAS order.

    Attributes:
        body: Mask of all within the skin, shape (x, y, z).
        filled: Share of each voxel that is filled by tissue of any kind, around 1 within the body.
        adipose: Share of each voxel's tissue that is adipose, in [0, 1]; 0 where there is no tissue.
        spacing: Voxel spacing.
    """

    body: np.ndarray
    filled: np.ndarray
    adipose: np.ndarray
    spacing: Spacing

    @property
    def voxel_litres(self) -> float:
        return float(np.prod(self.spacing)) * 1e-6

    @cached_property
    def air(self) -> np.ndarray:
        """Mask of lungs and gas: what is dim and near to where a neighbourhood is dark."""
        dark = ndimage.uniform_filter(self.filled, (3, 3, 1)) < DARK
        near = dilated(dark & self.body, 2 * max(self.spacing[:2]), self.spacing)
        near[..., 1:] |= near[..., :-1]
        near[..., :-1] |= near[..., 1:]
        return near & self.body & (self.filled < DIM)

    @cached_property
    def tissue(self) -> np.ndarray:
        """Mask of the body without lungs and gas."""
        return self.body & ~self.air

    @cached_property
    def lungs(self) -> np.ndarray:
        """Mask of the lungs; empty where none are seen."""
        inner = self.air & eroded(self.body, 2 * SKIN_MM, self.spacing)
        regions, count = ndimage.label(opened(inner, self.spacing))
        sizes = np.bincount(regions.ravel(), minlength=count + 1)
        sizes[0] = 0
        # Lungs reach up to the neck, or to where the field of view ends; gas in the bowel does not.
        top = np.flatnonzero(self.body.any(axis=(0, 1)))[-1] - int(NECK_MM / self.spacing[2])
        high = np.bincount(regions[..., max(top, 0) :].ravel(), minlength=count + 1) > 0
        lungs = (high & (sizes >= max(LEAST_LUNG_L / self.voxel_litres, LEAST_LUNG * sizes.max())))[regions]
        broadest = self._share_of_slices(lungs).max()
        return lungs if broadest > LEAST_LUNGS else np.zeros_like(lungs)

    @cached_property
    def enclosed(self) -> np.ndarray:
        """Mask of the body wall and all that it encloses."""
        depth = max(SKIN_MM, self.spacing[0], self.spacing[1])
        lean = self.tissue & (self.adipose < HALF) & eroded(self.body, depth, self.spacing)
        lean = large(lean, ISLAND_L / self.voxel_litres)
        enclosed = closed(lean | self.lungs, GAP_MM, self.spacing) & self.body
        # Where a slice cuts the wall at a slant, it may look open; what both neighbours enclose is enclosed.
        enclosed[..., 1:-1] |= enclosed[..., :-2] & enclosed[..., 2:] & self.body[..., 1:-1]
        return enclosed

    @cached_property
    def below_diaphragm(self) -> np.ndarray:
        """Mask of all that lies below the lungs.

        Columns without lung take after the nearest one with, but above the lungs' mean base only the domes rise:
        the heart and the fat around it lie on the middle of the diaphragm.
        """
        columns = self.lungs.any(axis=2)
        if not columns.any():
            return np.ones_like(self.body)
        base = np.argmax(self.lungs, axis=2)
        nearest = ndimage.distance_transform_edt(
            ~columns, self.spacing[:2], return_distances=False, return_indices=True
        )
        height = np.where(columns, base, np.minimum(base[tuple(nearest)], np.median(base[columns])))
        return np.arange(self.body.shape[2]) < height[..., None]

    @cached_property
    def spine(self) -> np.ndarray:
        """Mask of a strip around the midline that reaches from the back of the body wall to the vertebrae's front.

        Marrow and the fat within the spinal canal lie in it, neither of them visceral.
        """
        across = self.enclosed.sum(axis=1)
        if not across.any():
            return np.zeros_like(self.body)
        x, y = (np.arange(n) * step for n, step in zip(self.body.shape, self.spacing[:2], strict=False))
        middle = x @ across / np.maximum(across.sum(axis=0), 1)
        strip = np.abs(x[:, None] - middle) < SPINE_MM[0]
        behind = (self.enclosed & strip[:, None]).any(axis=0)
        back = y[np.argmax(behind, axis=0)]
        return strip[:, None] & (y[:, None] < back + SPINE_MM[1])[None]

    def compartments(self) -> dict[str, float]:
        """Return the :data:`QUANTITIES`; NaN for a waist that is not in the field of view or cut by its edge.

        Raises:
            NotMeasurable: Lean tissue encloses too little to be a body wall.
        """
        share = float(self.enclosed.sum() / max(self.body.sum(), 1))
        if share < LEAST_ENCLOSED:
            raise NotMeasurable(
                f"lean tissue encloses {share:.0%} of the body, expected {LEAST_ENCLOSED:.0%} or more: no body wall"
            )
        fat_l = self._litres(self.adipose[self.tissue])
        outside = self.tissue & ~self.enclosed
        inside = self.tissue & self.enclosed
        lean = self.adipose[inside & (self.adipose < HALF / 2)]
        background = float(np.median(lean)) if len(lean) else 0.0
        # Where the wall's outer face cuts a voxel, its fat is subcutaneous; a bridge over a gap is not its face.
        face = inside & dilated(outside, self.spacing[0], self.spacing) & (self.adipose < HALF)
        cavity = inside & ~face & self.below_diaphragm & ~(self.spine & (self.adipose < MARROW))
        pieces = large(cavity & (self.adipose > HALF), DROP_L / self.voxel_litres)
        visceral = dilated(pieces, one_voxel(self.spacing), self.spacing) & cavity
        pure = self.adipose[pieces & (self.adipose > PURE)]
        plateau = float(np.median(pure)) if len(pure) else 1.0
        return {
            "body_l": self._litres(self.body),
            "fat_l": fat_l,
            "lean_l": self._litres(self.tissue) - fat_l,
            "visceral_fat_l": self._litres(_between(self.adipose[visceral], background, plateau)),
            "subcutaneous_fat_l": self._litres(_between(self.adipose[outside | face], background, 1.0)),
            "waist_cm": self._waist(),
        }

    def _share_of_slices(self, mask: np.ndarray) -> np.ndarray:
        return mask.sum(axis=(0, 1)) / np.maximum(self.body.sum(axis=(0, 1)), 1)

    def _litres(self, shares: np.ndarray) -> float:
        return float(shares.sum(dtype=float)) * self.voxel_litres

    def _waist(self) -> float:
        base = self.lung_base
        if base is None:
            return float("nan")
        levels = base - (WAIST_BELOW_LUNGS_MM + np.linspace(-1, 1, 7) * WAIST_BAND_MM) / self.spacing[2]
        levels = levels[levels >= 0]
        if not len(levels):
            return float("nan")
        slices = np.arange(int(levels.min()), int(np.ceil(levels.max())) + 1)
        around = np.array(
            [circumference(self.filled[..., z], self.body[..., z], self.spacing) for z in slices]
        )
        whole = np.isfinite(around)
        if not whole.any():
            return float("nan")
        return float(np.interp(levels, slices[whole], around[whole]).min()) / 10

    @cached_property
    def lung_base(self) -> float | None:
        """Slice, with its fraction, at which the lungs begin from below; ``None`` where that is not seen."""
        area = self._share_of_slices(self.lungs)
        first = int(np.argmax(area > LUNG_BASE))
        if area[first] <= LUNG_BASE or first == 0:
            return None
        return float(first - 1 + (LUNG_BASE - area[first - 1]) / (area[first] - area[first - 1]))


def _between(shares: np.ndarray, background: float, plateau: float) -> np.ndarray:
    """Return adipose shares unmixed between what lean tissue and pure adipose tissue of the place show."""
    return np.clip((shares - background) / (plateau - background), 0, 1)
