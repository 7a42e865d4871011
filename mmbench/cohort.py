"""A cohort: one volume and one row for each record. Real and synthetic subjects look the same."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmbench.errors import CohortError
from mmbench.files import publish_folder, write_json
from mmbench.schema import Schema
from mmbench.volume_file import VolumeFile
from mmbench.volumes import Geometry, Volumes

FORMAT = 1


@dataclass(frozen=True)
class Cohort:
    """Records of one volume and one table row each.

    Attributes:
        name: What the cohort is called in reports.
        schema: Columns of the table.
        ids: Unique identifier of each record.
        table: Rows in the order of ``ids``, typed by the schema; ``None`` in a cohort of volumes only.
        volumes: Volumes in the order of ``ids``; ``None`` in a cohort of rows only.
        subjects: Person behind each record. Repeat scans share one; by default every record is a person.
        truth: Known composition of each record, for phantoms; no generator or metric sees it.
        shareable: Whether single subjects may appear in reports; true for phantoms only.
        left_out: Why, for each record that the source left out because a part of it is missing. A part of a
            cohort (:meth:`take`) has none.
        warnings: What the source found suspicious but usable, one line each; likewise.
    """

    name: str
    schema: Schema
    ids: np.ndarray
    table: pd.DataFrame | None = None
    volumes: Volumes | None = None
    subjects: np.ndarray | None = None
    truth: pd.DataFrame | None = None
    shareable: bool = False
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        ids = np.asarray(self.ids, dtype=str)
        object.__setattr__(self, "ids", ids)
        people = ids if self.subjects is None else np.asarray(self.subjects, dtype=str)
        object.__setattr__(self, "subjects", people)
        names, counts = np.unique(ids, return_counts=True)
        if (counts > 1).any():
            raise CohortError(f"{self.name}: identifiers are repeated: {', '.join(names[counts > 1][:5])}.")
        for part, size in (
            ("table", None if self.table is None else len(self.table)),
            ("volumes", None if self.volumes is None else len(self.volumes)),
            ("subjects", len(people)),
        ):
            if size is not None and size != len(ids):
                raise CohortError(f"{self.name}: {part} has {size} records, expected {len(ids)}.")
        if self.table is not None:
            table = self.table.copy()
            table.index = pd.Index(ids, name="id")
            object.__setattr__(self, "table", table)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def modalities(self) -> frozenset[str]:
        """Which of ``table`` and ``volume`` the cohort has."""
        parts = {"table": self.table, "volume": self.volumes}
        return frozenset(name for name, part in parts.items() if part is not None)

    @property
    def people(self) -> np.ndarray:
        """Person behind each record, text of shape (n,)."""
        return self.ids if self.subjects is None else self.subjects

    @property
    def rows(self) -> pd.DataFrame:
        """The table, for code that needs one.

        Raises:
            CohortError: The cohort has none.
        """
        if self.table is None:
            raise CohortError(f"{self.name}: the cohort has no table.")
        return self.table

    @property
    def images(self) -> Volumes:
        """The volumes, for code that needs some.

        Raises:
            CohortError: The cohort has none.
        """
        if self.volumes is None:
            raise CohortError(f"{self.name}: the cohort has no volumes.")
        return self.volumes

    def take(self, indices: Sequence[int] | np.ndarray) -> Cohort:
        """Return the records at ``indices``; a record taken twice gets a new identifier."""
        indices = np.asarray(indices, dtype=int)
        ids = self.ids[indices]
        if len(np.unique(ids)) < len(ids):
            ids = np.array([f"{name}.{i}" for i, name in enumerate(ids)])
        return dataclasses.replace(
            self,
            ids=ids,
            table=None if self.table is None else self.table.iloc[indices],
            volumes=None if self.volumes is None else self.volumes.take(indices),
            subjects=self.people[indices],
            truth=None if self.truth is None else self.truth.iloc[indices],
            # What is said of the whole names records that a part, e.g. inside a saved model, must not name.
            left_out={},
            warnings=(),
        )

    def fingerprint(self, reading: Iterable[np.ndarray] | None = None) -> str:
        """Return the sha256 over schema, geometry, identifiers, values and voxels, as hexadecimal text.

        What the source says of its work (``left_out``, ``warnings``, the volumes' ``scales``) changes no value
        and no voxel and is left aside.

        Args:
            reading: The cohort's own volumes, in order, from somebody who reads them for another purpose too;
                they are then read once for both.
        """
        digest = hashlib.sha256()
        header: dict[str, Any] = {"schema": self.schema.to_dict(), "ids": self.ids.tolist(), "format": FORMAT}
        # Who is the same person decides the split, so it is content too.
        header["subjects"] = None if self.subjects is None else self.subjects.tolist()
        if self.volumes is not None:
            header["geometry"] = self.volumes.geometry.to_dict()
        digest.update(json.dumps(header, sort_keys=True).encode())
        if self.table is not None:
            digest.update(np.ascontiguousarray(self.schema.codes(self.table)).tobytes())
        for volume in reading or self.volumes or ():
            digest.update(np.ascontiguousarray(volume).tobytes())
        return digest.hexdigest()


def save_cohort(cohort: Cohort, folder: Path, fingerprint: bool = True) -> Path:
    """Write a cohort as ``cohort.json``, ``table.parquet``, ``volumes.npy`` and ``truth.parquet``.

    Volumes are streamed one at a time, or linked where they lie in such a file already. The folder appears
    whole or not at all.

    Args:
        cohort: What to write.
        folder: Where; it must not exist.
        fingerprint: Whether to compute and record the content fingerprint.

    Returns:
        The folder.
    """
    with publish_folder(folder) as temporary:
        write_cohort(cohort, temporary, fingerprint)
    return folder


def write_cohort(cohort: Cohort, folder: Path, fingerprint: bool = True) -> None:
    """Write a cohort's files into a folder that exists; see :func:`save_cohort`."""
    header: dict[str, Any] = {
        "format": FORMAT,
        "name": cohort.name,
        "shareable": cohort.shareable,
        "schema": cohort.schema.to_dict(),
        "ids": cohort.ids.tolist(),
        "subjects": cohort.people.tolist(),
        "modalities": sorted(cohort.modalities),
        "left_out": dict(cohort.left_out),
        "warnings": list(cohort.warnings),
    }
    if cohort.table is not None:
        plain = cohort.table.copy()
        for column in cohort.schema:
            # Parquet has no mixed-type categories: levels travel as text and the schema restores them.
            if column.discrete:
                plain[column.name] = plain[column.name].astype(object).map(str, na_action="ignore")
        plain.to_parquet(folder / "table.parquet")
    if cohort.truth is not None:
        cohort.truth.to_parquet(folder / "truth.parquet")
    reading: Iterable[np.ndarray] = ()
    if cohort.volumes is not None:
        geometry = cohort.volumes.geometry
        header["geometry"] = geometry.to_dict()
        if cohort.volumes.divisors is not None:
            header["scales"] = cohort.volumes.divisors.tolist()
        store = cohort.volumes.store
        if isinstance(store, VolumeFile) and cohort.volumes.rows is None:
            store.place_at(folder / "volumes.npy")
            reading = cohort.volumes if fingerprint else ()
        else:
            file = VolumeFile.create(folder / "volumes.npy", (len(cohort), *geometry.full_shape))
            reading = _written(cohort.volumes, file)
    if fingerprint:
        header["fingerprint"] = cohort.fingerprint(reading)
    else:
        for _ in reading:
            pass
    write_json(folder / "cohort.json", header)


def _written(volumes: Volumes, file: VolumeFile) -> Iterator[np.ndarray]:
    """Yield volumes that lie in ``file`` by then: a lazy store is not asked for its volumes twice."""
    for index, volume in enumerate(volumes):
        file.write(index, volume)
        yield volume


def load_cohort(folder: Path) -> Cohort:
    """Read what :func:`save_cohort` wrote; volumes stay on disk until they are asked for.

    Raises:
        CohortError: The folder holds no cohort, or its files do not fit together.
    """
    path = folder / "cohort.json"
    try:
        header = json.loads(path.read_text())
        if header["format"] != FORMAT:
            raise CohortError(f"{path}: format {header['format']}, expected {FORMAT}; make the cohort anew.")
        schema = Schema.from_dict(header["schema"])
        table = volumes = truth = None
        if "table" in header["modalities"]:
            table = schema.coerce(pd.read_parquet(folder / "table.parquet"), str(folder / "table.parquet"))
        if "volume" in header["modalities"]:
            geometry = Geometry.from_dict(header["geometry"])
            file = VolumeFile.open(folder / "volumes.npy")
            if file.shape[1:] != geometry.full_shape:
                raise CohortError(f"{file.path}: shape {file.shape[1:]}, expected {geometry.full_shape}.")
            volumes = Volumes(file, geometry, scales=_scales(header))
        if (folder / "truth.parquet").exists():
            truth = pd.read_parquet(folder / "truth.parquet")
    except FileNotFoundError as error:
        raise CohortError(f"{error.filename}: no such file; {folder} is no saved cohort.") from error
    except (KeyError, TypeError, ValueError, OSError, EOFError) as error:
        raise CohortError(f"{path}: the saved cohort cannot be read ({error!r}); make it anew.") from error
    return Cohort(
        name=header["name"],
        schema=schema,
        ids=np.array(header["ids"], dtype=str),
        table=table,
        volumes=volumes,
        subjects=np.array(header["subjects"], dtype=str),
        truth=truth,
        shareable=bool(header["shareable"]),
        left_out={str(name): str(reason) for name, reason in header.get("left_out", {}).items()},
        warnings=tuple(map(str, header.get("warnings", ()))),
    )


def _scales(header: Mapping[str, Any]) -> np.ndarray | None:
    if header.get("scales") is None:
        return None
    scales = np.array(header["scales"], dtype=float)
    if not (np.isfinite(scales) & (scales > 0)).all():
        raise ValueError("scales that are not positive")
    return scales


@dataclass(frozen=True)
class Roles:
    """Who of a real cohort does what; arrays of record positions.

    Attributes:
        train: The generators' own.
        reference: Every score compares with these.
        floor: Real against real: what a perfect generator would reach.
    """

    train: np.ndarray
    reference: np.ndarray
    floor: np.ndarray

    def items(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield each role's name and positions."""
        return ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))


def split_cohort(
    cohort: Cohort,
    seed: int,
    shares: tuple[float, float, float] = (0.6, 0.2, 0.2),
    stratify: Sequence[str] = (),
    train: np.ndarray | None = None,
) -> Roles:
    """Split a cohort by subject into train, reference and floor.

    Reference and floor get one record of a subject each, its first, so that their records are independent;
    repeat scans of a training subject all go to train.

    Args:
        cohort: The real cohort.
        seed: Seed of the shuffle.
        shares: Shares of the subjects for train, reference and floor; they sum to 1.
        stratify: Columns whose distribution is kept alike in all roles; numbers are cut at their median.
        train: Positions of the training records where they are known already; the other records, of other
            subjects, are then divided between reference and floor in proportion to their shares.

    Raises:
        CohortError: A role would get fewer than two subjects, or a column is unknown.
    """
    if min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
        raise CohortError(f"split: shares {shares} must be positive and sum to 1.")
    if train is not None:
        rest = np.setdiff1d(np.arange(len(cohort)), train)
        total = shares[1] + shares[2]
        reference, floor = _divided(cohort.take(rest), seed, (shares[1] / total, shares[2] / total), stratify)
        return Roles(np.sort(train), rest[reference], rest[floor])
    learned, reference, floor = _divided(cohort, seed, shares, stratify)
    known = np.flatnonzero(np.isin(cohort.people, cohort.people[learned]))
    return Roles(known, reference, floor)


def _divided(cohort: Cohort, seed: int, shares: Sequence[float], stratify: Sequence[str]) -> list[np.ndarray]:
    """Return for each share the positions, ascending, of the first records of its subjects."""
    people, first = np.unique(cohort.people, return_index=True)
    order = np.random.default_rng(seed).permutation(len(people))
    strata = _strata(cohort, stratify)[first]
    order = order[np.argsort(strata[order], kind="stable")]
    assigned: list[list[int]] = [[] for _ in shares]
    for k, person in enumerate(order):
        # The role that lags furthest behind its share is next: strata and totals both come out even.
        lags = [share * (k + 1) - len(group) for share, group in zip(shares, assigned, strict=True)]
        assigned[int(np.argmax(lags))].append(int(person))
    if min(map(len, assigned)) < 2:
        raise CohortError(f"{cohort.name}: {len(people)} subjects are too few to split into {tuple(shares)}.")
    return [np.sort(first[group]) for group in assigned]


def _strata(cohort: Cohort, columns: Sequence[str]) -> np.ndarray:
    labels = np.zeros(len(cohort), dtype=int)
    for name in columns:
        if name not in cohort.schema.names:
            raise CohortError(f"split: there is no column '{name}' to stratify by in {cohort.name}.")
        values = cohort.rows[name]
        if cohort.schema[name].discrete:
            codes = values.cat.codes.to_numpy(int) + 1
        else:
            codes = np.where(values.isna(), 0, np.where(values > values.median(), 2, 1))
        labels = labels * (codes.max() + 1) + codes
    return labels
