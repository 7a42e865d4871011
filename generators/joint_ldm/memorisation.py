"""Whether samples lie closer to training records than training records lie to each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .completion import partial_rows
from .latents import Latents

if TYPE_CHECKING:
    from .latent_model import LatentModel
    from .training import Encoded

SAMPLES = 64
"""Samples that are looked at: bounds the time that this takes."""
STEPS = 12
"""Steps of the sampler for them: copies show as well as in twice as many."""
QUANTILE = 0.05
"""Distances below this quantile of the training records' own count as close."""


@torch.no_grad()
def monitor(
    model: LatentModel,
    encoded: Encoded,
    learned: np.ndarray,
    held_out: np.ndarray,
    importance: Tensor,
    generator: torch.Generator,
) -> dict[str, float]:
    """Compare the distances of samples to their nearest training latents with those among training latents.

    Distances are Euclidean, each modality of equal weight and each number of an image by what it shows.
    All ask from a draw of a latent to the means of the others, so that no side is smoother than the other.

    Args:
        model: Fitted model.
        encoded: The training cohort's latents.
        learned: Positions of the records that were learned from.
        held_out: Positions of those that were not.
        importance: Weight of each number of the image part, shape (t, image_width).
        generator: Draws from posteriors.

    Returns:
        ``ratio``: median distance of samples to the nearest training record, over that of training records to the
        nearest other one: about 1 is fair, far below 1 are copies. ``close``: share of samples that are nearer to a
        training record than 5 % of the training records are to another; 0.05 is fair. ``held out ratio`` and
        ``held out close``: the same of records that were not learned from, where there are some.
    """
    means = _points(
        Latents(
            model.image_tokens(encoded.image[learned].to(model.device)),
            model.table_tokens(encoded.table[learned].to(model.device)),
        ),
        importance,
    )
    asked = torch.randperm(len(learned), generator=generator)[: 4 * SAMPLES]
    own = _points(encoded.tokens(model, learned[asked.numpy()], generator), importance)
    among = torch.cdist(own, means)
    among[torch.arange(len(asked)), asked.to(among.device)] = torch.inf
    usual = among.min(dim=1).values
    if len(learned) < 2:
        return {}
    unknown = partial_rows(pd.DataFrame(index=range(SAMPLES)), model.codec.schema)
    seed = int(torch.randint(2**31, (), generator=generator))
    rows, latents = model.draw(unknown, seed, steps=STEPS)
    uniform = np.random.default_rng(seed).random((SAMPLES, len(model.codec.fields)))
    fields = model.fields(model.codec.encode(rows, uniform))
    drawn = Latents(
        model.image_tokens(latents.to(model.device)),
        model.encode_rows(fields, torch.ones(uniform.shape, dtype=torch.bool, device=model.device)),
    )
    found = _compared(torch.cdist(_points(drawn, importance), means).min(dim=1).values, usual)
    result = {"ratio": found[0], "close": found[1]}
    if len(held_out):
        others = _points(encoded.tokens(model, held_out, generator), importance)
        found = _compared(torch.cdist(others, means).min(dim=1).values, usual)
        result |= {"held out ratio": found[0], "held out close": found[1]}
    return result


def _points(tokens: Latents, importance: Tensor) -> Tensor:
    image = tokens.image * importance.sqrt() / importance.numel() ** 0.5
    table = tokens.table / tokens.table[0].numel() ** 0.5
    return torch.cat([image.flatten(1), table.flatten(1)], dim=1)


def _compared(distances: Tensor, usual: Tensor) -> tuple[float, float]:
    ratio = float(distances.median() / usual.median().clamp(min=1e-12))
    return ratio, float((distances < usual.quantile(QUANTILE)).float().mean())
