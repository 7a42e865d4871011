"""Features of volumes from an autoencoder that is fitted on the real training volumes of the run."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from mmbench.api import Card, Context, Extractor, Geometry, Volumes, param

_WIDTHS = (16, 32)
_SHORTEST = 4  # an axis of fewer voxels is not shortened any more
_SLOPE = 0.1  # of the leaky rectification
_RATE = 3e-3  # highest learning rate; higher ones diverge on some seeds
_SILENT = 1e-6  # residual, relative to the intensities, below which the logarithm ends
_FILE = "autoencoder.safetensors"


@dataclass
class AutoencoderFeatures(Extractor):
    """Maps and residual of a small convolutional autoencoder that has seen the real training volumes.

    Three convolutions of 3 x 3 x 3 voxels and stride 2 (1 along an axis once it is shorter than four voxels) end in a
    code of an eighth of the resolution; three more, each followed by trilinear interpolation, bring it back. Mean and
    standard deviation of each channel of the three maps over the volume say what is there, fine and coarse; the
    logarithm of the root mean square of what was not reproduced, for each channel of the volume, says how much is
    there that no training volume taught: noise and ghosts raise it, blur lowers it. There is no normalisation layer, and intensities are
    divided by one number a channel (its root mean square over the training volumes), so that errors of gain are seen.

    An autoencoder and no contrastive network: the latter is taught to be blind to its augmentations, among them the
    very defects that are looked for. The fit is limited by steps, not by time, so that it can be repeated.
    """

    steps: int = param(150, "training steps", minimum=1)
    size: int = param(8, "crops in a training step", minimum=1)
    crop: int = param(80, "longest edge of a crop, voxels; smaller volumes are taken whole", minimum=8)
    code: int = param(32, "channels of the code", minimum=1, maximum=512)
    batch: int = param(4, "volumes computed at a time", minimum=1)

    card = Card(
        "Small 3-D convolutional autoencoder, fitted on the run's real training volumes.",
        "Hinton, Salakhutdinov 2006, Reducing the Dimensionality of Data with Neural Networks, Science 313",
    )
    version = 1
    learns = True

    def fit(self, train: Volumes, composition: pd.DataFrame | None, context: Context) -> None:
        self.scale_ = _root_mean_square(train)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(context.seed)
            network = _Autoencoder(len(train.geometry.channels), self.code).to(context.device)
        rng = np.random.default_rng(context.seed)
        optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, self.steps)
        for step in context.steps(self.steps, "fitting the autoencoder"):
            crops = np.stack([self._crop(train, rng) for _ in range(self.size)])
            x = self._scaled(crops).to(context.device)
            loss = functional.mse_loss(network(x)[1], x)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            context.log("autoencoder", float(loss.detach()), step)
        self._network = network.cpu().eval()

    def extract(self, volumes: Volumes, composition: pd.DataFrame | None = None) -> np.ndarray:
        channels = len(volumes.geometry.channels)
        result = np.empty((len(volumes), 1, 2 * (sum(_WIDTHS) + self.code) + channels))
        start = 0
        with torch.inference_mode():
            for batch in volumes.batches(self.batch):
                x = self._scaled(batch)
                maps, again = self._network(x)
                left = (again - x).double().square().mean((2, 3, 4)).sqrt().clamp_min(_SILENT).log()
                parts = [left]
                for each in maps:
                    voxels = each.flatten(2).double()
                    parts += [voxels.mean(2), voxels.std(2, unbiased=False)]
                result[start : start + len(batch), 0] = torch.cat(parts, dim=1).numpy()
                start += len(batch)
        return result

    def digest(self, geometry: Geometry) -> str:
        digest = hashlib.sha256(np.ascontiguousarray(self.scale_, dtype="<f8").tobytes())
        for name, tensor in sorted(self._network.state_dict().items()):
            digest.update(name.encode() + tensor.numpy().tobytes())
        return digest.hexdigest()

    def save(self, folder: Path) -> None:
        super().save(folder)
        save_file(self._network.state_dict(), folder / _FILE)

    def load(self, folder: Path) -> None:
        super().load(folder)
        self._network = _Autoencoder(len(self.scale_), self.code)
        self._network.load_state_dict(load_file(folder / _FILE))
        self._network.eval()

    def _crop(self, train: Volumes, rng: np.random.Generator) -> np.ndarray:
        volume = train[int(rng.integers(len(train)))]
        edges = [min(size, self.crop) for size in volume.shape[1:]]
        starts = [
            int(rng.integers(size - edge + 1)) for size, edge in zip(volume.shape[1:], edges, strict=True)
        ]
        x, y, z = (slice(start, start + edge) for start, edge in zip(starts, edges, strict=True))
        return volume[:, x, y, z]

    def _scaled(self, volumes: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(volumes / self.scale_.astype(np.float32)[:, None, None, None])


def _root_mean_square(volumes: Volumes) -> np.ndarray:
    """Return the root mean square of each channel over all volumes, 1 for one that is 0 throughout."""
    total = np.zeros(len(volumes.geometry.channels))
    for volume in volumes:
        total += np.square(volume, dtype=float).mean(axis=(1, 2, 3))
    scale = np.sqrt(total / max(len(volumes), 1))
    return np.where(scale > 0, scale, 1.0)


class _Autoencoder(nn.Module):
    def __init__(self, channels: int, code: int) -> None:
        super().__init__()
        widths = (channels, *_WIDTHS, code)
        pairs = list(itertools.pairwise(widths))
        self.down = nn.ModuleList(nn.Conv3d(wide, narrow, 3) for wide, narrow in pairs)
        self.up = nn.ModuleList(nn.Conv3d(narrow, wide, 3, padding=1) for wide, narrow in reversed(pairs))

    def forward(self, x: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Return the maps of the encoder, the last of which is the code, and the volumes that are made of it."""
        maps: list[torch.Tensor] = []
        shapes: list[Sequence[int]] = []
        for layer in self.down:
            shapes.append(x.shape[2:])
            stride = [2 if size >= _SHORTEST else 1 for size in x.shape[2:]]
            weight, bias = layer.parameters()
            maps.append(functional.conv3d(x, weight, bias, stride=stride, padding=1))
            x = functional.leaky_relu(maps[-1], _SLOPE)
        x = maps[-1]
        for layer, shape in zip(self.up, reversed(shapes), strict=True):
            if x is not maps[-1]:
                x = functional.leaky_relu(x, _SLOPE)
            x = functional.interpolate(layer(x), shape, mode="trilinear", align_corners=False)
        return maps, x
