"""Generators that `mmbench sample` writes part of, or nothing of; tests give this file as --plugin."""

from dataclasses import dataclass

import numpy as np

from mmbench.api import TABLE, VOLUME, Card, Generator, Sample


@dataclass
class OnlyRows(Generator):
    """Training rows."""

    card = Card("rows")
    modalities = TABLE

    def fit(self, train, context):
        self.train_ = train

    def sample(self, n, seed, given=None):
        return Sample(self.train_.rows.iloc[np.random.default_rng(seed).integers(0, len(self.train_), n)])


@dataclass
class OnlyVolumes(OnlyRows):
    """Training volumes with noise, one after the other."""

    modalities = VOLUME

    def sample(self, n, seed, given=None):
        rng = np.random.default_rng(seed)
        rows = rng.integers(0, len(self.train_), n)
        return Sample(volumes=(self.train_.images[row] + rng.random() for row in rows))


@dataclass
class Lost(OnlyRows):
    """Samples in its run, and never again."""

    def sample(self, n, seed, given=None):
        if n < 8:
            raise RuntimeError("no such number")
        return super().sample(n, seed, given)
