"""Brain tissue and cerebrospinal fluid in a skull-stripped T1-weighted volume."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from mmbench.api import Card, Geometry, Measurer, NotMeasurable, Quantity

from ._threshold import otsu
from ._volume import channel, neighbour_correlation

# Signals as multiples of the median signal of brain tissue, grey and white together.
FLUID = 0.2
"""Cerebrospinal fluid: measured in the large ventricles of old subjects of OASIS-1 (0.18 to 0.21)."""
GREY = 0.8
"""Pure grey matter. A voxel of this signal holds no fluid."""
BRIGHT = 1.7
"""Above white matter (1.4): fat of the orbits, vessels, scalp that skull stripping left."""
HALF = (1 + FLUID) / 2
"""A voxel half of fluid and half of tissue."""
WHITE_RAMP = 0.12
"""Half the width of the ramp between grey and white matter, about a fifth of their distance."""
DEEP_MM = 20.0
"""Depth below the surface from which fluid is mostly ventricular; sulci seldom reach it."""

LITRES = (0.6, 3.0)
"""Least and largest intracranial volume: adults have 1.0 to 1.9 L, in MNI space 1.6 to 2.4 L."""
LEAST_COHERENCE = 0.3
"""Least correlation of neighbouring voxels; noise has none, 436 brains at 4 mm have 0.63 to 0.80."""
LARGEST_BRIGHT = 0.1
"""Largest share of the volume that may be brighter than brain: 0.04 in those, more with a scalp."""
RIM_MM, CORE_MM = 5.0, 12.0
"""Depths of the rim, where fluid and the strip's edge lie, and of the core, where white matter does."""
LARGEST_RIM = 0.9
"""Largest signal of the rim relative to the core's: 0.29 to 0.63 in brains at 4 and 2 mm."""
LARGEST_REST = 0.1
"""Largest share of what is as bright as tissue that may lie outside the largest region."""
LEAST_SPREAD = 0.2
"""Least distance of the 10th and 90th percentile of the core's tissue: 0.52 to 0.76 in those."""


class BrainTissue(Measurer):
    """Splits the intracranial volume into fluid, grey and white matter, partial volume included.

    Along the signal lie, in the order in which they touch: outside (0), fluid, grey, white matter. A voxel
    between two of them is split between the two. All signals are relative to the median of the tissue itself, so
    the scale does not matter. At 4 mm no voxel of a cortex 2.5 mm thick is pure: what fluid replaces there is a
    mixture of grey and white matter with the median's signal, so a voxel counts half where it lies halfway
    between fluid and that median, and wholly where pure grey matter begins. The border of grey and white matter
    is the threshold that separates the tissue's signals best.
    """

    card = Card(
        summary="Brain tissue and CSF of a skull-stripped T1-weighted volume, classical and without weights.",
        reference="Normalised brain volume as in Fotenos et al. 2005, Neurology 64:1032; grey-white threshold by "
        "Otsu 1979, IEEE Trans SMC 9.",
    )
    version = 2
    channels = ("T1w",)
    quantities = (
        Quantity("tissue_fraction", "1", "Grey and white matter as a share of the intracranial volume"),
        Quantity("grey_fraction", "1", "Grey matter as a share of the intracranial volume"),
        Quantity("white_fraction", "1", "White matter as a share of the intracranial volume"),
        Quantity("csf_fraction", "1", "Cerebrospinal fluid as a share of the intracranial volume"),
        Quantity("deep_csf_fraction", "1", "Fluid deeper than 20 mm, mostly ventricles, as such a share"),
        Quantity("tissue_ml", "mL", "Grey and white matter"),
        Quantity("csf_ml", "mL", "Cerebrospinal fluid within the skull strip"),
    )

    def measure(self, volume: np.ndarray, geometry: Geometry) -> dict[str, float]:
        image = _relative_signal(channel(volume, geometry, "T1w"))
        mask, image = _intracranial(image)
        if neighbour_correlation(image, mask) < LEAST_COHERENCE:
            raise NotMeasurable("neighbouring voxels do not resemble each other: noise")
        litres = float(mask.sum()) * geometry.voxel_litres
        if not LITRES[0] <= litres <= LITRES[1]:
            raise NotMeasurable(
                f"what is brighter than the background measures {litres:.2g} L, expected {LITRES[0]} to "
                f"{LITRES[1]} L: no skull-stripped head"
            )
        depth = ndimage.distance_transform_edt(mask, geometry.spacing)[mask]
        signal = image[mask]
        _require_brain(signal, depth)

        # Below fluid's signal part of the voxel lies outside: the strip's edge.
        inside = np.clip(signal / FLUID, 0, 1) * (signal < BRIGHT)
        tissue = inside * np.clip(0.5 + 0.5 * (signal - HALF) / (GREY - HALF), 0, 1)
        border = otsu(signal[(signal > HALF) & (signal < BRIGHT)])
        white = inside * np.clip(0.5 + 0.5 * (signal - border) / WHITE_RAMP, 0, 1)
        fluid = inside - tissue
        whole = float(inside.sum())
        millilitres = geometry.voxel_litres * 1e3
        return {
            "tissue_fraction": float(tissue.sum()) / whole,
            "grey_fraction": float((tissue - white).sum()) / whole,
            "white_fraction": float(white.sum()) / whole,
            "csf_fraction": float(fluid.sum()) / whole,
            "deep_csf_fraction": float(fluid[depth > DEEP_MM].sum()) / whole,
            "tissue_ml": float(tissue.sum()) * millilitres,
            "csf_ml": float(fluid.sum()) * millilitres,
        }


def _relative_signal(image: np.ndarray) -> np.ndarray:
    """Return the signal above the background as a multiple of brain tissue's median.

    Raises:
        NotMeasurable: Nothing is brighter than the faces of the grid, where background must lie.
    """
    faces = [np.take(image, end, axis).ravel() for axis in range(3) for end in (0, -1)]
    image = image - np.median(np.concatenate(faces))
    # Fat and vessels are bright outliers: cut, or they become a class of their own.
    capped = np.minimum(image, np.percentile(image, 99.5))
    if capped.max() <= 0 or capped.max() == capped.min():
        raise NotMeasurable("nothing is brighter than the faces of the grid: no skull-stripped head")
    tissue = float(np.median(image[image > otsu(capped)]))
    if tissue <= 0:
        raise NotMeasurable("the faces of the grid are as bright as what lies within: no skull-stripped head")
    # The median sets the threshold that it is taken above; twice is enough to settle.
    for _ in range(2):
        tissue = float(np.median(image[image > HALF * tissue]))
    return image / tissue


def _intracranial(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mask of the largest region above half of fluid's signal, filled, and the image, both cropped.

    Raises:
        NotMeasurable: Too much of what is as bright as tissue lies elsewhere: a scalp beyond the dark skull.
    """
    parts, count = ndimage.label(image > FLUID / 2)
    largest = 1 + int(np.argmax(np.bincount(parts.ravel(), minlength=count + 1)[1:]))
    bright = parts[image > HALF]
    elsewhere = float((bright != largest).mean())
    if elsewhere > LARGEST_REST:
        raise NotMeasurable(
            f"{elsewhere:.0%} of what is as bright as tissue lies outside the largest region, expected at most "
            f"{LARGEST_REST:.0%}: not skull-stripped, or no brain"
        )
    box = ndimage.find_objects(parts, largest)[largest - 1]
    # A margin of background: the depth of a voxel at the face of the grid counts from that face.
    mask = np.pad(ndimage.binary_fill_holes(parts[box] == largest), 1)
    return mask, np.pad(image[box], 1)


def _require_brain(signal: np.ndarray, depth: np.ndarray) -> None:
    """Raise NotMeasurable unless the voxels look like a brain: dark rim, no scalp, grey and white matter."""
    bright = float((signal > BRIGHT).mean())
    if bright > LARGEST_BRIGHT:
        raise NotMeasurable(
            f"{bright:.0%} of the volume is brighter than brain, expected at most {LARGEST_BRIGHT:.0%}: not "
            "skull-stripped, or no brain"
        )
    core = signal[depth > CORE_MM]
    if not core.size:
        raise NotMeasurable(f"no voxel lies {CORE_MM:g} mm below the surface: no skull-stripped head")
    rim = float(np.median(signal[depth <= RIM_MM])) / float(np.median(core))
    if rim > LARGEST_RIM:
        raise NotMeasurable(
            f"the rim has {rim:.2f} of the core's signal, expected at most {LARGEST_RIM}: no T1-weighted brain "
            "in fluid"
        )
    spread = float(np.subtract(*np.percentile(core[core > HALF], [90, 10]))) if (core > HALF).any() else 0.0
    if spread < LEAST_SPREAD:
        raise NotMeasurable(
            f"the core's brightest and darkest tissue differ by {spread:.0%}, expected at least {LEAST_SPREAD:.0%}: no "
            "grey and white matter"
        )
