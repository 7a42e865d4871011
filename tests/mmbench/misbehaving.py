"""Generators that go wrong in one way each; tests give this file as --plugin."""

import os
import signal
import time
from dataclasses import dataclass

import numpy as np

from mmbench.api import BOTH, TABLE, Card, Generator, Sample, param


@dataclass
class Well(Generator):
    """Behaves: noise around the training volumes, training rows."""

    card = Card("behaves")
    modalities = BOTH

    def fit(self, train, context):
        self.train_ = train
        self.offset_ = float(np.random.default_rng(context.seed).normal())

    def sample(self, n, seed, given=None):
        rng = np.random.default_rng(seed)
        drawn = self.train_.take(rng.integers(0, len(self.train_), n))
        return Sample(drawn.table, (volume + abs(self.offset_) for volume in drawn.volumes))


@dataclass
class Slow(Well):
    """Takes its time over every step."""

    seconds: float = param(0.1, "per step")
    steps: int = param(30, "number of steps")

    def fit(self, train, context):
        for step in context.steps(self.steps, "sleeping"):
            time.sleep(self.seconds)
            context.log("loss", 1 / (step + 1), step)
        super().fit(train, context)


@dataclass
class Raises(Well):
    def fit(self, train, context):
        raise RuntimeError("the loss is not a number")


@dataclass
class Crashes(Well):
    def fit(self, train, context):
        os.kill(os.getpid(), signal.SIGSEGV)


@dataclass
class Hungry(Well):
    def fit(self, train, context):
        self._hoard = []
        while True:
            self._hoard.append(np.ones((64, 1024, 1024)))
            time.sleep(0.05)


@dataclass
class Hangs(Well):
    def fit(self, train, context):
        time.sleep(3600)


@dataclass
class WrongLevel(Well):
    modalities = TABLE

    def sample(self, n, seed, given=None):
        table = self.train_.table.iloc[:n].astype(object)
        table.loc[table.index[0], "sex"] = "X"
        return Sample(table)


@dataclass
class TooFew(Well):
    def sample(self, n, seed, given=None):
        drawn = self.train_.take(np.arange(n))
        return Sample(drawn.table, (drawn.images[i] for i in range(n - 1)))


@dataclass
class Blank(Well):
    def sample(self, n, seed, given=None):
        drawn = self.train_.take(np.arange(n))
        return Sample(drawn.table, (volume * np.nan for volume in drawn.volumes))
