from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from mmbench.api import Cohort, Column, Geometry, Interrupted, Schema, Volumes
from mmbench.generators.joint_ldm import JointLDM

TINY = {
    "autoencoder_steps": 12,
    "steps": 12,
    "batch_size": 4,
    "latent_batch_size": 8,
    "stem": 8,
    "features": 16,
    "image_latent": 4,
    "cells": 64,
    "width": 16,
    "depth": 1,
    "rank": 8,
    "sampling_steps": 4,
    "validation": 0.2,
}
SCHEMA = Schema(
    (
        Column("sex", "categorical", levels=("F", "M")),
        Column("age", "integer", unit="y", minimum=20, maximum=74),
        Column("height_cm", "continuous", decimals=1, minimum=140, maximum=210),
        Column("weight_kg", "continuous", decimals=1, minimum=40, maximum=200),
        Column("bmi", "continuous", decimals=2, formula="weight_kg / (height_cm / 100) ** 2"),
        Column("activity", "ordinal", levels=("low", "moderate", "high"), missing=True),
        Column("waist_cm", "continuous", decimals=1, missing=True),
        Column("diabetes", "boolean"),
    )
)


@dataclass
class FakeContext:
    folder: Path
    seed: int = 0
    device: str = "cpu"
    budget: int = 10**9
    stop_at: int = 10**9
    seconds: float | None = None
    labels: list[str] = field(default_factory=list)
    logged: list[tuple[str, float, int]] = field(default_factory=list)

    def steps(self, total: int, label: str) -> Iterator[int]:
        self.labels.append(label)
        for step in range(min(total, self.budget)):
            self.stop_at -= 1
            if self.stop_at < 0:
                raise Interrupted("stopped")
            yield step

    def remaining(self) -> float | None:
        return self.seconds

    def log(self, name: str, value: float, step: int) -> None:
        self.logged.append((name, value, step))


def people(n: int, schema: Schema = SCHEMA) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    height = np.round(rng.normal(170, 8, n), 1)
    weight = np.round(26 * np.exp(0.15 * rng.standard_normal(n)) * (height / 100) ** 2, 1)
    frame = pd.DataFrame(
        {
            "sex": rng.choice(["F", "M"], n),
            "age": rng.integers(20, 75, n),
            "height_cm": height,
            "weight_kg": weight,
            "bmi": 0.0,
            "activity": rng.choice(["low", "moderate", "high"], n),
            "waist_cm": np.round(weight + rng.normal(10, 3, n), 1),
            "diabetes": rng.random(n) < 0.2,
        }
    )
    frame.loc[rng.random(n) < 0.3, "waist_cm"] = np.nan
    frame.loc[rng.random(n) < 0.2, "activity"] = None
    return schema.coerce(schema.derive(frame))


def bodies(n: int = 24, shape: tuple[int, int, int] = (16, 12, 8), channels: int = 2) -> Cohort:
    """Balls as wide as the body mass index says, with magnitude noise."""
    rng = np.random.default_rng(2)
    table = people(n)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij"))
    distance = np.sqrt((grid**2).sum(axis=0))
    radius = 0.6 * np.sqrt(table["bmi"].to_numpy() / 26)
    volumes = np.stack(
        [np.stack([0.8 / (c + 1) * (distance < edge) for c in range(channels)]) for edge in radius]
    )
    volumes = np.abs(volumes + 0.02 * rng.standard_normal(volumes.shape)).astype(np.float32)
    geometry = Geometry.regular(shape, (5, 5, 10), [f"c{i}" for i in range(channels)])
    return Cohort("bodies", SCHEMA, np.array([f"s{i}" for i in range(n)]), table, Volumes(volumes, geometry))


def draw(model: JointLDM, n: int = 6, seed: int = 5) -> tuple[pd.DataFrame, np.ndarray]:
    sample = model.sample(n, seed)
    assert sample.table is not None
    assert sample.volumes is not None
    return sample.table, np.stack(list(sample.volumes))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def kit() -> SimpleNamespace:
    """Small cohorts, a context that can stop, and parameters that make a fit quick."""
    return SimpleNamespace(
        TINY=TINY, SCHEMA=SCHEMA, Context=FakeContext, people=people, bodies=bodies, draw=draw
    )


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[JointLDM, FakeContext]:
    context = FakeContext(tmp_path_factory.mktemp("fit"))
    model = JointLDM(**TINY)
    model.fit(bodies(), context)
    return model, context


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> JointLDM:
    """A model that has learned enough to follow what it is given."""
    model = JointLDM(**TINY | {"autoencoder_steps": 120, "steps": 60, "sampling_steps": 8})
    model.fit(bodies(160), FakeContext(tmp_path_factory.mktemp("long")))
    return model
