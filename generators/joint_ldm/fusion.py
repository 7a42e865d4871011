"""The joint autoencoder: an image encoder and a table encoder that fuse, and a decoder for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .autoencoder import ImageDecoder, ImageEncoder, Residual, kl_divergence, set_to_zero

LOG_VARIANCE_RANGE = (-8.0, 2.0)
"""Bounds of the posterior's log variance; outside them the divergence explodes or nothing is learned."""


class Attention(nn.Module):
    """Multi-head attention of one set of tokens to another (Vaswani et al. 2017, arXiv:1706.03762).

    Args:
        width: Width of the asking tokens.
        context: Width of the tokens that are asked.
        heads: Number of heads; divides ``width``.
    """

    def __init__(self, width: int, context: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(context, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        """Return what tokens of shape (n, t, width) read in a context of shape (n, s, context)."""
        n, t, width = tokens.shape
        query = self.query(tokens).view(n, t, self.heads, -1).transpose(1, 2)
        key, value = (
            part.view(n, context.shape[1], self.heads, -1).transpose(1, 2)
            for part in self.key_value(context).chunk(2, dim=-1)
        )
        read = functional.scaled_dot_product_attention(query, key, value)
        return self.out(read.transpose(1, 2).reshape(n, t, width))


class GatedExchange(nn.Module):
    """Cross-attention to the other modality behind a learned gate (Alayrac et al. 2022, arXiv:2204.14198).

    The gate starts at 0.1 and not at 0 as in the paper: with a closed gate the encoders learn to do without each
    other in the few steps that a small cohort gives.

    Args:
        width: Width of the asking tokens.
        context: Width of the other modality's tokens.
        heads: Number of heads.
    """

    def __init__(self, width: int, context: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.context_norm = nn.LayerNorm(context)
        self.attention = Attention(width, context, heads)
        self.gate = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, tokens: Tensor, context: Tensor, present: Tensor) -> Tensor:
        """Return tokens that have read the other modality where it is present.

        Args:
            tokens: Shape (n, t, width).
            context: Shape (n, s, context).
            present: 1 where the record's other modality may be seen, otherwise 0; shape (n,).
        """
        read = self.attention(self.norm(tokens), self.context_norm(context))
        return tokens + self.gate.tanh() * present[:, None, None] * read


class Mixer(nn.Module):
    """A transformer layer among the tokens of one modality.

    Args:
        width: Width of the tokens.
        heads: Number of heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, width, heads)
        self.feed = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens of the same shape (n, t, width)."""
        normed = self.norm(tokens)
        tokens = tokens + self.attention(normed, normed)
        return tokens + self.feed(tokens)


class TableEncoder(nn.Module):
    """Coded fields to one token each.

    Args:
        widths: Width of each field without its missingness bit.
        width: Width of the tokens.
        heads: Number of attention heads.
    """

    def __init__(self, widths: Sequence[int], width: int, heads: int) -> None:
        super().__init__()
        self.embed = nn.ModuleList(nn.Linear(size + 1, width) for size in widths)
        self.unknown = nn.Parameter(0.1 * torch.randn(len(widths), width))
        self.mix = Mixer(width, heads)

    def forward(self, fields: Sequence[Tensor], known: Tensor | None = None) -> Tensor:
        """Return tokens of shape (n, fields, width).

        Args:
            fields: For each field shape (n, width + 1).
            known: False where a column is unknown, shape (n, fields); ``None`` for nowhere.
        """
        embedded = [layer(field) for layer, field in zip(self.embed, fields, strict=True)]
        tokens = torch.stack(embedded, dim=1)
        if known is not None:
            tokens = torch.where(known[:, :, None], tokens, self.unknown.to(tokens.dtype))
        return self.mix(tokens)


class TableDecoder(nn.Module):
    """Latent tokens to fields: normal scores or logits, and the logit of missingness.

    Args:
        latent: Width of the latent tokens.
        widths: As in the encoder.
        width: As in the encoder.
        heads: As in the encoder.
    """

    def __init__(self, latent: int, widths: Sequence[int], width: int, heads: int) -> None:
        super().__init__()
        self.embed = nn.Parameter(torch.randn(len(widths), latent, width) / latent**0.5)
        self.position = nn.Parameter(0.1 * torch.randn(len(widths), width))
        self.mix = Mixer(width, heads)
        self.heads = nn.ModuleList(nn.Linear(width, size + 1) for size in widths)

    def forward(self, latents: Tensor) -> list[Tensor]:
        """Return for each field shape (n, width + 1) of latents of shape (n, fields, latent)."""
        tokens = torch.einsum("nfl,flw->nfw", latents, self.embed) + self.position
        tokens = self.mix(tokens)
        return [head(tokens[:, i]) for i, head in enumerate(self.heads)]


class SharedReader(nn.Module):
    """Reads a row's latent tokens off the image latent, where that holds both modalities.

    Args:
        channels: Channels of the image latent.
        cells: Cells of its grid.
        fields: Number of columns.
        latent: Width of a column's latent token.
        width: Width inside.
        heads: Attention heads.
    """

    def __init__(self, channels: int, cells: int, fields: int, latent: int, width: int, heads: int) -> None:
        super().__init__()
        self.embed = nn.Linear(channels, width)
        self.position = nn.Parameter(0.1 * torch.randn(cells, width))
        self.query = nn.Parameter(0.1 * torch.randn(fields, width))
        self.attention = Attention(width, width, heads)
        self.mix = Mixer(width, heads)
        self.out = nn.Linear(width, latent)

    def forward(self, latents: Tensor) -> Tensor:
        """Return table latents of shape (n, fields, latent) of image latents of shape (n, channels, x', y', z')."""
        cells = self.embed(latents.flatten(2).transpose(1, 2)) + self.position
        query = self.query.expand(len(cells), -1, -1)
        return self.out(self.mix(query + self.attention(query, cells)))


@dataclass(frozen=True)
class Posterior:
    """Normal distributions of a record's joint latent.

    Attributes:
        image: Means of shape (n, channels, x', y', z').
        image_log_variance: The same shape.
        table: Means of shape (n, fields, latent).
        table_log_variance: The same shape.
    """

    image: Tensor
    image_log_variance: Tensor
    table: Tensor
    table_log_variance: Tensor

    def divergence(self) -> tuple[Tensor, Tensor]:
        """Return the mean divergence of image and table latents from the standard normal."""
        return (
            kl_divergence(self.image, self.image_log_variance),
            kl_divergence(self.table, self.table_log_variance),
        )


class JointAutoencoder(nn.Module):
    """A variational autoencoder of records: two encoders that read each other, one latent, two decoders.

    Each modality keeps tokens of its own within the joint latent: merged into common tokens, image detail and
    single columns crowd each other out.

    Args:
        channels: Channels of the images.
        block: Edges of the voxel blocks that become latent cells.
        widths: Width of each table field without its missingness bit.
        stem: Channels on the grid of half blocks.
        width: Channels of the latent grid's features and width of the table tokens.
        image_latent: Channels of the image latent.
        table_latent: Width of a field's latent token.
        exchanges: Whether the encoders read each other.
        cells: Cells of the latent grid, where the image latent holds the row too; ``None`` where each modality has
            its own.
        heads: Attention heads.
    """

    def __init__(
        self,
        channels: int,
        block: Sequence[int],
        widths: Sequence[int],
        stem: int,
        width: int,
        image_latent: int,
        table_latent: int,
        exchanges: bool = True,
        cells: int | None = None,
        heads: int = 4,
    ) -> None:
        super().__init__()
        self.exchanges = exchanges
        self.image_encoder = ImageEncoder(channels, block, image_latent, stem, width)
        self.table_encoder = TableEncoder(widths, width, heads)
        if exchanges:
            self.image_reads = GatedExchange(width, width, heads)
            self.table_reads = GatedExchange(width, width, heads)
        self.image_mix = Residual(width)
        self.image_head = nn.Conv3d(width, 2 * image_latent, 1)
        set_to_zero(self.image_head)
        # Nearly no noise at first: the linear start is worth keeping.
        start = torch.tensor([0.0, -4.0]).repeat_interleave(image_latent)
        self.image_head.bias = nn.Parameter(start)
        self.table_mix = Mixer(width, heads)
        self.table_head = nn.Parameter(torch.randn(len(widths), width, 2 * table_latent) / width**0.5)
        self.image_decoder = ImageDecoder(channels, block, image_latent, stem, width)
        self.table_decoder = TableDecoder(table_latent, widths, width, heads)
        self.reader = (
            None
            if cells is None
            else SharedReader(image_latent, cells, len(widths), table_latent, width, heads)
        )

    def encode(
        self, images: Tensor, fields: Sequence[Tensor], sees_table: Tensor, sees_image: Tensor
    ) -> Posterior:
        """Return the posterior of records.

        Args:
            images: Shape (n, channels, x, y, z), normalised and padded.
            fields: Coded table; for each field shape (n, width + 1).
            sees_table: 1 where the image encoder may read the table, otherwise 0; shape (n,).
            sees_image: 1 where the table encoder may read the image, otherwise 0; shape (n,).
        """
        guess, features = self.image_encoder(images)
        tokens = self.table_encoder(fields)
        if self.exchanges:
            n, width, *grid = features.shape
            cells = features.flatten(2).transpose(1, 2)
            features = self.image_reads(cells, tokens, sees_table).transpose(1, 2).reshape(n, width, *grid)
            tokens = self.table_reads(tokens, cells, sees_image)
        correction, image_log_variance = self.image_head(self.image_mix(features)).chunk(2, dim=1)
        table, table_log_variance = self._table_posterior(tokens)
        return Posterior(
            guess + correction, image_log_variance.clamp(*LOG_VARIANCE_RANGE), table, table_log_variance
        )

    def encode_table(self, fields: Sequence[Tensor], known: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return mean and log variance, of shape (n, fields, latent), of tables whose images are unknown.

        Args:
            fields: Coded table; for each field shape (n, width + 1).
            known: False where a column is unknown too, shape (n, fields); ``None`` for nowhere.
        """
        return self._table_posterior(self.table_encoder(fields, known))

    def encode_image(self, images: Tensor) -> Tensor:
        """Return mean latents of images, shape (n, channels, x, y, z), whose rows are unknown."""
        guess, features = self.image_encoder(images)
        return guess + self.image_head(self.image_mix(features)).chunk(2, dim=1)[0]

    def _table_posterior(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        parts = torch.einsum("nfw,fwl->nfl", self.table_mix(tokens), self.table_head)
        mean, log_variance = parts.chunk(2, dim=-1)
        return mean, log_variance.clamp(*LOG_VARIANCE_RANGE)


def table_loss(decoded: Sequence[Tensor], fields: Sequence[Tensor]) -> Tensor:
    """Return how far a decoded table is from the true one, averaged over fields.

    Squared error of normal scores and cross-entropy of levels where the value is there, and cross-entropy of the
    missingness bit everywhere.

    Args:
        decoded: For each field shape (n, width + 1): score or logits, then the logit of missingness.
        fields: For each field shape (n, width + 1), as the codec gives them.
    """
    losses = []
    for guess, field in zip(decoded, fields, strict=True):
        present = 1 - field[:, -1]
        if field.shape[1] == 2:
            error = (guess[:, 0] - field[:, 0]).square()
        else:
            error = -(field[:, :-1] * guess[:, :-1].log_softmax(dim=1)).sum(dim=1)
        known = (error * present).sum() / present.sum().clamp(min=1)
        losses.append(known + functional.binary_cross_entropy_with_logits(guess[:, -1], field[:, -1]))
    return torch.stack(losses).mean()
