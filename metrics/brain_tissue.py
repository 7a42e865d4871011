"""Brain tissue and cerebrospinal fluid in a skull-stripped T1-weighted volume."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from mmbench.api import Card, Geometry, Measurer, NotMeasurable, Quantity

from ._threshold import otsu3
from ._volume import channel, neighbour_correlation

BACKGROUND = 0.02
"""Voxels below this share of the brightest are outside the skull strip, which sets them to zero."""
LEAST_COHERENCE = 0.3
"""Least correlation of neighbouring voxels; noise has none, brains at 1 to 4 mm have 0.8 and more."""
SHARES = (0.03, 0.9)
"""Least and largest share of the grid that an intracranial volume fills."""


class BrainTissue(Measurer):
    """Splits the intracranial volume into tissue and fluid by a threshold of its own.

    The threshold is the lower of the two that separate fluid, grey and white matter best (Otsu 1979), so the
    scale of the intensities does not matter.
    """

    card = Card(
        summary="Brain tissue and CSF volume of a skull-stripped T1-weighted volume, by three-class Otsu.",
        reference="Otsu 1979, IEEE Trans SMC 9; quantity as nWBV in Fotenos et al. 2005, Neurology 64.",
    )
    channels = ("T1w",)
    quantities = (
        Quantity("tissue_fraction", "1", "Grey and white matter as a share of the intracranial volume"),
        Quantity("tissue_ml", "mL", "Grey and white matter"),
        Quantity("csf_ml", "mL", "Cerebrospinal fluid within the skull strip"),
    )

    def measure(self, volume: np.ndarray, geometry: Geometry) -> dict[str, float]:
        image = channel(volume, geometry, "T1w")
        inside = image > BACKGROUND * np.percentile(image, 99.9)
        skull, count = ndimage.label(inside)
        if count:
            inside = skull == 1 + np.argmax(np.bincount(skull.ravel())[1:])
        inside = ndimage.binary_fill_holes(inside)
        share = float(inside.mean())
        if not SHARES[0] <= share <= SHARES[1]:
            raise NotMeasurable(
                f"what is brighter than the background fills {share:.0%} of the volume, expected "
                f"{SHARES[0]:.0%} to {SHARES[1]:.0%}: no skull-stripped head"
            )
        if neighbour_correlation(image, inside) < LEAST_COHERENCE:
            raise NotMeasurable("neighbouring voxels do not resemble each other: noise")
        values = image[inside]
        # Vessels and the pituitary are bright outliers: cut, or they become a class of their own.
        threshold, _ = otsu3(np.minimum(values, np.percentile(values, 99.5)))
        tissue = values > threshold
        millilitres = geometry.voxel_litres * 1e3
        return {
            "tissue_fraction": float(tissue.mean()),
            "tissue_ml": float(tissue.sum()) * millilitres,
            "csf_ml": float((~tissue).sum()) * millilitres,
        }
