"""The image encoder and decoder of the joint autoencoder."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from .._imaging import CHANNELS_LAST, depth_to_space, groups, space_to_depth


class Residual(nn.Module):
    """Two convolutions around which the input passes unchanged (He et al. 2016, arXiv:1603.05027).

    Args:
        width: Channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(groups(width), width),
            nn.SiLU(),
            nn.Conv3d(width, width, 3, padding=1),
            nn.GroupNorm(groups(width), width),
            nn.SiLU(),
            nn.Conv3d(width, width, 3, padding=1),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        return features + self.layers(features)


class ImageEncoder(nn.Module):
    """Images to features on the latent grid, and to a first, linear guess of their latents.

    Args:
        channels: Channels of the images.
        block: Edges of the voxel blocks that become latent cells.
        latent: Channels of the latents.
        stem: Channels on the grid of half blocks.
        width: Channels of the features.
    """

    def __init__(self, channels: int, block: Sequence[int], latent: int, stem: int, width: int) -> None:
        super().__init__()
        self.block = tuple(block)
        self.patch, halving = _halves(block)
        self.project = nn.Conv3d(channels * math.prod(block), latent, 1)
        self.layers = nn.Sequential(
            nn.Conv3d(channels * math.prod(self.patch), stem, 1),
            nn.SiLU(),
            nn.Conv3d(stem, width, halving, stride=halving),
            Residual(width),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return latents and features of images of shape (n, channels, x, y, z).

        Returns:
            Shapes (n, latent, x', y', z') and (n, width, x', y', z').
        """
        halves = space_to_depth(images, self.patch).contiguous(memory_format=CHANNELS_LAST)
        return self.project(space_to_depth(images, self.block)), self.layers(halves)


class ImageDecoder(nn.Module):
    """Latents to images, as a departure from the mean image: a linear part and a learned correction.

    Args:
        channels: As in the encoder.
        block: As in the encoder.
        latent: As in the encoder.
        stem: As in the encoder.
        width: As in the encoder.
    """

    def __init__(self, channels: int, block: Sequence[int], latent: int, stem: int, width: int) -> None:
        super().__init__()
        self.block = tuple(block)
        self.patch, self.halving = _halves(block)
        depth = channels * math.prod(self.patch)
        self.project = nn.Conv3d(latent, channels * math.prod(block), 1)
        self.coarse = nn.Sequential(nn.Conv3d(latent, width, 3, padding=1), Residual(width))
        self.expand = nn.Conv3d(width, stem * math.prod(self.halving), 1)
        self.linear = nn.Conv3d(depth, stem, 1)
        self.fine = nn.Sequential(Residual(stem), nn.GroupNorm(groups(stem), stem), nn.SiLU())
        self.head = nn.Conv3d(stem, depth, 1)
        set_to_zero(self.head)

    def forward(self, latents: Tensor) -> Tensor:
        """Return images of shape (n, channels, x, y, z) of latents of shape (n, latent, x', y', z')."""
        latents = latents.contiguous(memory_format=CHANNELS_LAST)
        linear = space_to_depth(depth_to_space(self.project(latents), self.block), self.patch)
        halves = depth_to_space(self.expand(self.coarse(latents)), self.halving) + self.linear(linear)
        corrected = linear + self.head(self.fine(halves.contiguous(memory_format=CHANNELS_LAST)))
        return depth_to_space(corrected, self.patch)


def start_linear(encoder: ImageEncoder, decoder: ImageDecoder, components: Tensor, spread: Tensor) -> None:
    """Start encoder and decoder as the principal components of voxel blocks, with latents of unit variance.

    Args:
        encoder: Its linear guess is set.
        decoder: Its linear part is set.
        components: Orthonormal, shape (latent, values in a block).
        spread: Standard deviation along each, shape (latent,).
    """
    cubes = (slice(None), slice(None), None, None, None)
    set_to_zero(encoder.project)
    set_to_zero(decoder.project)
    with torch.no_grad():
        encoder.project.weight.copy_((components / spread[:, None])[cubes])
        decoder.project.weight.copy_((components.T * spread)[cubes])


def set_to_zero(layer: nn.Module) -> None:
    """Set every parameter of a layer to zero, so that it starts by adding nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def _halves(block: Sequence[int]) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Return the edges of half blocks and the factors between these and blocks."""
    x, y, z = (max(1, edge // 2) for edge in block)
    return (x, y, z), (block[0] // x, block[1] // y, block[2] // z)


def reconstruction_loss(decoded: Tensor, images: Tensor, block: Sequence[int]) -> Tensor:
    """Return how far decoded images are from the true ones.

    The absolute error keeps edges, the squared one weighs misplaced tissue, and the error of block means keeps
    what bodies are made of: a millimetre of fat all around hardly shows in voxels but adds up to litres.

    Args:
        decoded: Shape (n, channels, x, y, z), in units of the standard deviation.
        images: The same shape.
        block: Edges of the blocks.
    """
    error = decoded - images
    means = functional.avg_pool3d(error, tuple(block))
    return error.abs().mean() + error.square().mean() + 2 * means.abs().mean()


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the divergence of diagonal normals from the standard normal, averaged over all elements."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()


def draw(mean: Tensor, log_variance: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from diagonal normals; noise is made on the CPU, so that every device sees the same."""
    noise = torch.randn(mean.shape, generator=generator).to(mean.device)
    return mean + (0.5 * log_variance).exp() * noise
