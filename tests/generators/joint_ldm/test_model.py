import numpy as np
import pandas as pd
import pytest

from mmbench.api import BOTH, Cohort, PluginError, Volumes
from mmbench.generators.joint_ldm import JointLDM


def test_samples_have_both_modalities_in_the_shape_of_the_cohort(fitted, kit):
    table, volumes = kit.draw(fitted[0])
    assert volumes.shape == (6, 2, 16, 12, 8)
    assert volumes.dtype == np.float32
    assert np.isfinite(volumes).all()
    assert volumes.min() >= 0
    assert list(table.columns) == kit.SCHEMA.names
    assert JointLDM.modalities == BOTH


def test_rows_obey_the_schema(fitted, kit):
    table, _ = kit.draw(fitted[0], 200)
    pd.testing.assert_frame_equal(kit.SCHEMA.coerce(table), table)
    train = kit.bodies().rows
    for name in ("age", "height_cm", "weight_kg", "waist_cm"):
        assert table[name].min() >= train[name].min()
        assert table[name].max() <= train[name].max()
    np.testing.assert_array_equal(table["height_cm"], table["height_cm"].round(1))
    np.testing.assert_array_equal(table["bmi"], kit.SCHEMA.derive(table)["bmi"])
    complete = [column.name for column in kit.SCHEMA if not column.missing]
    assert not table[complete].isna().any().any()


def test_training_counts_its_work_in_steps_and_logs_curves(fitted, kit):
    context = fitted[1]
    assert context.labels == ["autoencoder", "denoiser"]
    assert {name for name, _, _ in context.logged} == {
        "autoencoder image loss",
        "autoencoder table loss",
        "autoencoder validation loss",
        "denoiser loss",
        "denoiser validation loss",
        "memorisation ratio",
        "memorisation close",
        "memorisation held out ratio",
        "memorisation held out close",
    }


def test_samples_follow_their_seed(fitted, kit):
    (rows, volumes), (rows_again, volumes_again), (other_rows, other) = (
        kit.draw(fitted[0], seed=seed) for seed in (5, 5, 6)
    )
    pd.testing.assert_frame_equal(rows, rows_again)
    np.testing.assert_array_equal(volumes, volumes_again)
    assert not rows.equals(other_rows)
    assert np.abs(volumes - other).max() > 0.01


def test_the_same_fit_seed_gives_the_same_model(kit, tmp_path):
    models = [JointLDM(**kit.TINY) for _ in range(2)]
    for model in models:
        model.fit(kit.bodies(), kit.Context(tmp_path))
    np.testing.assert_array_equal(kit.draw(models[0])[1], kit.draw(models[1])[1])


def test_a_loaded_model_samples_what_the_saved_one_did(fitted, kit, tmp_path):
    fitted[0].save(tmp_path)
    loaded = JointLDM()
    loaded.load(tmp_path)
    table, volumes = kit.draw(fitted[0])
    loaded_table, loaded_volumes = kit.draw(loaded)
    pd.testing.assert_frame_equal(loaded_table, table)
    np.testing.assert_array_equal(loaded_volumes, volumes)
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors", ".json"}


def test_a_folder_without_a_model_is_refused(kit, tmp_path):
    with pytest.raises(PluginError, match="no saved model"):
        JointLDM().load(tmp_path)


@pytest.mark.parametrize(("shape", "channels"), [((13, 11, 7), 1), ((9, 5, 3), 3), ((16, 12, 1), 1)])
def test_any_grid_and_channel_count_will_do(kit, shape, channels, tmp_path):
    model = JointLDM(**kit.TINY)
    model.fit(kit.bodies(shape=shape, channels=channels), kit.Context(tmp_path))
    assert kit.draw(model)[1].shape == (6, channels, *shape)


def test_a_spent_budget_ends_the_fit_without_an_error(kit, tmp_path):
    model = JointLDM(**kit.TINY)
    model.fit(kit.bodies(), kit.Context(tmp_path, budget=0))
    table, volumes = kit.draw(model)
    assert np.isfinite(volumes).all()
    pd.testing.assert_frame_equal(kit.SCHEMA.coerce(table), table)


def test_image_and_row_describe_the_same_body_and_values_are_missing_as_often(trained, kit):
    table, volumes = kit.draw(trained, 200)
    link = np.corrcoef(table["bmi"], volumes.mean(axis=(1, 2, 3, 4)))[0, 1]
    assert link > 0.6
    missing = kit.bodies(160).rows["waist_cm"].isna().mean()
    assert table["waist_cm"].isna().mean() == pytest.approx(missing, abs=0.15)


def test_a_blank_background_stays_blank(kit, tmp_path):
    cohort = kit.bodies()
    stack = cohort.images.stack()
    stack[stack < 0.1] = 0
    masked = Cohort("masked", kit.SCHEMA, cohort.ids, cohort.rows, Volumes(stack, cohort.images.geometry))
    model = JointLDM(**kit.TINY)
    model.fit(masked, kit.Context(tmp_path))
    assert (kit.draw(model)[1] == 0).mean() == pytest.approx((stack == 0).mean(), abs=0.25)


def test_neither_batch_size_nor_number_changes_a_record(fitted, kit):
    model = fitted[0]
    table, volumes = kit.draw(model, 7)
    alone, few = JointLDM(**kit.TINY | {"sampling_batch": 1}), JointLDM(**kit.TINY | {"sampling_batch": 3})
    for other in (alone, few):
        other.model_ = model.model_
        rows, images = kit.draw(other, 7)
        pd.testing.assert_frame_equal(rows, table)
        np.testing.assert_allclose(images, volumes, atol=1e-4)
    rows, images = kit.draw(model, 4)
    pd.testing.assert_frame_equal(rows, table[:4])
    np.testing.assert_allclose(images, volumes[:4], atol=1e-4)


def test_each_modality_can_be_drawn_alone(fitted, kit):
    rows = fitted[0].sample_alone(4, 1, "table")
    assert rows.volumes is None
    pd.testing.assert_frame_equal(kit.SCHEMA.coerce(rows.table), rows.table)
    images = fitted[0].sample_alone(4, 1, "volume")
    assert images.table is None
    assert np.stack(list(images.volumes)).shape == (4, 2, 16, 12, 8)


def test_tables_are_drawn_for_volumes_and_keep_what_is_known(fitted, kit):
    cohort = kit.bodies(5)
    known = cohort.rows[["sex", "waist_cm"]].reset_index(drop=True)
    table = fitted[0].sample_tables(iter(cohort.images), 3, known)
    pd.testing.assert_frame_equal(kit.SCHEMA.coerce(table), table)
    pd.testing.assert_series_equal(table["sex"], known["sex"])
    there = known["waist_cm"].notna()
    pd.testing.assert_series_equal(table["waist_cm"][there], known["waist_cm"][there])


@pytest.mark.parametrize(
    ("volumes", "rows", "message"),
    [
        (np.zeros((2, 2, 16, 12, 7)), None, "volumes of shape"),
        (np.zeros((2, 2, 16, 12, 8)), pd.DataFrame({"age": [30.0]}), "2 volumes but 1 rows"),
        (np.zeros((1, 2, 16, 12, 8)), pd.DataFrame({"agee": [30.0]}), "no column 'agee'"),
    ],
)
def test_volumes_and_rows_that_do_not_fit_are_refused(fitted, volumes, rows, message):
    with pytest.raises(PluginError, match=message):
        fitted[0].sample_tables(volumes, 0, rows)
