"""The clinical rows of a BIDS dataset: participants, their sessions, and which scan each row belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mmbench.api import CohortError
from mmbench.sources._tables import read_text_table

MISSING = ("n/a", "")

_LINE = ""
"""Name of the column that holds line numbers for a while; no column of a file can be named so."""


@dataclass(frozen=True)
class Rows:
    """The rows of a dataset, each of a participant or of one of its sessions.

    Attributes:
        frame: Clinical columns as text; the index holds ``sub-X``, or ``sub-X/ses-Y`` for the row of a session.
        places: Where each row stands, for messages.
    """

    frame: pd.DataFrame
    places: Mapping[str, str]

    @property
    def subjects(self) -> list[str]:
        """Participants in the order of the table."""
        return list(dict.fromkeys(label.split("/")[0] for label in self.frame.index))

    def label(self, subject: str, session: str) -> str | None:
        """Return the row of a scan: its session's, or its participant's where sessions have none."""
        names = [f"{subject}/{session}", subject]
        return next((name for name in names if name in self.places), None)

    def without(self, labels: set[str]) -> Rows:
        """Return the rows that are not among ``labels``."""
        frame = self.frame[[label not in labels for label in self.frame.index]]
        return Rows(frame, {label: self.places[label] for label in frame.index})


def read_rows(folder: Path, table: str, session: str | None, problems: list[str]) -> Rows:
    """Read the participants' table and each participant's ``sub-X_sessions.tsv``.

    A ``session_id`` column in the participants' table makes each row one of a session. A value in a session's
    own table goes before the participant's.

    Args:
        folder: The dataset.
        table: Name of the participants' table.
        session: The one session to keep, ``ses-...``; all where ``None``.
        problems: Receives what is wrong with single lines.

    Raises:
        CohortError: The participants' table cannot be used.
    """
    path = folder / table
    frame = read_text_table(path, "\t", MISSING, problems)
    if "participant_id" not in frame:
        raise CohortError(
            f"{path}: no column 'participant_id'; expected it as the first of the columns, found "
            f"{', '.join(frame.columns[:5])}."
        )
    frame = _labelled(frame, path, "participant_id", "sub-", problems)
    if "session_id" in frame:
        sessions = frame.pop("session_id").fillna("").map(str)
        frame.index = pd.Index(
            [
                f"{subject}/{_prefixed(name, 'ses-')}" if name else subject
                for subject, name in zip(frame.index, sessions, strict=True)
            ]
        )
    places = _unique_places(frame, path, "participant_id", problems)
    frame = _first_lines(frame)
    rows = Rows(*_with_sessions(frame, places, folder, problems))
    others = {
        label for label in rows.frame.index if session and "/" in label and not label.endswith(f"/{session}")
    }
    return rows.without(others)


def _with_sessions(
    frame: pd.DataFrame, places: dict[str, str], folder: Path, problems: list[str]
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return the rows with those of participants who have a table of sessions replaced by one a session."""
    parts: list[pd.DataFrame] = []
    for subject in frame.index:
        path = folder / subject / f"{subject}_sessions.tsv"
        if "/" in subject or not path.is_file():
            parts.append(frame.loc[[subject]])
            continue
        try:
            own = read_text_table(path, "\t", MISSING, problems)
        except CohortError as error:
            problems += error.problems
            parts.append(frame.loc[[subject]])
            continue
        if "session_id" not in own:
            problems.append(
                f"{path}: no column 'session_id'; expected it as the first of the columns, found "
                f"{', '.join(own.columns[:5])}."
            )
            parts.append(frame.loc[[subject]])
            continue
        own = _labelled(own, path, "session_id", "ses-", problems)
        own.index = pd.Index([f"{subject}/{name}" for name in own.index])
        del places[subject]
        places |= _unique_places(own, path, "session_id", problems)
        own = _first_lines(own)
        shared = pd.DataFrame([frame.loc[subject]] * len(own), index=own.index)
        # Not combine_first, which would sort the columns.
        parts.append(
            own.where(own.notna(), shared.reindex(columns=own.columns)).join(
                shared[shared.columns.difference(own.columns, sort=False)]
            )
        )
    whole = pd.concat(parts)
    names = [*frame.columns, *(name for name in whole.columns if name not in frame.columns)]
    whole = whole[names].astype(object)
    return whole.where(whole.notna(), None), places


def _labelled(frame: pd.DataFrame, path: Path, column: str, prefix: str, problems: list[str]) -> pd.DataFrame:
    """Return the rows that have an identifier, by it; the numbers of their lines go into a column without name."""
    empty = frame[column].isna()
    problems += [f"{path}, line {line}: no {column}; give it one." for line in frame.index[empty]]
    frame = frame[~empty]
    # Many datasets leave the prefix out of the table.
    labels = [_prefixed(name, prefix) for name in frame[column]]
    return frame.drop(columns=column).assign(**{_LINE: frame.index}).set_axis(labels)


def _prefixed(name: str, prefix: str) -> str:
    return prefix + name.removeprefix(prefix)


def _unique_places(frame: pd.DataFrame, path: Path, column: str, problems: list[str]) -> dict[str, str]:
    """Return where each label stands first, and report those that stand in several lines."""
    for label in frame.index[frame.index.duplicated()].unique():
        rows = frame.loc[[label]]
        same = len(rows.drop(columns=_LINE).astype(str).drop_duplicates()) == 1
        problems.append(
            f"{path}: {column} is repeated: {label} in lines {', '.join(map(str, rows[_LINE]))} "
            f"({'the same values' if same else 'other values'}); keep one row, or tell sessions apart by a column "
            "'session_id'."
        )
    return {
        label: f"{path}, line {line}"
        for label, line in zip(frame.index[::-1], frame[_LINE].tolist()[::-1], strict=True)
    }


def _first_lines(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[~frame.index.duplicated()].drop(columns=_LINE)
