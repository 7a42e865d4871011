"""One NIfTI file: its header checked before its voxels are touched, both in canonical orientation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmbench.api import CohortError, Geometry

EXTENSIONS = (".nii", ".nii.gz")
DICOM_ADVICE = "convert them with dcm2niix (https://github.com/rordenlab/dcm2niix)"

_OTHER_FORMATS = (".mgz", ".mgh", ".mha", ".mhd", ".nrrd", ".hdr", ".img", ".mnc")


class Header(NamedTuple):
    """What a file's header says of its volume.

    Attributes:
        grid: Its grid once it is turned into canonical orientation (RAS+), without channels.
        stored: Directions of the voxel axes in the file, e.g. ``LAS``.
        oriented: Whether the header declares an affine (sform or qform); otherwise it was guessed.
    """

    grid: Geometry
    stored: str
    oriented: bool


def read_header(file: Path, max_voxels: int, depth: int = 1) -> Header:
    """Return what the header of a NIfTI file says; no voxel is read.

    Args:
        file: The file.
        max_voxels: Largest volume that is taken.
        depth: Channels that the file must hold in its last dimension.

    Raises:
        CohortError: The file is absent, no NIfTI, or its header describes no volume that can be used.
    """
    return _opened(file, max_voxels, depth)[1]


def read_volume(file: Path, max_voxels: int, depth: int = 1) -> tuple[Geometry, np.ndarray]:
    """Return the grid and the voxels of a NIfTI file in canonical orientation (RAS+).

    Returns:
        The grid, and float32 voxels of shape (depth, x, y, z).

    Raises:
        CohortError: As for :func:`read_header`, or the voxels cannot be read.
    """
    import nibabel

    image, header, orientation = _opened(file, max_voxels, depth)
    try:
        voxels = np.asanyarray(image.dataobj).astype(np.float32, copy=False)
    except Exception as error:  # nibabel and the decompressors raise many kinds
        raise CohortError(
            f"{file}: the voxels cannot be read ({_line(error)}); the file is truncated or damaged: copy it anew."
        ) from None
    canonical = nibabel.apply_orientation(voxels.reshape((*voxels.shape[:3], depth)), orientation)
    return header.grid, np.moveaxis(canonical, 3, 0)


def _opened(file: Path, max_voxels: int, depth: int) -> tuple[Any, Header, np.ndarray]:
    import nibabel

    if not file.name.endswith(EXTENSIONS) or file.is_dir():
        raise CohortError(f"{file}: {_no_nifti(file)}")
    if not file.exists():
        link = (
            " (a link whose target is not here: fetch the data, e.g. with 'datalad get')"
            if file.is_symlink()
            else ""
        )
        raise CohortError(f"{file}: no such file{link}; expected a NIfTI volume.")
    try:
        image: Any = nibabel.load(file)
        shape, affine = tuple(map(int, image.shape)), np.asarray(image.affine, dtype=float)
        dtype = image.get_data_dtype()
    except Exception as error:
        if holds_dicom(file):
            raise CohortError(
                f"{file}: DICOM files under another name, expected NIfTI; {DICOM_ADVICE}."
            ) from None
        raise CohortError(
            f"{file}: cannot be read as NIfTI ({_line(error)}); it is truncated, damaged or of another format: copy or "
            "export it anew."
        ) from None
    _check_shape(file, shape, max_voxels, depth)
    if dtype.kind not in "biuf":
        raise CohortError(f"{file}: voxels of type {dtype}, expected one real number each; convert the file.")
    _check_affine(file, affine)
    orientation = nibabel.io_orientation(affine)
    canonical = affine @ nibabel.orientations.inv_ornt_aff(orientation, shape[:3])
    order = np.argsort(orientation[:, 0])
    x, y, z = (shape[axis] for axis in order)
    grid = Geometry((x, y, z), tuple(map(tuple, canonical.tolist())), ())
    codes = [int(image.header[name]) for name in ("qform_code", "sform_code") if name in image.header]
    return image, Header(grid, "".join(nibabel.aff2axcodes(affine)), any(codes) or not codes), orientation


def _check_shape(file: Path, shape: tuple[int, ...], max_voxels: int, depth: int) -> None:
    if len(shape) < 3 or [size for size in shape[3:] if size != 1] != [depth] * (depth > 1):
        if depth > 1:
            expected = f"a fourth dimension of {depth}, one for each of the 'channels'"
            advice = "export the file so, or name one channel for each file"
        else:
            expected = "a 3-D volume"
            advice = "extract one volume, or name the channels of the last dimension in 'channels'"
        raise CohortError(f"{file}: {len(shape)}-D with shape {shape}, expected {expected}; {advice}.")
    if min(shape) < 1:
        raise CohortError(
            f"{file}: shape {shape} in the header, expected positive sizes; export the file anew."
        )
    if (size := math.prod(shape)) > max_voxels * depth:
        raise CohortError(
            f"{file}: the header claims {size} voxels {shape}, more than max_voxels={max_voxels}; the header is "
            "damaged, or raise max_voxels."
        )


def _check_affine(file: Path, affine: np.ndarray) -> None:
    if not np.isfinite(affine).all():
        raise CohortError(
            f"{file}: the affine holds NaN or infinite values; correct the header (sform, qform)."
        )
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not spacing.all() or abs(np.linalg.det(affine[:3, :3] / spacing)) < 1e-3:
        raise CohortError(
            f"{file}: the affine is singular (voxel axes of {millimetres(spacing)} that do not span space); correct "
            "the header (sform, qform)."
        )


def _no_nifti(file: Path) -> str:
    if holds_dicom(file):
        return f"DICOM files, expected NIfTI; {DICOM_ADVICE}."
    return "expected a NIfTI file (.nii or .nii.gz); convert it."


def holds_dicom(path: Path) -> bool:
    """Return whether a file, or one of the first hundred files below a folder, is DICOM."""
    files = [path] if path.is_file() else [file for file, _ in zip(path.rglob("*"), range(100), strict=False)]
    return any(
        file.suffix.lower() in (".dcm", ".ima") or _has_dicom_mark(file) for file in files if file.is_file()
    )


def other_formats(folder: Path) -> list[str]:
    """Return the names of files below a folder that are volumes in another format than NIfTI."""
    return sorted(file.name for file in folder.rglob("*") if file.suffix.lower() in _OTHER_FORMATS)


def millimetres(values: Sequence[float] | np.ndarray) -> str:
    """Return lengths as text, e.g. ``2 x 2 x 3.5 mm``."""
    return " x ".join(f"{value:.4g}" for value in values) + " mm"


def _has_dicom_mark(file: Path) -> bool:
    try:
        with file.open("rb") as handle:
            # DICOM PS3.10, section 7.1: 128 bytes of preamble, then "DICM".
            return handle.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
