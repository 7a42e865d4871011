"""Body composition from the water and fat images of a Dixon scan of the trunk."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from mmbench.api import Card, Geometry, Measurer, NotMeasurable, Quantity

from ._body import Spacing, body_mask, box_of, dilated, eroded, one_voxel, shading
from ._trunk import HALF, QUANTITIES, Trunk
from ._volume import LEAST_COHERENCE, channel, neighbour_correlation, upright

BRIGHT = 0.4
"""Voxels below this share of the body's median signal are not asked for the signals of pure tissue."""
PURE = (0.25, 0.75)
"""Fat signal fractions below and above which a voxel counts as lean tissue and as adipose tissue."""
NOISY = 0.3
"""Share of lean tissue's signal below which water at the skin is taken for noise."""
LEAST_PURE = 0.002
"""Share of the body's voxels that must be of a tissue for its signal to be known."""
ASKED = 20_000
"""Voxels of air that are asked for the noise."""
RIM_MM = 10.0
"""Depth down to which tissue counts as lying under the skin, where a swap of the whole volume shows."""
SWAP = 0.2
"""By how much less fat must lie there than further in. Even the leanest have as much; swapped, all have less."""
LIVER_MM = (50.0, 110.0)
"""Edges of the cubes of solid tissue that tell the right lobe of a liver from all else under the right lung: the
smaller one must be solid, the larger one finds the largest such place."""
SOLID = 0.9
"""Share of the smaller cube that must be lean tissue."""
SIDE_MM = 25.0
"""Least distance of the place from the midline."""
REACH_MM = 80.0
"""How far below the lungs' base the place may lie."""
ROI_MM = 30.0
"""Radius of the ball whose liver tissue is measured"""
ALIKE = 0.3
"""and by how much a voxel of it may depart from the median water signal: vessels and gallbladder do."""
FAT_SATURATION = 1.58
"""Signal of fat relative to liver water of equal proton density: spoiled gradient echo, TR 4.36 ms, flip angle
9 degrees, T1 382 and 809 ms at 3 T (de Bazelaire et al. 2004, Radiology 230)."""
T2STAR_LOSS = 0.0129
"""By how much two-point Dixon reads the ratio of fat to water low where T2* is 20 ms, as in the liver, and 30 ms is
assumed, as in fat, echoes 1.23 ms apart; at 1.5 T, with echoes 2.4 ms apart, it is 0.015. Both T2* are assumptions, the same as the phantom's."""


class DixonComposition(Measurer):
    """Measures the adipose and lean compartments of a trunk, partial volume included, and the liver's fat.

    The signals of adipose and of lean tissue are read off the volume itself and each voxel is unmixed between
    them, so that neither the scale nor the coil shading nor the T1 weighting of the scan matters (fat-referenced
    Dixon, Karlsson et al. 2015, J Magn Reson Imaging 41). Fat volume counts fat within muscle, liver and marrow as
    adipose tissue of the same fat content; lean volume is the rest of the body without lungs and gas.

    The body wall is the lean tissue nearest to the skin, closed over gaps of up to 25 mm. Adipose tissue within it
    and below the lungs, less the spine's, is visceral, that without subcutaneous: fat between the wall's muscles and
    around the heart is neither. The waist's level is counted from the lungs' base; the liver is the largest solid
    block under the right lung.

    Slabs whose water and fat are swapped are put right; a volume that is swapped as a whole is not measured. It needs
    voxels of 6 mm and less in the slice, for a body wall is 6 to 14 mm thick. The liver's fat fraction assumes the
    protocol of :data:`FAT_SATURATION`; another one scales it (at 1.5 T, TR 6.7 ms and 10 degrees it reads 12 % low), and below
    1 % two echoes do not resolve it.
    """

    card = Card(
        summary="Adipose compartments, lean volume, waist and liver fat from water and fat images, without weights.",
        reference="Karlsson et al. 2015, J Magn Reson Imaging 41: fat-referenced Dixon MRI.",
    )
    version = 2
    channels = ("water", "fat")
    quantities = (
        *QUANTITIES,
        Quantity("liver_fat_fraction", "1", "Proton density fat fraction of the liver's right lobe"),
    )

    def measure(self, volume: np.ndarray, geometry: Geometry) -> dict[str, float]:
        images = [np.maximum(channel(volume, geometry, name), 0) for name in self.channels]
        (water, spacing), (fat, _) = (upright(image, geometry) for image in images)
        total = water + fat
        if neighbour_correlation(total) < LEAST_COHERENCE:
            raise NotMeasurable("neighbouring voxels do not resemble each other: noise")
        body = body_mask(total, spacing)
        air = ~dilated(body, 2 * max(spacing[:2]), spacing)
        box = box_of(body)
        body = body[box]
        some = np.flatnonzero(air)[:: max(air.sum() // ASKED, 1)]
        powers = [_power(image[box], image.ravel()[some]) for image in (water, fat)]
        water, fat = _signals(powers)
        swapped = _swapped(water, fat, body, spacing)
        if swapped.any():
            powers = [np.where(swapped, *pair) for pair in (powers[::-1], powers)]
            water, fat = _signals(powers)
        trunk = _unmixed(water, fat, body, spacing)
        return {**trunk.compartments(), "liver_fat_fraction": _liver_fat(trunk, *powers)}


def _power(image: np.ndarray, air: np.ndarray) -> np.ndarray:
    """Return the squared signal below a Rician magnitude; its mean over voxels is unbiased, a voxel may be negative.

    E m^2 = s^2 + 2 sigma^2 (Gudbjartsson and Patz 1995); the median of the magnitude in air, where it is Rayleigh
    distributed, is sigma sqrt(2 ln 2).
    """
    return image**2 - (float(np.median(air)) ** 2 / np.log(2) if air.size else 0.0)


def _signals(powers: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    water, fat = (np.sqrt(np.maximum(power, 0)) for power in powers)
    return water, fat


def _swapped(water: np.ndarray, fat: np.ndarray, body: np.ndarray, spacing: Spacing) -> np.ndarray:
    """Return which slices show water as fat and fat as water, bool of shape (z).

    Where a swapped slab begins and ends, a slice resembles its neighbour's complement more than its neighbour;
    the fewer slices are the swapped ones.

    Raises:
        NotMeasurable: The rest is swapped too, for what lies under its skin is water: the channels may be
            mislabelled.
    """
    total = np.where(body, water + fat, 0)
    share = np.divide(fat, total, out=np.zeros_like(fat), where=total > 0)
    weight = np.minimum(total[..., 1:], total[..., :-1])
    same, other = (
        (weight * np.abs(share[..., 1:] - neighbour)).sum(axis=(0, 1))
        for neighbour in (share[..., :-1], 1 - share[..., :-1])
    )
    swapped = np.concatenate([[0], np.cumsum(other < same)]) % 2 == 1
    if swapped.mean() > 0.5:
        swapped = ~swapped
    share[..., swapped] = 1 - share[..., swapped]
    deep = eroded(body, RIM_MM, spacing)
    under_skin, inside = (
        float(np.average(share[part], weights=total[part])) if total[part].any() else 0.5
        for part in (body & ~deep, deep)
    )
    if under_skin < min(inside - SWAP, 0.5):
        raise NotMeasurable(
            f"fat and water are swapped: what lies under the skin is {under_skin:.0%} fat, further in {inside:.0%}"
        )
    return swapped


def _unmixed(water: np.ndarray, fat: np.ndarray, body: np.ndarray, spacing: Spacing) -> Trunk:
    """Return the trunk with each voxel unmixed between adipose and lean tissue.

    Raises:
        NotMeasurable: One of the two is not seen.
    """
    total = water + fat
    bright = body & (total > BRIGHT * np.median(total[body]))
    adipose = bright & (fat > PURE[1] * total)
    lean = bright & (fat < PURE[0] * total)
    for name, pure in (("adipose", adipose), ("lean", lean)):
        if pure.sum() < LEAST_PURE * body.sum():
            raise NotMeasurable(f"no {name} tissue is seen in the body: its signal is unknown")
    # At the skin voxels are filled in part.
    under_skin = adipose & eroded(body, max(spacing[:2]), spacing)
    gain = shading(fat, spacing, under_skin if under_skin.sum() > LEAST_PURE * body.sum() else adipose)
    fat, water = fat / gain, water / gain
    water_in_adipose, lean_signal = float(np.median(water[adipose])), float(np.median(water[lean]))
    filled = fat + np.maximum(water - fat * water_in_adipose, 0) / lean_signal
    # The skin lies where a voxel is half filled; only now are the signals known that say so. What is far less than
    # lean tissue's signal is noise there, which magnitudes add up.
    sure = fat + np.where(water > NOISY * lean_signal, filled - fat, 0)
    body = body & ((sure > HALF) | eroded(body, one_voxel(spacing), spacing))
    share = np.divide(fat, filled, out=np.zeros_like(fat), where=filled > 0)
    return Trunk(body, filled, share, spacing)


def _liver_fat(trunk: Trunk, water_power: np.ndarray, fat_power: np.ndarray) -> float:
    """Return the fat fraction of the largest solid block of lean tissue under the right lung; NaN without one."""
    spacing, base = trunk.spacing, trunk.lung_base
    if base is None:
        return float("nan")
    solid = trunk.enclosed & trunk.tissue & (trunk.adipose < HALF) & trunk.below_diaphragm
    middle = np.average(np.arange(len(solid)), weights=trunk.enclosed.sum(axis=(1, 2)))
    right, low = int(middle + SIDE_MM / spacing[0]), max(int(base - REACH_MM / spacing[2]), 0)
    part = solid[right:, :, low:].astype(np.float32)
    if not part.size:
        return float("nan")
    small, wide = (
        ndimage.uniform_filter(part, [max(round(edge / step), 1) for step in spacing], mode="constant")
        for edge in LIVER_MM
    )
    best = np.unravel_index(np.argmax(small + wide), part.shape)
    if small[best] < SOLID:
        return float("nan")
    centre = np.add(best, (right, 0, low))
    axes = np.ogrid[tuple(slice(0, n) for n in solid.shape)]
    away = sum(((axis - c) * step) ** 2 for axis, c, step in zip(axes, centre, spacing, strict=True))
    ball = solid & (away <= ROI_MM**2)
    signal = np.sqrt(np.maximum(water_power[ball], 0))
    alike = np.abs(signal - np.median(signal)) < ALIKE * np.median(signal)
    if not alike.any():
        return float("nan")
    water, fat = (np.sqrt(max(float(power[ball][alike].mean()), 0)) for power in (water_power, fat_power))
    ratio = fat / water + T2STAR_LOSS
    return float(ratio / (ratio + FAT_SATURATION))
