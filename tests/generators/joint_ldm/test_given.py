import numpy as np
import pandas as pd
import pytest

from mmbench.api import PluginError


@pytest.mark.parametrize(
    "given",
    [
        {"sex": "F"},
        {"age": 50.0},
        {"height_cm": 171.3},
        {"activity": "moderate"},
        {"diabetes": True},
        {"bmi": 32.0},
        {"waist_cm": 90.0},
        {"sex": "M", "bmi": 24.55, "age": 33, "activity": "low"},
        {"bmi": 45.0, "height_cm": 160.0},
    ],
)
def test_every_row_has_the_given_values(fitted, kit, given):
    sample = fitted[0].sample(8, 2, given)
    for name, value in given.items():
        assert (sample.table[name] == value).all()
    pd.testing.assert_frame_equal(kit.SCHEMA.coerce(sample.table), sample.table)
    derived = kit.SCHEMA.derive(sample.table)["bmi"]
    np.testing.assert_allclose(sample.table["bmi"], derived, atol=0.0051)
    assert len(list(sample.volumes)) == 8


def test_what_is_not_given_still_varies(fitted):
    rows = fitted[0].sample(20, 2, {"bmi": 30.0}).table
    assert len(rows[["sex", "age", "height_cm", "waist_cm"]].drop_duplicates()) > 10


def test_a_value_that_cannot_be_is_refused(fitted):
    with pytest.raises(PluginError, match="not among the levels"):
        fitted[0].sample(2, 0, {"sex": "unknown"})


def test_volumes_follow_rows_and_rows_follow_volumes(trained, kit):
    model = trained
    others = kit.bodies(200)
    rows = others.rows[["bmi", "sex"]].iloc[160:].reset_index(drop=True)
    rows.loc[::5, "sex"] = None
    drawn = model.sample_images(rows, 4)
    size = np.stack(list(drawn.volumes)).mean(axis=(1, 2, 3, 4))
    assert np.corrcoef(rows["bmi"], size)[0, 1] > 0.6
    assert drawn.table["sex"].notna().all()
    # One body at three sizes: the image of a given row follows the value, not the luck of the draw.
    means = [
        np.mean([volume.mean() for volume in model.sample(12, 7, {"bmi": value}).volumes])
        for value in (20.0, 26.0, 33.0)
    ]
    assert means == sorted(means)
    table = model.sample_tables(others.images.take(np.arange(160, 200)), 5)
    assert np.corrcoef(table["bmi"], others.rows["bmi"].iloc[160:])[0, 1] > 0.6
