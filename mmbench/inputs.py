"""What a run works on: real records with their roles, and samples that exist already.

A run's real cohort says what a record is. Everything that is read beside it, samples of a generator that was fitted
elsewhere or the records that it learned from, obeys its schema and lies on its grid, or is refused with the reason.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmbench import plugins
from mmbench.api import CohortSource
from mmbench.bids_writer import recorded_reading
from mmbench.cohort import Cohort, Roles, split_cohort
from mmbench.config import Config, Split
from mmbench.context import WorkContext
from mmbench.display import Display
from mmbench.errors import CohortError, ConfigError, UsageError
from mmbench.schema import Schema
from mmbench.sources._checks import listed
from mmbench.sources._grids import same_grid, span
from mmbench.sources._nifti import millimetres
from mmbench.sources._tables import obeying
from mmbench.sources._volumes import NiftiSource
from mmbench.volumes import Geometry, Volumes, VolumeStore

_TABLES = (".csv", ".tsv", ".txt", ".parquet")
_THEIR_OWN = {"path", "drop", "schema", "session", "incomplete"}
"""Parameters of a cohort's source that say nothing of how other records are to be read."""


@dataclass(frozen=True)
class Samples:
    """Synthetic records that exist already.

    Attributes:
        cohort: The records, typed by the real schema and on the real grid.
        copies: Whether a volume among them is that of a real record, voxel for voxel.
    """

    cohort: Cohort
    copies: bool


@dataclass(frozen=True)
class Inputs:
    """What a run works on.

    Attributes:
        cohort: All real records.
        roles: Who of them does what.
        samples: Samples that exist already, by name; each has at least as many records as the reference.
    """

    cohort: Cohort
    roles: Roles
    samples: Mapping[str, Samples]


def load_inputs(config: Config, scratch: Path, display: Display) -> Inputs:
    """Read all that a configuration says is there: ``cohort``, ``training`` and ``samples``.

    Args:
        config: The configuration.
        scratch: Folder for volumes that sources prepare; it must live as long as the result.
        display: Shows progress.

    Raises:
        ConfigError: A section cannot be used.
        PluginError: A source is unknown or a parameter does not fit.
        CohortError: Records cannot be used, do not fit the real cohort, or are too few. All problems of a
            section are listed.
    """
    real = load_with_progress(config.cohort, scratch, display)
    cohort, train = real, None
    if config.training is not None:
        training = _load_like(real, config.training, "training", config.cohort, "refuse", scratch, display)
        cohort, train = _joined(real, training, display)
    split = config.split
    shares = (split.train, split.reference, split.floor)
    roles = split_cohort(cohort, split.seed, shares, split.stratify, train)
    samples: dict[str, Samples] = {}
    known = set(_voxel_digests(cohort)) if config.samples else set()
    for name, section in config.samples.items():
        where = f"samples.{name}"
        if name in config.generators:
            raise ConfigError(f"{where}: a generator has this name already; give the samples another.")
        found = _load_like(real, section, where, config.cohort, "allow", scratch, display)
        if len(found) < len(roles.reference):
            raise CohortError(_too_few(where, found, cohort, roles, split, train is not None))
        # Identifiers of their own: those of the files may well be those of real records.
        ids = np.array([f"{name}/{one}" for one in found.ids])
        copies = not known.isdisjoint(_voxel_digests(found))
        records = dataclasses.replace(
            found, name=name, schema=cohort.schema, ids=ids, subjects=None, truth=None
        )
        samples[name] = Samples(records, copies)
    return Inputs(cohort, roles, samples)


def load_source(settings: dict[str, Any], context: WorkContext, where: str = "cohort") -> Cohort:
    """Return the cohort that a section of a configuration describes.

    Args:
        settings: The section: ``source`` and its parameters.
        context: Shows progress; prepared volumes lie in its folder.
        where: Name of the section, for messages.

    Raises:
        ConfigError: No source is named.
        PluginError: The source is unknown or a parameter does not fit.
        CohortError: The cohort cannot be used.
    """
    values = dict(settings)
    name = values.pop("source", None)
    if name is None:
        known = ", ".join(plugins.names("cohorts"))
        raise ConfigError(f"{where}: 'source' is required, one of {known}.")
    source: CohortSource = plugins.build("cohorts", str(name), values, where)
    return source.load(context)


def load_with_progress(
    section: dict[str, Any], scratch: Path, display: Display, where: str = "cohort"
) -> Cohort:
    """Return the cohort of :func:`load_source`, showing progress; its scratch files go to ``scratch``."""
    task = f"{where} {section.get('source', '')}"
    display.begin(task)
    start = time.monotonic()
    context = WorkContext(folder=scratch, report=lambda *step: display.progress(task, *step))
    try:
        cohort = load_source(section, context, where)
    except BaseException:
        display.end(task, "cannot be used")
        raise
    told = [(len(cohort.left_out), "left out"), (len(cohort.warnings), "warnings")]
    remarks = "".join(f", {count} {what}" for count, what in told if count)
    display.end(task, f"{len(cohort)} records{remarks} ({time.monotonic() - start:.0f} s)")
    return cohort


def section_of(path: Path) -> dict[str, Any]:
    """Return the section of a configuration that reads what lies at ``path``: ``source`` and ``path``.

    Args:
        path: A saved cohort, a BIDS folder, a table, or a folder with a single table.

    Raises:
        UsageError: It is none of these.
    """
    expected = "expected a cohort that mmbench wrote, a BIDS folder, or a table (.csv, .tsv or .parquet)"
    if path.is_file():
        return {"source": "folder", "path": str(path)}
    if not path.is_dir():
        raise UsageError(f"{path}: no such cohort; {expected}.")
    if (path / "cohort.json").exists():
        return {"source": "saved", "path": str(path)}
    if (path / "participants.tsv").exists() or any(path.glob("sub-*")):
        return {"source": "bids", "path": str(path)}
    if (path / "run.json").exists():
        raise UsageError(
            f"{path}: a run, no cohort; name one of its draws: {path}/cells/CELL/draws/SEED/sample."
        )
    tables = sorted(file for file in path.iterdir() if file.suffix.lower() in _TABLES)
    if len(tables) == 1:
        return {"source": "folder", "path": str(tables[0])}
    found = f"{len(tables)} tables ({listed([table.name for table in tables])})" if tables else "no table"
    raise UsageError(f"{path}: no cohort: neither cohort.json nor participants.tsv, and {found}; {expected}.")


def _load_like(
    real: Cohort,
    section: Mapping[str, Any],
    where: str,
    real_section: Mapping[str, Any],
    copies: str,
    scratch: Path,
    display: Display,
) -> Cohort:
    """Return the records of a section, read as the real cohort was, with its schema and on its grid."""
    settings = _settings_like(real, section, where, real_section, copies)
    found = load_with_progress(settings, scratch, display, where)
    place = f"{where}: {section.get('path', found.name)}"
    shared = found.modalities & real.modalities
    if not shared:
        has, wants = (" and ".join(sorted(one.modalities)) or "nothing" for one in (found, real))
        raise CohortError(f"{place}: has {has}; {real.name} has {wants}: there is nothing to compare.")
    problems: list[str] = []
    table, volumes = None, None
    if "table" in shared:
        try:
            # A saved cohort's levels are those of its own schema: only their values matter here.
            plain = found.rows.astype({c: object for c in found.rows if found.rows[c].dtype == "category"})
            table = obeying(_tolerant(real.schema), plain, place)
        except CohortError as error:
            problems += error.problems
    if "volume" in shared:
        found_on, expected = found.images.geometry, real.images.geometry
        problems += [f"{place}: {line}" for line in _grid_problems(found_on, expected)]
        volumes = dataclasses.replace(found.images, geometry=expected) if not problems else None
    if problems:
        raise CohortError(problems)
    return dataclasses.replace(found, schema=real.schema, table=table, volumes=volumes)


def _settings_like(
    real: Cohort, section: Mapping[str, Any], where: str, real_section: Mapping[str, Any], copies: str
) -> dict[str, Any]:
    """Return a section with what it leaves open set as is due to records that are compared with the real ones."""
    settings = dict(section)
    name = settings.get("source")
    if name is None or not issubclass(plugins.load("cohorts", str(name)), NiftiSource):
        return settings
    if "schema" in settings:
        raise ConfigError(f"{where}.schema: these records obey the schema of the cohort; correct it there.")
    takes = {item.name for item in dataclasses.fields(plugins.load("cohorts", str(name)))}
    asked = {key: value for key, value in real_section.items() if key in takes - _THEIR_OWN}
    if real.volumes is not None and real.volumes.scales is None:
        # Real intensities that nobody divided must not meet samples that somebody did.
        asked["normalise"] = "none"
    # What a generator makes of a column, e.g. the same value throughout, is for metrics to judge.
    asked["schema"] = _tolerant(real.schema).to_dict() if real.table is not None else []
    asked["copies"] = copies
    # Samples that say themselves how they are read need not be named and divided as the real files are.
    known = (
        recorded_reading(Path(settings.get("path", ""))).keys() - {"copies"} if "suffix" in takes else set()
    )
    return {key: value for key, value in asked.items() if key not in known} | settings


def _tolerant(schema: Schema) -> Schema:
    """Return a schema in which every value may be missing."""
    return Schema(tuple(dataclasses.replace(column, missing=True) for column in schema))


def _grid_problems(found: Geometry, expected: Geometry) -> list[str]:
    if found.channels != expected.channels:
        return [
            f"channels {list(found.channels)}, expected {list(expected.channels)} as in the real cohort, in this order; "
            "name or export them so."
        ]
    if same_grid(found, expected):
        return []
    shown = [
        f"{grid.shape} voxels of {millimetres(grid.spacing)} over {span(grid)}" for grid in (found, expected)
    ]
    advice = (
        "write the real volumes' affine into their headers"
        if found.shape == expected.shape
        else "export them on that grid, or give the same 'spacing' and 'shape' for both, which resamples NIfTI files"
    )
    return [f"another grid than the real cohort's: {shown[0]}, expected {shown[1]}; {advice}."]


def _too_few(where: str, found: Cohort, real: Cohort, roles: Roles, split: Split, train_given: bool) -> str:
    n = len(roles.reference)
    held_out = np.setdiff1d(np.arange(len(real)), roles.train) if train_given else np.arange(len(real))
    people = len(np.unique(real.people[held_out]))
    # A thousandth less: a role gets its share of the subjects to within one.
    share = math.floor(1000 * (len(found) - 1) / people) / 1000
    advice = ""
    if share * people >= 2:
        scale = 1 - split.train if train_given else 1.0
        reference = share * scale
        floor = scale - reference if train_given else reference
        values = {"train": 1 - reference - floor, "reference": reference, "floor": floor}
        advice = ", e.g. " + " ".join(f"--set split.{role}={value:.6g}" for role, value in values.items())
    return (
        f"{where}: {len(found)} records, but the reference has {n}, and as many are compared with it; give more "
        f"samples, or make the reference smaller{advice}."
    )


def _joined(real: Cohort, training: Cohort, display: Display) -> tuple[Cohort, np.ndarray]:
    """Return the records of both, the real ones first, and the positions of those to learn from.

    Raises:
        CohortError: Records to learn from have less than the real ones, or some are among the real ones.
    """
    if absent := real.modalities - training.modalities:
        raise CohortError(f"training: no {' and '.join(sorted(absent))}, which the real cohort has.")
    twice = _shared_records(real, training)
    if twice:
        raise CohortError(
            f"training: {len(twice)} records are among the real ones as well ({listed(twice)}); scores compare with "
            "records that no generator saw: leave them out of one of the two."
        )
    alike = np.intersect1d([*real.ids, *real.people], [*training.ids, *training.people])
    prefix = "training/" if len(alike) else ""
    if prefix:
        display.say(
            f"training: {len(alike)} identifiers are those of real records ({listed(alike.tolist())}) with other "
            "values; they are taken for other people. If they are the same, leave them out of one of the two."
        )
    columns = tuple(
        dataclasses.replace(
            column,
            missing=column.missing
            or bool(training.table is not None and training.rows[column.name].isna().any()),
        )
        for column in real.schema
    )
    truth = None
    if real.truth is not None and training.truth is not None:
        truth = pd.concat([real.truth, training.truth])
    cohort = dataclasses.replace(
        real,
        schema=Schema(columns),
        ids=np.concatenate([real.ids, [f"{prefix}{one}" for one in training.ids]]),
        subjects=np.concatenate([real.people, [f"{prefix}{one}" for one in training.people]]),
        table=pd.concat([real.table, training.table])
        if real.table is not None and training.table is not None
        else None,
        volumes=_joined_volumes(real.volumes, training.volumes),
        truth=truth,
        shareable=real.shareable and training.shareable,
        left_out={**real.left_out, **{f"{prefix}{name}": why for name, why in training.left_out.items()}},
        warnings=(*real.warnings, *training.warnings),
    )
    return cohort, np.arange(len(real), len(cohort))


def _shared_records(real: Cohort, training: Cohort) -> list[str]:
    """Return the identifiers in ``training`` of records that ``real`` has too."""
    if real.volumes is not None:
        first, second = _voxel_digests(real), _voxel_digests(training)
    else:
        # Two persons may well have the same row; not under the same identifier.
        first, second = (
            [f"{one} {row.tobytes()!r}" for one, row in zip(c.ids, c.schema.codes(c.rows), strict=True)]
            for c in (real, training)
        )
    known = set(first)
    return [str(one) for one, mark in zip(training.ids, second, strict=True) if mark in known]


def _voxel_digests(cohort: Cohort) -> list[str]:
    """Return the sha256 of each record's voxels; nothing without volumes."""
    return [hashlib.sha256(volume.tobytes()).hexdigest() for volume in cohort.volumes or ()]


def _joined_volumes(first: Volumes | None, second: Volumes | None) -> Volumes | None:
    if first is None or second is None:
        return None
    scales = None
    if first.divisors is not None and second.divisors is not None:
        scales = np.concatenate([first.divisors, second.divisors])
    return Volumes(_Chain((first, second)), first.geometry, scales=scales)


@dataclass(frozen=True)
class _Chain:
    """Volumes of several cohorts, one after the other, still unread."""

    parts: Sequence[VolumeStore]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, index: int) -> np.ndarray:
        for part in self.parts:
            if index < len(part):
                return part[index]
            index -= len(part)
        raise IndexError(index)
