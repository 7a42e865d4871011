from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from mmbench.api import Geometry, NotMeasurable
from mmbench.metrics.brain_tissue import BrainTissue

OASIS = Path(__file__).parents[3] / "shared" / "data" / "oasis1-bids"
GEOMETRY = Geometry.regular((46, 55, 46), (4.0, 4.0, 4.0), ("T1w",))
FINE = 3


@cache
def head(sulci=1.0, ventricles=25.0):
    """Return a brain in fluid, averaged over finer voxels, and the true shares of its parts.

    Args:
        sulci: Width in millimetres of the sheets of fluid between the gyri.
        ventricles: Half length in millimetres.
    """
    x, y, z = np.meshgrid(
        *(((np.arange(FINE * n) + 0.5) / FINE - n / 2) * 4 for n in GEOMETRY.shape),
        indexing="ij",
        sparse=True,
    )
    radius = np.sqrt((x / 68) ** 2 + (y / 86) ** 2 + (z / 68) ** 2)
    k = np.pi / 13  # one gyrus every 13 mm
    gyroid = np.sin(k * x) * np.cos(k * y) + np.sin(k * y) * np.cos(k * z) + np.sin(k * z) * np.cos(k * x)
    cavity = np.sqrt(((np.abs(x) - 9) / 0.5) ** 2 + y**2 + (z / 0.5) ** 2) < ventricles
    outer = (radius >= 0.97) | ((radius > 0.52) & (np.abs(gyroid) < 0.6 * k * sulci))
    nuclei = np.sqrt((np.abs(x) - 20) ** 2 + (y / 1.5) ** 2 + z**2) < 13
    head = radius < 1
    fluid = head & (outer | cavity)
    cortex = ndimage.distance_transform_edt(~outer, 4 / FINE) <= 2.8
    grey = head & ~fluid & (cortex | nuclei)
    white = head & ~fluid & ~grey
    image = 0.15 * fluid + 0.66 * grey + 1.03 * white
    volume = image.reshape(46, FINE, 55, FINE, 46, FINE).mean(axis=(1, 3, 5))
    noise = 0.02 * np.random.default_rng(0).standard_normal(volume.shape)
    volume = np.where(volume > 0, np.abs(volume + noise), 0)
    shares = {"tissue": grey | white, "grey": grey, "white": white, "csf": fluid, "ventricles": cavity & head}
    truth = {name: part.sum() / head.sum() for name, part in shares.items()}
    return volume[None].astype(np.float32), truth | {"ml": head.sum() * 0.064 / FINE**3}


def measure(volume):
    return BrainTissue().measure(volume, GEOMETRY)


@pytest.mark.parametrize(("sulci", "ventricles"), [(0.8, 20.0), (1.0, 25.0), (1.5, 25.0), (2.0, 30.0)])
def test_finds_the_known_shares(sulci, ventricles):
    volume, truth = head(sulci, ventricles)
    read = measure(volume)
    assert list(read) == [quantity.name for quantity in BrainTissue.quantities]
    assert read["tissue_fraction"] == pytest.approx(truth["tissue"], abs=0.025)
    assert read["csf_fraction"] == pytest.approx(truth["csf"], abs=0.025)
    assert read["tissue_ml"] + read["csf_ml"] == pytest.approx(truth["ml"], rel=0.06)
    # No voxel of 4 mm is pure cortex: mixtures of fluid and grey matter cannot be told from one another.
    assert read["grey_fraction"] == pytest.approx(truth["grey"], abs=0.09)
    assert read["white_fraction"] == pytest.approx(truth["white"], abs=0.09)


def test_the_parts_add_up():
    read = measure(head()[0])
    assert read["tissue_fraction"] + read["csf_fraction"] == pytest.approx(1)
    assert read["grey_fraction"] + read["white_fraction"] == pytest.approx(read["tissue_fraction"])
    assert 0 < read["deep_csf_fraction"] < read["csf_fraction"]
    assert read["csf_ml"] / (read["csf_ml"] + read["tissue_ml"]) == pytest.approx(read["csf_fraction"])


def test_wider_ventricles_show_in_the_deep_fluid_and_wider_sulci_in_all_of_it():
    narrow, wide, sulci = (measure(head(*shape)[0]) for shape in ((1.0, 25.0), (1.0, 45.0), (1.5, 25.0)))
    grown = head(1.0, 45.0)[1]["ventricles"] - head(1.0, 25.0)[1]["ventricles"]
    assert wide["deep_csf_fraction"] - narrow["deep_csf_fraction"] == pytest.approx(grown, rel=0.25)
    assert sulci["csf_fraction"] > narrow["csf_fraction"] + 0.02
    gain = sulci["csf_fraction"] - narrow["csf_fraction"]
    assert sulci["deep_csf_fraction"] - narrow["deep_csf_fraction"] < gain / 2


def test_scale_offset_and_a_weak_bias_field_do_not_matter():
    volume, _ = head()
    plain = measure(volume)
    assert measure(volume * 4096) == pytest.approx(plain, rel=1e-6)
    assert measure(volume + 7) == pytest.approx(plain, rel=1e-3)
    ramp = np.linspace(0.9, 1.1, 46)[:, None, None]
    assert measure(volume * ramp)["tissue_fraction"] == pytest.approx(plain["tissue_fraction"], abs=0.01)


def test_a_margin_more_or_less_does_not_matter():
    volume, _ = head()
    cropped = volume[:, 5:-5, 5:-5, 5:-5]
    geometry = Geometry.regular(cropped.shape[1:], (4.0, 4.0, 4.0), ("T1w",))
    assert BrainTissue().measure(cropped, geometry) == pytest.approx(measure(volume), rel=1e-6)


def _nothing(kind):
    volume, _ = head()
    rng = np.random.default_rng(1)
    inside = volume > 0
    match kind:
        case "blank":
            return np.zeros_like(volume)
        case "constant":
            return np.ones_like(volume)
        case "not finite":
            return np.where(volume > 0.9, np.inf, volume)
        case "noise":
            return np.hypot(*rng.standard_normal((2, *volume.shape)))
        case "noise in a mask":
            return np.where(inside, rng.random(volume.shape), 0)
        case "a small spot":
            spot = np.zeros_like(volume)
            spot[0, 20:24, 20:24, 20:24] = 1
            return spot
        case "one bright voxel":
            spot = np.zeros_like(volume)
            spot[0, 20, 20, 20] = 1
            return spot
        case "inside out":
            return volume.max() - volume
        case "fluid bright":
            return np.where(inside, 1.1 - volume, 0)
        case "with scalp":
            scalp = ndimage.binary_dilation(inside[0], iterations=3) & ~ndimage.binary_dilation(inside[0])
            skull = ndimage.binary_dilation(inside[0], iterations=3) & ~inside[0]
            return np.where(scalp, 1.6, np.where(skull, 0.08, volume))
        case "one tissue":
            smooth = ndimage.gaussian_filter(inside.astype(float), (0, 1, 1, 1))
            return smooth + 0.01 * rng.standard_normal(volume.shape) * inside
        case "half a voxel wide":
            slab = np.zeros_like(volume)
            slab[:, 5:40, 5:50, 20:25] = volume[:, 5:40, 5:50, 20:25]
            return slab
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
        ("one bright voxel", "no skull-stripped head"),
        ("inside out", "faces of the grid"),
        ("fluid bright", "no brain|no T1-weighted brain"),
        ("with scalp", "not skull-stripped"),
        ("one tissue", "no grey and white matter"),
        ("half a voxel wide", "no skull-stripped head"),
    ],
)
def test_what_shows_no_brain_is_not_measurable(kind, reason):
    with pytest.raises(NotMeasurable, match=reason):
        measure(_nothing(kind))


@pytest.fixture(scope="module")
def oasis():
    """Return the table with what was read off every fourth first scan, and off both scans of those with two."""
    if not OASIS.exists():
        pytest.skip("the OASIS-1 cohort is not at ../shared/data/oasis1-bids")
    import nibabel as nib

    def read(subject, session):
        image = nib.load(OASIS / subject / session / "anat" / f"{subject}_{session}_T1w.nii.gz")
        geometry = Geometry(image.shape, tuple(map(tuple, image.affine.tolist())), ("T1w",))
        return BrainTissue().measure(np.asarray(image.dataobj, np.float32)[None], geometry)

    table = pd.read_csv(OASIS / "participants.tsv", sep="\t", index_col="participant_id").iloc[::4]
    first = pd.DataFrame({subject: read(subject, "ses-MR1") for subject in table.index}).T
    again = sorted(path.parent.name for path in OASIS.glob("*/ses-MR2"))
    repeats = [pd.DataFrame({subject: read(subject, f"ses-MR{k}") for subject in again}).T for k in (1, 2)]
    return table.join(first), repeats


def test_agrees_with_the_published_tissue_fraction(oasis):
    table, _ = oasis
    assert np.corrcoef(table.tissue_fraction, table.nwbv)[0, 1] >= 0.9
    parabolas = [
        np.polyval(np.polyfit(table.age, table[n], 2), table.age) for n in ("tissue_fraction", "nwbv")
    ]
    assert np.corrcoef(table.tissue_fraction - parabolas[0], table.nwbv - parabolas[1])[0, 1] >= 0.6


def test_tissue_falls_and_fluid_rises_with_age_as_published(oasis):
    table, _ = oasis
    well = table[table.cdr == 0]

    def percent_a_year(name, rows):
        return 100 * np.polyfit(rows.age, rows[name], 1)[0] / rows[name].mean()

    young, old = well[well.age < 60], well[well.age >= 60]
    # Fotenos et al. 2005: -0.45 % a year after 65, less before; ventricles grow by 2 to 4 % a year.
    assert -0.6 < percent_a_year("tissue_ml", old) < -0.25
    assert percent_a_year("tissue_fraction", old) < 1.5 * percent_a_year("tissue_fraction", young) < 0
    assert percent_a_year("csf_fraction", old) > percent_a_year("csf_fraction", young) > 0.2
    assert 1.5 < percent_a_year("deep_csf_fraction", old) < 5
    # Grey matter is lost from early adulthood, white matter from middle age.
    assert percent_a_year("grey_fraction", young) < -0.1
    assert percent_a_year("white_fraction", young) > -0.05 > percent_a_year("white_fraction", old) - 0.02
    demented = table[(table.cdr > 0) & (table.age >= 60)]
    slope, intercept = np.polyfit(old.age, old.tissue_fraction, 1)
    assert (demented.tissue_fraction - slope * demented.age - intercept).mean() < -0.005


@pytest.mark.parametrize(
    ("name", "least"),
    [("tissue_fraction", 0.9), ("csf_fraction", 0.9), ("deep_csf_fraction", 0.95), ("grey_fraction", 0.85)],
)
def test_repeat_scans_agree(oasis, name, least):
    pairs = np.stack([repeat[name] for repeat in oasis[1]], axis=1)
    n, mean = pairs.shape[0], pairs.mean()
    between = 2 * ((pairs.mean(1) - mean) ** 2).sum() / (n - 1)
    within = ((pairs - pairs.mean(1, keepdims=True)) ** 2).sum() / n
    assert (between - within) / (between + within) >= least  # ICC(1,1), Shrout and Fleiss 1979
