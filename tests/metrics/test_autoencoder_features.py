import numpy as np
import pytest
from scipy import ndimage

from mmbench.api import Geometry, Volumes
from mmbench.context import WorkContext
from mmbench.metrics.autoencoder_features import AutoencoderFeatures

SHAPE = (16, 12, 4)


def bodies(n=24, seed=0, blur=0.0, noise=0.02):
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, size) for size in SHAPE), indexing="ij")
    radius = rng.uniform(0.5, 0.9, (n, 1, 1, 1))
    inside = sum(axis**2 for axis in axes)[None] < radius**2
    array = np.stack([inside * 1.0, inside * 0.5], axis=1)
    array = ndimage.gaussian_filter(array, (0, 0, blur, blur, 0)) + noise * rng.standard_normal(
        (n, 2, *SHAPE)
    )
    return Volumes(array.astype(np.float32), Geometry.regular(SHAPE, (5, 5, 20), ("water", "fat")))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    extractor = AutoencoderFeatures(steps=40, code=8)
    extractor.fit(bodies(), None, WorkContext(seed=3, folder=tmp_path_factory.mktemp("fit")))
    return extractor


def test_features_do_not_depend_on_the_batch(fitted):
    found = fitted.extract(bodies(5, 1))
    assert found.shape == (5, 1, 2 + 2 * (16 + 32 + 8))
    assert found.dtype == np.float64
    fitted.batch = 2
    np.testing.assert_allclose(fitted.extract(bodies(5, 1)), found, rtol=1e-4, atol=1e-6)
    assert fitted.extract(bodies(0)).shape == (0, 1, 114)


def test_the_fit_follows_its_seed_and_leaves_the_global_generator_alone(fitted):
    import torch

    def digest(seed):
        other = AutoencoderFeatures(steps=2, code=8)
        other.fit(bodies(), None, WorkContext(seed=seed))
        return other.digest(bodies(1).geometry)

    before = torch.get_rng_state()
    assert digest(1) == digest(1)
    assert digest(1) != digest(2)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_was_learned_is_saved(fitted, tmp_path):
    fitted.save(tmp_path)
    again = AutoencoderFeatures(code=8)
    again.load(tmp_path)
    np.testing.assert_allclose(again.extract(bodies(3)), fitted.extract(bodies(3)), rtol=1e-4, atol=1e-6)
    assert again.digest(bodies(1).geometry) == fitted.digest(bodies(1).geometry)
    assert not list(tmp_path.glob("*.pkl"))


@pytest.mark.parametrize(("defect", "sign"), [({"noise": 0.2}, 1), ({"blur": 1.5}, -1)])
def test_noise_raises_and_blur_lowers_what_is_not_reproduced(fitted, defect, sign):
    residual = fitted.extract(bodies(12, 1))[:, 0, :2].mean()
    assert sign * (fitted.extract(bodies(12, 1, **defect))[:, 0, :2].mean() - residual) > 0.1


def test_larger_volumes_are_cropped_for_the_fit_only():
    extractor = AutoencoderFeatures(steps=2, crop=8, code=4)
    extractor.fit(bodies(6), None, WorkContext())
    assert np.isfinite(extractor.extract(bodies(2))).all()


def test_an_empty_channel_does_no_harm():
    volumes = bodies(6)
    volumes.store[:, 1] = 0
    extractor = AutoencoderFeatures(steps=2, code=4)
    extractor.fit(volumes, None, WorkContext())
    assert np.isfinite(extractor.extract(volumes)).all()
