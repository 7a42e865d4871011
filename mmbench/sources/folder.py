"""A table with a column of volume paths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from mmbench.api import Card, Cohort, CohortError, Context, Volumes, param
from mmbench.errors import did_you_mean
from mmbench.sources._checks import Findings, gathered
from mmbench.sources._tables import read_text_table, type_table
from mmbench.sources._volumes import NiftiSource, open_volumes

ID_COLUMNS = ("id", "subject", "participant_id")
_DELIMITERS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}


@dataclass(kw_only=True)
class FolderSource(NiftiSource):
    """Reads a CSV, TSV or Parquet table whose rows name their volumes."""

    card: ClassVar[Card] = Card(
        summary="A CSV, TSV or Parquet table with a column of paths to NIfTI volumes."
    )

    path: Path = param(doc="the table: .csv, .tsv or .parquet")
    volume_column: str | None = param(
        "volume", "column of paths to volumes, relative to the table; null for a cohort of rows only"
    )
    volume_columns: tuple[str, ...] = param(
        (), "instead of volume_column: a column of paths for each channel"
    )
    id_column: str | None = param(
        None,
        "column that names the records; by default id, subject or participant_id, or else the row number",
    )
    subject_column: str | None = param(
        None, "column that names the person where persons were scanned repeatedly"
    )
    missing: tuple[str, ...] = param(("", "n/a", "NA", "NaN"), "texts that stand for a missing value")

    def load(self, context: Context) -> Cohort:
        """Return the cohort.

        Raises:
            CohortError: The table or its volumes cannot be used; every problem found is listed.
        """
        findings = Findings(self.incomplete == "leave-out")
        problems = findings.problems
        frame = self._read(problems)
        paths = self.volume_columns or ((self.volume_column,) if self.volume_column else ())
        channels = self.channels or paths
        if len(paths) not in (min(1, len(channels)), len(channels)) or len(set(channels)) != len(channels):
            raise CohortError(
                f"channels {list(channels)}: expected one name for each of {list(paths)}, or several for a single "
                "column whose files hold all channels."
            )
        id_column = self.id_column or next((name for name in ID_COLUMNS if name in frame), None)
        named = [*paths, *(name for name in (id_column, self.subject_column) if name)]
        absent = [name for name in named if name not in frame]
        for name in absent:
            advice = " Without volumes, set 'volume_column: null'." if name in paths else ""
            known = did_you_mean(name, frame.columns)
            problems.append(f"{self.path}: there is no column '{name}'. {known}{advice}")
        if absent:
            raise CohortError(problems)
        ids = self._identifiers(frame, id_column, problems)
        frame.index = pd.Index(ids, name="id")
        if self.subject_column:
            problems += [
                f"{self.path}: row {row}: column '{self.subject_column}' is empty; name the person or remove the row."
                for row in frame.index[frame[self.subject_column].isna()]
            ]
        for name in paths:
            for row in frame.index[frame[name].isna()]:
                what = f"{self.path}: row {row}: column '{name}' is empty"
                findings.incomplete(str(row), what, "expected a path; fill it in or remove the row.")
        frame = frame[~frame.index.isin(list(findings.left_out))]
        if frame.empty:
            raise CohortError(f"{self.path}: no record is left; see what 'incomplete: refuse' reports.")
        ids = frame.index.to_numpy(str)
        subjects = frame[self.subject_column].map(str).to_numpy() if self.subject_column else ids
        typed = None
        with gathered(problems):
            clinical = frame.drop(columns=list(dict.fromkeys(named)))
            typed = type_table(clinical, self.path, self.schema, self.drop)
        volumes: Volumes | None = None
        if paths:
            filled = frame[frame[list(paths)].notna().all(axis=1)]
            files = [
                tuple(self.path.parent / str(value) for value in row)
                for row in filled[list(paths)].to_numpy()
            ]
            people = [str(person) for person in subjects[frame.index.isin(filled.index)]]
            volumes = open_volumes(files, people, channels, self, context, findings)
        findings.refuse()
        if typed is None:
            raise CohortError(problems)
        return Cohort(
            name=self.path.stem,
            schema=typed[0],
            ids=ids,
            table=typed[1],
            volumes=volumes,
            subjects=subjects,
            left_out=findings.left_out,
            warnings=tuple(findings.warnings),
        )

    def _read(self, problems: list[str]) -> pd.DataFrame:
        suffix = self.path.suffix.lower()
        if not self.path.is_file():
            raise CohortError(f"{self.path}: no such file; expected a table (.csv, .tsv or .parquet).")
        if suffix in _DELIMITERS:
            return read_text_table(self.path, _DELIMITERS[suffix], self.missing, problems)
        if suffix != ".parquet":
            raise CohortError(f"{self.path}: a table of type '{suffix}', expected .csv, .tsv or .parquet.")
        try:
            frame = pd.read_parquet(self.path)
        except (OSError, ValueError) as error:
            raise CohortError(f"{self.path}: cannot be read as Parquet ({error}); write it anew.") from None
        # pandas stores a named index apart from the columns; here it is one of them.
        return frame if frame.index.name is None else frame.reset_index()

    def _identifiers(self, frame: pd.DataFrame, column: str | None, problems: list[str]) -> np.ndarray:
        if column is None:
            return np.arange(1, len(frame) + 1).astype(str)
        names = frame[column]
        for row in np.flatnonzero(names.isna()):
            problems.append(f"{self.path}: row {row + 1}: '{column}' is empty; give every record a name.")
        if (twice := names[names.duplicated() & names.notna()]).size:
            problems.append(
                f"{self.path}: '{column}' is repeated: {', '.join(map(str, twice.unique()[:10]))}; keep one row each, "
                "or give every record its own name in 'id_column' and the person in 'subject_column'."
            )
        return names.map(str).to_numpy()
