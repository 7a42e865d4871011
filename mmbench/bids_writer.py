"""A cohort as a BIDS-like folder: for other programs, and for ``source: bids``, which reads it without being told how.

::

    dataset_description.json    what made the records, and how ``source: bids`` is to read them
    participants.tsv            a row a record; n/a is missing
    participants.json           each column's unit, levels and range, and its whole schema
    sub-0001/anat/sub-0001_<channel>.nii.gz     float32, a file a channel
"""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import mmbench
from mmbench.cohort import Cohort
from mmbench.context import WorkContext
from mmbench.errors import CohortError, UsageError
from mmbench.files import write_json
from mmbench.schema import Column, Schema
from mmbench.volumes import Geometry

BIDS_VERSION = "1.10.0"
DESCRIPTION = "dataset_description.json"
OWN = "mmbench"
"""Key of what mmbench adds to BIDS: in the description, and in each column's entry of participants.json."""
MISSING = "n/a"

_READING = {"suffix": list, "channels": list, "schema": list, "normalise": str, "copies": str}
_SUFFIX = re.compile(r"(?:[a-zA-Z]+-[a-zA-Z0-9+]+_)*[a-zA-Z0-9]+")


def write_bids(cohort: Cohort, folder: Path, about: Mapping[str, Any], context: WorkContext) -> None:
    """Write a cohort into an empty folder; volumes are streamed one at a time.

    Records become ``sub-0001``, ``sub-0002``, ... in the order of the cohort. A cohort without volumes has tables
    only, one without a table has volumes and a list of its subjects.

    Args:
        cohort: The records.
        folder: Where; it exists.
        about: What made them; it stands under ``mmbench`` in ``dataset_description.json``.
        context: Shows progress.

    Raises:
        UsageError: A level of the table cannot be told from a missing value, or not be read back.
        Interrupted: The user asked to stop.
    """
    digits = max(4, len(str(len(cohort))))
    subjects = [f"sub-{number:0{digits}d}" for number in range(1, len(cohort) + 1)]
    suffixes: list[str] = []
    reading: dict[str, Any] = {"suffix": suffixes}
    if cohort.table is None:
        _write_rows(folder, {"participant_id": subjects})
        reading["schema"] = []
    else:
        schema = _as_found(cohort.schema, cohort.table)
        columns = {column.name: _texts(cohort.table[column.name], column) for column in schema}
        _write_rows(folder, {"participant_id": subjects, **columns})
        write_json(folder / "participants.json", _sidecar(schema))
    if cohort.volumes is not None:
        geometry = cohort.volumes.geometry
        suffixes += _suffixes(geometry.channels)
        # Intensities are those of the cohort, divided already if at all; and a generator may repeat itself.
        reading |= {"channels": list(geometry.channels), "normalise": "none", "copies": "allow"}
        for index in context.steps(len(cohort), "records"):
            anat = folder / subjects[index] / "anat"
            anat.mkdir(parents=True)
            for suffix, voxels in zip(suffixes, cohort.volumes[index], strict=True):
                _write_volume(voxels, geometry, anat / f"{subjects[index]}_{suffix}.nii.gz")
    description = {
        "Name": cohort.name,
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "raw",
        "GeneratedBy": [{"Name": "mmbench", "Version": mmbench.__version__}],
        OWN: {**about, "reading": reading},
    }
    write_json(folder / DESCRIPTION, description)


def recorded_reading(folder: Path) -> dict[str, Any]:
    """Return how a folder that :func:`write_bids` wrote is to be read: parameters of ``source: bids`` by name.

    Of any other folder nothing is known.

    Raises:
        CohortError: The description of such a folder cannot be read.
    """
    path = folder / DESCRIPTION
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return {}
    if f'"{OWN}"' not in text:
        return {}
    try:
        reading: dict[str, Any] = dict(json.loads(text)[OWN]["reading"])
    except (KeyError, TypeError, ValueError) as error:
        raise CohortError(
            f"{path}: cannot be read ({error!r}); correct it, or sample the folder anew."
        ) from None
    for name, value in reading.items():
        if name not in _READING or not isinstance(value, _READING[name]):
            raise CohortError(
                f"{path}: reading.{name}: {value!r} is not what mmbench wrote; sample the folder anew."
            )
    return reading


def _as_found(schema: Schema, table: pd.DataFrame) -> Schema:
    """Return the schema of a table that may lack values where that of its origin has them all."""
    columns = (
        dataclasses.replace(column, missing=column.missing or bool(table[column.name].isna().any()))
        for column in schema
    )
    return Schema(tuple(columns))


def _texts(values: pd.Series, column: Column) -> list[str]:
    """Return a column as it stands in the file.

    Raises:
        UsageError: A level has a text that is read as another one.
    """
    if column.discrete:
        shown = {level: str(level) for level in column.levels}
        if column.kind == "boolean":
            shown |= {level: str(level).lower() for level in column.levels if isinstance(level, bool)}
        for text in shown.values():
            if text != text.strip() or text in ("", MISSING):
                raise UsageError(
                    f"column '{column.name}': the level {text!r} cannot be told from a missing value, or from one "
                    "without blanks, in participants.tsv; rename it where the generator is fitted."
                )
        return [
            MISSING if missing else shown[value] for value, missing in zip(values, values.isna(), strict=True)
        ]
    whole = column.kind == "integer"
    return [
        MISSING if np.isnan(value) else repr(int(value) if whole else float(value))
        for value in values.to_numpy(float)
    ]


def _write_rows(folder: Path, columns: Mapping[str, Sequence[str]]) -> None:
    with (folder / "participants.tsv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _sidecar(schema: Schema) -> dict[str, dict[str, Any]]:
    """Return participants.json: the words of BIDS for everybody, the whole schema for ``source: bids``."""
    entries = {}
    for column, row in zip(schema, schema.to_dict(), strict=True):
        known = {
            "Description": column.description,
            "Units": column.unit,
            "Levels": {str(level): str(level) for level in column.levels},
            "Minimum": column.minimum,
            "Maximum": column.maximum,
        }
        entry = {key: value for key, value in known.items() if value not in ("", None, {})}
        entries[column.name] = {**entry, OWN: {key: value for key, value in row.items() if key != "name"}}
    return entries


def _suffixes(channels: Sequence[str]) -> list[str]:
    """Return the end of each channel's file names: the channel's name where it can stand in one."""
    names = [name if _SUFFIX.fullmatch(name) else re.sub(r"[^a-zA-Z0-9]", "", name) for name in channels]
    # A suffix finds every file that has its entities among others.
    parts = [set(name.casefold().split("_")) for name in names]
    alike = any(a <= b for i, a in enumerate(parts) for j, b in enumerate(parts) if i != j)
    return [f"channel{number}" for number in range(1, len(names) + 1)] if alike or "" in names else names


def _write_volume(voxels: np.ndarray, geometry: Geometry, path: Path) -> None:
    import nibabel

    image = nibabel.Nifti1Image(np.asarray(voxels, np.float32), geometry.matrix)
    image.header.set_xyzt_units("mm")
    # The affine leads to the scanner's millimetres (code 1), as that of the training volumes did.
    image.set_sform(geometry.matrix, 1)
    image.set_qform(None, 0)
    nibabel.save(image, path)
