"""The volumes of a cohort from NIfTI files: brought to one grid, normalised, checked, and decoded once."""

from __future__ import annotations

import math
import shutil
import uuid
from abc import ABC
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmbench.api import CohortSource, Context, Geometry, Volumes, param
from mmbench.sources._cache import Cache, Prepared
from mmbench.sources._checks import Findings, gathered, listed, voxel_problem
from mmbench.sources._grids import (
    centred,
    common_grid,
    commonest,
    grid_problems,
    same_grid,
    span,
)
from mmbench.sources._nifti import Header, millimetres, read_header
from mmbench.sources._recipe import NORMALISATIONS, Recipe
from mmbench.sources._tables import Corrections
from mmbench.volume_file import VolumeFile

SCALE_RATIO = 100
"""Ratio to the median intensity of a cohort from which a volume's intensities are suspicious."""

PLAUSIBLE_SPACING = (0.05, 100.0)
"""Voxel spacings in mm beyond which the unit of the header is suspicious."""

ALIKE = 5
"""Files with the same problem that have a line each."""

KEPT = 0.9
"""Share of a volume's summed intensities below which the common grid cuts too much of it off."""


@dataclass(kw_only=True)
class NiftiSource(CohortSource, ABC):
    """Parameters that all sources of NIfTI volumes share."""

    path: Path = param(doc="where the cohort is")
    drop: tuple[str, ...] = param((), "columns to leave out, such as further identifiers")
    schema: Corrections = param(
        None,
        "YAML file, or mapping, of attributes that correct the inferred columns (kind, unit, levels, ...); a list of "
        "columns is the whole schema, obeyed without inferring anything",
    )
    channels: tuple[str, ...] = param(
        (),
        "names of the channels; by default those by which the files are found. Several names for one file a "
        "record mean that its fourth dimension holds the channels",
    )
    incomplete: str = param(
        "refuse",
        "records that lack a volume, a channel or a row: refuse the cohort, or leave them out and say so",
        choices=("refuse", "leave-out"),
    )
    copies: str | None = param(
        None,
        "the same voxels under two subjects: refuse the cohort (the default), or allow them with a warning, as is due "
        "to samples",
        choices=("refuse", "allow"),
    )
    spacing: tuple[float, float, float] | None = param(
        None, "resample to this voxel spacing along x, y, z in mm; by default that of most volumes"
    )
    shape: tuple[int, int, int] | None = param(
        None, "resample to this number of voxels along x, y, z; by default what covers most volumes"
    )
    align: str = param(
        "affine",
        "where volumes lie: affine, where their headers say; centre, with their middles in one place, for scans "
        "that differ by the position of the table",
        choices=("affine", "centre"),
    )
    normalise: str | None = param(
        None,
        "percentile, the default, divides each channel of a volume by its 99th percentile over non-zero voxels; "
        "shared-percentile takes "
        "one percentile for all channels of a volume, which keeps their ratios (e.g. fat fractions)",
        choices=NORMALISATIONS,
    )
    cache: Path | None = param(
        None,
        "folder that keeps prepared volumes between runs, by content: unchanged files are not decoded again. "
        "It may be shared and may be emptied",
    )
    max_voxels: int = param(
        2**27, "largest volume that is read; larger headers are refused unread", minimum=1
    )


def open_volumes(
    files: Sequence[tuple[Path, ...]],
    people: Sequence[str],
    channels: tuple[str, ...],
    options: NiftiSource,
    context: Context,
    findings: Findings,
) -> Volumes | None:
    """Find the common grid of NIfTI files, check every one of them, and keep what they hold in a scratch file.

    Args:
        files: For each record one file a channel, or one file for all channels.
        people: Person behind each record.
        channels: Name of each channel.
        options: How to read them.
        context: Shows progress; the prepared volumes lie in its folder.
        findings: Receives what is wrong or suspicious.

    Returns:
        The volumes; ``None`` where none is sound. With problems, they are not those of all records.
    """
    for name, values in (("spacing", options.spacing), ("shape", options.shape)):
        if values is not None and not all(math.isfinite(value) and value > 0 for value in values):
            findings.problems.append(f"{name}: {list(values)}: expected three positive numbers.")
            return None
    headers = _headers(files, len(channels), options.max_voxels, context, findings)
    if not headers:
        return None
    resample = options.spacing is not None or options.shape is not None
    usual = commonest([header.grid for found in headers.values() for header in found])
    geometry = Geometry(usual.shape, usual.affine, channels)
    if resample:
        geometry = common_grid(geometry, options.spacing, options.shape)
        if (size := math.prod(geometry.shape)) > options.max_voxels:
            findings.problems.append(
                f"the common grid would have {size} voxels {geometry.shape}, more than "
                f"max_voxels={options.max_voxels}; set a wider spacing or a smaller shape."
            )
            return None
    centre = options.align == "centre"
    grids = {
        index: [centred(header.grid, geometry) if centre else header.grid for header in found]
        for index, found in headers.items()
    }
    if not resample:
        every = [pair for index, found in grids.items() for pair in zip(files[index], found, strict=True)]
        findings.problems += grid_problems(every, geometry)
    sound = [
        index
        for index, found in grids.items()
        if resample or all(same_grid(grid, geometry) for grid in found)
    ]
    recipe = Recipe(geometry, resample, centre, options.normalise or NORMALISATIONS[0], options.max_voxels)
    return _filled(sound, files, people, recipe, options, context, findings)


def _headers(
    files: Sequence[tuple[Path, ...]], channels: int, max_voxels: int, context: Context, findings: Findings
) -> dict[int, list[Header]]:
    """Return the headers of the records whose files can all be used."""
    headers: dict[int, list[Header]] = {}
    refused: dict[str, list[str]] = defaultdict(list)
    for index in context.steps(len(files), "reading headers"):
        found = []
        for file in files[index]:
            problems: list[str] = []
            with gathered(problems):
                found.append(read_header(file, max_voxels, channels // len(files[index])))
            for problem in problems:
                refused[problem.removeprefix(f"{file}: ")].append(str(file))
        if len(found) == len(files[index]):
            headers[index] = found
    for problem, names in refused.items():
        # One line where a whole dataset is of another kind.
        where = [f"{len(names)} files ({listed(names)})"] if len(names) > ALIKE else names
        findings.problems += [f"{file}: {problem}" for file in where]
    every = [
        (str(file), header)
        for index, found in headers.items()
        for file, header in zip(files[index], found, strict=True)
    ]
    stored: dict[str, list[str]] = defaultdict(list)
    for name, header in every:
        stored[header.stored].append(name)
    usual = max(stored, key=lambda axes: len(stored[axes]), default="")
    for axes, names in stored.items():
        if axes != usual:
            mirrored = " and is mirrored against them" if _mirrored(axes) != _mirrored(usual) else ""
            findings.warnings.append(
                f"{listed(names)}: stored as {axes}, most volumes as {usual}{mirrored}; all are turned to RAS by their "
                "affines: look at the sides in the montage."
            )
    if names := [name for name, header in every if not header.oriented]:
        findings.warnings.append(
            f"{listed(names)}: the header declares no orientation (sform and qform codes are 0), so left and right "
            "are a guess; look at the sides in the montage."
        )
    low, high = PLAUSIBLE_SPACING
    for name, header in every:
        if min(header.grid.spacing) < low or max(header.grid.spacing) > high:
            findings.warnings.append(
                f"{name}: voxels of {millimetres(header.grid.spacing)}, expected {low:g} to {high:g} mm; check the "
                "unit of the header."
            )
    return headers


def _filled(
    sound: Sequence[int],
    files: Sequence[tuple[Path, ...]],
    people: Sequence[str],
    recipe: Recipe,
    options: NiftiSource,
    context: Context,
    findings: Findings,
) -> Volumes | None:
    """Prepare the sound records, each decoded at most once, and put them into one file in the scratch folder."""
    if not sound:
        return None
    shape = (len(sound), *recipe.geometry.full_shape)
    needed, free = math.prod(shape) * 4, shutil.disk_usage(context.folder).free
    if needed > free:
        findings.problems.append(
            f"{context.folder.resolve()}: {needed / 1e9:.1f} GB of scratch space are needed, {free / 1e9:.1f} GB are "
            "free; make room, or set TMPDIR to a larger place."
        )
        return None
    store = VolumeFile.create(context.folder / f"volumes-{uuid.uuid4().hex[:8]}.npy", shape)
    cache = options.cache and Cache(options.cache)
    repeats = findings.warnings if options.copies == "allow" else findings.problems
    levels = np.ones(shape[:2])
    kept = np.ones(len(sound))
    seen: dict[tuple[int, str], int] = {}
    for position in context.steps(len(sound), "reading volumes"):
        index = sound[position]
        with gathered(findings.problems):
            key = recipe.key(files[index]) if cache else ""
            found = cache.get(key) if cache else None
            if found is None:
                found = recipe.prepare(files[index])
                if cache:
                    cache.put(key, found)
            store.write(position, found.voxels)
            levels[position], kept[position] = found.levels, found.kept
            _check_record(index, found, files, recipe.geometry.channels, people, seen, findings, repeats)
    _warn_of_scales([files[index] for index in sound], levels, findings)
    cut = [
        f"{files[index][0]} ({1 - share:.0%})"
        for index, share in zip(sound, kept, strict=True)
        if share < KEPT
    ]
    if cut:
        findings.warnings.append(
            f"{listed(cut)}: more than {1 - KEPT:.0%} of the intensities lie outside the common grid, which spans "
            f"{span(recipe.geometry)}; set 'align: centre', or a larger shape."
        )
    return Volumes(store, recipe.geometry, scales=None if recipe.normalise == "none" else levels)


def _check_record(
    index: int,
    found: Prepared,
    files: Sequence[tuple[Path, ...]],
    channels: tuple[str, ...],
    people: Sequence[str],
    seen: dict[tuple[int, str], int],
    findings: Findings,
    repeats: list[str],
) -> None:
    """Check the voxels of a record, and whether they are those of another channel or, told in ``repeats``, person."""

    def name(record: int, channel: int) -> str:
        single = len(files[record]) == len(channels)
        return str(files[record][channel]) if single else f"{files[record][0]}, channel '{channels[channel]}'"

    for channel, (voxels, digest) in enumerate(zip(found.voxels, found.digests, strict=True)):
        if complaint := voxel_problem(voxels):
            findings.problems.append(f"{name(index, channel)}: {complaint}")
            continue
        if (first := found.digests.index(digest)) < channel:
            findings.problems.append(
                f"{name(index, channel)}: the same voxels as {name(index, first)}, expected another channel; export "
                "the channel anew."
            )
        other = seen.setdefault((channel, digest), index)
        if other == index:
            continue
        if people[other] != people[index]:
            # A person in two roles would pass for a copied record: that is an error, not a remark.
            repeats.append(
                f"{name(index, channel)}: the same voxels as {name(other, channel)} of another subject; find out whose "
                "they are and remove the other, or name the person behind both records."
            )
        else:
            findings.warnings.append(
                f"{name(index, channel)}: the same voxels as {name(other, channel)} of the same subject; a repeat scan "
                "is never identical: check which one it is."
            )


def _warn_of_scales(files: Sequence[tuple[Path, ...]], levels: np.ndarray, findings: Findings) -> None:
    for channel in range(levels.shape[1]):
        column = np.where(levels[:, channel] > 0, levels[:, channel], np.nan)
        if np.isnan(column).all():
            continue
        middle = float(np.nanmedian(column))
        far = np.flatnonzero((column > middle * SCALE_RATIO) | (column < middle / SCALE_RATIO)).tolist()
        if far:
            shown = [f"{files[i][channel % len(files[i])]} ({column[i]:.3g})" for i in far]
            findings.warnings.append(
                f"{listed(shown)}: intensities more than {SCALE_RATIO} times above or below the others "
                f"(99th percentile {middle:.3g}); check the scanner's scaling, or that it is the same sequence."
            )


def _mirrored(axes: str) -> Any:
    order = ["LR", "PA", "IS"]
    positions = [next(i for i, pair in enumerate(order) if letter in pair) for letter in axes]
    matrix = np.zeros((3, 3))
    matrix[positions, range(3)] = [1 if letter in "RAS" else -1 for letter in axes]
    return np.linalg.det(matrix) < 0
