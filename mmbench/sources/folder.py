"""A table with a column of volume paths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from mmbench.api import Card, Cohort, CohortError, Context, Volumes, param
from mmbench.errors import did_you_mean
from mmbench.sources._checks import gathered
from mmbench.sources._nifti import NiftiSource, open_volumes
from mmbench.sources._tables import read_text_table, type_table

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
        frame = self._read()
        paths = self.volume_columns or ((self.volume_column,) if self.volume_column else ())
        channels = self.channels or paths
        if len(channels) != len(paths) or len(set(channels)) != len(channels):
            raise CohortError(f"channels {list(channels)}: expected one name for each of {list(paths)}.")
        id_column = self.id_column or next((name for name in ID_COLUMNS if name in frame), None)
        named = [*paths, *(name for name in (id_column, self.subject_column) if name)]
        problems = []
        for name in named:
            if name not in frame:
                advice = " Without volumes, set 'volume_column: null'." if name in paths else ""
                known = did_you_mean(name, frame.columns)
                problems.append(f"{self.path}: there is no column '{name}'. {known}{advice}")
        if problems:
            raise CohortError(problems)
        ids = self._identifiers(frame, id_column, problems)
        frame.index = pd.Index(ids, name="id")
        for name in (*paths, *([self.subject_column] if self.subject_column else [])):
            problems += [
                f"{self.path}: row {row}: column '{name}' is empty, expected a value; fill it in or remove the row."
                for row in frame.index[frame[name].isna()]
            ]
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
            volumes, complaints = open_volumes(files, channels, self, context)
            problems += complaints
        if problems or typed is None:
            raise CohortError(problems)
        return Cohort(
            name=self.path.stem, schema=typed[0], ids=ids, table=typed[1], volumes=volumes, subjects=subjects
        )

    def _read(self) -> pd.DataFrame:
        suffix = self.path.suffix.lower()
        if not self.path.is_file():
            raise CohortError(f"{self.path}: no such file; expected a table (.csv, .tsv or .parquet).")
        if suffix in _DELIMITERS:
            return read_text_table(self.path, _DELIMITERS[suffix], self.missing)
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
