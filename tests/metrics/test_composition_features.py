import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mmbench.api import Geometry, Volumes
from mmbench.context import WorkContext
from mmbench.metrics.composition_features import BINS, QUANTILES, STATISTICS, UNMEASURED, CompositionFeatures


def bodies(n=30, seed=0, gain=1.0):
    """Return bright boxes on a dark ground, brighter from one to the next."""
    rng = np.random.default_rng(seed)
    array = rng.gamma(2, 0.02, (n, 2, 12, 10, 6))
    array[:, :, 3:9, 2:8, 1:5] += gain * (1 + 0.2 * rng.random((n, 2, 1, 1, 1)))
    return Volumes(array.astype(np.float32), Geometry.regular((12, 10, 6), (4, 4, 8), ("water", "fat")))


def quantities(n=30, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"fat_l": rng.normal(20, 4, n), "lean_l": rng.normal(40, 5, n)})


@pytest.fixture
def fitted():
    extractor = CompositionFeatures()
    extractor.fit(bodies(), quantities(), WorkContext())
    return extractor


def test_features_are_quantities_and_the_statistics_of_the_foreground(fitted):
    volumes, measured = bodies(4, 1), quantities(4, 1)
    found = fitted.extract(volumes, measured)
    assert found.shape == (4, 1, 2 + 2 * len(STATISTICS) + 1)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found[:, 0, :2], measured)
    inside = volumes[2][1, 3:9, 2:8, 1:5].astype(float).ravel()
    named = dict(zip(STATISTICS, found[2, 0, 2 + len(STATISTICS) : -1], strict=True))
    expected = {
        "mean": inside.mean(),
        "sd": inside.std(),
        "skewness": stats.skew(inside),
        "kurtosis": stats.kurtosis(inside),
        **{f"q{q:g}": np.quantile(inside, q) for q in QUANTILES},
    }
    assert {name: named[name] for name in expected} == pytest.approx(expected)
    assert 0 < named["entropy"] < np.log2(BINS)
    assert 0 < named["background"] < 0.1
    assert found[2, 0, -1] == pytest.approx(6 * 6 * 4 / (12 * 10 * 6))


def test_what_cannot_be_measured_stands_where_no_body_is(fitted):
    measured = quantities(4, 1)
    measured.iloc[1] = np.nan
    found = fitted.extract(bodies(4, 1), measured)
    assert np.isfinite(found).all()
    train = quantities()
    np.testing.assert_allclose(found[1, 0, :2], train.median() - UNMEASURED * train.std())


def test_a_quantity_that_no_training_volume_shows_is_left_out():
    train = quantities().assign(liver=np.nan)
    extractor = CompositionFeatures()
    extractor.fit(bodies(), train, WorkContext())
    assert (
        extractor.extract(bodies(4), quantities(4).assign(liver=1.0)).shape[2] == 2 + 2 * len(STATISTICS) + 1
    )


def test_without_a_measurer_the_statistics_stand_alone():
    extractor = CompositionFeatures()
    extractor.fit(bodies(), None, WorkContext())
    assert extractor.extract(bodies(4)).shape == (4, 1, 2 * len(STATISTICS) + 1)


def test_a_blank_volume_has_finite_features_and_a_broken_one_none(fitted):
    volumes = bodies(2)
    volumes.store[0], volumes.store[1, 0, 0, 0, 0] = 0, np.nan
    found = fitted.extract(volumes, quantities(2))
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1, 0, 2:]).all()


def test_what_was_learned_is_saved_and_digested(fitted, tmp_path):
    fitted.save(tmp_path)
    again = CompositionFeatures()
    again.load(tmp_path)
    volumes, measured = bodies(3, 5), quantities(3, 5)
    np.testing.assert_array_equal(again.extract(volumes, measured), fitted.extract(volumes, measured))
    assert again.digest(volumes.geometry) == fitted.digest(volumes.geometry)
    other = CompositionFeatures()
    other.fit(bodies(gain=2.0), quantities(), WorkContext())
    assert other.digest(volumes.geometry) != fitted.digest(volumes.geometry)
