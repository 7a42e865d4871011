"""Unimodal latent diffusion of volumes, built from monai's networks and schedulers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.networks.nets import AutoencoderKL, DiffusionModelUNet
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler
from torch import Tensor
from torch.nn import functional

from mmbench.api import VOLUME, Card, Cohort, Context, Generator, Sample, param

from ._imaging import (
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

DECODING_BATCH = 16
"""Volumes denoised and decoded at a time while sampling: bounds memory."""
TRAIN_TIMESTEPS = 1000
SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": TRAIN_TIMESTEPS,
    "schedule": "scaled_linear_beta",
    "beta_start": 0.0015,
    "beta_end": 0.0195,
    # Few steps of training converge faster on the velocity (Salimans and Ho 2022, arXiv:2202.00512, appendix D).
    "prediction_type": "v_prediction",
    # Latents are no images: they have no range to clip to.
    "clip_sample": False,
}
"""Noise schedule of latent diffusion (Rombach et al. 2022, arXiv:2112.10752) as in monai's 3-D tutorial."""


@dataclass
class MriLDM(Generator):
    """Latent diffusion of volumes alone.

    Voxel blocks are folded into channels, of which the principal components are kept, so that all convolutions
    work on a coarse grid; a KL autoencoder compresses these and a U-Net learns to denoise its latents.
    """

    autoencoder_steps: int = param(200, "steps of the autoencoder", minimum=1)
    steps: int = param(400, "steps of the denoiser", minimum=1)
    batch_size: int = param(8, "volumes in one step of the autoencoder", minimum=1)
    latent_batch_size: int = param(16, "latents in one step of the denoiser", minimum=1)
    learning_rate: float = param(2e-3, "largest learning rate of AdamW", minimum=0.0)
    width: int = param(32, "channels of the autoencoder; a multiple of 8", minimum=8)
    components: int = param(48, "principal components of a voxel block", minimum=1)
    cells: int = param(400, "largest number of cells of the latent grid", minimum=1)
    latent: int = param(12, "channels of the latent", minimum=1)
    unet_width: int = param(32, "channels of the U-Net; a multiple of 8", minimum=8)
    kl_weight: float = param(1e-3, "weight of the divergence from the standard normal", minimum=0.0)
    sampling_steps: int = param(20, "DDIM steps", minimum=1, maximum=TRAIN_TIMESTEPS)

    card = Card(
        summary="3-D latent diffusion of volumes: monai's AutoencoderKL, DiffusionModelUNet and DDIM.",
        reference="Rombach et al. 2022, arXiv:2112.10752; Pinaya et al. 2023, arXiv:2307.15208 (MONAI)",
    )
    modalities = VOLUME

    def fit(self, train: Cohort, context: Context) -> None:
        """Train the autoencoder, then the denoiser on its latents."""
        torch.manual_seed(context.seed)
        generator = torch.Generator().manual_seed(context.seed)
        self.device_ = torch.device(context.device)
        geometry = train.images.geometry
        self.block_ = block_size(geometry.shape, geometry.spacing, self.cells)
        # The U-Net halves the grid of blocks once.
        self.space_ = ImageSpace.fit(train.images, [2 * edge for edge in self.block_])
        self._build()
        components, spread = principal_blocks(
            self.space_, train.images, self.block_, self.depth_, np.random.default_rng(context.seed)
        )
        # Components keep their relative size: what shows most in the image counts most in the loss.
        self.stem_ = {"components": components, "scale": spread.square().mean().sqrt()}
        self._fit_autoencoder(train, context)
        mean, sigma = self._encode(train)
        self.noise_ = self._fit_noise(train, mean)
        self._fit_denoiser(mean, sigma, context, generator)

    def _build(self) -> None:
        # A block of few voxels has no more components than values.
        self.depth_ = min(self.components, len(self.space_.mean) * math.prod(self.block_))
        self.autoencoder_ = AutoencoderKL(
            spatial_dims=3,
            in_channels=self.depth_,
            out_channels=self.depth_,
            channels=(self.width,),
            num_res_blocks=1,
            attention_levels=(False,),
            latent_channels=self.latent,
            norm_num_groups=8,
            with_encoder_nonlocal_attn=False,
            with_decoder_nonlocal_attn=False,
        ).to(self.device_)
        self.unet_ = DiffusionModelUNet(
            spatial_dims=3,
            in_channels=self.latent,
            out_channels=self.latent,
            channels=(self.unet_width, 2 * self.unet_width),
            num_res_blocks=1,
            attention_levels=(False, True),
            num_head_channels=(0, self.unet_width // 2),
            norm_num_groups=8,
        ).to(self.device_)
        self.grid_ = tuple(size // edge for size, edge in zip(self.space_.padded, self.block_, strict=True))

    def _blocks(self, volumes: np.ndarray) -> Tensor:
        """Return volumes as components of their blocks, shape (n, components, x', y', z')."""
        blocks = space_to_depth(self.space_.encode(volumes), self.block_)
        return (torch.einsum("cd,ndxyz->ncxyz", self.stem_["components"], blocks) / self.stem_["scale"]).to(
            self.device_
        )

    def _fit_autoencoder(self, train: Cohort, context: Context) -> None:
        model = self.autoencoder_
        optimiser = torch.optim.AdamW(model.parameters(), self.learning_rate)
        training = Training(model, optimiser, self.autoencoder_steps, 0.98)
        order = Shuffled(len(train), np.random.default_rng(context.seed))
        for step in context.steps(self.autoencoder_steps, "autoencoder"):
            rows = order.draw(self.batch_size)
            blocks = self._blocks(train.images.take(rows).stack())
            decoded, mean, sigma = model(blocks)
            divergence = 0.5 * (mean.square() + sigma.square() - 1 - 2 * sigma.log()).mean()
            error = functional.l1_loss(decoded, blocks) + functional.mse_loss(decoded, blocks)
            loss = error + self.kl_weight * divergence
            training.step(loss)
            if step % 10 == 0:
                context.log("autoencoder loss", error.item(), step)
        training.finish()

    @torch.no_grad()
    def _encode(self, train: Cohort) -> tuple[Tensor, Tensor]:
        """Encode the training volumes once; return posterior means and standard deviations."""
        parts = [
            self.autoencoder_.encode(self._blocks(batch)) for batch in train.images.batches(DECODING_BATCH)
        ]
        mean, sigma = (torch.cat(part) for part in zip(*parts, strict=True))
        # The scale factor comes from all latents, not from the first batch as in monai's tutorial, and from each
        # cell, as volumes lie on one grid.
        centre = mean.mean(dim=0, keepdim=True)
        variance = (mean - centre).square().mean(dim=0, keepdim=True)
        spread = (variance + sigma.square().mean(dim=0, keepdim=True)).sqrt()
        self.scaling_ = {"mean": centre, "std": spread}
        return mean, sigma

    def _fit_noise(self, train: Cohort, latents: Tensor) -> SensorNoise:
        rows = np.arange(min(len(train), 64))
        decoded = np.concatenate([self._decode(latents[i : i + 1]) for i in rows])
        return SensorNoise.fit(train.images.take(rows).stack(), decoded, train.images.geometry.spacing)

    def _fit_denoiser(
        self, mean: Tensor, sigma: Tensor, context: Context, generator: torch.Generator
    ) -> None:
        network = self.unet_
        scheduler = DDPMScheduler(**SCHEDULE)
        optimiser = torch.optim.AdamW(network.parameters(), self.learning_rate)
        training = Training(network, optimiser, self.steps, 0.99)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator).to(self.device_)

        for step in context.steps(self.steps, "denoiser"):
            rows = torch.randint(len(mean), (self.latent_batch_size,), generator=generator).to(self.device_)
            clean = mean[rows] + sigma[rows] * normal(len(rows), *mean.shape[1:])
            clean = (clean - self.scaling_["mean"]) / self.scaling_["std"]
            noise = normal(*clean.shape)
            times = torch.randint(TRAIN_TIMESTEPS, (len(rows),), generator=generator).to(self.device_)
            noisy = scheduler.add_noise(clean, noise, times)
            target = scheduler.get_velocity(clean, noise, times)
            loss = functional.mse_loss(network(noisy, times), target)
            training.step(loss)
            if step % 10 == 0:
                context.log("denoiser loss", loss.item(), step)
        training.finish()

    @torch.no_grad()
    def _decode(self, latents: Tensor) -> np.ndarray:
        decoded = self.autoencoder_.decode(latents).cpu() * self.stem_["scale"]
        blocks = torch.einsum("cd,ncxyz->ndxyz", self.stem_["components"], decoded)
        return self.space_.decode(depth_to_space(blocks, self.block_))

    @torch.no_grad()
    def _denoise(self, state: Tensor) -> Tensor:
        scheduler = DDIMScheduler(**SCHEDULE)
        scheduler.set_timesteps(self.sampling_steps)
        for time in scheduler.timesteps:
            velocity = self.unet_(state, time.expand(len(state)).to(self.device_))
            state, _ = scheduler.step(velocity, int(time), state)
        return state * self.scaling_["std"] + self.scaling_["mean"]

    def sample(self, n: int, seed: int, given: Mapping[str, Any] | None = None) -> Sample:
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(n, self.latent, *self.grid_, generator=generator).to(self.device_)
        return Sample(volumes=self._volumes(noise, seed))

    def _volumes(self, noise: Tensor, seed: int) -> Iterator[np.ndarray]:
        for start in range(0, len(noise), DECODING_BATCH):
            volumes = self._decode(self._denoise(noise[start : start + DECODING_BATCH]))
            for i, volume in enumerate(volumes, start):
                rng = np.random.default_rng([seed, i])
                yield self.noise_.apply(volume, rng, self.space_.non_negative)

    def save(self, folder: Path) -> None:
        tensors = (
            prefixed("autoencoder", self.autoencoder_.state_dict())
            | prefixed("unet", self.unet_.state_dict())
            | prefixed("scaling", self.scaling_)
            | prefixed("stem", self.stem_)
            | prefixed("space", self.space_.arrays())
            | prefixed("noise", self.noise_.arrays())
        )
        config = {"parameters": asdict(self), "block": self.block_, "space": self.space_.to_dict()}
        save_model(folder, tensors, config)

    def load(self, folder: Path) -> None:
        tensors, config = load_model(folder)
        for name, value in config["parameters"].items():
            setattr(self, name, value)
        self.device_ = torch.device("cpu")
        self.block_ = tuple(config["block"])
        self.space_ = ImageSpace.restore(config["space"], under("space", tensors))
        self.noise_ = SensorNoise.restore(under("noise", tensors))
        self._build()
        self.autoencoder_.load_state_dict(under("autoencoder", tensors))
        self.unet_.load_state_dict(under("unet", tensors))
        self.autoencoder_.eval()
        self.unet_.eval()
        self.scaling_ = under("scaling", tensors)
        self.stem_ = under("stem", tensors)
