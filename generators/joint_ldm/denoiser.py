"""The network of the joint diffusion model."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from .fusion import Attention
from .gaussian import GaussianGuess
from .latents import Latents, Levels
from .objective import Objective


def embed_level(level: Tensor, width: int) -> Tensor:
    """Return sines and cosines of noise levels, with a last axis of length ``width``."""
    # Frequencies from 1 to 1000, as for positions in Vaswani et al. 2017, section 3.5.
    frequency = torch.exp(torch.linspace(0, math.log(1000.0), width // 2, device=level.device))
    angle = level[..., None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def modulate(tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Normalise tokens, then scale and shift them as the conditioning says."""
    return functional.layer_norm(tokens, tokens.shape[-1:]) * (1 + scale) + shift


def _modulation(width: int, parts: int) -> nn.Linear:
    layer = nn.Linear(width, parts * width)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _feed_forward(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 3 * width), nn.GELU("tanh"), nn.Linear(3 * width, width))


class Stream(nn.Module):
    """One modality's half of a block: attention within, attention across, feed-forward.

    All are modulated and gated by the conditioning, from gates of zero
    (adaLN-Zero, Peebles and Xie 2023, arXiv:2212.09748, section 3.2).

    Args:
        width: Width of the tokens of both modalities.
        heads: Attention heads.
        across: Whether it reads the other modality.
    """

    def __init__(self, width: int, heads: int, across: bool) -> None:
        super().__init__()
        self.modulation = _modulation(width, 9 if across else 6)
        self.within = Attention(width, width, heads)
        self.across = Attention(width, width, heads) if across else None
        self.feed = _feed_forward(width)

    def forward(self, tokens: Tensor, other: Tensor, condition: Tensor) -> Tensor:
        """Return tokens of the same shape (n, t, width).

        Args:
            tokens: This modality, shape (n, t, width).
            other: The other modality, shape (n, s, width), normalised.
            condition: Shape (n, 1, width) or (n, t, width).
        """
        parts = self.modulation(condition).chunk(6 if self.across is None else 9, dim=-1)
        normed = modulate(tokens, parts[0], parts[1])
        tokens = tokens + parts[2] * self.within(normed, normed)
        if self.across is not None:
            tokens = tokens + parts[8] * self.across(modulate(tokens, parts[6], parts[7]), other)
        return tokens + parts[5] * self.feed(modulate(tokens, parts[3], parts[4]))


class Block(nn.Module):
    """Both streams side by side; each reads the other, if at all, as it was before the block."""

    def __init__(self, width: int, heads: int, across: bool) -> None:
        super().__init__()
        self.image = Stream(width, heads, across)
        self.table = Stream(width, heads, across)

    def forward(
        self, image: Tensor, table: Tensor, conditions: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return image and table tokens of the same shapes."""
        plain_image = functional.layer_norm(image, image.shape[-1:])
        plain_table = functional.layer_norm(table, table.shape[-1:])
        return self.image(image, plain_table, conditions[0]), self.table(table, plain_image, conditions[1])


class JointBlock(nn.Module):
    """One attention over the tokens of both modalities, whose weights are their own (MM-DiT).

    Esser et al. 2024, arXiv:2403.03206, section 4, figure 2b.

    Args:
        width: Width of the tokens of both modalities.
        heads: Attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.modulation = nn.ModuleList(_modulation(width, 6) for _ in range(2))
        self.read = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(2))
        self.out = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.feed = nn.ModuleList(_feed_forward(width) for _ in range(2))

    def forward(
        self, image: Tensor, table: Tensor, conditions: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return image and table tokens of the same shapes."""
        tokens = (image, table)
        parts = [
            layer(condition).chunk(6, dim=-1)
            for layer, condition in zip(self.modulation, conditions, strict=True)
        ]
        both = torch.cat(
            [self.read[i](modulate(tokens[i], parts[i][0], parts[i][1])) for i in range(2)], dim=1
        )
        n, length, _ = both.shape
        query, key, value = both.view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        found = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2)
        found = found.reshape(n, length, -1).split([image.shape[1], table.shape[1]], dim=1)
        result = []
        for i in range(2):
            moved = tokens[i] + parts[i][2] * self.out[i](found[i])
            result.append(moved + parts[i][5] * self.feed[i](modulate(moved, parts[i][3], parts[i][4])))
        return result[0], result[1]


class Denoiser(nn.Module):
    """Predicts the velocity of both parts of a noisy joint latent.

    Args:
        objective: What noise and velocity are.
        image_shape: Number of image tokens and their width as they come.
        table_shape: The same of the table.
        width: Width inside.
        depth: Blocks.
        rank: Factors of the Gaussian guess.
        exchange: ``cross``: streams that read each other by cross-attention; ``joint``: joint attention;
            ``none``: neither those nor anything else by which one modality could tell of the other.
        heads: Attention heads.
    """

    def __init__(
        self,
        objective: Objective,
        image_shape: tuple[int, int],
        table_shape: tuple[int, int],
        width: int,
        depth: int,
        rank: int,
        exchange: str = "cross",
        heads: int = 4,
    ) -> None:
        super().__init__()
        self.objective, self.width = objective, width
        self.exchanges = exchange != "none"
        (image_tokens, image_width), (table_tokens, table_width) = image_shape, table_shape
        self.guess = GaussianGuess(image_shape, table_shape, rank, apart=not self.exchanges)
        self.image_in = nn.Linear(2 * image_width, width)
        self.image_position = nn.Parameter(0.1 * torch.randn(image_tokens, width))
        self.table_in = nn.Parameter(torch.randn(table_tokens, 2 * table_width, width) / table_width**0.5)
        self.table_position = nn.Parameter(0.1 * torch.randn(table_tokens, width))
        self.levels = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))
        self.column_level = nn.Linear(width, width)
        if self.exchanges:
            self.image_summary = nn.Sequential(
                nn.Linear(image_tokens * image_width, width), nn.SiLU(), nn.Linear(width, width)
            )
            self.table_summary = nn.Sequential(
                nn.Linear(table_tokens * table_width, width), nn.SiLU(), nn.Linear(width, width)
            )
        self.blocks = nn.ModuleList(
            JointBlock(width, heads) if exchange == "joint" else Block(width, heads, self.exchanges)
            for _ in range(depth)
        )
        self.image_final = _modulation(width, 2)
        self.table_final = _modulation(width, 2)
        self.image_out = nn.Linear(width, image_width)
        nn.init.zeros_(self.image_out.weight)
        nn.init.zeros_(self.image_out.bias)
        self.table_out = nn.Parameter(torch.zeros(table_tokens, width, table_width))

    def forward(self, noisy: Latents, levels: Levels) -> Latents:
        """Return the velocity of noisy latents.

        Args:
            noisy: Latents of unit variance with noise.
            levels: Noise levels; with a first axis of length 1 where all records share them.
        """
        scales = [
            self.objective.scales(level) for level in (levels.image[:, None, None], levels.table[..., None])
        ]
        # Just above 0 so that what is clean has a noise to divide by.
        floors = [scale.noise.clamp(min=1e-3) for scale in scales]
        guess = self.guess(noisy, Latents(*(scale.signal for scale in scales)), Latents(floors[0], floors[1]))
        velocity = [
            scale.signal_rate * x + scale.noise_rate * (state - scale.signal * x) / floor
            for state, x, scale, floor in zip(noisy, guess, scales, floors, strict=True)
        ]
        image = self.image_in(torch.cat([noisy.image, guess.image], dim=-1)) + self.image_position
        tokens = torch.cat([noisy.table, guess.table], dim=-1)
        table = torch.einsum("nfl,flw->nfw", tokens, self.table_in) + self.table_position
        for_image, for_table = self._conditions(guess, levels)
        for block in self.blocks:
            image, table = block(image, table, (for_image, for_table))
        image = modulate(image, *self.image_final(for_image).chunk(2, dim=-1))
        table = modulate(table, *self.table_final(for_table).chunk(2, dim=-1))
        return Latents(
            velocity[0] + self.image_out(image),
            velocity[1] + torch.einsum("nfw,fwl->nfl", table, self.table_out),
        )

    def _conditions(self, guess: Latents, levels: Levels) -> tuple[Tensor, Tensor]:
        """Return what modulates image tokens, shape (n, 1, width), and table tokens, shape (n, fields, width)."""
        columns = embed_level(levels.table, self.width)
        embedded = [embed_level(levels.image, self.width), columns.mean(dim=1)]
        if not self.exchanges:
            # Not even the other's noise level, which tells whether it is known.
            image = self.levels(torch.cat([embedded[0], torch.zeros_like(embedded[0])], dim=1))
            table = self.levels(torch.cat([torch.zeros_like(embedded[1]), embedded[1]], dim=1))
            return (
                functional.silu(image)[:, None],
                functional.silu(table[:, None] + self.column_level(columns)),
            )
        rows = max(len(part) for part in embedded)
        common = self.levels(torch.cat([part.expand(rows, -1) for part in embedded], dim=1))
        # A summary of the other modality conditions every layer: few tokens carry what both must agree on.
        for_image = common + self.table_summary(guess.table.flatten(1))
        for_table = common + self.image_summary(guess.image.flatten(1))
        return (
            functional.silu(for_image)[:, None],
            functional.silu(for_table[:, None] + self.column_level(columns)),
        )
