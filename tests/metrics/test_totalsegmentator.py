import json
import math
import os
import stat
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mmbench.api import Geometry, NotMeasurable, PluginError
from mmbench.metrics.totalsegmentator import TotalSegmentator

# A grid that is flipped, oblique and shifted: a mistake in the affine would show.
TURN = np.array([[-5, 0.3, 0, 90], [0.3, 5, 0, -60], [0, 0, 8, 12], [0, 0, 0, 1.0]])
GEOMETRY = Geometry((20, 16, 12), tuple(map(tuple, TURN.tolist())), ("water", "fat"))
LITRES = GEOMETRY.voxel_litres

# The options of TotalSegmentator 2.18 (bin/TotalSegmentator.py) that a caller could pass; others are refused.
STAND_IN = """#!{python}
import argparse, json, os, sys, time
from pathlib import Path
import nibabel as nib
import numpy as np

parser = argparse.ArgumentParser(allow_abbrev=False)
parser.add_argument("-i", dest="input", type=Path, required=True)
parser.add_argument("-o", dest="output", type=Path, required=True)
parser.add_argument("-ml", "--ml", action="store_true")
parser.add_argument("-ta", "--task", choices=["total", "total_mr", "body_mr", "tissue_types_mr"], default="total")
parser.add_argument("-f", "--fast", action="store_true")
parser.add_argument("-d", "--device", choices=["gpu", "cpu", "mps"], default="gpu")
parser.add_argument("-ns", "--nr_thr_saving", type=int, default=6)
parser.add_argument("-q", "--quiet", action="store_true")
args = parser.parse_args()
home = Path(os.environ["TOTALSEG_HOME_DIR"])
config = json.loads((home / "config.json").read_text())
image = nib.load(args.input)
data = np.asarray(image.dataobj)
with open(os.environ["STAND_IN_LOG"], "a") as log:
    record = dict(argv=sys.argv[1:], config=config, weights=os.environ["TOTALSEG_WEIGHTS_PATH"], home=str(home))
    record |= dict(proxy=os.environ["HTTPS_PROXY"], affine=image.affine.tolist(), stdin=sys.stdin.read())
    record |= dict(dtype=str(data.dtype), low=int(data.min()), high=int(data.max()))
    log.write(json.dumps(record) + "\\n")
if args.task == "tissue_types_mr":
    if args.fast:
        sys.exit("task tissue_types_mr does not work with option --fast")
    if len(config.get("license_number", "")) != 18:
        sys.exit("ERROR: Invalid license number")
mode = os.environ.get("STAND_IN_MODE", "")
if mode == "fail":
    print("x" * 9000)
    print("RuntimeError: CUDA out of memory", file=sys.stderr)
    sys.exit(3)
if mode == "hang":
    print("loading weights", flush=True)
    if os.fork() == 0:
        time.sleep(3.5)
        Path(os.environ["STAND_IN_LOG"]).with_name("worker-survived").touch()
    time.sleep(60)
if mode == "silent":
    sys.exit(0)
level = np.rint(data / 100).astype(int)  # the test paints tenths of the brightest signal
known = {{3: 5, 5: 1, 7: 2, 8: 46}} if args.task == "total_mr" else {{4: 1, 6: 2, 9: 3}}
labels = np.zeros(data.shape, np.uint8)
for found, label in known.items():
    labels[level == found] = label
affine = image.affine.copy()
if mode == "empty":
    labels[:] = 0
if mode == "unmeasured":
    labels[:] = 4
if mode == "shape":
    labels = labels[:-1]
if mode == "moved":
    affine[0, 3] += 3
if mode == "label":
    labels[0, 0, 0] = 117
if mode == "fraction":
    labels = labels + np.float32(0.5)
if mode == "garbage":
    args.output.write_bytes(b"no nifti")
else:
    nib.save(nib.Nifti1Image(labels, affine), args.output)
assert args.ml
"""


def paint(**channels):
    """Return a volume whose channels hold bars of the given signals and voxel counts, on 0, beside a bar of 1."""
    volume = np.zeros(GEOMETRY.full_shape, np.float32)
    for name, bars in channels.items():
        flat = volume[GEOMETRY.channels.index(name)].reshape(-1)
        start = 0
        for signal, count in [*bars, (1.0, 200)]:
            flat[start : start + count] = signal
            start += count
    return volume


VOLUME = paint(
    water=[(0.3, 700), (0.5, 80), (0.7, 150), (0.8, 90), (0.9, 400)], fat=[(0.4, 900), (0.6, 300), (0.9, 50)]
)


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Put the stand-in on the search path and give it weights and a configuration of its own."""
    path = tmp_path / "bin" / "TotalSegmentator"
    path.parent.mkdir()
    path.write_text(STAND_IN.format(python=sys.executable))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    home = tmp_path / "home"
    (home / "nnunet" / "results" / "Dataset850_x").mkdir(parents=True)
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(home))
    monkeypatch.delenv("TOTALSEG_WEIGHTS_PATH", raising=False)
    monkeypatch.setenv("STAND_IN_LOG", str(tmp_path / "log"))
    return path


def calls(program):
    return [json.loads(line) for line in (program.parents[1] / "log").read_text().splitlines()]


def set_licence(program, number="aca_12345678901234"):
    config = {"totalseg_id": "totalseg_USER", "send_usage_stats": True, "license_number": number}
    (program.parents[1] / "home" / "config.json").write_text(json.dumps(config))


def test_adds_up_the_organs_in_litres(program):
    tool = TotalSegmentator(device="cpu", fast=True)
    tool.check()
    read = tool.measure(VOLUME, GEOMETRY)
    assert list(read) == [quantity.name for quantity in tool.quantities]
    assert read["liver_l"] == pytest.approx(700 * LITRES)
    assert read["spleen_l"] == pytest.approx(80 * LITRES)
    assert read["kidneys_l"] == pytest.approx(150 * LITRES)
    assert read["autochthon_l"] == pytest.approx(90 * LITRES)
    assert math.isnan(read["lungs_l"])
    [call] = calls(program)
    options = call["argv"][call["argv"].index("--ml") :]
    assert options == ["--ml", "--task", "total_mr", "--device", "cpu", "--nr_thr_saving", "1", "--fast"]


def test_the_program_gets_the_volume_on_its_grid_in_whole_numbers(program):
    for scale in (1, 1e-4, 4000):
        assert TotalSegmentator().measure(VOLUME * scale, GEOMETRY)["liver_l"] == pytest.approx(700 * LITRES)
    for call in calls(program):
        np.testing.assert_allclose(call["affine"], TURN, atol=1e-4)
        assert (call["dtype"], call["low"], call["high"]) == ("int16", 0, 1000)


def test_the_program_cannot_send_statistics_and_leaves_nothing_behind(program):
    set_licence(program)
    before = (program.parents[1] / "home" / "config.json").read_text()
    TotalSegmentator().measure(VOLUME, GEOMETRY)
    [call] = calls(program)
    assert call["config"]["send_usage_stats"] is False
    assert call["config"]["totalseg_id"] != "totalseg_USER"
    assert call["proxy"] == "http://127.0.0.1:9"
    assert call["weights"] == str(program.parents[1] / "home" / "nnunet" / "results")
    assert call["stdin"] == ""
    assert not Path(call["home"]).parent.exists()
    assert (program.parents[1] / "home" / "config.json").read_text() == before


def test_fat_and_muscle_are_read_from_their_own_channels(program):
    set_licence(program)
    tool = TotalSegmentator(organs="", fat="fat", muscle="water", fast=True)
    tool.check()
    read = tool.measure(VOLUME, GEOMETRY)
    assert tool.channels == ("fat", "water")
    assert read == pytest.approx(
        {
            "subcutaneous_fat_l": 900 * LITRES,
            "torso_fat_l": 300 * LITRES,
            "muscle_l": 400 * LITRES,
        }
    )
    assert len(calls(program)) == 2


def test_one_channel_is_segmented_once(program):
    set_licence(program)
    read = TotalSegmentator(organs="", fat="fat", muscle="fat").measure(VOLUME, GEOMETRY)
    assert read["muscle_l"] == pytest.approx(50 * LITRES)
    assert len(calls(program)) == 1


def test_channels_and_quantities_follow_from_the_parameters():
    assert TotalSegmentator().channels == ("water",)
    tool = TotalSegmentator(organs="t1", muscle="t1")
    assert tool.channels == ("t1",)
    assert "muscle_l" in {quantity.name for quantity in tool.quantities}
    assert "torso_fat_l" not in {quantity.name for quantity in tool.quantities}
    assert not TotalSegmentator.automatic


def test_what_is_missing_is_said_before_the_run(program, monkeypatch):
    with pytest.raises(PluginError, match="totalseg_set_license"):
        TotalSegmentator(fat="fat").check()
    with pytest.raises(PluginError, match="nothing to measure"):
        TotalSegmentator(organs="").check()
    with pytest.raises(PluginError, match=r"no program.*pip install 'mmbench\[totalsegmentator\]'"):
        TotalSegmentator(executable="no-such-program").check()
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(program.parent))
    with pytest.raises(PluginError, match=r"no weights in .*totalseg_download_weights"):
        TotalSegmentator().check()


@pytest.mark.parametrize(
    ("mode", "error", "reason"),
    [
        ("fail", PluginError, r"status 3(.|\n)*CUDA out of memory"),
        ("silent", PluginError, "wrote no"),
        ("garbage", PluginError, "cannot be read"),
        ("shape", PluginError, r"shape \(19, 16, 12\), expected \(20, 16, 12\)"),
        ("moved", PluginError, "3.00 mm away"),
        ("label", PluginError, "0 to 117, expected whole numbers from 0 to 50"),
        ("fraction", PluginError, "expected whole numbers"),
        ("empty", NotMeasurable, "nothing was recognised"),
        ("unmeasured", NotMeasurable, "none of the organs"),
    ],
)
def test_what_the_program_does_wrong_is_said(program, monkeypatch, mode, error, reason):
    monkeypatch.setenv("STAND_IN_MODE", mode)
    with pytest.raises(error, match=reason) as caught:
        TotalSegmentator().measure(VOLUME, GEOMETRY)
    assert len(str(caught.value)) < 2500


def test_a_program_that_hangs_is_killed_with_its_workers(program, monkeypatch):
    monkeypatch.setenv("STAND_IN_MODE", "hang")
    begin = time.monotonic()
    with pytest.raises(PluginError, match=r"within 3 s(.|\n)*loading weights"):
        TotalSegmentator(timeout_s=3).measure(VOLUME, GEOMETRY)
    assert time.monotonic() - begin < 20
    time.sleep(3)
    assert not (program.parents[1] / "worker-survived").exists()


def test_a_volume_that_shows_nothing_is_not_given_to_the_program(program):
    with pytest.raises(NotMeasurable, match="blank"):
        TotalSegmentator().measure(np.zeros_like(VOLUME), GEOMETRY)
    with pytest.raises(NotMeasurable, match="not finite"):
        TotalSegmentator().measure(np.where(VOLUME > 0.8, np.nan, VOLUME), GEOMETRY)
    assert not (program.parents[1] / "log").exists()


def test_a_program_that_cannot_be_started_is_said(program):
    program.write_text("#!/no/such/interpreter\n")
    with pytest.raises(PluginError, match="cannot be started"):
        TotalSegmentator().measure(VOLUME, GEOMETRY)
