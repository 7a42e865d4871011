from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mmbench.api import BOTH, Cohort, CohortError, Column, Geometry, PluginError, Schema, Volumes
from mmbench.generators.joint_ldm import JointLDM
from mmbench.generators.joint_ldm.codec import TableCodec

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


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[JointLDM, FakeContext]:
    context = FakeContext(tmp_path_factory.mktemp("fit"))
    model = JointLDM(**TINY)
    model.fit(bodies(), context)
    return model, context


def test_samples_have_both_modalities_in_the_shape_of_the_cohort(
    fitted: tuple[JointLDM, FakeContext],
) -> None:
    table, volumes = draw(fitted[0])
    assert volumes.shape == (6, 2, 16, 12, 8)
    assert volumes.dtype == np.float32
    assert np.isfinite(volumes).all()
    assert volumes.min() >= 0
    assert list(table.columns) == SCHEMA.names
    assert JointLDM.modalities == BOTH


def test_rows_obey_the_schema(fitted: tuple[JointLDM, FakeContext]) -> None:
    table, _ = draw(fitted[0], 200)
    pd.testing.assert_frame_equal(SCHEMA.coerce(table), table)
    train = bodies().rows
    for name in ("age", "height_cm", "weight_kg", "waist_cm"):
        assert table[name].min() >= train[name].min()
        assert table[name].max() <= train[name].max()
    np.testing.assert_array_equal(table["height_cm"], table["height_cm"].round(1))
    np.testing.assert_array_equal(table["bmi"], SCHEMA.derive(table)["bmi"])
    complete = [column.name for column in SCHEMA if not column.missing]
    assert not table[complete].isna().any().any()


def test_training_counts_its_work_in_steps_and_logs_curves(fitted: tuple[JointLDM, FakeContext]) -> None:
    context = fitted[1]
    assert context.labels == ["autoencoder", "denoiser"]
    assert {name for name, _, _ in context.logged} == {
        "autoencoder image loss",
        "autoencoder table loss",
        "denoiser loss",
    }


def test_samples_follow_their_seed(fitted: tuple[JointLDM, FakeContext]) -> None:
    (rows, volumes), (rows_again, volumes_again), (other_rows, other) = (
        draw(fitted[0], seed=seed) for seed in (5, 5, 6)
    )
    pd.testing.assert_frame_equal(rows, rows_again)
    np.testing.assert_array_equal(volumes, volumes_again)
    assert not rows.equals(other_rows)
    assert np.abs(volumes - other).max() > 0.01


def test_the_same_fit_seed_gives_the_same_model(tmp_path: Path) -> None:
    models = [JointLDM(**TINY) for _ in range(2)]
    for model in models:
        model.fit(bodies(), FakeContext(tmp_path))
    np.testing.assert_array_equal(draw(models[0])[1], draw(models[1])[1])


def test_a_loaded_model_samples_what_the_saved_one_did(
    fitted: tuple[JointLDM, FakeContext], tmp_path: Path
) -> None:
    fitted[0].save(tmp_path)
    loaded = JointLDM()
    loaded.load(tmp_path)
    table, volumes = draw(fitted[0])
    loaded_table, loaded_volumes = draw(loaded)
    pd.testing.assert_frame_equal(loaded_table, table)
    np.testing.assert_array_equal(loaded_volumes, volumes)
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors", ".json"}


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="no saved model"):
        JointLDM().load(tmp_path)


@pytest.mark.parametrize(("shape", "channels"), [((13, 11, 7), 1), ((9, 5, 3), 3), ((16, 12, 1), 1)])
def test_any_grid_and_channel_count_will_do(
    shape: tuple[int, int, int], channels: int, tmp_path: Path
) -> None:
    model = JointLDM(**TINY)
    model.fit(bodies(shape=shape, channels=channels), FakeContext(tmp_path))
    assert draw(model)[1].shape == (6, channels, *shape)


def test_a_spent_budget_ends_the_fit_without_an_error(tmp_path: Path) -> None:
    model = JointLDM(**TINY)
    model.fit(bodies(), FakeContext(tmp_path, budget=0))
    table, volumes = draw(model)
    assert np.isfinite(volumes).all()
    pd.testing.assert_frame_equal(SCHEMA.coerce(table), table)


def test_image_and_row_describe_the_same_body_and_values_are_missing_as_often(tmp_path: Path) -> None:
    cohort = bodies(160)
    model = JointLDM(**TINY | {"autoencoder_steps": 120, "steps": 60, "sampling_steps": 10})
    model.fit(cohort, FakeContext(tmp_path))
    table, volumes = draw(model, 200)
    link = np.corrcoef(table["bmi"], volumes.mean(axis=(1, 2, 3, 4)))[0, 1]
    assert link > 0.6
    missing = cohort.rows["waist_cm"].isna().mean()
    assert table["waist_cm"].isna().mean() == pytest.approx(missing, abs=0.15)


def test_a_blank_background_stays_blank(tmp_path: Path) -> None:
    cohort = bodies()
    stack = cohort.images.stack()
    stack[stack < 0.1] = 0
    masked = Cohort("masked", SCHEMA, cohort.ids, cohort.rows, Volumes(stack, cohort.images.geometry))
    model = JointLDM(**TINY)
    model.fit(masked, FakeContext(tmp_path))
    assert (draw(model)[1] == 0).mean() == pytest.approx((stack == 0).mean(), abs=0.25)


def test_the_codec_returns_every_training_value_exactly() -> None:
    table = people(80)
    codec = TableCodec.fit(table, SCHEMA)
    encoded = codec.encode(table, np.random.default_rng(0))
    # As certain decoder outputs: one-hot vectors and missingness bits become large logits.
    decoded = []
    for entry, array in zip(codec.fields, encoded, strict=True):
        output = array.copy()
        output[:, -1] = 100 * (2 * array[:, -1] - 1)
        if not entry.ordered:
            output[:, :-1] *= 100
        decoded.append(output)
    result = codec.decode(decoded, np.random.default_rng(1))
    pd.testing.assert_frame_equal(result, table, check_exact=False, rtol=0, atol=1e-9)


def test_normal_scores_are_normal_even_where_values_are_heaped() -> None:
    schema = Schema((Column("units", "integer"),))
    heaped = pd.DataFrame({"units": np.r_[np.zeros(600), np.arange(1, 401)]})
    codec = TableCodec.fit(heaped, schema)
    scores = codec.encode(heaped, np.random.default_rng(0))[0][:, 0]
    assert scores.mean() == pytest.approx(0, abs=0.1)
    assert scores.std() == pytest.approx(1, abs=0.1)
    assert len(np.unique(scores)) == len(scores)


def test_the_codec_survives_json() -> None:
    table = people(40)
    codec = TableCodec.fit(table, SCHEMA)
    again = TableCodec.from_dict(json.loads(json.dumps(codec.to_dict())))
    outputs = [np.random.default_rng(0).standard_normal((10, f.width + 1)) for f in codec.fields]
    pd.testing.assert_frame_equal(
        again.decode(outputs, np.random.default_rng(2)), codec.decode(outputs, np.random.default_rng(2))
    )


def test_a_column_without_any_value_is_refused() -> None:
    schema = Schema((Column("age", "integer", missing=True), Column("bmi", "continuous")))
    table = pd.DataFrame({"age": [np.nan, np.nan], "bmi": [20.0, 30.0]})
    with pytest.raises(CohortError, match="column 'age': every training value is missing"):
        TableCodec.fit(table, schema)
