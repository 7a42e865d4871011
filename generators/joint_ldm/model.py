"""The joint latent diffusion model as a generator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from mmbench.api import BOTH, Card, Cohort, Context, Generator, PluginError, Sample, param

from .completion import partial_rows
from .latent_model import LatentModel
from .presets import PRESETS, Settings
from .training import Fit


@dataclass
class JointLDM(Generator):
    """Latent diffusion of volumes and table rows in one joint latent, in every direction.

    A variational autoencoder encodes both, each encoder reading the other by gated cross-attention; a
    denoiser with cross-attention between image and table tokens samples its latent, with a noise level for the image and
    one for each column: what is given is clean, the rest is drawn. The denoiser starts from a joint Gaussian of the
    training latents in closed form and learns what is not linear: after the few steps that the defaults spend on a small
    cohort, that Gaussian carries most of the link between image and row.

    Parameters that are ``None`` are those of the preset.
    """

    preset: str = param("demo", "sizes and lengths of all that is None below", choices=tuple(PRESETS))
    objective: str = param("flow", "flow matching, EDM, or DDPM with DDIM", choices=("flow", "edm", "ddpm"))
    exchange: str = param(
        "cross",
        "how the modalities meet: cross-attention; joint attention in the denoiser; none at all, in no network",
        choices=("cross", "joint", "none"),
    )
    latent: str = param(
        "two-part",
        "tokens of its own for each modality, or one latent for both",
        choices=("two-part", "shared"),
    )
    guidance: float = param(0.0, "classifier-free guidance by what is given; 0: off", minimum=0.0)
    autoencoder_steps: int | None = param(None, "steps of the joint autoencoder", minimum=1)
    steps: int | None = param(None, "steps of the denoiser", minimum=1)
    batch_size: int | None = param(None, "pairs in one step of the autoencoder", minimum=1)
    latent_batch_size: int | None = param(None, "latents in one step of the denoiser", minimum=1)
    learning_rate: float | None = param(None, "largest learning rate of the autoencoder's AdamW", minimum=0.0)
    latent_learning_rate: float | None = param(
        None, "largest learning rate of the denoiser's AdamW", minimum=0.0
    )
    stem: int | None = param(None, "channels on the grid of half blocks", minimum=1)
    features: int | None = param(
        None, "channels of the latent grid's features and width of table tokens", minimum=4
    )
    image_latent: int | None = param(None, "channels of the image latent", minimum=1)
    cells: int | None = param(None, "largest number of cells of the latent grid", minimum=1)
    width: int | None = param(None, "width of the denoiser; a multiple of 4", minimum=4)
    depth: int | None = param(None, "blocks of the denoiser", minimum=1)
    rank: int | None = param(None, "factors of the Gaussian that the denoiser starts from", minimum=1)
    table_latent: int = param(4, "width of a column's latent token", minimum=1)
    kl_weight: float = param(1e-3, "weight of the image latent's divergence from the normal", minimum=0.0)
    table_kl_weight: float = param(1e-2, "the same for the table latent", minimum=0.0)
    modality_dropout: float = param(
        0.25, "share of records whose encoder must do without the other modality", minimum=0.0, maximum=1.0
    )
    validation: float = param(
        0.05,
        "share of the training records, at most 64, that training is watched by",
        minimum=0.0,
        maximum=0.5,
    )
    precision: str = param(
        "auto", "of the networks; auto: bfloat16 on a GPU", choices=("auto", "float32", "bfloat16")
    )
    sampling_steps: int = param(24, "steps of the sampler", minimum=1)
    sampling_batch: int = param(64, "records denoised at a time; changes memory and no sample", minimum=1)

    card = Card(
        summary="Joint latent diffusion: a fusing autoencoder and a flow-matching denoiser with cross-attention.",
        reference=(
            "after Mensing et al. 2026, arXiv:2605.06699 (an independent design: the paper's code was not found); "
            "flow matching after Lipman et al. 2023, arXiv:2210.02747"
        ),
    )
    modalities = BOTH
    conditional = True

    def fit(self, train: Cohort, context: Context) -> None:
        """Fit the codec and the image space, train the autoencoder, then the denoiser on its latents."""
        torch.manual_seed(context.seed)
        self.model_ = LatentModel.start(Settings.of(self), train, torch.device(context.device))
        Fit.of(self.model_, train, context).run()

    def sample(self, n: int, seed: int, given: Mapping[str, Any] | None = None) -> Sample:
        rows = partial_rows(given or {}, self.model_.codec.schema, n)
        return self._sample(rows, seed)

    def sample_images(self, rows: pd.DataFrame, seed: int) -> Sample:
        """Draw a volume for each row: image given table.

        Args:
            rows: Some or all of the columns; a missing value is unknown and drawn as well.
            seed: Seed of every random draw.

        Returns:
            The rows, completed, and their volumes.

        Raises:
            PluginError: A column is unknown, or a value is none that it takes.
        """
        return self._sample(partial_rows(rows, self.model_.codec.schema), seed)

    def sample_tables(
        self, volumes: Iterable[np.ndarray], seed: int, rows: pd.DataFrame | None = None
    ) -> pd.DataFrame:
        """Draw a row for each volume: table given image.

        Args:
            volumes: Of the training cohort's grid, each of shape (channels, x, y, z).
            seed: Seed of every random draw.
            rows: What is known of the rows; a missing value is unknown.

        Raises:
            PluginError: The latent is shared, the volumes are not as many as the rows or of another shape, or a
                value is none that its column takes.
        """
        model = self.model_
        if model.settings.shared:
            raise PluginError("joint-ldm: latent=shared cannot draw tables for volumes; use latent=two-part.")
        stack = np.stack([np.asarray(volume, dtype=np.float32) for volume in volumes])
        shape = (len(model.space.mean), *model.space.shape)
        if stack.shape[1:] != shape:
            raise PluginError(f"joint-ldm: volumes of shape {shape} are expected, found {stack.shape[1:]}.")
        known = partial_rows(
            pd.DataFrame(index=range(len(stack))) if rows is None else rows, model.codec.schema
        )
        if len(known) != len(stack):
            raise PluginError(f"joint-ldm: {len(stack)} volumes but {len(known)} rows; give as many.")
        return self._draw(known, seed, images=model.encode_images(stack))[0]

    def sample_alone(self, n: int, seed: int, modality: Literal["table", "volume"]) -> Sample:
        """Draw one modality from its own distribution, without the other.

        Args:
            n: Number of records.
            seed: Seed of every random draw.
            modality: What is drawn.

        Raises:
            PluginError: Tables are asked for and the latent is shared.
        """
        model = self.model_
        if modality == "table" and model.settings.shared:
            raise PluginError("joint-ldm: latent=shared holds no table alone; use latent=two-part.")
        rows = partial_rows({}, model.codec.schema, n)
        table, latents = self._draw(rows, seed, absent="image" if modality == "table" else "table")
        if modality == "table":
            return Sample(table=table)
        return Sample(volumes=model.volumes(latents, seed))

    def memorisation(self) -> dict[str, float]:
        """Return how near samples lie to training records; see :func:`.memorisation.monitor`."""
        return dict(self.model_.memorisation)

    def _sample(self, rows: pd.DataFrame, seed: int) -> Sample:
        table, latents = self._draw(rows, seed)
        return Sample(table, self.model_.volumes(latents, seed))

    def _draw(self, rows: pd.DataFrame, seed: int, **more: Any) -> tuple[pd.DataFrame, torch.Tensor]:
        return self.model_.draw(
            rows,
            seed,
            steps=self.sampling_steps,
            guidance=self.guidance,
            batch=self.sampling_batch,
            **more,
        )

    def save(self, folder: Path) -> None:
        self.model_.save(folder, asdict(self))

    def load(self, folder: Path) -> None:
        self.model_, parameters = LatentModel.load(folder)
        for name, value in parameters.items():
            setattr(self, name, value)
