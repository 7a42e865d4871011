"""The joint latent diffusion model as a generator: fit, sample, save, load."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmbench.api import BOTH, Card, Cohort, Context, Generator, Sample, param

from .._imaging import (
    CHANNELS_LAST,
    ImageSpace,
    SensorNoise,
    Shuffled,
    Training,
    block_size,
    depth_to_space,
    load_model,
    prefixed,
    principal_blocks,
    save_model,
    space_to_depth,
    under,
)
from .autoencoder import draw, kl_divergence, reconstruction_loss, start_linear
from .codec import TableCodec
from .denoiser import Denoiser, Latents, flow_loss, heun
from .fusion import JointAutoencoder, table_loss

DECODING_BATCH = 16
"""Volumes decoded at a time while sampling: bounds memory."""
LINEAR_SHARE = 0.02
"""Learning rate of the linear parts of the image autoencoder, as a share of that of the rest."""
MOST_FOR_GUESS = 1024
"""Training records from which the Gaussian guess is made: bounds the time of its decomposition."""
TABLE_BATCH = 256
"""Rows, without images, that every step of the autoencoder learns from beside its pairs."""


@dataclass
class JointLDM(Generator):
    """Latent diffusion of volumes and table rows in one joint latent.

    A variational autoencoder encodes both, each encoder reading the other by gated cross-attention; a
    flow-matching denoiser with cross-attention between image and table tokens samples its latent. The denoiser
    starts from a joint Gaussian of the training latents in closed form and learns what is not linear: after the
    few steps that the defaults spend on a small cohort, that Gaussian carries most of the link between image and
    row.
    """

    autoencoder_steps: int = param(120, "steps of the joint autoencoder", minimum=1)
    steps: int = param(380, "steps of the denoiser", minimum=1)
    batch_size: int = param(8, "pairs in one step of the autoencoder", minimum=1)
    latent_batch_size: int = param(32, "latents in one step of the denoiser", minimum=1)
    learning_rate: float = param(2e-3, "largest learning rate of the autoencoder's AdamW", minimum=0.0)
    latent_learning_rate: float = param(3e-3, "largest learning rate of the denoiser's AdamW", minimum=0.0)
    stem: int = param(32, "channels on the grid of half blocks", minimum=1)
    features: int = param(64, "channels of the latent grid's features and width of table tokens", minimum=4)
    image_latent: int = param(12, "channels of the image latent", minimum=1)
    cells: int = param(800, "largest number of cells of the latent grid", minimum=1)
    table_latent: int = param(4, "width of a column's latent token", minimum=1)
    kl_weight: float = param(1e-3, "weight of the image latent's divergence from the normal", minimum=0.0)
    table_kl_weight: float = param(1e-2, "the same for the table latent", minimum=0.0)
    modality_dropout: float = param(
        0.25, "share of records whose encoder must do without the other modality", minimum=0.0, maximum=1.0
    )
    width: int = param(96, "width of the denoiser; a multiple of 4", minimum=4)
    depth: int = param(3, "blocks of the denoiser", minimum=1)
    rank: int = param(64, "factors of the Gaussian that the denoiser starts from", minimum=1)
    sampling_steps: int = param(24, "steps of Heun's method", minimum=1)

    card = Card(
        summary="Joint latent diffusion: a fusing autoencoder and a flow-matching denoiser with cross-attention.",
        reference=(
            "after Mensing et al. 2026, arXiv:2605.06699 (an independent design: the paper's code was not found); "
            "flow matching after Lipman et al. 2023, arXiv:2210.02747"
        ),
    )
    modalities = BOTH

    def fit(self, train: Cohort, context: Context) -> None:
        """Fit the codec and the image space, train the autoencoder, then the denoiser on its latents."""
        torch.manual_seed(context.seed)
        generator = torch.Generator().manual_seed(context.seed)
        rng = np.random.default_rng(context.seed)
        self.device_ = torch.device(context.device)
        geometry = train.images.geometry
        self.block_ = block_size(geometry.shape, geometry.spacing, self.cells)
        # An image token covers two cells along each axis that has as many.
        self.token_ = tuple(
            2 if size > edge else 1 for size, edge in zip(geometry.shape, self.block_, strict=True)
        )
        self.codec_ = TableCodec.fit(train.rows, train.schema)
        self.space_ = ImageSpace.fit(
            train.images, [edge * cells for edge, cells in zip(self.block_, self.token_, strict=True)]
        )
        self._build()
        components, spread = principal_blocks(self.space_, train.images, self.block_, self.latent_, rng)
        start_linear(self.autoencoder_.image_encoder, self.autoencoder_.image_decoder, components, spread)
        self._fit_autoencoder(train, context, generator, rng)
        image, table = self._encode(train, rng)
        self.noise_ = self._fit_noise(train, image)
        self._fit_denoiser(image, table, context, generator)

    def _build(self) -> None:
        widths = [field.width for field in self.codec_.fields]
        channels = len(self.space_.mean)
        # A block of few voxels has no more components than values.
        self.latent_ = min(self.image_latent, channels * math.prod(self.block_))
        self.autoencoder_ = JointAutoencoder(
            channels, self.block_, widths, self.stem, self.features, self.latent_, self.table_latent
        ).to(self.device_)
        # torch's type stubs do not know memory_format as the only argument.
        self.autoencoder_ = self.autoencoder_.to(memory_format=CHANNELS_LAST)  # type: ignore[call-overload]
        edges = zip(self.space_.padded, self.block_, self.token_, strict=True)
        self.grid_ = tuple(size // (edge * cells) for size, edge, cells in edges)
        self.denoiser_ = Denoiser(
            image_tokens=math.prod(self.grid_),
            image_width=self.latent_ * math.prod(self.token_),
            table_tokens=len(widths),
            table_width=self.table_latent,
            width=self.width,
            depth=self.depth,
            rank=self.rank,
        ).to(self.device_)

    def _fit_autoencoder(
        self, train: Cohort, context: Context, generator: torch.Generator, rng: np.random.Generator
    ) -> None:
        model = self.autoencoder_
        # The linear parts start where they should end; full steps would throw them off course.
        linear = [
            *model.image_encoder.project.parameters(), *model.image_decoder.project.parameters()
        ]  # fmt: skip
        others = [p for p in model.parameters() if not any(p is q for q in linear)]
        groups: list[dict[str, Any]] = [
            {"params": others},
            {"params": linear, "lr": self.learning_rate * LINEAR_SHARE},
        ]
        optimiser = torch.optim.AdamW(groups, self.learning_rate, betas=(0.9, 0.95), weight_decay=1e-2)
        training = Training(model, optimiser, self.autoencoder_steps, 0.98)
        order = Shuffled(len(train), rng)
        for step in context.steps(self.autoencoder_steps, "autoencoder"):
            rows = order.draw(self.batch_size)
            images = self.space_.encode(train.images.take(rows).stack()).to(self.device_)
            fields = self._fields(self.codec_.encode(train.rows.iloc[rows], rng))
            seen = (torch.rand(2, len(rows), generator=generator) >= self.modality_dropout).float()
            posterior = model.encode(images, fields, *seen.to(self.device_))
            latent = draw(posterior.image, posterior.image_log_variance, generator)
            image_loss = reconstruction_loss(model.image_decoder(latent), images, self.block_)
            latent = draw(posterior.table, posterior.table_log_variance, generator)
            paired_loss = table_loss(model.table_decoder(latent), fields)

            more = self._fields(
                self.codec_.encode(train.rows.iloc[rng.integers(len(train), size=TABLE_BATCH)], rng)
            )
            mean, log_variance = model.encode_table(more)
            row_loss = table_loss(model.table_decoder(draw(mean, log_variance, generator)), more)
            # The divergence grows on a ramp: strong from the start, it empties the latent for good.
            ramp = min(1.0, 2 * step / self.autoencoder_steps)
            image_divergence, table_divergence = posterior.divergence()
            penalty = self.kl_weight * image_divergence + self.table_kl_weight * (
                table_divergence + kl_divergence(mean, log_variance)
            )
            loss = image_loss + paired_loss + row_loss + ramp * penalty

            training.step(loss)
            if step % 10 == 0:
                context.log("autoencoder image loss", image_loss.item(), step)
                context.log("autoencoder table loss", row_loss.item(), step)
        training.finish()

    def _fields(self, arrays: list[np.ndarray]) -> list[Tensor]:
        return [torch.from_numpy(array).to(self.device_) for array in arrays]

    @torch.no_grad()
    def _encode(
        self, train: Cohort, rng: np.random.Generator
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Encode the training cohort once; return means and log variances of images and of tables."""
        parts: list[tuple[Tensor, ...]] = []
        for start in range(0, len(train), DECODING_BATCH):
            rows = np.arange(start, min(start + DECODING_BATCH, len(train)))
            images = self.space_.encode(train.images.take(rows).stack()).to(self.device_)
            fields = self._fields(self.codec_.encode(train.rows.iloc[rows], rng))
            ones = torch.ones(len(rows), device=self.device_)
            posterior = self.autoencoder_.encode(images, fields, ones, ones)
            parts.append(
                (posterior.image, posterior.image_log_variance, posterior.table, posterior.table_log_variance)
            )
        image, image_log_variance, table, table_log_variance = (
            torch.cat(part) for part in zip(*parts, strict=True)
        )
        image_mean, image_std = _moments(image, image_log_variance)
        table_mean, table_std = _moments(table, table_log_variance)
        self.scaling_ = {
            "image_mean": image_mean, "image_std": image_std, "table_mean": table_mean, "table_std": table_std
        }  # fmt: skip
        return (image, image_log_variance), (table, table_log_variance)

    def _fit_noise(self, train: Cohort, image: tuple[Tensor, Tensor]) -> SensorNoise:
        rows = np.arange(min(len(train), 64))
        decoded = [self._decode_images(image[0][i : i + 1]) for i in rows]
        return SensorNoise.fit(
            train.images.take(rows).stack(), np.concatenate(decoded), train.images.geometry.spacing
        )

    def _fit_denoiser(
        self,
        image: tuple[Tensor, Tensor],
        table: tuple[Tensor, Tensor],
        context: Context,
        generator: torch.Generator,
    ) -> None:
        network = self.denoiser_
        # What each number moves in the image: errors that hardly show matter less.
        gain = self.autoencoder_.image_decoder.project.weight.detach().flatten(1).norm(dim=0)
        moved = space_to_depth(self.scaling_["image_std"] * gain[None, :, None, None, None], self.token_)
        importance = (moved / moved.mean()).flatten(2)[0].T
        rows = torch.randperm(len(image[0]), generator=generator)[:MOST_FOR_GUESS].to(self.device_)
        network.guess.fit(
            self._to_tokens(
                draw(image[0][rows], image[1][rows], generator),
                draw(table[0][rows], table[1][rows], generator),
            ),
            importance,
        )
        optimiser = torch.optim.AdamW(
            network.parameters(), self.learning_rate, betas=(0.9, 0.95), weight_decay=1e-2
        )
        training = Training(network, optimiser, self.steps, 0.99)
        for step in context.steps(self.steps, "denoiser"):
            rows = torch.randint(len(image[0]), (self.latent_batch_size,), generator=generator).to(
                self.device_
            )
            clean = self._to_tokens(
                draw(image[0][rows], image[1][rows], generator),
                draw(table[0][rows], table[1][rows], generator),
            )
            loss = flow_loss(network, clean, importance, generator)
            training.step(loss)
            if step % 10 == 0:
                context.log("denoiser loss", loss.item(), step)
        training.finish()

    def _to_tokens(self, image: Tensor, table: Tensor) -> Latents:
        scaling = self.scaling_
        cells = space_to_depth((image - scaling["image_mean"]) / scaling["image_std"], self.token_)
        return Latents(
            cells.flatten(2).transpose(1, 2), (table - scaling["table_mean"]) / scaling["table_std"]
        )

    def _from_tokens(self, latents: Latents) -> tuple[Tensor, Tensor]:
        scaling = self.scaling_
        n = len(latents.image)
        cells = depth_to_space(latents.image.transpose(1, 2).reshape(n, -1, *self.grid_), self.token_)
        return (
            cells * scaling["image_std"] + scaling["image_mean"],
            latents.table * scaling["table_std"] + scaling["table_mean"],
        )

    @torch.no_grad()
    def _decode_images(self, latents: Tensor) -> np.ndarray:
        return self.space_.decode(self.autoencoder_.image_decoder(latents))

    def sample(self, n: int, seed: int, given: Mapping[str, Any] | None = None) -> Sample:
        generator = torch.Generator().manual_seed(seed)
        width = self.latent_ * math.prod(self.token_)
        noise = Latents(
            torch.randn(n, math.prod(self.grid_), width, generator=generator).to(self.device_),
            torch.randn(n, len(self.codec_.fields), self.table_latent, generator=generator).to(self.device_),
        )
        image, table = self._from_tokens(heun(self.denoiser_, noise, self.sampling_steps))
        with torch.no_grad():
            decoded = [part.cpu().numpy() for part in self.autoencoder_.table_decoder(table)]
        rows = self.codec_.decode(decoded, np.random.default_rng(seed))
        return Sample(rows, self._volumes(image, seed))

    def _volumes(self, latents: Tensor, seed: int) -> Iterator[np.ndarray]:
        for start in range(0, len(latents), DECODING_BATCH):
            volumes = self._decode_images(latents[start : start + DECODING_BATCH])
            for i, volume in enumerate(volumes, start):
                rng = np.random.default_rng([seed, i])
                yield self.noise_.apply(volume, rng, self.space_.non_negative)

    def save(self, folder: Path) -> None:
        tensors = (
            prefixed("autoencoder", self.autoencoder_.state_dict())
            | prefixed("denoiser", self.denoiser_.state_dict())
            | prefixed("scaling", self.scaling_)
            | prefixed("space", self.space_.arrays())
            | prefixed("noise", self.noise_.arrays())
        )
        config = {
            "parameters": asdict(self),
            "block": self.block_,
            "token": self.token_,
            "space": self.space_.to_dict(),
            "codec": self.codec_.to_dict(),
        }
        save_model(folder, tensors, config)

    def load(self, folder: Path) -> None:
        tensors, config = load_model(folder)
        for name, value in config["parameters"].items():
            setattr(self, name, value)
        self.device_ = torch.device("cpu")
        self.block_ = tuple(config["block"])
        self.token_ = tuple(config["token"])
        self.codec_ = TableCodec.from_dict(config["codec"])
        self.space_ = ImageSpace.restore(config["space"], under("space", tensors))
        self.noise_ = SensorNoise.restore(under("noise", tensors))
        self._build()
        self.autoencoder_.load_state_dict(under("autoencoder", tensors))
        self.denoiser_.load_state_dict(under("denoiser", tensors))
        self.autoencoder_.eval()
        self.denoiser_.eval()
        self.scaling_ = under("scaling", tensors)


def _moments(mean: Tensor, log_variance: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation, number by number, of all posteriors together, shape (1, ...).

    Volumes lie on one grid: what a cell's latent usually is, and how far it varies, depends on where it is.
    """
    centre = mean.mean(dim=0, keepdim=True)
    variance = (mean - centre).square().mean(dim=0, keepdim=True)
    return centre, (variance + log_variance.exp().mean(dim=0, keepdim=True)).sqrt()
