"""Body composition from a single T1-weighted image of the trunk."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from mmbench.api import Card, Geometry, Measurer, NotMeasurable, Quantity

from ._body import Spacing, body_mask, box_of, dilated, eroded, large, one_voxel, shading
from ._trunk import DROP_L, HALF, QUANTITIES, Trunk
from ._volume import LEAST_COHERENCE, channel, neighbour_correlation, upright

RIM_MM = 12.0
"""Depth down to which adipose tissue is looked for at first."""
SECTORS, PART_MM = 12, 60.0
"""Sectors around the trunk, and height of the parts, in each of which adipose tissue is brightest under the skin."""
BRIGHTEST = 0.9
"""Rank from which a voxel counts as such in its part."""
DEEP_MM, LEAN_RANK = 30.0, 0.4
"""Depth from which on, and rank at which, the signal is lean tissue's even in the most obese."""
NOT_DARK = 0.2
"""Share of the median signal under the skin below which lies air or fluid."""
CLEARLY = 1.5
"""Least signal of adipose relative to lean tissue; spoiled gradient echoes give 1.6 and more."""
LEAST_SEEN = 10
"""Voxels of adipose tissue under the skin from which its shading can be followed."""
ROUNDS = 3
"""Times that adipose tissue is followed further in through the shading."""
GUESS = (0.3, 0.6, 1.05)
"""First guess of the signals of dark tissue (blood, fluid), of lean and of adipose tissue, relative to the last."""
NEARER = 0.65
"""A voxel is taken for adipose tissue where its signal lies this far or further from lean to adipose tissue's."""
LEAST_SEPARATION = 3.0
"""Least distance of the two signals in standard deviations; below, most of what is taken for adipose is muscle."""


class T1Body(Measurer):
    """Measures the adipose and lean compartments of a trunk on an image on which adipose tissue is the brightest.

    Adipose tissue is found under the skin and followed inwards through the coil shading; a mixture of three Gaussians
    then gives the signals of dark, lean and adipose tissue (as Wells et al. 1996, IEEE Trans Med Imaging 15, with
    shading from one tissue), between which voxels in and beside adipose tissue are unmixed. Compartments are those of
    ``dixon-composition``, but lean tissues differ in T1, so that fat within muscle, liver and marrow cannot be told
    from a brighter tissue: it counts as lean, and the liver's fat is not measured.

    In the leanest, adipose tissue is thinner than a voxel: where its signal cannot be told from muscle's, the volume
    is not measurable. Contrast agent, fresh blood and bowel contents of short T1 look like adipose tissue.
    """

    card = Card(
        summary="Adipose compartments, lean volume and waist from one T1-weighted image, classical, without weights.",
        reference="Positano et al. 2004, J Magn Reson Imaging 20: adipose tissue from T1-weighted images, unsupervised.",
    )
    channels = ("t1",)
    quantities = tuple(
        {
            "fat_l": Quantity("fat_l", "L", "Adipose tissue, without the fat in other tissues"),
            "lean_l": Quantity("lean_l", "L", "Body without adipose tissue, lungs and gas"),
        }.get(quantity.name, quantity)
        for quantity in QUANTITIES
    )

    def measure(self, volume: np.ndarray, geometry: Geometry) -> dict[str, float]:
        image, spacing = upright(np.maximum(channel(volume, geometry, "t1"), 0), geometry)
        if neighbour_correlation(image) < LEAST_COHERENCE:
            raise NotMeasurable("neighbouring voxels do not resemble each other: noise")
        body = body_mask(image, spacing)
        box = box_of(body)
        return _unmixed(image[box], body[box], spacing).compartments()


def _unmixed(image: np.ndarray, body: np.ndarray, spacing: Spacing) -> Trunk:
    """Return the trunk with each voxel in or beside adipose tissue unmixed between adipose and lean tissue.

    Raises:
        NotMeasurable: The two cannot be told apart.
    """
    adipose = _surely_adipose(image, body, spacing)
    if adipose.sum() < LEAST_SEEN:
        raise NotMeasurable("nothing under the skin is brighter than what lies further in: no adipose tissue")
    for _ in range(ROUNDS):
        signal = image / shading(image, spacing, adipose)
        (_, lean, pure), spread = _levels(signal[body])
        adipose = body & (signal > lean + NEARER * (pure - lean))
    if pure - lean < LEAST_SEPARATION * spread:
        raise NotMeasurable(
            "adipose and lean tissue cannot be told apart: their signals are only "
            f"{(pure - lean) / spread:.1f} standard deviations apart, expected {LEAST_SEPARATION:g}"
        )
    signal, lean = signal / pure, lean / pure
    near = one_voxel(spacing)
    body = body & ((signal > HALF) | eroded(body, near, spacing))
    share = np.clip((signal - lean) / (1 - lean), 0, 1) * body
    # Half a voxel of fat and half of air looks like lean tissue: at the skin, the neighbour further in says more.
    skin = body & ~eroded(body, near, spacing)
    share = np.where(skin, ndimage.maximum_filter(share, (3, 3, 1)), share)
    beside = dilated(large(share > HALF, DROP_L * 1e6 / float(np.prod(spacing))), near, spacing)
    share = np.where(beside & body, share, 0)
    # Air is told by lean tissue's signal, the skin by that of adipose tissue.
    filled = np.where(eroded(body, 2 * max(spacing[:2]), spacing), signal / lean, signal)
    return Trunk(body, filled, share, spacing)


def _levels(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the signals of dark, lean and adipose tissue and their common spread: a mixture of three Gaussians.

    Args:
        values: Signals relative to adipose tissue's, about.
    """
    counts, edges = np.histogram(values, 100, (0.1, 1.9))
    centres = (edges[:-1] + edges[1:]) / 2
    levels, spread, shares = np.array(GUESS), 0.1, np.full(3, 1 / 3)
    for _ in range(40):
        odds = shares[:, None] * np.exp(-0.5 * ((centres - levels[:, None]) / spread) ** 2) + 1e-12
        mass = counts * odds / odds.sum(axis=0)
        total = mass.sum(axis=1) + 1e-9
        levels, shares = mass @ centres / total, total / total.sum()
        spread = max(float(np.sqrt((mass * (centres - levels[:, None]) ** 2).sum() / total.sum())), 1e-3)
    return levels, spread


def _surely_adipose(image: np.ndarray, body: np.ndarray, spacing: Spacing) -> np.ndarray:
    """Return adipose tissue seen for sure: the brightest under the skin of each part of the trunk.

    In the leanest the brightest there may be muscle; only what is clearly brighter than lean tissue further in counts.
    """
    rim = body & ~eroded(body, max(RIM_MM, 2 * max(spacing[:2])), spacing)
    deep = eroded(body, DEEP_MM, spacing) & (image > NOT_DARK * np.median(image[rim]))
    if not deep.any():
        return deep
    slab = (np.arange(body.shape[2]) * spacing[2] // PART_MM).astype(int)
    inner = [image[..., slab == index][deep[..., slab == index]] for index in range(slab.max() + 1)]
    overall = np.quantile(image[deep], LEAN_RANK)
    lean = np.array([max(overall, np.quantile(part, LEAN_RANK)) if len(part) else overall for part in inner])

    places = np.flatnonzero(rim)
    values = image.ravel()[places]
    x, y, z = np.unravel_index(places, rim.shape)
    around = np.arctan2((y - y.mean()) * spacing[1], (x - x.mean()) * spacing[0]) / (2 * np.pi)
    part = np.floor((around + 0.5) * SECTORS).astype(int) % SECTORS + SECTORS * slab[z]
    order = np.lexsort((values, part))
    sizes = np.bincount(part)
    rank = np.arange(len(places)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    brightest = order[rank >= BRIGHTEST * np.repeat(sizes, sizes)]
    brightest = brightest[values[brightest] > CLEARLY * lean[slab[z[brightest]]]]
    found = np.zeros_like(rim)
    found.ravel()[places[brightest]] = True
    return found
