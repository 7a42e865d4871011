"""The diffusion model of the joint latent: its network, its loss and its sampler."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .fusion import Attention

SHIFT = 4.0
"""How much denser the sampler's steps are at the noisy end than in even spacing.

What many numbers have in common, such as the size of a body, is decided at levels near 1; even steps pass over
these and lose its spread (Esser et al. 2024, arXiv:2403.03206, section 5.3.2, equation 23).
"""


class Latents(NamedTuple):
    """The two parts of a joint latent, or of its velocity.

    Attributes:
        image: Tokens of shape (n, t, image_latent * cells in a token).
        table: Tokens of shape (n, fields, table_latent).
    """

    image: Tensor
    table: Tensor


class Levels(NamedTuple):
    """Noise level of each part, from 0 (clean) to 1 (pure noise); each of shape (n,)."""

    image: Tensor
    table: Tensor


def embed_level(level: Tensor, width: int) -> Tensor:
    """Return sines and cosines of noise levels of shape (n,), shape (n, width)."""
    # Frequencies from 1 to 1000, as for positions in Vaswani et al. 2017, section 3.5.
    frequency = torch.exp(torch.linspace(0, math.log(1000.0), width // 2, device=level.device))
    angle = level[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def modulate(tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Normalise tokens, then scale and shift them as the conditioning says."""
    normed = nn.functional.layer_norm(tokens, tokens.shape[-1:])
    return normed * (1 + scale[:, None]) + shift[:, None]


class Stream(nn.Module):
    """One modality's half of a block: attention within, attention across, feed-forward.

    All three are modulated and gated by the conditioning, from gates of zero
    (adaLN-Zero, Peebles and Xie 2023, arXiv:2212.09748, section 3.2).

    Args:
        width: Width of the tokens of both modalities.
        heads: Attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(width, 9 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        self.within = Attention(width, width, heads)
        self.across = Attention(width, width, heads)
        self.feed = nn.Sequential(nn.Linear(width, 3 * width), nn.GELU("tanh"), nn.Linear(3 * width, width))

    def forward(self, tokens: Tensor, other: Tensor, condition: Tensor) -> Tensor:
        """Return tokens of the same shape (n, t, width).

        Args:
            tokens: This modality, shape (n, t, width).
            other: The other modality, shape (n, s, width), normalised.
            condition: Shape (n, width).
        """
        shift1, scale1, gate1, shift2, scale2, gate2, shift3, scale3, gate3 = self.modulation(
            condition
        ).chunk(9, dim=1)
        normed = modulate(tokens, shift1, scale1)
        tokens = tokens + gate1[:, None] * self.within(normed, normed)
        tokens = tokens + gate2[:, None] * self.across(modulate(tokens, shift2, scale2), other)
        return tokens + gate3[:, None] * self.feed(modulate(tokens, shift3, scale3))


class Block(nn.Module):
    """Both streams side by side; each reads the other as it was before the block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.image = Stream(width, heads)
        self.table = Stream(width, heads)

    def forward(
        self, image: Tensor, table: Tensor, conditions: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return image and table tokens of the same shapes."""
        plain_image = nn.functional.layer_norm(image, image.shape[-1:])
        plain_table = nn.functional.layer_norm(table, table.shape[-1:])
        return self.image(image, plain_table, conditions[0]), self.table(table, plain_image, conditions[1])


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
    """

    loadings: Tensor
    residual: Tensor

    def __init__(self, image_shape: tuple[int, int], table_shape: tuple[int, int], rank: int) -> None:
        super().__init__()
        self.shapes = (image_shape, table_shape)
        self.sizes = [math.prod(shape) for shape in self.shapes]
        self.register_buffer("loadings", torch.zeros(sum(self.sizes), rank))
        self.register_buffer("residual", torch.ones(sum(self.sizes)))

    @torch.no_grad()
    def fit(self, clean: Latents, importance: Tensor) -> None:
        """Find the factors by a weighted singular value decomposition.

        Args:
            clean: Training latents, of mean 0 and variance 1 in each number.
            importance: As in :func:`flow_loss`.
        """
        data = torch.cat([part.flatten(1) for part in clean], dim=1)
        # Both parts weigh the same in the factors, however many numbers they have.
        weight = torch.cat(
            [
                importance.flatten().sqrt() / self.sizes[0] ** 0.5,
                data.new_full((self.sizes[1],), self.sizes[1] ** -0.5),
            ]
        )
        _, singular, vectors = torch.linalg.svd(data * weight, full_matrices=False)
        rank = min(self.loadings.shape[1], len(singular))
        factors = vectors[:rank].T * singular[:rank] / len(data) ** 0.5
        self.loadings.zero_()
        self.loadings[:, :rank] = factors / weight[:, None].clamp(min=1e-6)
        self.residual.copy_((1 - self.loadings.square().sum(dim=1)).clamp(min=1e-2))

    @torch.no_grad()
    def forward(self, noisy: Latents, levels: Levels) -> tuple[Latents, Latents]:
        """Return the expected clean latents and the expected velocity, given noisy ones."""
        n = len(noisy.image)
        state = torch.cat([part.flatten(1) for part in noisy], dim=1)
        level = torch.cat(
            [value[:, None].expand(-1, size) for value, size in zip(levels, self.sizes, strict=True)], dim=1
        ).clamp(min=1e-3)
        keep = 1 - level
        weight = keep / (keep.square() * self.residual + level.square())
        # Posterior of the factors, then of each number given the factors.
        precision = (self.loadings.T * (keep * weight)[:, None, :]) @ self.loadings
        precision = precision + torch.eye(precision.shape[-1], device=state.device)
        factors = torch.linalg.solve(precision, ((weight * state) @ self.loadings)[..., None])[..., 0]
        shared = factors @ self.loadings.T
        clean = shared + self.residual * weight * (state - keep * shared)
        return self._split(clean, n), self._split((state - clean) / level, n)

    def _split(self, joined: Tensor, n: int) -> Latents:
        image, table = joined.split(self.sizes, dim=1)
        return Latents(image.view(n, *self.shapes[0]), table.view(n, *self.shapes[1]))


class Denoiser(nn.Module):
    """Predicts the velocity of both parts of a noisy joint latent.

    Args:
        image_tokens: Number of image tokens.
        image_width: Width of an image token as it comes.
        table_tokens: Number of table tokens.
        table_width: Width of a table token as it comes.
        width: Width inside.
        depth: Blocks.
        rank: Factors of the Gaussian guess.
        heads: Attention heads.
    """

    def __init__(
        self,
        image_tokens: int,
        image_width: int,
        table_tokens: int,
        table_width: int,
        width: int,
        depth: int,
        rank: int,
        heads: int = 4,
    ) -> None:
        super().__init__()
        self.width = width
        self.guess = GaussianGuess((image_tokens, image_width), (table_tokens, table_width), rank)
        self.image_in = nn.Linear(2 * image_width, width)
        self.image_position = nn.Parameter(0.1 * torch.randn(image_tokens, width))
        self.table_in = nn.Parameter(torch.randn(table_tokens, 2 * table_width, width) / table_width**0.5)
        self.table_position = nn.Parameter(0.1 * torch.randn(table_tokens, width))
        self.levels = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))
        self.image_summary = nn.Sequential(
            nn.Linear(image_tokens * image_width, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.table_summary = nn.Sequential(
            nn.Linear(table_tokens * table_width, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.image_final = nn.Linear(width, 2 * width)
        self.table_final = nn.Linear(width, 2 * width)
        self.image_out = nn.Linear(width, image_width)
        self.table_out = nn.Parameter(torch.zeros(table_tokens, width, table_width))
        for layer in (self.image_final, self.table_final, self.image_out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, noisy: Latents, levels: Levels) -> Latents:
        """Return the velocity, noise minus data, of noisy latents.

        Args:
            noisy: Latents of unit variance with noise.
            levels: Noise levels; of shape (1,) where all records share them.
        """
        guess, velocity = self.guess(noisy, levels)
        image = self.image_in(torch.cat([noisy.image, guess.image], dim=-1)) + self.image_position
        tokens = torch.cat([noisy.table, guess.table], dim=-1)
        table = torch.einsum("nfl,flw->nfw", tokens, self.table_in) + self.table_position
        embedded = torch.cat([embed_level(level, self.width) for level in levels], dim=1)
        common = self.levels(embedded)
        # A summary of the other modality conditions every layer: few tokens carry what both must agree on.
        for_image = nn.functional.silu(common + self.table_summary(guess.table.flatten(1)))
        for_table = nn.functional.silu(common + self.image_summary(guess.image.flatten(1)))
        for block in self.blocks:
            image, table = block(image, table, (for_image, for_table))
        image = modulate(image, *self.image_final(for_image).chunk(2, dim=1))
        table = modulate(table, *self.table_final(for_table).chunk(2, dim=1))
        return Latents(
            velocity.image + self.image_out(image),
            velocity.table + torch.einsum("nfw,fwl->nfl", table, self.table_out),
        )


def draw_levels(n: int, generator: torch.Generator) -> Levels:
    """Draw noise levels for training.

    Half of the records have one level for both parts, as joint sampling needs; a quarter have two independent
    ones; the rest have one part clean (conditional sampling) or pure noise (marginal sampling), as in
    UniDiffuser (Bao et al. 2023, arXiv:2303.06555). Levels are logit-normal: the middle is hard and
    the ends are easy (Esser et al. 2024, arXiv:2403.03206, section 3.1); its mean leans to the noisy end as the
    sampler's steps do.

    Args:
        n: Number of records.
        generator: On the CPU.
    """
    image = torch.sigmoid(0.7 + 1.2 * torch.randn(n, generator=generator))
    apart = torch.sigmoid(0.7 + 1.2 * torch.randn(n, generator=generator))
    kind = torch.rand(n, generator=generator)
    table = torch.where(kind < 0.5, image, apart)
    table = torch.where((kind >= 0.75) & (kind < 0.85), 0.0, table)
    table = torch.where((kind >= 0.95) & (kind < 0.975), 1.0, table)
    image = torch.where((kind >= 0.85) & (kind < 0.95), 0.0, image)
    image = torch.where(kind >= 0.975, 1.0, image)
    return Levels(image, table)


def flow_loss(
    network: Callable[[Latents, Levels], Latents],
    clean: Latents,
    importance: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Return the flow-matching loss (Lipman et al. 2023, arXiv:2210.02747, equation 23).

    A part that is clean or pure noise is there to be read and left out of the loss.

    Args:
        network: Predicts velocities.
        clean: Latents of unit variance.
        importance: Weight of each number of the image part in the loss, shape (t, image_width), mean 1.
        generator: On the CPU; draws levels and noise.
    """
    device = clean.image.device
    levels = Levels(*(level.to(device) for level in draw_levels(len(clean.image), generator)))
    noise = Latents(*(torch.randn(part.shape, generator=generator).to(device) for part in clean))
    noisy = Latents(
        *(x + level[:, None, None] * (e - x) for x, e, level in zip(clean, noise, levels, strict=True))
    )
    velocity = network(noisy, levels)
    loss = torch.zeros((), device=device)
    weights = (importance, torch.ones((), device=device))
    for guess, x, e, level, weight in zip(velocity, clean, noise, levels, weights, strict=True):
        learned = ((level > 0) & (level < 1)).float()
        error = ((guess - (e - x)).square() * weight).mean(dim=(1, 2))
        loss = loss + (error * learned).sum() / learned.sum().clamp(min=1)
    return loss


@torch.no_grad()
def heun(network: Callable[[Latents, Levels], Latents], noise: Latents, steps: int) -> Latents:
    """Return samples: the flow's solution from pure noise to data by Heun's method.

    Args:
        network: Predicts velocities.
        noise: Standard normal latents, the state at level 1.
        steps: Steps, each of two network evaluations but the last, which has one.
    """
    state = noise
    even = [1 - i / steps for i in range(steps + 1)]
    grid = [SHIFT * t / (1 + (SHIFT - 1) * t) for t in even]
    for here, there in pairwise(grid):
        first = network(state, _levels(here, state))
        euler = Latents(*(x + (there - here) * v for x, v in zip(state, first, strict=True)))
        if there == 0:
            return euler
        second = network(euler, _levels(there, state))
        state = Latents(
            *(x + (there - here) / 2 * (v + w) for x, v, w in zip(state, first, second, strict=True))
        )
    return state


def _levels(level: float, like: Latents) -> Levels:
    both = torch.full((1,), level, device=like.image.device)
    return Levels(both, both)
