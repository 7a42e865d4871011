import json
import math
import sys

import numpy as np
import pytest

from mmbench.api import Geometry, NotMeasurable, PluginError
from mmbench.metrics.vibesegmentator import VibeSegmentator

GEOMETRY = Geometry.regular((20, 16, 12), (5, 5, 8), ("water", "fat"), (-50, -40, 7))
LITRES = GEOMETRY.voxel_litres

# The options of run_VIBESegmentator.py that its versions since 2025 have in common.
STAND_IN = """
import argparse, json, os, sys
from pathlib import Path
import TPTBox, nnunetv2
import nibabel as nib
import numpy as np

parser = argparse.ArgumentParser(allow_abbrev=False)
parser.add_argument("--img", type=Path)
parser.add_argument("--out_path", type=Path)
parser.add_argument("--override", action="store_true")
parser.add_argument("--gpu", type=int, default=0)
parser.add_argument("--ddevice", choices=["cuda", "cpu", "mps"], default="cuda")
parser.add_argument("--dataset_id", type=int, default=100)
args = parser.parse_args()
image = nib.load(args.img)
data = np.asarray(image.dataobj)
Path(os.environ["STAND_IN_LOG"]).write_text(json.dumps([args.ddevice, os.environ["http_proxy"], int(data.max())]))
mode = os.environ.get("STAND_IN_MODE", "")
if mode == "fail":
    print("Download attempt failed: https://github.com/100.zip")
    raise StopIteration
labels = np.zeros(data.shape, np.uint8)
for level, label in {2: 65, 3: 67, 5: 5, 7: 66, 8: 53}.items():
    labels[np.rint(data / 100).astype(int) == level] = label
if mode == "bones":
    labels[labels > 0] = 72
if mode != "silent":
    nib.save(nib.Nifti1Image(labels, image.affine), args.out_path)
"""


def body(fat_fraction=0.1):
    """Return blocks of subcutaneous fat, inner fat, liver and muscle by water signal, and their voxel counts."""
    water = np.zeros(GEOMETRY.shape, np.float32)
    for column, signal in enumerate([0.2, 0.3, 0.7, 0.8, 1.0]):
        water[column] = signal
    water[8:16, 2:12, 2:10] = 0.5
    fat = np.where(water == 0.5, water * fat_fraction / (1 - fat_fraction), 0.3)
    # The rim of the liver holds half of its neighbour, fat.
    fat[8, 2:12, 2:10] = 0.5
    return np.stack([water, fat]).astype(np.float32), 16 * 12, 8 * 10 * 8


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Write the stand-in with the modules that it needs."""
    path = tmp_path / "clone" / "run_VIBESegmentator.py"
    path.parent.mkdir()
    path.write_text(STAND_IN)
    modules = tmp_path / "modules"
    modules.mkdir()
    for name in ("TPTBox", "nnunetv2"):
        (modules / f"{name}.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(modules))
    monkeypatch.setenv("STAND_IN_LOG", str(tmp_path / "log"))
    return path


def test_adds_up_fat_muscle_and_organs_in_litres(script):
    volume, column, liver = body()
    tool = VibeSegmentator(script=str(script), device="cpu")
    tool.check()
    read = tool.measure(volume, GEOMETRY)
    assert list(read) == [quantity.name for quantity in tool.quantities]
    assert read["subcutaneous_fat_l"] == pytest.approx(column * LITRES)
    assert read["inner_fat_l"] == pytest.approx(column * LITRES)
    assert read["liver_l"] == pytest.approx(liver * LITRES)
    assert read["muscle_l"] == pytest.approx(2 * column * LITRES)
    assert read["gluteus_l"] == pytest.approx(column * LITRES)
    assert math.isnan(read["lungs_l"])
    device, proxy, brightest = json.loads((script.parents[1] / "log").read_text())
    assert (device, proxy, brightest) == ("cpu", "http://127.0.0.1:9", 1000)


@pytest.mark.parametrize("share", [0.03, 0.1, 0.4])
def test_the_fat_fraction_of_the_liver_is_that_of_its_inside(script, share):
    volume, _, _ = body(share)
    read = VibeSegmentator(script=str(script)).measure(volume, GEOMETRY)
    assert read["liver_fat_fraction"] == pytest.approx(share, abs=1e-3)


def test_fat_is_optional(script):
    tool = VibeSegmentator(script=str(script), fat="")
    read = tool.measure(body()[0], GEOMETRY)
    assert tool.channels == ("water",)
    assert "liver_fat_fraction" not in read
    assert list(read) == [quantity.name for quantity in tool.quantities]


def test_what_is_missing_is_said_before_the_run(script, monkeypatch):
    with pytest.raises(PluginError, match=r"no file(.|\n)*git clone"):
        VibeSegmentator(script=str(script.with_name("other.py"))).check()
    with pytest.raises(PluginError, match="no-such-python"):
        VibeSegmentator(script=str(script), python="no-such-python").check()
    monkeypatch.delenv("PYTHONPATH")
    with pytest.raises(PluginError, match=r"has no TPTBox(.|\n)*mmbench\[vibesegmentator\]"):
        VibeSegmentator(script=str(script), python=sys.executable).check()


@pytest.mark.parametrize(
    ("mode", "error", "reason"),
    [
        (
            "fail",
            PluginError,
            r"weights must have been downloaded(.|\n)*Download attempt failed(.|\n)*StopIteration",
        ),
        ("silent", PluginError, "wrote no"),
        ("bones", NotMeasurable, "no trunk"),
    ],
)
def test_what_the_program_does_wrong_is_said(script, monkeypatch, mode, error, reason):
    monkeypatch.setenv("STAND_IN_MODE", mode)
    with pytest.raises(error, match=reason):
        VibeSegmentator(script=str(script)).measure(body()[0], GEOMETRY)


def test_a_blank_volume_is_not_measurable(script):
    with pytest.raises(NotMeasurable, match="blank"):
        VibeSegmentator(script=str(script)).measure(np.zeros(GEOMETRY.full_shape), GEOMETRY)
