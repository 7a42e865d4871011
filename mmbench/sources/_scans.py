"""The scans in a BIDS folder: which files hold the channels of which subject's session."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmbench.api import CohortError
from mmbench.errors import did_you_mean
from mmbench.sources._checks import Findings
from mmbench.sources._nifti import DICOM_ADVICE, holds_dicom, other_formats

_SUBJECT = re.compile(r"sub-[a-zA-Z0-9+]+")
_SESSION = re.compile(r"ses-[a-zA-Z0-9+]+")
_VOLUME = re.compile(r"(sub-[a-zA-Z0-9+]+(?:_[a-zA-Z]+-[a-zA-Z0-9+]+)*_[a-zA-Z0-9]+)\.nii(?:\.gz)?")
_RUN = re.compile(r"_run-(\d+)(?=_)")

Scans = dict[tuple[str, str], tuple[Path, ...]]
"""Files by subject (``sub-...``) and session (``ses-...`` or empty); none where they cannot be used."""


@dataclass(frozen=True)
class Wanted:
    """Which scans to look for.

    Attributes:
        suffixes: Suffix, with entities before it, of the file of each channel.
        session: The one session, ``ses-...``; all where ``None``.
        run: Which of several runs: ``refuse``, ``first``, ``last`` or a number.
    """

    suffixes: tuple[str, ...]
    session: str | None
    run: int | str

    @property
    def volume(self) -> str:
        """What is looked for, in words."""
        return f"{' or '.join(self.suffixes)} volume{f' of {self.session}' if self.session else ''}"


def find_scans(folder: Path, wanted: Wanted, findings: Findings) -> Scans:
    """Return the scans of a BIDS folder, subjects and sessions in order.

    Raises:
        CohortError: There are no subjects, or none has the session.
    """
    subjects = sorted(f for f in folder.iterdir() if f.is_dir() and _SUBJECT.fullmatch(f.name))
    if not subjects:
        what = f"DICOM files: {DICOM_ADVICE}" if holds_dicom(folder) else "no folder sub-*"
        raise CohortError(
            f"{folder}: holds {what}; expected sub-*/[ses-*/]anat/*_{wanted.suffixes[0]}.nii.gz."
        )
    sessions = {subject: _sessions(subject) for subject in subjects}
    known = {session for found in sessions.values() for session in found if session}
    if wanted.session and wanted.session not in known:
        raise CohortError(
            f"{folder}: no subject has the session '{wanted.session}'. {did_you_mean(wanted.session, known)}"
        )
    scans: Scans = {}
    for subject, found in sessions.items():
        for session, place in found.items():
            if wanted.session in (None, session):
                files = _files(subject.name, session, place / "anat", wanted, findings)
                if files is not None:
                    scans[subject.name, session] = files
                elif session and holds_dicom(place):
                    # A session may lack the modality, but not in this way.
                    findings.incomplete(
                        f"{subject.name}/{session}", f"{place}: holds DICOM files", f"{DICOM_ADVICE}."
                    )
                    scans[subject.name, session] = ()
    return scans


def absence(folder: Path) -> str:
    """Return what a user can do about a subject whose folder holds no volume that was looked for."""
    if not folder.is_dir():
        return f"expected it below {folder}: add it or remove the row."
    if holds_dicom(folder):
        return f"{folder} holds DICOM files: {DICOM_ADVICE}."
    found = sorted({name.rsplit("_", 1)[-1] for name, _ in _volumes(folder.glob("**/anat/*"))})
    if found:
        return f"{folder} has {', '.join(found)}: set 'suffix' or 'session', or remove the row."
    if others := other_formats(folder):
        return f"{folder} holds {others[0]}: convert it to NIfTI (.nii.gz)."
    return f"expected it below {folder}: add it or remove the row."


def _sessions(subject: Path) -> dict[str, Path]:
    """Return the folder of each session, in order; that of volumes without a session is named ''."""
    names = sorted(f.name for f in subject.iterdir() if f.is_dir() and _SESSION.fullmatch(f.name))
    unnamed = {"": subject} if (subject / "anat").is_dir() else {}
    return unnamed | {name: subject / name for name in names}


def _volumes(files: Iterable[Path]) -> list[tuple[str, Path]]:
    """Return the names without extension, and the paths, of those files that are named like volumes."""
    return [(match[1], file) for file in sorted(files) if (match := _VOLUME.fullmatch(file.name))]


def _files(
    subject: str, session: str, anat: Path, wanted: Wanted, findings: Findings
) -> tuple[Path, ...] | None:
    """Return a file for each suffix; none where some are unusable, ``None`` where nothing was found."""
    if not anat.is_dir():
        return None
    chosen: list[Path] = []
    found = usable = 0
    for suffix in wanted.suffixes:
        matches, named_wrongly = _matches(anat, f"{subject}_{session}" if session else subject, suffix)
        findings.problems += [
            f"{file}: the name does not begin with '{subject}_{session}{'_' * bool(session)}' as its folder says; "
            "rename it."
            for file in named_wrongly
        ]
        found += len(matches) + len(named_wrongly)
        problem = ""
        if len(matches) > 1:
            matches, problem = _one_run(matches, suffix, wanted.run)
        if problem:
            findings.problems.append(f"{anat}: {problem}")
        usable += bool(problem or named_wrongly or matches)
        chosen += matches[:1] if not problem else []
    if not found:
        return None
    if usable < len(wanted.suffixes):
        absent = [s for s in wanted.suffixes if not any(_matches(anat, subject, s))]
        findings.incomplete(
            f"{subject}/{session}" if session else subject,
            f"{anat}: no {' and no '.join(absent)} volume beside the other channels",
            "add it or remove the scan.",
        )
    return tuple(chosen) if len(chosen) == len(wanted.suffixes) else ()


def _matches(anat: Path, begin: str, suffix: str) -> tuple[list[Path], list[Path]]:
    """Return the files of a suffix, and those among them that are named for another subject or session."""
    *entities, last = suffix.split("_")
    matches: list[Path] = []
    others: list[Path] = []
    for name, file in _volumes(anat.iterdir()):
        parts = name.split("_")
        if parts[-1] == last and set(entities) <= set(parts):
            (matches if f"{name}_".startswith(f"{begin}_") else others).append(file)
    return matches, others


def _one_run(files: Sequence[Path], suffix: str, rule: int | str) -> tuple[list[Path], str]:
    """Return the file that the rule chooses among several, or why it chooses none."""
    names = ", ".join(file.name for file in files)
    runs = {int(match[1]): file for file in files if (match := _RUN.search(file.name))}
    rest = {_RUN.sub("", file.name) for file in files}
    if len(runs) == len(files) and len(rest) == 1:
        if rule == "refuse":
            return [], (
                f"{len(files)} runs match '{suffix}': {names}; set 'run' to first, last or a number, or keep one."
            )
        number = {"first": min(runs), "last": max(runs)}.get(str(rule), rule)
        if number in runs:
            return [runs[int(number)]], ""
        return [], f"there is no run {number} among {names}; set 'run' to another, or leave the subject out."
    return [], (
        f"{len(files)} files match '{suffix}': {names}; keep one, or tell them apart by an entity, e.g. suffix "
        f"'acq-fast_{suffix}'."
    )
