from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmbench.api import Geometry, NotMeasurable
from mmbench.metrics.brain_tissue import BrainTissue

OASIS = Path(__file__).parents[3] / "shared" / "data" / "oasis1-bids"
GEOMETRY = Geometry.regular((46, 55, 46), (4.0, 4.0, 4.0), ("T1w",))


def head(atrophy, seed=0):
    """Return an ellipsoid of white matter in grey in fluid, and the tissue's share of it."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in GEOMETRY.shape), indexing="ij")
    radius = np.sqrt((x / 0.8) ** 2 + (y / 0.9) ** 2 + (z / 0.8) ** 2)
    edge = 1 - atrophy
    image = np.select([radius < 0.65, radius < edge, radius < 1], [1.0, 0.7, 0.2], 0.0)
    noise = 0.04 * np.random.default_rng(seed).standard_normal(image.shape)
    image = np.where(radius < 1, np.maximum(image + noise, 0.01), 0)
    return image[None].astype(np.float32), float((radius < edge).sum() / (radius < 1).sum())


@pytest.mark.parametrize("atrophy", [0.04, 0.08, 0.16])
def test_finds_the_known_share_of_tissue(atrophy):
    image, share = head(atrophy)
    read = BrainTissue().measure(image, GEOMETRY)
    assert read["tissue_fraction"] == pytest.approx(share, abs=0.02)
    total = read["tissue_ml"] + read["csf_ml"]
    assert read["tissue_ml"] / total == pytest.approx(read["tissue_fraction"])
    assert total == pytest.approx((image > 0).sum() * 0.064, rel=0.02)


def test_the_scale_of_the_intensities_does_not_matter():
    image, _ = head(0.1)
    plain, scaled = (BrainTissue().measure(image * factor, GEOMETRY) for factor in (1, 4096))
    assert scaled == pytest.approx(plain)


def _nothing(kind):
    image, _ = head(0.1)
    rng = np.random.default_rng(1)
    match kind:
        case "blank":
            return np.zeros_like(image)
        case "constant":
            return np.ones_like(image)
        case "not finite":
            return np.where(image > 0.9, np.inf, image)
        case "noise":
            return np.abs(rng.standard_normal(image.shape))
        case "noise in a mask":
            return np.where(image > 0, rng.random(image.shape), 0)
        case "a small spot":
            spot = np.zeros_like(image)
            spot[0, 20:24, 20:24, 20:24] = 1
            return spot
        case "fills everything":
            return 1 + image
    raise AssertionError(kind)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("blank", "blank"),
        ("constant", "blank"),
        ("not finite", "not finite"),
        ("noise", "."),
        ("noise in a mask", "noise"),
        ("a small spot", "no skull-stripped head"),
        ("fills everything", "no skull-stripped head"),
    ],
)
def test_what_shows_no_brain_is_not_measurable(kind, reason):
    with pytest.raises(NotMeasurable, match=reason):
        BrainTissue().measure(_nothing(kind), GEOMETRY)


@pytest.mark.skipif(not OASIS.exists(), reason="the OASIS-1 cohort is not at ../shared/data/oasis1-bids")
def test_agrees_with_published_nwbv_and_between_repeat_scans():
    import nibabel as nib

    def fraction(subject, session):
        image = nib.load(OASIS / subject / session / "anat" / f"{subject}_{session}_T1w.nii.gz")
        geometry = Geometry(image.shape, tuple(map(tuple, image.affine.tolist())), ("T1w",))
        volume = np.asarray(image.dataobj, np.float32)[None]
        return BrainTissue().measure(volume, geometry)["tissue_fraction"]

    table = pd.read_csv(OASIS / "participants.tsv", sep="\t", index_col="participant_id")
    some = table.iloc[::4]
    read = pd.Series({subject: fraction(subject, "ses-MR1") for subject in some.index})
    assert np.corrcoef(read, some.nwbv)[0, 1] >= 0.85
    assert np.corrcoef(read, some.age)[0, 1] <= -0.7
    again = sorted(path.parent.name for path in OASIS.glob("*/ses-MR2"))
    pairs = np.array(
        [[fraction(subject, session) for session in ("ses-MR1", "ses-MR2")] for subject in again]
    )
    assert np.corrcoef(pairs.T)[0, 1] >= 0.9
