"""Body composition from the water and fat images of a Dixon scan of the trunk."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from mmbench.api import Card, Geometry, Measurer, NotMeasurable, Quantity

from ._threshold import otsu
from ._volume import channel, neighbour_correlation

LEAST_COHERENCE = 0.5
"""Least correlation of neighbouring voxels; noise has none, phantoms at 5.5 mm have 0.9."""
SHARES = (0.02, 0.85)
"""Least and largest share of the grid that a body fills."""
LEAST_CONTRAST = 2.5
"""Least ratio of the body's median signal to that of the air around it."""
LUNG = 0.4
"""Below this share of lean tissue's signal lies air: lung has 0.02, spinal fluid 0.46 of muscle's."""
PURE = (0.25, 0.75)
"""Fat signal fractions below and above which a voxel counts as lean tissue and as adipose tissue."""
LEAST_ADIPOSE = 0.002
"""Share of the body's voxels that must be adipose tissue for its signal to be known."""


class DixonComposition(Measurer):
    """Measures fat, lean and body volume, partial volume included.

    The signals of adipose and of lean tissue are read off the volume itself and each voxel is unmixed between
    them, so that neither the scale nor the T1 weighting of the scan matters (fat-referenced Dixon, Karlsson
    et al. 2015, J Magn Reson Imaging 41). Fat volume counts fat within muscle, liver and marrow as adipose
    tissue of the same fat content; lean volume is the rest of the body without the lungs.
    """

    card = Card(
        summary="Fat, lean and body volume from water and fat images, classical and without weights.",
        reference="Karlsson et al. 2015, J Magn Reson Imaging 41: fat-referenced Dixon MRI.",
    )
    channels = ("water", "fat")
    quantities = (
        Quantity("fat_l", "L", "Adipose tissue, with the fat in other tissues counted as adipose tissue"),
        Quantity("lean_l", "L", "Body without fat and lungs"),
        Quantity("body_l", "L", "All within the skin, lungs included"),
    )

    def measure(self, volume: np.ndarray, geometry: Geometry) -> dict[str, float]:
        water, fat = (np.maximum(channel(volume, geometry, name), 0) for name in self.channels)
        total = water + fat
        if neighbour_correlation(total) < LEAST_COHERENCE:
            raise NotMeasurable("neighbouring voxels do not resemble each other: noise")
        body = _body(total)
        water, fat = (_without_noise(image, ~body) for image in (water, fat))
        bright = body & (total > LUNG * np.median(total[body]))
        adipose = bright & (fat > PURE[1] * (water + fat))
        lean = bright & (fat < PURE[0] * (water + fat))
        for name, pure in (("adipose", adipose), ("lean", lean)):
            if pure.sum() < LEAST_ADIPOSE * body.sum():
                raise NotMeasurable(f"no {name} tissue is seen in the body: its signal is unknown")
        fat_signal, lean_signal = float(np.median(fat[adipose])), float(np.median(water[lean]))
        water_in_adipose = float(np.median(water[adipose]))
        fat_share = fat / fat_signal
        filled = fat_share + np.maximum(water - fat_share * water_in_adipose, 0) / lean_signal
        # The skin lies where a voxel is half filled; only now are the signals known that say so.
        body &= (filled > 0.5) | ndimage.binary_erosion(body, np.ones((3, 3, 1)), border_value=1)
        tissue = body & (filled > LUNG)
        litres = geometry.voxel_litres
        fat_l = float((fat_share[tissue] / filled[tissue]).sum()) * litres
        return {
            "fat_l": fat_l,
            "lean_l": float(tissue.sum()) * litres - fat_l,
            "body_l": float(body.sum()) * litres,
        }


def _body(total: np.ndarray) -> np.ndarray:
    """Return the mask of the body: the largest bright region, opened, holes filled slice by slice.

    Raises:
        NotMeasurable: There is none, it fills the grid, or it stands out too little.
    """
    cap = float(np.percentile(total, 99))
    if cap <= total.min():
        raise NotMeasurable("no body: what stands out fills less than 1% of the volume")
    inside = total > otsu(np.minimum(total, cap))
    mask = (total > np.median(total[inside]) / 2).view(np.uint8)
    # Closed first: a thin chest wall must hold before its hole, the lungs, can be filled.
    mask = _fill(ndimage.grey_closing(mask, (5, 5, 1), mode="nearest") > 0)
    regions, count = ndimage.label(ndimage.grey_opening(mask.view(np.uint8), (3, 3, 1), mode="nearest"))
    if not count:
        raise NotMeasurable("no body: nothing larger than a few voxels stands out")
    mask = regions == 1 + np.argmax(np.bincount(regions.ravel())[1:])
    share = float(mask.mean())
    if not SHARES[0] <= share <= SHARES[1]:
        raise NotMeasurable(
            f"the body fills {share:.0%} of the volume, expected {SHARES[0]:.0%} to {SHARES[1]:.0%}"
        )
    air, tissue = float(np.median(total[~mask])), float(np.median(total[mask]))
    if tissue < LEAST_CONTRAST * air:
        raise NotMeasurable(
            f"the body's signal is only {tissue / air:.1f} times that around it, expected {LEAST_CONTRAST:g}"
        )
    return mask


def _fill(mask: np.ndarray) -> np.ndarray:
    """Return the mask with the holes of each axial slice filled: the lungs."""
    return np.stack([ndimage.binary_fill_holes(mask[..., z]) for z in range(mask.shape[2])], axis=2)


def _without_noise(image: np.ndarray, air: np.ndarray) -> np.ndarray:
    """Return the signal below a Rician magnitude: E m^2 = s^2 + 2 sigma^2 (Gudbjartsson and Patz 1995).

    The median of the magnitude in air, where it is Rayleigh distributed, is sigma sqrt(2 ln 2).
    """
    power = float(np.median(image[air])) ** 2 / np.log(2)
    return np.sqrt(np.maximum(image**2 - power, 0))
