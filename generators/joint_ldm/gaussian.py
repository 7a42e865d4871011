"""The best linear denoiser, in closed form."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .latents import Latents

LARGEST = 2**26
"""Numbers that an intermediate result may hold: larger ones are made in parts."""


class GaussianGuess(nn.Module):
    """What the best linear denoiser makes of noisy latents: a joint Gaussian of both parts, in closed form.

    Most of a diffusion model's velocity is that of a Gaussian with the data's mean and covariance
    (Wang and Vastola 2024, arXiv:2412.09726). Taken from the training latents at once, it leaves to the network what
    is not linear, and a small cohort's few steps suffice. The covariance is that of a factor model: ``rank``
    principal factors that the parts share, and a variance of its own for each number.

    Args:
        image_shape: Tokens and width of the image part.
        table_shape: Tokens and width of the table part.
        rank: Number of factors.
        apart: Whether each part has factors of its own, half of them each, so that neither tells of the other.
    """

    loadings: Tensor
    residual: Tensor

    def __init__(
        self, image_shape: tuple[int, int], table_shape: tuple[int, int], rank: int, apart: bool = False
    ) -> None:
        super().__init__()
        self.shapes = (image_shape, table_shape)
        self.sizes = [math.prod(shape) for shape in self.shapes]
        self.apart = apart
        self.register_buffer("loadings", torch.zeros(sum(self.sizes), rank))
        self.register_buffer("residual", torch.ones(sum(self.sizes)))

    @torch.no_grad()
    def fit(self, clean: Latents, importance: Tensor) -> None:
        """Find the factors by a weighted singular value decomposition.

        Args:
            clean: Training latents, of mean 0 and variance 1 in each number.
            importance: Weight of each number of the image part, shape (t, image_width), mean 1.
        """
        data = torch.cat([part.flatten(1) for part in clean], dim=1)
        # Both parts weigh the same in the factors, however many numbers they have.
        weight = torch.cat(
            [
                importance.flatten().sqrt() / self.sizes[0] ** 0.5,
                data.new_full((self.sizes[1],), self.sizes[1] ** -0.5),
            ]
        )
        self.loadings.zero_()
        rank = self.loadings.shape[1]
        if self.apart:
            first, middle = self.sizes[0], rank - rank // 2
            self._find(data[:, :first], weight[:first], slice(first), slice(middle))
            self._find(data[:, first:], weight[first:], slice(first, None), slice(middle, None))
        else:
            self._find(data, weight, slice(None), slice(None))
        self.residual.copy_((1 - self.loadings.square().sum(dim=1)).clamp(min=1e-2))

    def _find(self, data: Tensor, weight: Tensor, rows: slice, columns: slice) -> None:
        _, singular, vectors = torch.linalg.svd(data * weight, full_matrices=False)
        target = self.loadings[rows, columns]
        rank = min(target.shape[1], len(singular))
        factors = vectors[:rank].T * singular[:rank] / len(data) ** 0.5
        target[:, :rank] = factors / weight[:, None].clamp(min=1e-6)

    @torch.no_grad()
    def forward(self, noisy: Latents, signal: Latents, noise: Latents) -> Latents:
        """Return the expected clean latents, given noisy ones.

        Args:
            noisy: ``signal`` times clean latents plus ``noise`` times standard normal noise.
            signal: Scales of the signal: shape (n, 1, 1) or (1, 1, 1) of the image, (n, fields, 1) or
                (1, fields, 1) of the table.
            noise: Scales of the noise, of the same shapes.
        """
        n = len(noisy.image)
        with torch.autocast(noisy.image.device.type, enabled=False):
            state = torch.cat([part.flatten(1) for part in noisy], dim=1).float()
            keep, level = (self._spread(scale) for scale in (signal, noise))
            weight = keep / (keep.square() * self.residual + level.square())
            # Posterior of the factors, then of each number given the factors.
            precision = self._precision(keep * weight)
            factors = torch.linalg.solve(precision, ((weight * state) @ self.loadings)[..., None])[..., 0]
            shared = factors @ self.loadings.T
            clean = shared + self.residual * weight * (state - keep * shared)
        image, table = clean.split(self.sizes, dim=1)
        return Latents(image.view(n, *self.shapes[0]), table.view(n, *self.shapes[1]))

    def _spread(self, scale: Latents) -> Tensor:
        """Return the scale of every number, shape (n, numbers) or (1, numbers)."""
        rows = max(len(scale.image), len(scale.table))
        parts = [part.expand(rows, *shape).flatten(1) for part, shape in zip(scale, self.shapes, strict=True)]
        return torch.cat(parts, dim=1).float()

    def _precision(self, weight: Tensor) -> Tensor:
        """Return the posterior precision of the factors, shape (n, rank, rank)."""
        size = max(1, LARGEST // self.loadings.numel())
        parts = [(self.loadings.T * rows[:, None, :]) @ self.loadings for rows in weight.split(size)]
        return torch.cat(parts) + torch.eye(self.loadings.shape[1], device=weight.device)
