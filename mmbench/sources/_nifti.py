"""Volumes in NIfTI files: headers checked before voxels are touched, a common grid, intensities normalised."""

from __future__ import annotations

import math
from abc import ABC
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmbench.api import CohortError, CohortSource, Context, Geometry, Volumes, param
from mmbench.sources._checks import check_volumes, gathered
from mmbench.sources._tables import Corrections

TOLERANCE = 1e-3
"""Distance in millimetres by which corresponding corner voxels of two volumes may differ."""

NORMALISATIONS = ("percentile", "shared-percentile", "none")


@dataclass(kw_only=True)
class NiftiSource(CohortSource, ABC):
    """Parameters that all sources of NIfTI volumes share."""

    path: Path = param(doc="where the cohort is")
    drop: tuple[str, ...] = param((), "columns to leave out, such as further identifiers")
    schema: Corrections = param(
        None,
        "YAML file, or mapping, of attributes that correct the inferred columns (kind, unit, levels, ...)",
    )
    channels: tuple[str, ...] = param(
        (), "names of the channels; by default those by which the files are found"
    )
    spacing: tuple[float, float, float] | None = param(
        None, "resample to this voxel spacing along x, y, z in mm; by default that of most volumes"
    )
    shape: tuple[int, int, int] | None = param(
        None, "resample to this number of voxels along x, y, z; by default what covers most volumes"
    )
    normalise: str = param(
        "percentile",
        "divide each channel of a volume by its 99th percentile over non-zero voxels; shared-percentile takes "
        "one percentile for all channels of a volume, which keeps their ratios (e.g. fat fractions)",
        choices=NORMALISATIONS,
    )
    max_voxels: int = param(
        2**27, "largest volume that is read; larger headers are refused unread", minimum=1
    )


@dataclass(frozen=True)
class NiftiStore:
    """Reads the volumes of a cohort from NIfTI files.

    Attributes:
        files: For each record one file a channel.
        geometry: Grid that every volume is returned on.
        resample: Whether a volume on another grid is resampled; otherwise it is refused.
        normalise: One of :data:`NORMALISATIONS`.
        max_voxels: Largest volume that is read.
    """

    files: Sequence[tuple[Path, ...]]
    geometry: Geometry
    resample: bool
    normalise: str
    max_voxels: int

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int, /) -> np.ndarray:
        """Return one record's volume, float32 of shape (channels, x, y, z).

        Raises:
            CohortError: A file cannot be read, or lies on another grid that may not be resampled.
        """
        volume = np.empty(self.geometry.full_shape, np.float32)
        for channel, file in enumerate(self.files[index]):
            grid, voxels = read_volume(file, self.max_voxels)
            if self.resample:
                source, voxels = voxels, resampled(voxels, grid, self.geometry)
                if source.any() and not voxels.any():
                    raise CohortError(
                        f"{file}: every voxel that is not zero lies outside the common grid, which "
                        f"spans {_span(self.geometry)}; check the affine, or set another spacing and shape."
                    )
            elif complaint := _mismatch(grid, self.geometry):
                raise CohortError(f"{file}: {complaint}")
            volume[channel] = voxels
        return _normalised(volume, self.normalise, self.files[index])


def open_volumes(
    files: Sequence[tuple[Path, ...]], channels: tuple[str, ...], options: NiftiSource, context: Context
) -> tuple[Volumes | None, list[str]]:
    """Find the common grid of NIfTI files and check every one of them.

    Args:
        files: For each record one file a channel.
        channels: Name of each channel.
        options: How to read them.
        context: Shows progress.

    Returns:
        The volumes, ``None`` where none is sound, and one line for each problem. With problems, the volumes are
        not those of all records.
    """
    for name, values in (("spacing", options.spacing), ("shape", options.shape)):
        if values is not None and not all(math.isfinite(value) and value > 0 for value in values):
            return None, [f"{name}: {list(values)}: expected three positive numbers."]
    problems: list[str] = []
    grids: dict[int, list[Geometry]] = {}
    for index in context.steps(len(files), "reading headers"):
        count = len(problems)
        found = []
        for file in files[index]:
            with gathered(problems):
                found.append(read_grid(file, options.max_voxels))
        if len(problems) == count:
            grids[index] = found
    if not grids:
        return None, problems
    resample = options.spacing is not None or options.shape is not None
    usual = _commonest([grid for found in grids.values() for grid in found])
    geometry = Geometry(usual.shape, usual.affine, channels)
    if resample:
        geometry = _common_grid(geometry, options.spacing, options.shape)
        if (size := math.prod(geometry.shape)) > options.max_voxels:
            problems.append(
                f"the common grid would have {size} voxels {geometry.shape}, more than "
                f"max_voxels={options.max_voxels}; set a wider spacing or a smaller shape."
            )
            return None, problems
    sound = []
    for index, found in grids.items():
        complaints = [
            f"{file}: {complaint}"
            for file, grid in zip(files[index], found, strict=True)
            if not resample and (complaint := _mismatch(grid, geometry))
        ]
        problems += complaints
        if not complaints:
            sound.append(files[index])
    store = NiftiStore(sound, geometry, resample, options.normalise, options.max_voxels)
    volumes = Volumes(store, geometry)
    problems += check_volumes(volumes, lambda index, channel: str(sound[index][channel]), context)
    return volumes, problems


def read_grid(file: Path, max_voxels: int) -> Geometry:
    """Return the grid of a NIfTI file in canonical orientation (RAS+), from its header alone.

    Raises:
        CohortError: The file is absent, no NIfTI, or its header describes no volume that can be used.
    """
    return _opened(file, max_voxels)[1]


def read_volume(file: Path, max_voxels: int) -> tuple[Geometry, np.ndarray]:
    """Return the grid and the voxels of a NIfTI file in canonical orientation (RAS+), float32.

    Raises:
        CohortError: As for :func:`read_grid`, or the voxels cannot be read.
    """
    import nibabel

    image, grid, orientation = _opened(file, max_voxels)
    try:
        voxels = np.asanyarray(image.dataobj).astype(np.float32, copy=False)
    except Exception as error:  # nibabel and the decompressors raise many kinds
        raise CohortError(
            f"{file}: the voxels cannot be read ({_line(error)}); the file is truncated or damaged: copy it anew."
        ) from None
    return grid, nibabel.apply_orientation(voxels.reshape(voxels.shape[:3]), orientation)


def _opened(file: Path, max_voxels: int) -> tuple[Any, Geometry, np.ndarray]:
    import nibabel

    if not file.name.endswith((".nii", ".nii.gz")) or file.is_dir():
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
        raise CohortError(
            f"{file}: cannot be read as NIfTI ({_line(error)}); copy or export it anew."
        ) from None
    if len(shape) < 3 or any(size != 1 for size in shape[3:]):
        raise CohortError(
            f"{file}: {len(shape)}-D with shape {shape}, expected a 3-D volume; extract one volume."
        )
    if min(shape) < 1:
        raise CohortError(
            f"{file}: shape {shape} in the header, expected positive sizes; export the file anew."
        )
    if (size := math.prod(shape)) > max_voxels:
        raise CohortError(
            f"{file}: the header claims {size} voxels {shape}, more than max_voxels={max_voxels}; the header is "
            "damaged, or raise max_voxels."
        )
    if dtype.kind not in "biuf":
        raise CohortError(f"{file}: voxels of type {dtype}, expected one real number each; convert the file.")
    if not np.isfinite(affine).all():
        raise CohortError(
            f"{file}: the affine holds NaN or infinite values; correct the header (sform, qform)."
        )
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not spacing.all() or abs(np.linalg.det(affine[:3, :3] / spacing)) < 1e-3:
        raise CohortError(
            f"{file}: the affine is singular (voxel axes of {_millimetres(spacing)} that do not span space); correct "
            "the header (sform, qform)."
        )
    orientation = nibabel.io_orientation(affine)
    canonical = affine @ nibabel.orientations.inv_ornt_aff(orientation, shape[:3])
    order = np.argsort(orientation[:, 0])
    x, y, z = (shape[axis] for axis in order)
    return image, Geometry((x, y, z), tuple(map(tuple, canonical.tolist())), ()), orientation


def _no_nifti(file: Path) -> str:
    if holds_dicom(file):
        return "DICOM, expected NIfTI; convert it with dcm2niix (https://github.com/rordenlab/dcm2niix)."
    return "expected a NIfTI file (.nii or .nii.gz); convert it."


def holds_dicom(path: Path) -> bool:
    """Return whether a file, or one of the first hundred files below a folder, is DICOM."""
    files = [path] if path.is_file() else [file for file, _ in zip(path.rglob("*"), range(100), strict=False)]
    return any(
        file.suffix.lower() in (".dcm", ".ima") or _has_dicom_mark(file) for file in files if file.is_file()
    )


def _has_dicom_mark(file: Path) -> bool:
    try:
        with file.open("rb") as handle:
            # DICOM PS3.10, section 7.1: 128 bytes of preamble, then "DICM".
            return handle.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _mismatch(grid: Geometry, expected: Geometry) -> str:
    advice = "give 'spacing' or 'shape' to resample all volumes to one grid, or leave the subject out."
    if grid.shape != expected.shape:
        return f"shape {grid.shape}, expected {expected.shape} as in most volumes; {advice}"
    ends = np.array([[*corner, 1] for corner in np.ndindex(2, 2, 2)], float)
    ends[:, :3] *= np.array(grid.shape) - 1
    distance = float(np.linalg.norm(ends @ (grid.matrix - expected.matrix).T, axis=1).max())
    if distance > TOLERANCE:
        return (
            f"another affine than most volumes: corners lie {distance:.4g} mm off (spacing "
            f"{_millimetres(grid.spacing)}, expected {_millimetres(expected.spacing)}); {advice}"
        )
    return ""


def _commonest(grids: Sequence[Geometry]) -> Geometry:
    def rounded(grid: Geometry) -> tuple[Any, ...]:
        return grid.shape, *np.round(grid.matrix, 2).ravel().tolist()

    usual = Counter(map(rounded, grids)).most_common(1)[0][0]
    return next(grid for grid in grids if rounded(grid) == usual)


def _common_grid(
    usual: Geometry, spacing: tuple[float, float, float] | None, shape: tuple[int, int, int] | None
) -> Geometry:
    """Return an axis-aligned grid around the centre of ``usual`` that covers it where no shape is given."""
    steps = np.array(spacing or usual.spacing, dtype=float)
    extent = np.array(usual.shape) * np.array(usual.spacing)
    # Without the allowance a spacing stored in float32 would add a voxel.
    sizes = np.array(shape) if shape else np.ceil(extent / steps - 1e-3).astype(int)
    centre = usual.matrix @ [*((np.array(usual.shape) - 1) / 2), 1]
    origin = centre[:3] - steps * (sizes - 1) / 2
    return Geometry.regular(sizes.tolist(), steps.tolist(), usual.channels, origin)


def resampled(voxels: np.ndarray, grid: Geometry, target: Geometry) -> np.ndarray:
    """Return voxels on another grid: linear interpolation, zero outside, smoothed first where it is coarser.

    The Gaussian's width makes the point spread of the source that of the target: a full width at half maximum
    of sqrt(t^2 - s^2) for spacings s and t (Cardoso et al. 2015, Scale factor point spread function matching,
    MICCAI, equation 6 with the covariances of both grids).

    Args:
        voxels: Shape (x, y, z).
        grid: Grid of ``voxels``.
        target: Grid of the result.
    """
    if not _mismatch(grid, target):
        return voxels
    from scipy import ndimage

    ratio = np.maximum(np.array(target.spacing) / np.array(grid.spacing), 1)
    sigma = np.sqrt(ratio**2 - 1) / np.sqrt(8 * np.log(2))
    matrix = np.linalg.inv(grid.matrix) @ target.matrix
    # Cut at two sigma, so that a background of zeros stays zero but for the partial-volume rim.
    smooth = ndimage.gaussian_filter(voxels, sigma, mode="constant", truncate=2)
    return ndimage.affine_transform(smooth, matrix, output_shape=target.shape, order=1, mode="constant")


def _normalised(volume: np.ndarray, rule: str, files: tuple[Path, ...]) -> np.ndarray:
    if rule == "none":
        return volume
    groups = [slice(None)] if rule == "shared-percentile" else [slice(c, c + 1) for c in range(len(volume))]
    for group in groups:
        part = volume[group]
        if not np.isfinite(part).all() or not part.any():
            continue  # left as it is for the check of voxels to name
        percentile = float(np.percentile(part[part != 0], 99))
        if percentile <= 0:
            raise CohortError(
                f"{files[group][0]}: the 99th percentile of the non-zero voxels is {percentile:g}, expected a "
                "positive one to divide by; set 'normalise: none' or shift the intensities."
            )
        part /= percentile
    return volume


def _span(geometry: Geometry) -> str:
    ends = geometry.matrix @ np.array([[0, 0, 0, 1], [*(np.array(geometry.shape) - 1), 1]], float).T
    axes = (f"{axis} {low:.0f} to {high:.0f}" for axis, (low, high) in zip("xyz", ends[:3], strict=True))
    return ", ".join(axes) + " mm"


def _millimetres(values: Sequence[float] | np.ndarray) -> str:
    return " x ".join(f"{value:.4g}" for value in values) + " mm"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
