"""Features of volumes from MedicalNet, 3-D residual networks pretrained on medical segmentation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load

from mmbench.api import Card, Extractor, Geometry, PluginError, Volumes, param

from ._network_input import (
    DEVICES,
    NORMALISATIONS,
    check_device,
    load_parameters,
    pooled,
    read_weights,
    sha256,
    whole,
)

ADVICE = (
    "The published files (.pth, from github.com/Tencent/MedicalNet) are pickles; turn one into safetensors once with "
    "`python examples/medicalnet_weights.py resnet_10_23dataset.pth medicalnet10.safetensors`."
)
DEPTHS: dict[tuple[bool, tuple[int, ...]], int] = {
    (False, (1, 1, 1, 1)): 10,
    (False, (2, 2, 2, 2)): 18,
    (False, (3, 4, 6, 3)): 34,
    (True, (3, 4, 6, 3)): 50,
}
"""Depth by whether its blocks are bottlenecks, and by the blocks of each layer."""
DILATIONS = {"layer3": 2, "layer4": 4}
"""MedicalNet dilates its last layers where a classifier strides (Tencent/MedicalNet, models/resnet.py)."""


@dataclass
class MedicalNet(Extractor):
    """Average-pooled last feature maps of a MedicalNet 3-D ResNet (10, 18, 34 or 50), from the user's weights.

    Depth and variant follow from the file. The network sees one channel at a time, so each channel of a volume is a
    block of 512 (ResNet-50: 2048) features. Intensities are standardised over the foreground of each volume, which
    is near to how MedicalNet was trained (it filled zeros with noise, which is left out here); an error of overall
    gain is thus not seen. Axes run z, y, x, as in its training.
    """

    weights: str = param("", "path of the weights, .safetensors")
    shape: tuple[int, int, int] | None = param(
        None, "voxels along x, y, z that volumes are resampled to; as they are where null"
    )
    normalise: str = param(
        "volume",
        "intensities: standardised over each volume's foreground, scaled to [0, 1], or as they are",
        choices=NORMALISATIONS,
    )
    batch: int = param(2, "volumes computed at a time", minimum=1)
    device: str = param("cpu", "where the network runs", choices=DEVICES)

    card = Card(
        "MedicalNet 3-D ResNet, pretrained on segmentation of 23 medical data sets; the user brings the weights.",
        "Chen, Ma, Zheng 2019, Med3D: Transfer Learning for 3D Medical Image Analysis, arXiv:1904.00625",
        licence="MIT (network and weights)",
    )
    version = 1

    def check(self, geometry: Geometry) -> None:
        check_device("medicalnet", self.device)
        self._network()

    def extract(self, volumes: Volumes, composition: pd.DataFrame | None = None) -> np.ndarray:
        network = self._network().to(self.device)
        blocks = len(volumes.geometry.channels)
        found = [np.empty((0, blocks, 0))]
        with torch.inference_mode():
            for x in whole(volumes, self.normalise, self.shape, self.batch):
                alone = x.permute(0, 1, 4, 3, 2).flatten(0, 1)[:, None].to(self.device)
                maps = pooled(network(alone), -1, "medicalnet")
                found.append(maps.cpu().numpy().reshape(len(x), blocks, -1))
        return np.concatenate(found[1:] or found)

    def digest(self, geometry: Geometry) -> str:
        return sha256(self._content())

    def _content(self) -> bytes:
        return read_weights("medicalnet", self.weights, (".safetensors",), ADVICE)

    def _network(self) -> torch.nn.Module:
        where = f"medicalnet: {self.weights}"
        try:
            found = load(self._content())
        except Exception as error:
            raise PluginError(f"{where}: cannot be read as safetensors: {error}. {ADVICE}") from error
        # "module." comes from data-parallel training; the segmentation head is of no use here.
        found = {key.removeprefix("module."): value for key, value in found.items()}
        found = {key: value for key, value in found.items() if not key.startswith(("conv_seg.", "fc."))}
        network = med3d(_depth(found, where))
        load_parameters(network, found, where)
        return network.eval()


def _depth(found: dict[str, torch.Tensor], where: str) -> int:
    names = [key.split(".") for key in found]
    blocks = tuple(
        len({name[1] for name in names if name[0] == f"layer{layer}" and len(name) > 1})
        for layer in (1, 2, 3, 4)
    )
    depth = DEPTHS.get(("layer1.0.conv3.weight" in found, blocks))
    if depth is None:
        raise PluginError(
            f"{where}: has {blocks} blocks in its layers, expected those of a MedicalNet ResNet-10, 18, 34 or 50."
        )
    return depth


def med3d(depth: int) -> torch.nn.Module:
    """Return MedicalNet's encoder with random weights; its last output is a map at an eighth of the resolution.

    Args:
        depth: 10, 18, 34 or 50.
    """
    from monai.networks.nets.resnet import ResNetFeatures

    network: torch.nn.Module = ResNetFeatures(f"resnet{depth}", pretrained=False)
    for name, dilation in DILATIONS.items():
        layer = network.get_submodule(name)
        for part in layer.modules():
            if isinstance(part, torch.nn.Conv3d):
                part.stride = (1, 1, 1)
                if part.kernel_size == (3, 3, 3):
                    part.dilation = part.padding = (dilation,) * 3
        first: Any = layer.get_submodule("0")
        if isinstance(first.downsample, partial):
            first.downsample = partial(first.downsample, stride=1)
    return network
