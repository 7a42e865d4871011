"""Runs a segmentation program that the user has installed, and reads the label map that it writes."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from mmbench.api import Geometry, NotMeasurable, PluginError

TAIL = 2000
"""Bytes of the program's output that an error message shows."""
NO_NETWORK = "http://127.0.0.1:9"
"""A proxy that is not there (the discard port of this machine): what the program would send or fetch fails."""
PEAK = 1000.0
"""Intensity that the 99.9th percentile is scaled to. The programs resample to whole numbers."""
LARGEST_SHIFT = 0.05
"""Largest distance, in voxels, between corresponding corners of two grids that count as one."""


def find_program(name: str, advice: str) -> str:
    """Return the path of a program: as given, on PATH, or beside the Python that runs mmbench.

    Raises:
        PluginError: There is none; the message ends with ``advice``.
    """
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)])
    found = shutil.which(str(Path(name).expanduser()), path=path)
    if found is None:
        raise PluginError(f"'{name}' is no program on the search path. {advice}")
    return found


def run_program(command: Sequence[str], variables: Mapping[str, str], timeout_s: float) -> None:
    """Run a program without a shell, without input and, as far as it heeds proxies, without a network.

    It and all that it started are killed when the time is up or the work is interrupted.

    Args:
        command: Program and arguments.
        variables: Environment variables beside the present ones.
        timeout_s: Seconds that it may take.

    Raises:
        PluginError: It cannot be started, takes too long, or ends with another status than 0; the message shows
            the end of its output.
    """
    offline = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), NO_NETWORK) | {"no_proxy": ""}
    offline |= {name.upper(): value for name, value in offline.items()}
    name = Path(command[0]).name
    # A file, not a pipe: a worker that holds a pipe open would keep us waiting after the program has ended.
    with tempfile.TemporaryFile() as log:
        try:
            # Its own session, because nnU-Net starts workers that may outlive it.
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **offline, **variables},
                start_new_session=True,
            )
        except OSError as error:
            raise PluginError(f"{name} cannot be started: {error}.") from error
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise PluginError(
                f"{name} did not end within {timeout_s:g} s. Give it more (timeout_s), a faster device, or fewer "
                f"voxels. It said last:\n{_tail(log)}"
            ) from error
        finally:
            _kill(process)
        if status:
            raise PluginError(
                f"{name} ended with status {status} (it runs without a network: weights must have been downloaded "
                f"before). It said last:\n{_tail(log)}"
            )


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a program and its workers."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _tail(log: IO[bytes]) -> str:
    log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL))
    return log.read().decode(errors="replace").strip() or "(nothing)"


def write_nifti(image: np.ndarray, geometry: Geometry, path: Path) -> None:
    """Write one channel as 16-bit NIfTI, the darkest voxel at 0 and the 99.9th percentile at :data:`PEAK`."""
    import nibabel as nib

    low, high = float(image.min()), float(np.percentile(image, 99.9))
    if high <= low:
        high = float(image.max())
    scaled = np.clip((image - low) * (PEAK / (high - low)), 0, 4 * PEAK)
    file = nib.Nifti1Image(np.rint(scaled).astype(np.int16), geometry.matrix)
    file.header.set_xyzt_units("mm")
    nib.save(file, path)


def read_labels(path: Path, geometry: Geometry, highest: int) -> np.ndarray:
    """Return the label map that a program wrote, integers of the volume's shape.

    Raises:
        PluginError: There is no file, it cannot be read, it lies on another grid, or it holds other values than
            whole numbers from 0 to ``highest``.
        NotMeasurable: It is empty.
    """
    import nibabel as nib

    if not path.exists():
        raise PluginError(
            f"the program ended well but wrote no {path.name}; is this a version that mmbench knows?"
        )
    try:
        file = nib.Nifti1Image.from_filename(path)
        values = np.asarray(file.dataobj)
        affine = np.array(file.affine, dtype=float)
    except (nib.filebasedimages.ImageFileError, OSError, EOFError, ValueError) as error:
        raise PluginError(f"the label map that the program wrote cannot be read: {error}") from error
    if values.shape[3:] == (1,):
        values = values[..., 0]
    if values.shape != geometry.shape:
        raise PluginError(f"the label map has the shape {values.shape}, expected {geometry.shape}.")
    ends = np.array([[0, size - 1] for size in geometry.shape])
    corners = np.stack([*np.meshgrid(*ends, indexing="ij"), np.ones((2, 2, 2))]).reshape(4, -1)
    shift = float(np.linalg.norm(((affine - geometry.matrix) @ corners)[:3], axis=0).max())
    if not shift <= LARGEST_SHIFT * min(geometry.spacing):
        raise PluginError(
            f"the label map lies elsewhere than the volume: its corners are {shift:.2f} mm away from the volume's."
        )
    whole = np.isfinite(values).all() and (values == np.rint(values)).all()
    if not whole or values.min() < 0 or values.max() > highest:
        raise PluginError(
            f"the label map holds values from {values.min():g} to {values.max():g}, expected whole numbers from 0 to "
            f"{highest}: another model or version?"
        )
    if not values.any():
        raise NotMeasurable("the segmentation is empty: nothing was recognised")
    return values.astype(int)


def litres_of(
    labels: np.ndarray, groups: Mapping[str, Sequence[int]], geometry: Geometry
) -> dict[str, float]:
    """Return the litres of each group of labels; NaN for one of which no voxel was found."""
    counts = np.bincount(labels.ravel(), minlength=1 + max(map(max, groups.values())))
    found = {name: int(counts[list(group)].sum()) for name, group in groups.items()}
    return {name: count * geometry.voxel_litres if count else float("nan") for name, count in found.items()}
