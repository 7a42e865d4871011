"""Features of volumes from convolutional networks with random weights."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch.nn import functional

from mmbench.api import Card, Extractor, Geometry, Volumes, param

_WIDTHS = (16, 32, 64)
_SHORTEST = 4  # an axis of fewer voxels is not shortened any more


@dataclass
class RandomCNN(Extractor):
    """Ensemble of small 3-D convolutional networks whose weights are drawn once and never trained.

    Each network has three convolutions of 3 x 3 x 3 voxels and stride 2 (1 along an axis once it is shorter
    than four voxels) with leaky rectification; mean and standard deviation of each of the 64 final channels
    over the volume are its features. The networks have no bias terms, so that features are proportional to
    intensity: volumes enter as they are, without any scaling that could hide an intensity error, and metrics
    standardise the features on real records. Channels should therefore come on similar scales.

    No licence, no download and no training data attach to the features. They rank defects in volumes
    consistently over seeds, but make no claim about perception.
    """

    seed: int = param(0, "seed of the weights", minimum=0)
    networks: int = param(5, "networks in the ensemble, each one block of features", minimum=1, maximum=50)
    batch: int = param(16, "volumes computed at a time", minimum=1)

    card = Card(
        "Ensemble of small 3-D convolutional networks with random, seeded weights.",
        "Saxe, Koh, Chen, Bhand, Suresh, Ng 2011, On Random Weights and Unsupervised Feature Learning (ICML); "
        "He, Zhang, Ren, Sun 2015, Delving Deep into Rectifiers (ICCV), equation 15, for the weights",
    )
    version = 1

    def extract(self, volumes: Volumes, composition: pd.DataFrame | None = None) -> np.ndarray:
        networks = self._weights(len(volumes.geometry.channels))
        result = np.empty((len(volumes), self.networks, 2 * _WIDTHS[-1]))
        start = 0
        with torch.inference_mode():
            for batch in volumes.batches(self.batch):
                x = torch.from_numpy(batch)
                for block, weights in enumerate(networks):
                    result[start : start + len(batch), block] = _features(x, weights)
                start += len(batch)
        return result

    def digest(self, geometry: Geometry) -> str:
        digest = hashlib.sha256()
        for weights in self._weights(len(geometry.channels)):
            for kernel in weights:
                digest.update(kernel.numpy().tobytes())
        return digest.hexdigest()

    def _weights(self, channels: int) -> list[list[torch.Tensor]]:
        generator = torch.Generator().manual_seed(self.seed)
        networks = []
        for _ in range(self.networks):
            kernels = []
            for inputs, outputs in zip((channels, *_WIDTHS), _WIDTHS, strict=False):
                kernel = torch.randn((outputs, inputs, 3, 3, 3), generator=generator)
                kernels.append(kernel * (2 / (inputs * 27)) ** 0.5)
            networks.append(kernels)
        return networks


def _features(x: torch.Tensor, weights: list[torch.Tensor]) -> np.ndarray:
    for kernel in weights:
        stride = [2 if size >= _SHORTEST else 1 for size in x.shape[2:]]
        x = functional.leaky_relu(functional.conv3d(x, kernel, stride=stride, padding=1), 0.1)
    voxels = x.flatten(2).double()
    return torch.cat([voxels.mean(2), voxels.std(2, unbiased=False)], dim=1).numpy()
