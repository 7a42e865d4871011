"""A BIDS folder: ``participants.tsv`` and NIfTI volumes found by suffix and session."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import pandas as pd

from mmbench.api import Card, Cohort, CohortError, Context, param
from mmbench.errors import did_you_mean
from mmbench.sources._checks import gathered
from mmbench.sources._nifti import NiftiSource, holds_dicom, open_volumes
from mmbench.sources._tables import read_text_table, type_table

MISSING = ("n/a", "")
_SUBJECT = re.compile(r"sub-[a-zA-Z0-9+]+")
_SESSION = re.compile(r"ses-[a-zA-Z0-9+]+")
_VOLUME = re.compile(r"(sub-[a-zA-Z0-9+]+(?:_[a-zA-Z]+-[a-zA-Z0-9+]+)*_[a-zA-Z0-9]+)\.nii(?:\.gz)?")


class Scan(NamedTuple):
    """One session of one subject.

    Attributes:
        subject: ``sub-...``.
        session: ``ses-...``, empty where a subject has no sessions.
        files: One file a channel.
    """

    subject: str
    session: str
    files: tuple[Path, ...]


@dataclass(kw_only=True)
class BidsSource(NiftiSource):
    """Reads a BIDS folder; each session of a subject is a record with the subject's row."""

    card: ClassVar[Card] = Card(
        summary="A BIDS folder: participants.tsv and one or more NIfTI volumes a subject.",
        reference="Gorgolewski et al. 2016, The brain imaging data structure, Scientific Data 3:160044",
    )

    path: Path = param(doc="the BIDS folder")
    suffix: str | tuple[str, ...] = param(
        "T1w",
        "suffix of the volumes, with entities where several match (acq-dixon_T1w); a list gives a channel each",
    )
    session: str | None = param(None, "the one session to read, e.g. ses-01; by default all, a record each")
    table: str = param("participants.tsv", "table of the participants inside the folder")

    def load(self, context: Context) -> Cohort:
        """Return the cohort.

        Raises:
            CohortError: The folder, its table or its volumes cannot be used; every problem found is listed.
        """
        if not self.path.is_dir():
            raise CohortError(
                f"{self.path}: no such folder; expected a BIDS folder with {self.table} and sub-*."
            )
        suffixes = (self.suffix,) if isinstance(self.suffix, str) else self.suffix
        channels = self.channels or suffixes
        if len(channels) != len(suffixes) or len(set(channels)) != len(channels):
            raise CohortError(f"channels {list(channels)}: expected one name for each of {list(suffixes)}.")
        where = self.path / self.table
        problems: list[str] = []
        scans: list[Scan] = []
        participants = typed = None
        with gathered(problems):
            participants = _participants(where)
        with gathered(problems):
            scans = self._scans(suffixes, None if participants is None else participants.index, problems)
        if participants is not None:
            with gathered(problems):
                typed = type_table(participants, where, self.schema, self.drop, where.with_suffix(".json"))
        volumes, complaints = open_volumes([scan.files for scan in scans], channels, self, context)
        problems += complaints
        if problems or typed is None or volumes is None:
            raise CohortError(problems)
        schema, table = typed
        subjects = np.array([scan.subject for scan in scans])
        repeated = len(np.unique(subjects)) < len(subjects)
        return Cohort(
            name=self.path.resolve().name,
            schema=schema,
            ids=np.array([f"{scan.subject}/{scan.session}" if repeated else scan.subject for scan in scans]),
            table=table.loc[subjects],
            volumes=volumes,
            subjects=subjects,
        )

    def _scans(
        self, suffixes: Sequence[str], participants: pd.Index | None, problems: list[str]
    ) -> list[Scan]:
        """Return the scans in the order of the participants and report those that fit no participant."""
        folders = sorted(f for f in self.path.iterdir() if f.is_dir() and _SUBJECT.fullmatch(f.name))
        if not folders:
            kind = "DICOM files; convert them with dcm2niix" if holds_dicom(self.path) else "no folder sub-*"
            raise CohortError(
                f"{self.path}: holds {kind}; expected sub-*/[ses-*/]anat/*_{suffixes[0]}.nii.gz."
            )
        sessions = {folder.name: _sessions(folder) for folder in folders}
        wanted = self.session and f"ses-{self.session.removeprefix('ses-')}"
        known = {session for found in sessions.values() for session in found if session}
        if wanted and wanted not in known:
            raise CohortError(
                f"{self.path}: no subject has the session '{wanted}'. {did_you_mean(wanted, known)}"
            )
        scans: dict[str, list[Scan]] = {}
        for folder in folders:
            for session, anat in sessions[folder.name].items():
                if session == wanted or not wanted:
                    matches = [_matches(anat, folder.name, session, suffix, problems) for suffix in suffixes]
                    if any(matches):
                        files = _one_each(matches, suffixes, anat, problems)
                        # An unusable scan stays known, so that its subject is not reported as lacking one.
                        scans.setdefault(folder.name, []).extend(
                            [Scan(folder.name, session, files)] if files else []
                        )
        rows = list(scans) if participants is None else list(participants)
        what = f"{' or '.join(suffixes)} volume{f' of {wanted}' if wanted else ''}"
        for subject in rows:
            if subject not in scans:
                problems.append(
                    f"{self.path / self.table}: participant {subject} has no {what}; {self._advice(subject)}"
                )
        for subject in sorted(set(scans) - set(rows)):
            problems.append(
                f"{self.path / subject}: volumes without a row in {self.table}; add a row with participant_id "
                f"{subject} or remove the folder."
            )
        return [scan for subject in rows for scan in scans.get(subject, [])]

    def _advice(self, subject: str) -> str:
        folder = self.path / subject
        if folder.is_dir() and holds_dicom(folder):
            return f"{folder} holds DICOM files: convert them with dcm2niix."
        found = sorted({name.rsplit("_", 1)[-1] for name, _ in _volumes(folder.glob("**/anat/*"))})
        if found:
            return f"{folder} has {', '.join(found)}: set 'suffix' or 'session', or remove the row."
        return f"expected it below {folder}: add it or remove the row."


def _participants(path: Path) -> pd.DataFrame:
    """Return the participants' rows by subject (``sub-...``)."""
    frame = read_text_table(path, "\t", MISSING)
    if "participant_id" not in frame:
        raise CohortError(
            f"{path}: no column 'participant_id'; expected it as the first of the columns, found "
            f"{', '.join(frame.columns[:5])}."
        )
    names = frame.pop("participant_id")
    if names.isna().any():
        raise CohortError(
            f"{path}: row {int(np.argmax(names.isna())) + 1} has no participant_id; give it one."
        )
    # Many datasets leave the prefix out of the table.
    index = pd.Index([f"sub-{name.removeprefix('sub-')}" for name in names], name="participant_id")
    if not index.is_unique:
        repeated = ", ".join(index[index.duplicated()].unique()[:10])
        raise CohortError(
            f"{path}: participant_id is repeated: {repeated}; keep one row for each participant."
        )
    return frame.set_index(index)


def _sessions(folder: Path) -> dict[str, Path]:
    """Return the folder of anatomical volumes of each session, in order; a session without a name is ''."""
    names = sorted(f.name for f in folder.iterdir() if f.is_dir() and _SESSION.fullmatch(f.name))
    folders = {"": folder / "anat"} | {name: folder / name / "anat" for name in names}
    return {name: anat for name, anat in folders.items() if anat.is_dir()}


def _volumes(files: Iterator[Path]) -> list[tuple[str, Path]]:
    """Return the names without extension, and the paths, of those files that are named like volumes."""
    return [(match[1], file) for file in sorted(files) if (match := _VOLUME.fullmatch(file.name))]


def _matches(anat: Path, subject: str, session: str, suffix: str, problems: list[str]) -> list[Path]:
    *entities, last = suffix.split("_")
    matches = []
    for name, file in _volumes(anat.iterdir()):
        parts = name.split("_")
        if parts[-1] != last or not set(entities) <= set(parts):
            continue
        expected = f"{subject}_{session}" if session else subject
        if f"{name}_".startswith(f"{expected}_"):
            matches.append(file)
        else:
            problems.append(
                f"{file}: the name does not begin with '{expected}_' as its folder says; rename it."
            )
    return matches


def _one_each(
    matches: list[list[Path]], suffixes: Sequence[str], anat: Path, problems: list[str]
) -> tuple[Path, ...] | None:
    for suffix, files in zip(suffixes, matches, strict=True):
        if not files:
            problems.append(
                f"{anat}: no {suffix} volume beside the other channels; add it or remove the scan."
            )
        elif len(files) > 1:
            problems.append(
                f"{anat}: {len(files)} files match '{suffix}': {', '.join(file.name for file in files)}; keep one, "
                f"or tell them apart by an entity, e.g. suffix 'run-1_{suffix}'."
            )
    return tuple(files[0] for files in matches) if all(len(files) == 1 for files in matches) else None
