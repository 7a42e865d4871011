"""Resampled training subjects with broken pairs: perfect margins, no link between image and row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmbench.api import Card, Cohort, Context, Generator, Sample


@dataclass
class Permuted(Generator):
    """Draws training rows and, independently, training volumes.

    A control: every metric of one modality finds it perfect, a coherence metric must not.
    """

    card = Card("training rows with the volumes of others (control: no link)")
    needs = frozenset()
    copies_training_data = True

    def fit(self, train: Cohort, context: Context) -> None:
        self.train_ = train

    def sample(self, n: int, seed: int, given: Mapping[str, Any] | None = None) -> Sample:
        rng = np.random.default_rng(seed)
        rows, images = rng.integers(0, len(self.train_), (2, n))
        table, volumes = self.train_.table, self.train_.volumes
        return Sample(
            None if table is None else table.iloc[rows], None if volumes is None else volumes.take(images)
        )
