"""Features of volumes from a network of the user's own: TorchScript, or safetensors for an architecture of MONAI."""

from __future__ import annotations

import inspect
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from mmbench.api import Card, Extractor, Geometry, PluginError, Volumes, param

from ._network_input import (
    DEVICES,
    NORMALISATIONS,
    channel_groups,
    check_device,
    load_parameters,
    normalised,
    pooled,
    read_weights,
    sha256,
    slices,
    whole,
)

TORCHSCRIPT, SAFETENSORS = (".pt", ".ts"), (".safetensors",)
NETWORKS = (
    "DenseNet",
    "DenseNet121",
    "DenseNet169",
    "EfficientNetBN",
    "ResNet",
    "ResNetFeatures",
    "SEResNet50",
    "ViT",
    "resnet10",
    "resnet18",
    "resnet34",
    "resnet50",
)
"""Architectures of monai.networks.nets that a configuration may name; each turns an image into features."""
DOWNLOADS = ("pretrained", "progress")  # arguments by which MONAI fetches weights of its own
ADVICE = (
    "Export a model with torch.jit.script or torch.jit.trace and torch.jit.save (.pt, .ts), or its parameters with "
    "safetensors.torch.save_file (.safetensors) and name its architecture in 'network'."
)


@dataclass
class TorchModel(Extractor):
    """Average-pooled output of a network that the user brings, in three dimensions or slice by slice.

    A TorchScript file holds code that is run, so it is run only where the configuration gives its sha256: that says
    that this very file is trusted. A safetensors file holds numbers only; its architecture is one of MONAI's.

    In ``slices`` mode evenly spaced slices across each of the three axes, with square pixels, go through a 2-D
    network; mean and standard deviation over a subject's slices are that subject's features, plane after plane, so
    that subjects and not slices are counted. Where a volume has as many channels as the network takes, they enter
    together; otherwise each enters alone, repeated, and is a block of features of its own.
    """

    weights: str = param("", "path of the model: TorchScript (.pt, .ts) or .safetensors")
    sha256: str = param("", "sha256 of a TorchScript file that may be run")
    network: str = param("", f"architecture of a .safetensors file, one of {', '.join(NETWORKS)}")
    arguments: dict[str, Any] = param({}, "arguments of the architecture; spatial_dims is set by the mode")
    mode: str = param("volumes", "whether the network takes volumes or slices", choices=("volumes", "slices"))
    inputs: int = param(1, "channels that the network takes", minimum=1)
    normalise: str = param(
        "volume",
        "intensities: standardised over each volume's foreground, scaled to [0, 1], or as they are",
        choices=NORMALISATIONS,
    )
    mean: tuple[float, ...] = param((), "subtracted from each input channel after that; none where empty")
    std: tuple[float, ...] = param((), "what each input channel is then divided by; none where empty")
    shape: tuple[int, int, int] | None = param(
        None, "voxels along x, y, z that volumes are resampled to; as they are where null"
    )
    side: int = param(224, "pixels of either edge of a slice", minimum=8)
    slices: int = param(12, "slices across each axis", minimum=1)
    output: int = param(0, "which output counts where the network gives several; -1 for the last")
    batch: int = param(2, "volumes computed at a time", minimum=1)
    device: str = param("cpu", "where the network runs", choices=DEVICES)

    card = Card(
        "Any TorchScript network, or a MONAI architecture with safetensors weights, from the user's path.",
        "Woodland et al. 2024, Feature Extraction for Generative Medical Imaging Evaluation (MICCAI), for how much "
        "the choice of network matters",
        licence="Apache-2.0; the network's own",
    )
    version = 1

    def check(self, geometry: Geometry) -> None:
        check_device("torch-model", self.device)
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values and len(values) != self.inputs:
                raise PluginError(
                    f"torch-model: {name} has {len(values)} values for {self.inputs} input channels."
                )
        if 0 in self.std:
            raise PluginError(f"torch-model: std is {list(self.std)}; it must not be 0.")
        trial = np.linspace(0, 1, int(np.prod(geometry.full_shape)), dtype=np.float32)
        one = Volumes(trial.reshape(1, *geometry.full_shape), geometry)
        try:
            found = self.extract(one)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            size = f"slices of {self.side} x {self.side} pixels" if self.mode == "slices" else "such volumes"
            last = str(error).strip().splitlines()[-1]
            raise PluginError(
                f"torch-model: {self.weights} does not take {size} with {self.inputs} channels: {last}"
            ) from error
        if not np.isfinite(found).all():
            raise PluginError(f"torch-model: {self.weights} gives features that are not finite.")

    def extract(self, volumes: Volumes, composition: pd.DataFrame | None = None) -> np.ndarray:
        network = self._network().to(self.device)
        groups = channel_groups(len(volumes.geometry.channels), self.inputs)
        found = [np.empty((0, len(groups), 0))]
        with torch.inference_mode():
            if self.mode == "slices":
                found += [self._from_slices(network, volume, volumes.geometry, groups) for volume in volumes]
            else:
                for x in whole(volumes, self.normalise, self.shape, self.batch):
                    blocks = [self._run(network, x[:, group]) for group in groups]
                    found.append(np.stack(blocks, axis=1))
        return np.concatenate(found[1:] or found)

    def digest(self, geometry: Geometry) -> str:
        return sha256(self._content())

    def _from_slices(
        self, network: torch.nn.Module, volume: np.ndarray, geometry: Geometry, groups: list[list[int]]
    ) -> np.ndarray:
        """Return the features of one volume, shape (1, blocks, 6 d): mean and deviation for each of three planes."""
        image = normalised(volume, self.normalise)
        planes: list[list[np.ndarray]] = [[] for _ in groups]
        for axis in range(3):
            images = slices(image, geometry, axis, self.slices, self.side)
            for block, group in zip(planes, groups, strict=True):
                each = self._run(network, images[:, group])
                block += [each.mean(axis=0), each.std(axis=0)]
        return np.stack([np.concatenate(block) for block in planes])[None]

    def _run(self, network: torch.nn.Module, x: torch.Tensor) -> np.ndarray:
        shape = (1, -1, *(1,) * (x.ndim - 2))
        if self.mean:
            x = x - torch.tensor(self.mean).reshape(shape)
        if self.std:
            x = x / torch.tensor(self.std).reshape(shape)
        vectors = pooled(network(x.to(self.device)), self.output, f"torch-model: {self.weights}")
        return np.asarray(vectors.cpu().numpy())

    def _content(self) -> bytes:
        return read_weights("torch-model", self.weights, (*TORCHSCRIPT, *SAFETENSORS), ADVICE)

    def _network(self) -> torch.nn.Module:
        content, where = self._content(), f"torch-model: {self.weights}"
        if Path(self.weights).suffix.lower() in SAFETENSORS:
            return self._architecture(content, where).eval()
        found = sha256(content)
        if self.sha256.lower() != found:
            given = (
                f"the configuration gives {self.sha256}" if self.sha256 else "the configuration gives none"
            )
            raise PluginError(
                f"{where}: a TorchScript file holds code that would be run. Its sha256 is {found}; {given}. If you "
                f"trust where the file comes from, add `sha256: {found}` to the parameters of torch-model."
            )
        try:
            # What was checked is what is run: the file is not read a second time.
            script: torch.nn.Module = torch.jit.load(io.BytesIO(content), map_location="cpu")
        except RuntimeError as error:
            last = str(error).strip().splitlines()[-1]
            raise PluginError(f"{where}: cannot be read as TorchScript: {last}. {ADVICE}") from error
        return script.eval()

    def _architecture(self, content: bytes, where: str) -> torch.nn.Module:
        from monai.networks import nets
        from safetensors.torch import load

        if self.network not in NETWORKS:
            raise PluginError(f"{where}: network is '{self.network}', expected one of {', '.join(NETWORKS)}.")
        if fetched := [name for name in DOWNLOADS if name in self.arguments]:
            raise PluginError(f"{where}: arguments must not hold '{fetched[0]}': nothing is downloaded.")
        arguments = {"spatial_dims": 2 if self.mode == "slices" else 3, **self.arguments}
        make = getattr(nets, self.network)
        if "pretrained" in inspect.signature(make).parameters:
            arguments["pretrained"] = False  # for some it is the default, and downloads
        try:
            network: torch.nn.Module = make(**arguments)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise PluginError(f"{where}: {self.network} does not take {self.arguments}: {error}.") from error
        try:
            parameters = load(content)
        except Exception as error:
            raise PluginError(f"{where}: cannot be read as safetensors: {error}.") from error
        load_parameters(network, parameters, where)
        return network
