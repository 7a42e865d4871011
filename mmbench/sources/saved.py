"""A cohort that mmbench wrote itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mmbench.api import Card, Cohort, CohortError, CohortSource, Context, param
from mmbench.cohort import load_cohort
from mmbench.files import read_json
from mmbench.sources._checks import check_volumes


@dataclass(kw_only=True)
class SavedSource(CohortSource):
    """Reads a cohort that ``mmbench cohort make`` wrote, and refuses one that has changed since."""

    card: ClassVar[Card] = Card(summary="A cohort written by 'mmbench cohort make'.")

    path: Path = param(doc="the cohort's folder")

    def load(self, context: Context) -> Cohort:
        """Return the cohort.

        Raises:
            CohortError: The folder holds no cohort, a volume cannot be used, or the content has changed.
        """
        if not self.path.is_dir():
            raise CohortError(f"{self.path}: no such folder; expected one written by 'mmbench cohort make'.")
        cohort = load_cohort(self.path)
        if cohort.volumes is not None:
            channels = cohort.volumes.geometry.channels
            problems = check_volumes(
                cohort.volumes,
                lambda index, channel: (
                    f"{self.path / 'volumes.npy'}, record {cohort.ids[index]}, channel '{channels[channel]}'"
                ),
                context,
            )
            if problems:
                raise CohortError(problems)
        recorded = read_json(self.path / "cohort.json").get("fingerprint")
        found = cohort.fingerprint()
        if recorded != found:
            raise CohortError(
                f"{self.path}: the content has the fingerprint {found[:12]}, but cohort.json records "
                f"{str(recorded)[:12]}: a file was changed after the cohort was written; make it anew."
            )
        return cohort
