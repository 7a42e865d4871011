"""A BIDS folder: ``participants.tsv`` and NIfTI volumes found by suffix, session and run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from mmbench.api import Card, Cohort, CohortError, Context, Volumes, param
from mmbench.bids_writer import recorded_reading
from mmbench.sources._checks import Findings, gathered
from mmbench.sources._participants import Rows, read_rows
from mmbench.sources._scans import Scans, Wanted, absence, find_scans
from mmbench.sources._tables import type_table
from mmbench.sources._volumes import NiftiSource, open_volumes

SUFFIX = "T1w"
"""Suffix of the volumes where nobody names another."""


@dataclass(kw_only=True)
class BidsSource(NiftiSource):
    """Reads a BIDS folder; each session of a subject is a record with the subject's or the session's row.

    A folder that ``mmbench sample`` wrote says itself how it is read, wherever a parameter is left open.
    """

    card: ClassVar[Card] = Card(
        summary="A BIDS folder: participants.tsv and one or more NIfTI volumes a subject.",
        reference="Gorgolewski et al. 2016, The brain imaging data structure, Scientific Data 3:160044",
    )

    path: Path = param(doc="the BIDS folder")
    suffix: str | tuple[str, ...] | None = param(
        None,
        "suffix of the volumes, T1w by default, with entities where several match (acq-dixon_T1w); a list gives a "
        "channel each, an empty list a cohort of rows only",
    )
    session: str | None = param(None, "the one session to read, e.g. ses-01; by default all, a record each")
    run: int | str = param(
        "refuse", "which of several runs of a scan to read: first, last or a number; refuse asks the user"
    )
    table: str = param("participants.tsv", "table of the participants inside the folder")

    def load(self, context: Context) -> Cohort:
        """Return the cohort.

        Raises:
            CohortError: The folder, its tables or its volumes cannot be used; every problem found is listed.
        """
        if not self.path.is_dir():
            raise CohortError(
                f"{self.path}: no such folder; expected a BIDS folder with {self.table} and sub-*."
            )
        return self._as_recorded()._read(context)

    def _as_recorded(self) -> BidsSource:
        """Return the source with the parameters that are left open as the folder says, if mmbench sampled it."""
        recorded = recorded_reading(self.path)
        if self.suffix is not None:
            # Names of channels belong to the files that were written for them.
            recorded.pop("channels", None)
        return dataclasses.replace(
            self,
            suffix=tuple(recorded.get("suffix", (SUFFIX,))) if self.suffix is None else self.suffix,
            channels=self.channels or tuple(recorded.get("channels", ())),
            schema=recorded.get("schema") if self.schema is None else self.schema,
            normalise=self.normalise or recorded.get("normalise"),
            copies=self.copies or recorded.get("copies"),
        )

    def _read(self, context: Context) -> Cohort:
        suffixes = (self.suffix,) if isinstance(self.suffix, str) else self.suffix or ()
        channels = self.channels or suffixes
        if len(suffixes) not in (1, len(channels)) or len(set(channels)) != len(channels):
            raise CohortError(
                f"channels {list(channels)}: expected one name for each of {list(suffixes)}, or several for a single "
                "suffix whose files hold all channels."
            )
        if isinstance(self.run, str) and self.run not in ("refuse", "first", "last"):
            raise CohortError(f"run: '{self.run}': expected refuse, first, last or a number.")
        session = self.session and f"ses-{self.session.removeprefix('ses-')}"
        wanted = Wanted(suffixes, session, self.run)
        where = self.path / self.table
        findings = Findings(self.incomplete == "leave-out")
        rows = scans = typed = None
        with gathered(findings.problems):
            rows = read_rows(self.path, self.table, session, findings.problems)
        with gathered(findings.problems):
            scans = find_scans(self.path, wanted, findings) if suffixes else None
        if rows is not None:
            if scans is not None:
                rows, scans = self._paired(rows, scans, wanted, findings)
                if not scans and findings.leave_out:
                    findings.problems.append(
                        f"{self.path}: no record is left; see what 'incomplete: refuse' reports."
                    )
                    findings.refuse()
            sidecars = (where.with_suffix(".json"), self.path / "sessions.json")
            with gathered(findings.problems):
                typed = type_table(rows.frame, where, self.schema, self.drop, sidecars)
        usable = {key: files for key, files in (scans or {}).items() if files}
        volumes: Volumes | None = None
        if suffixes:
            volumes = open_volumes(
                list(usable.values()), [subject for subject, _ in usable], channels, self, context, findings
            )
        findings.refuse()
        if rows is None or typed is None or (suffixes and volumes is None):
            raise CohortError(f"{self.path}: no record can be used.")
        schema, table = typed
        if not suffixes:
            usable = {(label.partition("/")[0], label.partition("/")[2]): () for label in table.index}
        subjects = np.array([subject for subject, _ in usable])
        repeated = len(np.unique(subjects)) < len(subjects)
        return Cohort(
            name=self.path.resolve().name,
            schema=schema,
            ids=np.array([_name(*key) if repeated else key[0] for key in usable]),
            table=table.loc[[rows.label(*key) for key in usable]] if schema.columns else None,
            volumes=volumes,
            subjects=subjects,
            left_out=findings.left_out,
            warnings=tuple(findings.warnings),
        )

    def _paired(self, rows: Rows, scans: Scans, wanted: Wanted, findings: Findings) -> tuple[Rows, Scans]:
        """Return rows and scans that belong together, in the order of the rows, and deal with the others."""
        belongs = {key: rows.label(*key) for key in scans}
        found = set(belongs.values())
        unscanned: set[str] = set()
        for label in rows.frame.index:
            if label not in found:
                unscanned.add(label)
                subject, _, session = label.partition("/")
                findings.incomplete(
                    label,
                    f"{rows.places[label]}: {'session' if session else 'participant'} {label} has no {wanted.volume}",
                    absence(self.path / subject / session) + self._hint(subject, rows),
                )
        for (subject, session), label in belongs.items():
            if label is None:
                known = any(name.startswith(f"{subject}/") for name in rows.places)
                place = self.path / subject / session if known else self.path / subject
                what = f"session_id {session}" if known else f"participant_id {subject}"
                findings.incomplete(
                    _name(subject, session),
                    f"{place}: volumes without a row in {self._table_of(subject, known)}",
                    f"add a row with {what} or remove the folder.",
                )
        left = {key for key in scans if _name(*key) in findings.left_out or belongs[key] is None}
        order = {label: position for position, label in enumerate(rows.frame.index)}
        kept = sorted(
            (key for key in scans if key not in left), key=lambda key: (order[str(belongs[key])], key)
        )
        if findings.leave_out:
            rows = rows.without(set(rows.frame.index) - {str(belongs[key]) for key in kept})
        # Volumes without a row are still looked at, so that their problems are reported too.
        others = [] if findings.leave_out else sorted(left)
        return rows, {key: scans[key] for key in [*kept, *others]}

    def _table_of(self, subject: str, by_session: bool) -> str:
        own = self.path / subject / f"{subject}_sessions.tsv"
        return own.name if by_session and own.is_file() else self.table

    def _hint(self, subject: str, rows: Rows) -> str:
        """Return a sentence that names the folder of a subject whose number was padded otherwise."""
        number = subject.removeprefix("sub-").lstrip("0")
        folders = (f.name for f in self.path.iterdir() if f.name.startswith("sub-") and f.name != subject)
        near = [f for f in folders if f.removeprefix("sub-").lstrip("0") == number and f not in rows.subjects]
        return f" Is it {near[0]}?" if near else ""


def _name(subject: str, session: str) -> str:
    return f"{subject}/{session}" if session else subject
