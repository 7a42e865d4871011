import hashlib
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mmbench.api import Geometry, PluginError, Volumes
from mmbench.metrics.medicalnet import MedicalNet, med3d

CONVERTER = Path(__file__).parents[2] / "examples" / "medicalnet_weights.py"


def volumes(n=3, shape=(16, 24, 8), channels=("water", "fat")):
    array = np.random.default_rng(0).random((n, len(channels), *shape)).astype(np.float32)
    array[:, :, 4:12, 6:18, 2:6] += 2
    return Volumes(array, Geometry.regular(shape, (2, 2, 4), channels))


def published(network, prefix="module."):
    """Return parameters as MedicalNet publishes them: from data-parallel training, with a segmentation head."""
    tensors = {prefix + name: value.clone() for name, value in network.state_dict().items()}
    return tensors | {f"{prefix}conv_seg.0.weight": torch.zeros(2, 2)}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet10.safetensors"
    save_file(published(med3d(10)), path)
    return path


def test_each_channel_is_a_block_of_pooled_maps(weights):
    extractor = MedicalNet(str(weights))
    extractor.check(volumes().geometry)
    found = extractor.extract(volumes())
    assert found.shape == (3, 2, 512)
    assert found.dtype == np.float64
    np.testing.assert_allclose(
        MedicalNet(str(weights), batch=1).extract(volumes()), found, rtol=1e-4, atol=1e-5
    )
    swapped = Volumes(volumes().stack()[:, ::-1], volumes().geometry)
    np.testing.assert_allclose(extractor.extract(swapped), found[:, ::-1], rtol=1e-4, atol=1e-5)
    smaller = MedicalNet(str(weights), shape=(8, 8, 8)).extract(volumes())
    assert smaller.shape == found.shape
    assert not np.allclose(smaller, found)


def test_an_overall_gain_is_normalised_away_unless_told_otherwise(weights):
    brighter = Volumes(volumes().stack() * 3, volumes().geometry)
    for how, alike in (("volume", True), ("none", False)):
        extractor = MedicalNet(str(weights), normalise=how)
        apart = np.abs(extractor.extract(brighter) - extractor.extract(volumes())).max()
        assert (apart < 1e-3) == alike


@pytest.mark.parametrize(("depth", "width"), [(10, 512), (18, 512), (50, 2048)])
def test_the_encoder_keeps_an_eighth_of_the_resolution(depth, width):
    with torch.inference_mode():
        maps = med3d(depth).eval()(torch.rand(1, 1, 16, 24, 32))
    assert maps[-1].shape == (1, width, 2, 3, 4)


def test_dilated_layers_are_those_of_the_published_network():
    network = med3d(10)
    for layer, dilation in (("layer2", 1), ("layer3", 2), ("layer4", 4)):
        second = network.get_submodule(f"{layer}.0.conv2")
        assert (second.dilation, second.padding) == ((dilation,) * 3, (dilation,) * 3)


def test_digest_is_that_of_the_file(weights):
    assert (
        MedicalNet(str(weights)).digest(volumes().geometry)
        == hashlib.sha256(weights.read_bytes()).hexdigest()
    )


def test_the_published_file_is_refused_with_its_conversion_which_works(weights, tmp_path):
    pickled = tmp_path / "resnet_10.pth"
    torch.save({"state_dict": published(med3d(10))}, pickled)
    with pytest.raises(PluginError, match=r"\.pth.*examples/medicalnet_weights\.py"):
        MedicalNet(str(pickled)).check(volumes().geometry)
    turned = tmp_path / "resnet10.safetensors"
    runpy.run_path(str(CONVERTER))["convert"](pickled, turned)
    MedicalNet(str(turned)).check(volumes().geometry)


def test_unfit_weights_are_explained(tmp_path, weights):
    geometry = volumes().geometry
    with pytest.raises(PluginError, match="'weights' is empty"):
        MedicalNet().check(geometry)
    with pytest.raises(PluginError, match="there is no file"):
        MedicalNet("nowhere.safetensors").check(geometry)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no safetensors")
    with pytest.raises(PluginError, match="cannot be read as safetensors"):
        MedicalNet(str(broken)).check(geometry)
    save_file({"conv1.weight": torch.zeros(1)}, broken)
    with pytest.raises(PluginError, match="ResNet-10, 18, 34 or 50"):
        MedicalNet(str(broken)).check(geometry)
    tensors = published(med3d(10), "")
    tensors["bn1.weight"] = torch.ones(3)
    del tensors["bn1.bias"]
    save_file(tensors, broken)
    with pytest.raises(PluginError, match=r"bn1\.bias is absent; bn1\.weight has the shape \(3,\)"):
        MedicalNet(str(broken)).check(geometry)
