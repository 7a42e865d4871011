"""Adapter to VIBESegmentator: body composition by the user's own installation."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from mmbench.api import Card, Geometry, Measurer, NotMeasurable, PluginError, Quantity, param

from ._external_tool import find_program, litres_of, read_labels, run_program, write_nifti
from ._volume import channel

LIVER = 5
GROUPS = {
    "subcutaneous_fat_l": (65,),
    "inner_fat_l": (67,),
    "muscle_l": (66, *range(53, 63)),
    "liver_l": (LIVER,),
    "spleen_l": (1,),
    "kidneys_l": (2, 3),
    "lungs_l": (10, 11, 12, 13, 14),
    "heart_l": (24,),
    "gluteus_l": (53, 54, 55, 56, 57, 58),
    "autochthon_l": (59, 60),
    "iliopsoas_l": (61, 62),
    "vertebral_bodies_l": (69,),
}
"""Labels of model 100 (table "Label Model 100 overview" of its README)."""
HIGHEST = 72
_FIND = "import sys, importlib.util as u; sys.exit(not (u.find_spec('TPTBox') and u.find_spec('nnunetv2')))"

_VOLUMES = (
    Quantity("subcutaneous_fat_l", "L", "Subcutaneous adipose tissue"),
    Quantity("inner_fat_l", "L", "Adipose tissue within the trunk, visceral and other"),
    Quantity("muscle_l", "L", "Skeletal muscle, the named muscles included"),
    Quantity("liver_l", "L", "Liver"),
    Quantity("spleen_l", "L", "Spleen"),
    Quantity("kidneys_l", "L", "Both kidneys"),
    Quantity("lungs_l", "L", "Both lungs"),
    Quantity("heart_l", "L", "Heart"),
    Quantity("gluteus_l", "L", "Gluteal muscles"),
    Quantity("autochthon_l", "L", "Erector spinae and the other muscles of the back proper"),
    Quantity("iliopsoas_l", "L", "Iliopsoas muscles"),
    Quantity("vertebral_bodies_l", "L", "Vertebral bodies in view"),
)
_LIVER_FAT = Quantity("liver_fat_fraction", "1", "Signal fat fraction of the liver")

ADVICE = (
    "Install VIBESegmentator (Apache-2.0): `git clone https://github.com/robert-graf/VIBESegmentator`, then "
    "`pip install 'mmbench[vibesegmentator]'` (or its requirements in an environment whose Python you name in the "
    "parameter 'python'), put the path of run_VIBESegmentator.py into the parameter 'script', and run it once by hand "
    "so that it downloads its weights."
)

_CHANNELS: tuple[str, ...] = ("water", "fat")
_QUANTITIES: tuple[Quantity, ...] = (*_VOLUMES, _LIVER_FAT)


@dataclass
class VibeSegmentator(Measurer):
    """Runs VIBESegmentator on each volume, offline, and adds up the labels.

    Trained on NAKO and UK Biobank. The fat fraction of the liver is the median of fat / (water + fat) over the
    liver without its outermost voxels; it supposes that both channels have the scanner's common scale.
    """

    card = Card(
        summary="Fat, muscle and organ volumes by VIBESegmentator, which the user installs; slow without a GPU.",
        reference="Graf et al. 2025, European Radiology, doi 10.1007/s00330-025-12035-9.",
        requires=("TPTBox", "nnunetv2"),
    )
    automatic = False
    channels = _CHANNELS
    quantities = _QUANTITIES

    script: str = param("run_VIBESegmentator.py", "Path of that file in a clone of the tool's repository")
    python: str = param(
        "", "Python of the environment that has TPTBox and nnunetv2; mmbench's own by default"
    )
    image: str = param(
        "water", "Channel that is segmented: any contrast of a gradient-echo scan of the trunk"
    )
    fat: str = param(
        "fat", "Channel of fat for the liver's fat fraction, 'image' being water; empty for none"
    )
    device: str = param("cuda", "Device of the segmentation", choices=("cuda", "cpu", "mps"))
    timeout_s: float = param(3600.0, "Seconds that one volume may take", minimum=1)

    def __post_init__(self) -> None:
        self.channels = tuple(dict.fromkeys(name for name in (self.image, self.fat) if name))
        self.quantities = _QUANTITIES if self.fat else _VOLUMES

    def check(self) -> None:
        python, _ = self._program()
        found = subprocess.run(
            [python, "-c", _FIND], stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        if found.returncode:
            raise PluginError(f"vibesegmentator: {python} has no TPTBox and nnunetv2. {ADVICE}")

    def measure(self, volume: np.ndarray, geometry: Geometry) -> dict[str, float]:
        image = channel(volume, geometry, self.image)
        with tempfile.TemporaryDirectory(prefix="mmbench-") as name:
            source, result = Path(name) / "image.nii.gz", Path(name) / "labels.nii.gz"
            write_nifti(image, geometry, source)
            command = [*self._program(), "--img", str(source), "--out_path", str(result)]
            command += ["--ddevice", self.device]
            run_program(command, {}, self.timeout_s)
            labels = read_labels(result, geometry, HIGHEST)
        read = litres_of(labels, GROUPS, geometry)
        if np.isnan([read["liver_l"], read["subcutaneous_fat_l"], read["muscle_l"]]).all():
            raise NotMeasurable("neither liver nor subcutaneous fat nor muscle was recognised: no trunk")
        if self.fat:
            fat = channel(volume, geometry, self.fat)
            read["liver_fat_fraction"] = _fat_fraction(image, fat, labels == LIVER)
        return read

    def _program(self) -> list[str]:
        """Return the interpreter and the script."""
        python = find_program(
            self.python or sys.executable, "It is the parameter 'python' of vibesegmentator."
        )
        script = Path(self.script).expanduser()
        if not script.is_file():
            raise PluginError(f"vibesegmentator: there is no file '{script}'. {ADVICE}")
        return [python, str(script.resolve())]


def _fat_fraction(water: np.ndarray, fat: np.ndarray, organ: np.ndarray) -> float:
    """Return the median of fat / (water + fat) inside an organ, NaN where it has no inside."""
    inner = ndimage.binary_erosion(organ) & (water + fat > 0)
    return float(np.median(fat[inner] / (water + fat)[inner])) if inner.any() else float("nan")
