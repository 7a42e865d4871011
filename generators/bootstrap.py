"""Resampled training subjects: perfect margins and pairs, and memorisation by construction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmbench.api import Card, Cohort, Context, Generator, Sample


@dataclass
class Bootstrap(Generator):
    """Draws training subjects with replacement, each with its own volume.

    A control: fidelity and coherence are as good as a memoriser's, so that privacy metrics must catch it.
    """

    card = Card("training subjects drawn with replacement (control: memorises)", "Efron 1979")
    needs = frozenset()
    copies_training_data = True

    def fit(self, train: Cohort, context: Context) -> None:
        self.train_ = train

    def sample(self, n: int, seed: int, given: Mapping[str, Any] | None = None) -> Sample:
        drawn = self.train_.take(np.random.default_rng(seed).integers(0, len(self.train_), n))
        return Sample(drawn.table, drawn.volumes)
