"""The joint latent as the denoiser sees it, its noise levels, and what of it is known."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Latents(NamedTuple):
    """The two parts of a joint latent, or of its velocity.

    Attributes:
        image: Tokens of shape (n, t, image_latent * cells in a token).
        table: Tokens of shape (n, fields, table_latent).
    """

    image: Tensor
    table: Tensor


class Levels(NamedTuple):
    """Noise levels from 0 (clean) to 1 (pure noise): one of the image, one of each column.

    Attributes:
        image: Shape (n,), or (1,) where all records share it.
        table: Shape (n, fields), or (1, fields).
    """

    image: Tensor
    table: Tensor


class Known(NamedTuple):
    """What is given of records while the rest is drawn.

    Attributes:
        image: Clean image tokens; ``None`` where the images are drawn.
        table: Clean table tokens, shape (n, fields, table_latent).
        columns: True where a column is known, shape (n, fields), or (1, fields) where all records share it.
    """

    image: Tensor | None
    table: Tensor
    columns: Tensor


def draw_known(n: int, fields: int, generator: torch.Generator) -> Tensor:
    """Draw which columns are known in training, True where they are, shape (n, fields).

    Half of the records know a single column, the others any number, so that every subset may be given later.
    """
    count = torch.randint(1, fields + 1, (n, 1), generator=generator)
    count = torch.where(torch.rand(n, 1, generator=generator) < 0.5, 1, count)
    return torch.rand(n, fields, generator=generator).argsort(dim=1).argsort(dim=1) < count
