from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mmbench.api import VOLUME, Cohort, Geometry, PluginError, Schema, Volumes
from mmbench.generators.mri_ldm import MriLDM

TINY = {
    "autoencoder_steps": 6,
    "steps": 6,
    "batch_size": 4,
    "latent_batch_size": 4,
    "width": 8,
    "latent": 4,
    "components": 8,
    "cells": 64,
    "unet_width": 8,
    "sampling_steps": 4,
}


@dataclass
class FakeContext:
    folder: Path
    seed: int = 0
    device: str = "cpu"
    budget: int = 10**9
    labels: list[str] = field(default_factory=list)
    logged: list[tuple[str, float, int]] = field(default_factory=list)

    def steps(self, total: int, label: str) -> Iterator[int]:
        self.labels.append(label)
        yield from range(min(total, self.budget))

    def log(self, name: str, value: float, step: int) -> None:
        self.logged.append((name, value, step))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def balls(
    shape: tuple[int, int, int] = (16, 12, 8), channels: int = 2, n: int = 24, offset: float = 0.0
) -> Cohort:
    """Balls of different radius, with magnitude noise."""
    rng = np.random.default_rng(3)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij"))
    distance = np.sqrt((grid**2).sum(axis=0))
    volumes = np.stack(
        [
            np.stack([0.8 * (distance < radius) / (channel + 1) for channel in range(channels)])
            for radius in rng.uniform(0.4, 0.9, n)
        ]
    )
    volumes = np.abs(volumes + 0.02 * rng.standard_normal(volumes.shape)) + offset
    geometry = Geometry.regular(shape, (5, 5, 10), [f"c{i}" for i in range(channels)])
    ids = np.array([f"s{i}" for i in range(n)])
    return Cohort("balls", Schema(()), ids, None, Volumes(volumes.astype(np.float32), geometry))


def draw(model: MriLDM, n: int = 3, seed: int = 5) -> np.ndarray:
    sample = model.sample(n, seed)
    assert sample.table is None
    assert sample.volumes is not None
    return np.stack(list(sample.volumes))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[MriLDM, FakeContext]:
    context = FakeContext(tmp_path_factory.mktemp("fit"))
    model = MriLDM(**TINY)
    model.fit(balls(), context)
    return model, context


def test_volumes_have_the_shape_and_sign_of_the_training_volumes(fitted: tuple[MriLDM, FakeContext]) -> None:
    volumes = draw(fitted[0])
    assert volumes.shape == (3, 2, 16, 12, 8)
    assert volumes.dtype == np.float32
    assert np.isfinite(volumes).all()
    assert volumes.min() >= 0
    assert MriLDM.modalities == VOLUME


def test_training_counts_its_work_in_steps_and_logs_curves(fitted: tuple[MriLDM, FakeContext]) -> None:
    context = fitted[1]
    assert context.labels == ["autoencoder", "denoiser"]
    assert {name for name, _, _ in context.logged} == {"autoencoder loss", "denoiser loss"}


def test_samples_follow_their_seed(fitted: tuple[MriLDM, FakeContext]) -> None:
    first, again, other = (draw(fitted[0], seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


def test_the_same_fit_seed_gives_the_same_model(tmp_path: Path) -> None:
    models = [MriLDM(**TINY) for _ in range(2)]
    for model in models:
        model.fit(balls(), FakeContext(tmp_path))
    np.testing.assert_array_equal(draw(models[0]), draw(models[1]))


def test_a_loaded_model_samples_what_the_saved_one_did(
    fitted: tuple[MriLDM, FakeContext], tmp_path: Path
) -> None:
    fitted[0].save(tmp_path)
    loaded = MriLDM()
    loaded.load(tmp_path)
    np.testing.assert_array_equal(draw(loaded), draw(fitted[0]))
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors", ".json"}


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="no saved model"):
        MriLDM().load(tmp_path)


@pytest.mark.parametrize(("shape", "channels"), [((13, 11, 7), 1), ((9, 5, 3), 3), ((16, 12, 1), 1)])
def test_any_grid_and_channel_count_will_do(
    shape: tuple[int, int, int], channels: int, tmp_path: Path
) -> None:
    model = MriLDM(**TINY)
    model.fit(balls(shape, channels), FakeContext(tmp_path))
    assert draw(model).shape == (3, channels, *shape)


def test_a_spent_budget_ends_the_fit_without_an_error(tmp_path: Path) -> None:
    model = MriLDM(**TINY)
    model.fit(balls(), FakeContext(tmp_path, budget=0))
    assert np.isfinite(draw(model)).all()


def test_intensities_of_any_scale_come_back_at_that_scale(tmp_path: Path) -> None:
    cohort = balls(offset=-0.5)
    assert cohort.volumes is not None
    stack = 1000 * cohort.volumes.stack()
    scaled = Cohort(
        "scaled",
        cohort.schema,
        cohort.ids,
        pd.DataFrame(index=range(24)),
        Volumes(stack, cohort.volumes.geometry),
    )
    model = MriLDM(**TINY)
    model.fit(scaled, FakeContext(tmp_path))
    volumes = draw(model)
    assert volumes.min() < 0
    assert volumes.mean() == pytest.approx(stack.mean(), abs=0.3 * float(stack.std()))
