"""A cohort together with what measurers and extractors read off its volumes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mmbench.cohort import Cohort


@dataclass(frozen=True)
class Evidence:
    """A cohort with what was measured on its volumes.

    Attributes:
        cohort: Records.
        composition: Measured quantities, a row a record, NaN where not measurable; ``None`` without volumes
            or without a measurer.
        features: Extractor's features, float64 of shape (n, blocks, d); ``None`` without volumes.
        unmeasurable: Why nothing could be measured on a record's volume, empty where it could, in the order of
            ``composition``; ``None`` without one.
    """

    cohort: Cohort
    composition: pd.DataFrame | None = None
    features: np.ndarray | None = None
    unmeasurable: pd.Series | None = None

    def __len__(self) -> int:
        return len(self.cohort)

    def take(self, indices: np.ndarray) -> Evidence:
        """Return the records at ``indices``."""
        return Evidence(
            self.cohort.take(indices),
            None if self.composition is None else self.composition.iloc[indices],
            None if self.features is None else self.features[indices],
            None if self.unmeasurable is None else self.unmeasurable.iloc[indices],
        )


def save_measured(evidence: Evidence, folder: Path) -> None:
    """Write what was measured into ``folder``; the cohort is kept elsewhere."""
    for name, save in (("composition", save_composition), ("features", save_features)):
        (folder / name).mkdir()
        save(evidence, folder / name)


def save_composition(evidence: Evidence, folder: Path) -> None:
    """Write the measured quantities into ``folder``."""
    if evidence.composition is not None:
        evidence.composition.to_parquet(folder / "composition.parquet")
    if evidence.unmeasurable is not None:
        evidence.unmeasurable.to_frame("reason").to_parquet(folder / "unmeasurable.parquet")


def save_features(evidence: Evidence, folder: Path) -> None:
    """Write the features into ``folder``."""
    if evidence.features is not None:
        np.save(folder / "features.npy", evidence.features, allow_pickle=False)


def load_measured(cohort: Cohort, folder: Path) -> Evidence:
    """Read what :func:`save_measured` wrote for ``cohort``."""
    composition = folder / "composition" / "composition.parquet"
    unmeasurable = folder / "composition" / "unmeasurable.parquet"
    features = folder / "features" / "features.npy"
    return Evidence(
        cohort,
        pd.read_parquet(composition) if composition.exists() else None,
        np.load(features, allow_pickle=False) if features.exists() else None,
        pd.read_parquet(unmeasurable)["reason"] if unmeasurable.exists() else None,
    )
