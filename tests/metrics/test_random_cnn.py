import numpy as np
import pytest

from mmbench.api import Geometry, Volumes
from mmbench.metrics.random_cnn import RandomCNN


def volumes(n=5, shape=(16, 12, 3), channels=("water", "fat"), seed=0):
    array = np.random.default_rng(seed).random((n, len(channels), *shape)).astype(np.float32)
    return Volumes(array, Geometry.regular(shape, (2, 2, 8), channels))


def test_features_are_reproducible_whatever_the_batch():
    first = RandomCNN().extract(volumes())
    assert first.shape == (5, 5, 128)
    assert first.dtype == np.float64
    np.testing.assert_array_equal(RandomCNN().extract(volumes()), first)
    np.testing.assert_allclose(RandomCNN(batch=2).extract(volumes()), first, rtol=1e-4, atol=1e-6)


def test_features_are_proportional_to_intensity():
    plain = volumes()
    brighter = Volumes(plain.stack() * 3, plain.geometry)
    np.testing.assert_allclose(
        RandomCNN().extract(brighter), 3 * RandomCNN().extract(plain), rtol=1e-4, atol=1e-6
    )


def test_digest_follows_the_weights():
    geometry = volumes().geometry
    digest = RandomCNN().digest(geometry)
    assert digest == RandomCNN(batch=1).digest(geometry)
    assert len(digest) == 64
    others = {RandomCNN(seed=1).digest(geometry), RandomCNN(networks=2).digest(geometry)}
    others.add(RandomCNN().digest(volumes(channels=("T1w",)).geometry))
    assert digest not in others
    assert len(others) == 3


@pytest.mark.parametrize("shape", [(1, 1, 1), (40, 5, 2)])
def test_thin_volumes_have_finite_features(shape):
    assert np.isfinite(RandomCNN(networks=1).extract(volumes(2, shape))).all()


def test_an_empty_set_of_volumes_has_no_features():
    assert RandomCNN(networks=1).extract(volumes(0)).shape == (0, 1, 128)
