import hashlib

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mmbench.api import Geometry, PluginError, Volumes
from mmbench.metrics.torch_model import NETWORKS, TorchModel


def volumes(n=3, shape=(20, 16, 6), channels=("water", "fat")):
    array = np.random.default_rng(0).random((n, len(channels), *shape)).astype(np.float32)
    array[:, :, 4:12, 4:12, 1:5] += 2
    return Volumes(array, Geometry.regular(shape, (2, 2, 8), channels))


def scripted(path, network):
    torch.manual_seed(0)
    torch.jit.save(torch.jit.script(network), path)
    return {"weights": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


@pytest.fixture(scope="module")
def cubes(tmp_path_factory):
    """A 3-D network of two channels that gives a map of five."""
    return scripted(tmp_path_factory.mktemp("w") / "cubes.pt", nn.Sequential(nn.Conv3d(2, 5, 3), nn.ReLU()))


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    """A 2-D network of three channels that gives a vector of four."""
    layers = nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return scripted(tmp_path_factory.mktemp("w") / "squares.ts", layers)


def test_a_map_is_averaged_over_space_and_matching_channels_enter_together(cubes):
    extractor = TorchModel(**cubes, inputs=2, normalise="none")
    extractor.check(volumes().geometry)
    found = extractor.extract(volumes())
    assert found.shape == (3, 1, 5)
    with torch.inference_mode():
        expected = (
            torch.jit.load(cubes["weights"])(torch.from_numpy(volumes().stack())).double().mean((2, 3, 4))
        )
    np.testing.assert_allclose(found[:, 0], expected.numpy(), rtol=1e-5)
    np.testing.assert_allclose(
        TorchModel(**cubes, inputs=2, normalise="none", batch=1).extract(volumes()),
        found,
        rtol=1e-5,
        atol=1e-6,
    )


def test_other_channels_enter_alone_and_repeated(cubes):
    three = volumes(channels=("a", "b", "c"))
    found = TorchModel(**cubes, inputs=2).extract(three)
    assert found.shape == (3, 3, 5)
    doubled = Volumes(three.stack()[:, [1, 1]], volumes().geometry)
    assert TorchModel(**cubes, inputs=2, normalise="none").extract(doubled)[:, 0] == pytest.approx(
        TorchModel(**cubes, inputs=2, normalise="none").extract(three)[:, 1]
    )


def test_slices_are_pooled_over_each_subject(squares):
    extractor = TorchModel(
        **squares, mode="slices", inputs=3, side=32, slices=4, mean=(0.5,) * 3, std=(0.2,) * 3
    )
    extractor.check(volumes().geometry)
    found = extractor.extract(volumes())
    assert found.shape == (3, 2, 3 * 2 * 4)
    alone = extractor.extract(volumes().take([1]))
    np.testing.assert_allclose(alone[0], found[1], rtol=1e-5)
    assert (found[..., 4:8] >= 0).all(), "the second part of a plane is a deviation"


def test_digest_is_that_of_the_file(cubes):
    assert TorchModel(**cubes).digest(volumes().geometry) == cubes["sha256"]


@pytest.mark.parametrize("given", ["", "0" * 64])
def test_code_runs_only_where_its_sha256_is_given(cubes, given):
    with pytest.raises(PluginError, match=f"would be run. Its sha256 is {cubes['sha256']}.*add `sha256:"):
        TorchModel(cubes["weights"], sha256=given, inputs=2).check(volumes().geometry)


def test_a_misfit_is_explained_before_anything_runs(cubes, squares, tmp_path):
    geometry = volumes().geometry
    with pytest.raises(PluginError, match="does not take such volumes with 1 channels"):
        TorchModel(**cubes).check(geometry)
    with pytest.raises(PluginError, match="mean has 1 values for 2"):
        TorchModel(**cubes, inputs=2, mean=(0.5,)).check(geometry)
    pickled = tmp_path / "model.pth"
    pickled.write_bytes(b"")
    with pytest.raises(PluginError, match=r"ends in '\.pth'"):
        TorchModel(str(pickled)).check(geometry)
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"nothing")
    with pytest.raises(PluginError, match="cannot be read as TorchScript"):
        TorchModel(str(broken), sha256=hashlib.sha256(b"nothing").hexdigest()).check(geometry)


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    from monai.networks.nets import ResNet

    torch.manual_seed(0)
    arguments = {
        "block": "basic",
        "layers": [1, 1, 1, 1],
        "block_inplanes": [4, 4, 8, 8],
        "n_input_channels": 2,
        "num_classes": 7,
    }
    path = tmp_path_factory.mktemp("w") / "resnet.safetensors"
    save_file(ResNet(**arguments, spatial_dims=3).state_dict(), path)
    return {"weights": str(path), "network": "ResNet", "arguments": arguments, "inputs": 2}


def test_numbers_alone_need_an_architecture_by_name(resnet):
    extractor = TorchModel(**resnet)
    extractor.check(volumes().geometry)
    assert extractor.extract(volumes()).shape == (3, 1, 7)
    np.testing.assert_array_equal(extractor.extract(volumes()), TorchModel(**resnet).extract(volumes()))
    geometry = volumes().geometry
    for changed, message in [
        ({"network": "Sequential"}, "expected one of DenseNet"),
        ({"arguments": {**resnet["arguments"], "pretrained": True}}, "nothing is downloaded"),
        ({"arguments": {**resnet["arguments"], "widths": 3}}, "does not take"),
        ({"arguments": {**resnet["arguments"], "num_classes": 9}}, "belong to another network"),
    ]:
        with pytest.raises(PluginError, match=message):
            TorchModel(**{**resnet, **changed}).check(geometry)


def test_every_architecture_that_may_be_named_exists():
    from monai.networks import nets

    assert all(callable(getattr(nets, name)) for name in NETWORKS)


def test_nothing_is_downloaded_by_an_architecture_that_would(monkeypatch, tmp_path):
    from monai.networks.nets import EfficientNetBN

    arguments = {"model_name": "efficientnet-b0", "in_channels": 1, "num_classes": 3}
    path = tmp_path / "b0.safetensors"
    save_file(EfficientNetBN(**arguments, spatial_dims=2, pretrained=False).state_dict(), path)
    monkeypatch.setattr("monai.networks.nets.efficientnet.model_zoo", None)
    extractor = TorchModel(
        str(path), network="EfficientNetBN", arguments=arguments, mode="slices", side=32, slices=2
    )
    extractor.check(volumes().geometry)
