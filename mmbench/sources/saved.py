"""A cohort that mmbench wrote itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from mmbench.api import Card, Cohort, CohortError, CohortSource, Context, param
from mmbench.cohort import load_cohort
from mmbench.files import read_json
from mmbench.sources._checks import voxel_problem


@dataclass(kw_only=True)
class SavedSource(CohortSource):
    """Reads a cohort that ``mmbench cohort make`` wrote, and refuses one that has changed since."""

    card: ClassVar[Card] = Card(summary="A cohort written by 'mmbench cohort make'.")

    path: Path = param(doc="the cohort's folder")
    verify: bool = param(
        True, "read every volume once, check its voxels, and compare the content with the fingerprint"
    )

    def load(self, context: Context) -> Cohort:
        """Return the cohort.

        Raises:
            CohortError: The folder holds no cohort, a volume cannot be used, or the content has changed.
        """
        if not self.path.is_dir():
            raise CohortError(f"{self.path}: no such folder; expected one written by 'mmbench cohort make'.")
        cohort = load_cohort(self.path)
        if self.verify:
            check_fingerprint(self.path, cohort.fingerprint(checked_volumes(cohort, self.path, context)))
        return cohort


def checked_volumes(cohort: Cohort, folder: Path, context: Context) -> Iterator[np.ndarray]:
    """Yield every volume of a saved cohort, checking it on the way.

    Args:
        cohort: What was read from ``folder``.
        folder: Folder of the cohort, for messages.
        context: Shows progress.

    Raises:
        CohortError: After the last volume, where some are no images.
    """
    problems: list[str] = []
    if cohort.volumes is not None:
        channels = cohort.volumes.geometry.channels
        for index in context.steps(len(cohort), "checking volumes"):
            volume = cohort.volumes[index]
            problems += [
                f"{folder / 'volumes.npy'}, record {cohort.ids[index]}, channel '{name}': {complaint}"
                for name, voxels in zip(channels, volume, strict=True)
                if (complaint := voxel_problem(voxels))
            ]
            yield volume
    if problems:
        raise CohortError(problems)


def check_fingerprint(folder: Path, found: str) -> None:
    """Raise CohortError where a saved cohort's content has another fingerprint than was recorded, if one was."""
    recorded = read_json(folder / "cohort.json").get("fingerprint")
    if recorded is not None and recorded != found:
        raise CohortError(
            f"{folder}: the content has the fingerprint {found[:12]}, but cohort.json records "
            f"{str(recorded)[:12]}: a file was changed after the cohort was written; make it anew."
        )
