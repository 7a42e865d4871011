"""Generators that take conditions, and a measurer; tests give this file as --plugin."""

from dataclasses import dataclass

import numpy as np

from mmbench.api import Card, Generator, Measurer, Quantity, Sample, param


@dataclass
class Nearby(Generator):
    """Draws real people; given a value, those nearest to it, who then have it."""

    near: int = param(15, "people that it draws from")

    card = Card("draws people near the given value")
    conditional = True
    copies_training_data = True

    def fit(self, train, context):
        self.train_ = train

    def sample(self, n, seed, given=None):
        rng = np.random.default_rng(seed)
        pool = np.arange(len(self.train_))
        for name, value in (given or {}).items():
            pool = pool[self.nearest(self.train_.rows[name].iloc[pool], value)]
        drawn = self.train_.take(rng.choice(pool, n))
        return Sample(self.obeying(drawn.rows, given or {}), self.volumes(drawn, rng))

    def nearest(self, values, value):
        if isinstance(value, float):
            return np.argsort(np.abs(values.to_numpy(float) - value), kind="stable")[: self.near]
        return np.flatnonzero(values == value)

    def obeying(self, rows, given):
        return rows.astype(object).assign(**given)

    def volumes(self, drawn, rng):
        return drawn.volumes


@dataclass
class Deaf(Nearby):
    """Its rows obey, its volumes are anybody's."""

    def volumes(self, drawn, rng):
        return self.train_.images.take(rng.integers(0, len(self.train_), len(drawn)))


@dataclass
class Wilful(Nearby):
    """Returns rows that were not asked for."""

    def obeying(self, rows, given):
        return rows


@dataclass
class Forgetful(Nearby):
    """Draws other records from the same seed, but only where it is given something."""

    def sample(self, n, seed, given=None):
        self._calls = getattr(self, "_calls", 0) + bool(given)
        return super().sample(n, seed + self._calls, given)


@dataclass
class Ball(Measurer):
    """Measures the ball of a toy cohort."""

    card = Card("size of the ball")
    channels = ("c0",)
    quantities = (Quantity("size", "voxels", "Voxels within the ball."),)

    def measure(self, volume, geometry):
        return {"size": float(volume.sum())}
