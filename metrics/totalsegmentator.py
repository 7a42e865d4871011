"""Adapter to TotalSegmentator: organ, muscle and fat volumes by the user's own installation."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmbench.api import Card, Geometry, Measurer, NotMeasurable, PluginError, Quantity, param

from ._external_tool import find_program, litres_of, read_labels, run_program, write_nifti
from ._volume import channel

# Labels of total_mr and tissue_types_mr (TotalSegmentator 2.18, map_to_binary.py).
ORGANS = {
    "spleen_l": (1,),
    "kidneys_l": (2, 3),
    "liver_l": (5,),
    "lungs_l": (10, 11),
    "heart_l": (22,),
    "vertebrae_l": (19,),
    "gluteus_l": (40, 41, 42, 43, 44, 45),
    "autochthon_l": (46, 47),
    "iliopsoas_l": (48, 49),
}
FATS = {"subcutaneous_fat_l": (1,), "torso_fat_l": (2,)}
MUSCLE = {"muscle_l": (3,)}
OFFLINE = {
    "totalseg_id": "totalseg_mmbench0",
    "send_usage_stats": False,
    "prediction_counter": 0,
    "statistics_disclaimer_shown": True,
}
"""Configuration that the program runs with (its config.py): it sends usage statistics unless told so."""
HIGHEST = {"total_mr": 50, "tissue_types_mr": 3}

_ORGANS = (
    Quantity("spleen_l", "L", "Spleen"),
    Quantity("kidneys_l", "L", "Both kidneys"),
    Quantity("liver_l", "L", "Liver"),
    Quantity("lungs_l", "L", "Both lungs"),
    Quantity("heart_l", "L", "Heart"),
    Quantity("vertebrae_l", "L", "Vertebrae in view"),
    Quantity("gluteus_l", "L", "Gluteal muscles"),
    Quantity("autochthon_l", "L", "Erector spinae and the other muscles of the back proper"),
    Quantity("iliopsoas_l", "L", "Iliopsoas muscles"),
)
_FATS = (
    Quantity("subcutaneous_fat_l", "L", "Subcutaneous adipose tissue"),
    Quantity("torso_fat_l", "L", "Adipose tissue within the trunk"),
)
_MUSCLE = (Quantity("muscle_l", "L", "Skeletal muscle"),)

ADVICE = (
    "Install TotalSegmentator (Apache-2.0), here with `pip install 'mmbench[totalsegmentator]'` or elsewhere with its "
    "path in the parameter 'executable', and download its weights once: `totalseg_download_weights -t total_mr` "
    "(with fast: total_fast_mr; for fat and muscle: tissue_types_mr, which needs a licence number)."
)

_CHANNELS: tuple[str, ...] = ("water",)
_QUANTITIES: tuple[Quantity, ...] = (*_ORGANS, *_FATS, *_MUSCLE)


@dataclass
class TotalSegmentator(Measurer):
    """Runs TotalSegmentator on each volume, offline, and adds up the labels.

    It runs with a home folder of its own, in which the sending of usage statistics is off, and with a proxy that
    is not there; the user's configuration is read (licence number) and never written.
    """

    card = Card(
        summary="Organ, muscle and fat volumes by TotalSegmentator, which the user installs; slow without a GPU.",
        reference="Akinci D'Antonoli et al. 2025, Radiology, doi 10.1148/radiol.241613.",
        licence="Apache-2.0; the weights of tissue_types_mr need a licence, free for non-commercial use",
        requires=("TotalSegmentator",),
    )
    automatic = False
    channels = _CHANNELS
    quantities = _QUANTITIES

    executable: str = param("TotalSegmentator", "Program, by path or by name on the search path")
    organs: str = param("water", "Channel that the task total_mr reads: any MR contrast; empty for no organs")
    fat: str = param(
        "", "Channel that tissue_types_mr reads for adipose tissue, best the fat image; empty for none"
    )
    muscle: str = param(
        "", "Channel that tissue_types_mr reads for muscle, best the water image; empty for none"
    )
    fast: bool = param(False, "Use the model of 3 mm instead of 1.5 mm for organs")
    device: str = param(
        "gpu", "gpu, gpu:X, cpu or mps; without a GPU the program falls back to cpu by itself"
    )
    timeout_s: float = param(3600.0, "Seconds that one task on one volume may take", minimum=1)

    def __post_init__(self) -> None:
        parts = [(self.organs, _ORGANS), (self.fat, _FATS), (self.muscle, _MUSCLE)]
        self.channels = tuple(dict.fromkeys(source for source, _ in parts if source))
        self.quantities = tuple(item for source, items in parts if source for item in items)

    def check(self) -> None:
        if not self.channels:
            raise PluginError(
                "totalsegmentator: 'organs', 'fat' and 'muscle' are all empty: nothing to measure."
            )
        find_program(self.executable, ADVICE)
        if not any(_weights().glob("Dataset*")):
            raise PluginError(f"totalsegmentator: there are no weights in {_weights()}. {ADVICE}")
        if (self.fat or self.muscle) and not _licence():
            raise PluginError(
                "totalsegmentator: fat and muscle need the task tissue_types_mr, whose licence number is not set: "
                "`totalseg_set_license -l NUMBER` (https://backend.totalsegmentator.com/license-academic/)."
            )

    def measure(self, volume: np.ndarray, geometry: Geometry) -> dict[str, float]:
        read: dict[str, float] = {}
        with tempfile.TemporaryDirectory(prefix="mmbench-") as name:
            folder = Path(name)
            if self.organs:
                labels = self._segment("total_mr", self.organs, volume, geometry, folder)
                read |= litres_of(labels, ORGANS, geometry)
            tissues: dict[str, np.ndarray] = {}
            for source, groups in ((self.fat, FATS), (self.muscle, MUSCLE)):
                if source and source not in tissues:
                    tissues[source] = self._segment("tissue_types_mr", source, volume, geometry, folder)
                if source:
                    read |= litres_of(tissues[source], groups, geometry)
        if np.isnan(list(read.values())).all():
            raise NotMeasurable("none of the organs and tissues that are measured was recognised")
        return read

    def _segment(
        self, task: str, source: str, volume: np.ndarray, geometry: Geometry, folder: Path
    ) -> np.ndarray:
        image, result = folder / f"{task}-{source}.nii.gz", folder / f"{task}-{source}-labels.nii.gz"
        write_nifti(channel(volume, geometry, source), geometry, image)
        home = folder / "home"
        home.mkdir(exist_ok=True)
        licence = _licence()
        settings = OFFLINE | ({"license_number": licence} if licence else {})
        (home / "config.json").write_text(json.dumps(settings))
        command = [find_program(self.executable, ADVICE), "-i", str(image), "-o", str(result), "--ml"]
        command += ["--task", task, "--device", self.device, "--nr_thr_saving", "1"]
        if self.fast and task == "total_mr":
            command.append("--fast")
        variables = {"TOTALSEG_HOME_DIR": str(home), "TOTALSEG_WEIGHTS_PATH": str(_weights())}
        run_program(command, variables, self.timeout_s)
        return read_labels(result, geometry, HIGHEST[task])


def _home() -> Path:
    """Return the folder in which the program keeps its configuration and, by default, its weights."""
    return Path(os.environ.get("TOTALSEG_HOME_DIR") or Path.home() / ".totalsegmentator")


def _weights() -> Path:
    """Return the folder in which the program looks for weights."""
    return Path(os.environ.get("TOTALSEG_WEIGHTS_PATH") or _home() / "nnunet" / "results")


def _licence() -> str:
    """Return the licence number in the user's own configuration of the program, or nothing."""
    try:
        settings = json.loads((_home() / "config.json").read_text())
    except (OSError, ValueError):
        return ""
    return str(settings.get("license_number", "")) if isinstance(settings, dict) else ""
