"""A generator in one file: training subjects, each with a little noise on image and numbers."""

from dataclasses import dataclass

import numpy as np

from mmbench.api import Card, Generator, Sample, param


@dataclass
class Jitter(Generator):
    """Training subjects with noise."""

    card = Card("training subjects with a little noise")
    noise: float = param(0.05, "noise as a share of each standard deviation", minimum=0)

    def fit(self, train, context):
        self.train_ = train

    def sample(self, n, seed, given=None):
        rng = np.random.default_rng(seed)
        drawn = self.train_.take(rng.integers(0, len(self.train_), n))
        table = drawn.table.copy()
        for column in drawn.schema:
            if column.kind == "continuous":
                table[column.name] += self.noise * table[column.name].std() * rng.normal(size=n)
        volumes = (v + self.noise * v.std() * rng.normal(size=v.shape) for v in drawn.volumes)
        return Sample(table, volumes)
