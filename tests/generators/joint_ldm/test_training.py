import numpy as np
import pandas as pd
import pytest
import torch

from mmbench.api import Interrupted
from mmbench.generators.joint_ldm import JointLDM
from mmbench.generators.joint_ldm.completion import partial_rows
from mmbench.generators.joint_ldm.memorisation import monitor
from mmbench.generators.joint_ldm.presets import PRESETS, Settings
from mmbench.generators.joint_ldm.training import Encoded, importance

CONFIGURATIONS = [
    {"objective": "edm", "exchange": "joint"},
    {"objective": "ddpm", "exchange": "none"},
    {"latent": "shared"},
    {"precision": "bfloat16", "guidance": 0.5},
    {"latent": "shared", "exchange": "none", "validation": 0.0},
]


@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=lambda c: "-".join(map(str, c.values())))
def test_every_configuration_fits_samples_and_is_loaded(kit, configuration, tmp_path):
    model = JointLDM(**kit.TINY | {"autoencoder_steps": 4, "steps": 4} | configuration)
    model.fit(kit.bodies(), kit.Context(tmp_path))
    table, volumes = kit.draw(model)
    pd.testing.assert_frame_equal(kit.SCHEMA.coerce(table), table)
    assert np.isfinite(volumes).all()
    given = model.sample(3, 1, {"bmi": 30.0, "sex": "F"})
    assert (given.table["bmi"] == 30).all()
    assert (given.table["sex"] == "F").all()
    assert not list(tmp_path.iterdir())
    model.save(tmp_path)
    loaded = JointLDM()
    loaded.load(tmp_path)
    assert loaded == model
    np.testing.assert_array_equal(kit.draw(loaded)[1], volumes)
    assert loaded.memorisation() == model.memorisation()


@pytest.mark.parametrize("stop", [5, 12, 20])
def test_an_interrupted_fit_goes_on_where_it_stopped(fitted, kit, stop, tmp_path):
    model = JointLDM(**kit.TINY)
    with pytest.raises(Interrupted):
        model.fit(kit.bodies(), kit.Context(tmp_path, stop_at=stop))
    again, context = JointLDM(**kit.TINY), kit.Context(tmp_path)
    again.fit(kit.bodies(), context)
    table, volumes = kit.draw(fitted[0])
    same_table, same_volumes = kit.draw(again)
    pd.testing.assert_frame_equal(same_table, table)
    # Sums over memory that lies elsewhere may differ in the last bit.
    np.testing.assert_allclose(same_volumes, volumes, atol=1e-4)
    logged, whole = ({(name, step): v for name, v, step in c.logged} for c in (context, fitted[1]))
    assert logged == pytest.approx(whole, rel=1e-3, abs=1e-3)
    assert not list(tmp_path.iterdir())


def test_a_time_budget_shortens_both_trainings(kit, tmp_path):
    model = JointLDM(**kit.TINY | {"autoencoder_steps": 10_000, "steps": 10_000})
    context = kit.Context(tmp_path, seconds=4.0)
    model.fit(kit.bodies(), context)
    last = {name: step for name, _, step in context.logged if name.endswith("validation loss")}
    assert len(last) == 2
    assert all(0 < step < 10_000 for step in last.values())
    assert np.isfinite(kit.draw(model)[1]).all()


def test_a_preset_sets_what_a_configuration_leaves_open():
    for name, preset in PRESETS.items():
        settings = Settings.of(JointLDM(preset=name, depth=2))
        assert settings.depth == 2
        assert all(getattr(settings, key) == value for key, value in preset.items() if key != "depth")


def test_without_exchange_neither_modality_follows_the_other(trained, kit, tmp_path):
    apart = JointLDM(**kit.TINY | {"exchange": "none", "autoencoder_steps": 20, "steps": 20})
    apart.fit(kit.bodies(80), kit.Context(tmp_path))
    moved = []
    for model in (trained, apart):
        ends = [model.sample(12, 3, {"bmi": value}).volumes for value in (20.0, 34.0)]
        low, high = (np.stack(list(end)) for end in ends)
        moved.append(np.abs(high - low).mean())
    assert moved[0] > 0.01
    assert moved[1] < 1e-6
    volumes = kit.bodies(12).images
    thin, wide = (apart.sample_tables(scale * volumes.stack(), 3) for scale in (0.5, 1.5))
    pd.testing.assert_frame_equal(thin, wide)


def test_copies_of_training_records_are_noticed(fitted, kit, monkeypatch):
    model, train = fitted[0].model_, kit.bodies()
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    positions = np.arange(len(train))
    encoded = Encoded.of(model, train, positions, rng)
    fair = monitor(model, encoded, positions, positions[:0], importance(model), generator)
    picked = rng.integers(len(train), size=64)
    copies = train.rows.iloc[picked].reset_index(drop=True), encoded.image[picked]
    monkeypatch.setattr(model, "draw", lambda *_, **__: copies)
    copied = monitor(model, encoded, positions, positions[:0], importance(model), generator)
    assert copied["ratio"] < fair["ratio"]
    assert copied["close"] > 0.9
    assert partial_rows({}, kit.SCHEMA, 2).isna().all(axis=None)
