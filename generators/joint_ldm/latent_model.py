"""The fitted parts of the model: codec, image space and networks, and the ways between records and latents."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mmbench.api import Cohort

from .._imaging import (
    CHANNELS_LAST,
    ImageSpace,
    SensorNoise,
    block_size,
    depth_to_space,
    load_model,
    prefixed,
    save_model,
    space_to_depth,
    under,
)
from .codec import TableCodec
from .completion import needed, settle
from .denoiser import Denoiser
from .fusion import JointAutoencoder
from .latents import Known, Latents, Levels
from .objective import OBJECTIVES, solve
from .presets import Settings

DECODING_BATCH = 16
"""Volumes encoded or decoded at a time: bounds memory."""


class LatentModel:
    """Everything that was fitted.

    Args:
        settings: Sizes and configuration.
        codec: Codes table rows.
        space: Normalises volumes.
        block: Edges of the voxel blocks that are cells of the latent grid.
        token: Cells that an image token covers along each axis.
        device: Where the networks are.
    """

    noise: SensorNoise
    scaling: dict[str, Tensor]

    def __init__(
        self,
        settings: Settings,
        codec: TableCodec,
        space: ImageSpace,
        block: Sequence[int],
        token: Sequence[int],
        device: torch.device,
    ) -> None:
        self.settings, self.codec, self.space, self.device = settings, codec, space, device
        self.block, self.token = tuple(block), tuple(token)
        self.memorisation: dict[str, float] = {}
        self.objective = OBJECTIVES[settings.objective]
        widths = [field.width for field in codec.fields]
        channels = len(space.mean)
        # A block of few voxels has no more components than values.
        self.channels = min(settings.image_latent, channels * math.prod(self.block))
        edges = zip(space.padded, self.block, self.token, strict=True)
        self.grid = tuple(size // (edge * cells) for size, edge, cells in edges)
        cells = math.prod(self.grid) * math.prod(self.token)
        self.autoencoder = JointAutoencoder(
            channels,
            self.block,
            widths,
            settings.stem,
            settings.features,
            self.channels,
            settings.table_latent,
            exchanges=settings.exchanges,
            cells=cells if settings.shared else None,
        ).to(device)
        # torch's type stubs do not know memory_format as the only argument.
        self.autoencoder = self.autoencoder.to(memory_format=CHANNELS_LAST)  # type: ignore[call-overload]
        self.shapes = (
            (math.prod(self.grid), self.channels * math.prod(self.token)),
            (len(widths), settings.table_latent),
        )
        self.denoiser = Denoiser(
            self.objective, *self.shapes, settings.width, settings.depth, settings.rank, settings.exchange
        ).to(device)

    @classmethod
    def start(cls, settings: Settings, train: Cohort, device: torch.device) -> LatentModel:
        """Return a model whose codec and image space fit the training cohort, with untrained networks."""
        geometry = train.images.geometry
        block = block_size(geometry.shape, geometry.spacing, settings.cells)
        # An image token covers two cells along each axis that has as many.
        token = [2 if size > edge else 1 for size, edge in zip(geometry.shape, block, strict=True)]
        codec = TableCodec.fit(train.rows, train.schema)
        space = ImageSpace.fit(train.images, [e * cells for e, cells in zip(block, token, strict=True)])
        return cls(settings, codec, space, block, token, device)

    def autocast(self) -> AbstractContextManager[None]:
        """Return a context of mixed precision, where settings and device have it."""
        chosen = self.settings.precision
        mixed = chosen == "bfloat16" or (chosen == "auto" and self.device.type == "cuda")
        return torch.autocast(self.device.type, torch.bfloat16, enabled=mixed)

    def velocity(self, noisy: Latents, levels: Levels) -> Latents:
        """Return the denoiser's velocities in float32."""
        with self.autocast():
            found = self.denoiser(noisy, levels)
        return Latents(found.image.float(), found.table.float())

    def images(self, volumes: np.ndarray) -> Tensor:
        """Return volumes of shape (n, channels, x, y, z) as the autoencoder reads them."""
        return self.space.encode(volumes).to(self.device)

    def fields(self, arrays: Sequence[np.ndarray]) -> list[Tensor]:
        """Return coded fields on the device."""
        return [torch.from_numpy(array).to(self.device) for array in arrays]

    def image_tokens(self, latents: Tensor) -> Tensor:
        """Return image latents, shape (n, channels, x', y', z'), as normalised tokens."""
        scaled = (latents - self.scaling["image_mean"]) / self.scaling["image_std"]
        return space_to_depth(scaled, self.token).flatten(2).transpose(1, 2)

    def table_tokens(self, latents: Tensor) -> Tensor:
        """Return table latents, shape (n, fields, table_latent), normalised."""
        return (latents - self.scaling["table_mean"]) / self.scaling["table_std"]

    def latents(self, tokens: Latents) -> Latents:
        """Undo :meth:`image_tokens` and :meth:`table_tokens`."""
        n = len(tokens.image)
        cells = depth_to_space(tokens.image.transpose(1, 2).reshape(n, -1, *self.grid), self.token)
        return Latents(
            cells * self.scaling["image_std"] + self.scaling["image_mean"],
            tokens.table * self.scaling["table_std"] + self.scaling["table_mean"],
        )

    @torch.no_grad()
    def decode_images(self, latents: Tensor) -> np.ndarray:
        """Return smooth volumes of image latents."""
        with self.autocast():
            decoded = self.autoencoder.image_decoder(latents.to(self.device))
        return self.space.decode(decoded.float())

    def volumes(self, latents: Tensor, seed: int) -> Iterator[np.ndarray]:
        """Yield volumes of image latents with their sensor noise, few in memory at a time."""
        for start in range(0, len(latents), DECODING_BATCH):
            for i, volume in enumerate(self.decode_images(latents[start : start + DECODING_BATCH]), start):
                rng = np.random.default_rng([seed, i, 1])
                yield self.noise.apply(volume, rng, self.space.non_negative)

    @torch.no_grad()
    def encode_images(self, volumes: np.ndarray) -> Tensor:
        """Return tokens of volumes whose rows are unknown."""
        parts = [
            self.image_tokens(self.autoencoder.encode_image(self.images(volumes[i : i + DECODING_BATCH])))
            for i in range(0, len(volumes), DECODING_BATCH)
        ]
        return torch.cat(parts)

    @torch.no_grad()
    def encode_rows(self, fields: Sequence[Tensor], known: Tensor) -> Tensor:
        """Return tokens of partly known rows whose images are unknown; those of unknown columns mean nothing."""
        return self.table_tokens(self.autoencoder.encode_table(fields, known)[0])

    @torch.no_grad()
    def draw(
        self,
        rows: pd.DataFrame,
        seed: int,
        images: Tensor | None = None,
        steps: int = 24,
        guidance: float = 0.0,
        batch: int = 64,
        absent: str = "",
    ) -> tuple[pd.DataFrame, Tensor]:
        """Draw what is not known of records.

        Every record has random numbers of its own, by seed and place, so that neither the batch nor the number of
        records changes what becomes of it.

        Args:
            rows: What is known of each row, missing elsewhere.
            seed: Seed of every draw.
            images: Tokens of the images, where these are known.
            steps: Steps of the sampler.
            guidance: As in :func:`solve`.
            batch: Records denoised at a time.
            absent: As in :func:`solve`.

        Returns:
            Whole rows, and image latents of shape (n, channels, x', y', z') on the CPU.
        """
        n, fields = len(rows), len(self.codec.fields)
        codes, uniform = np.empty((n, fields)), np.empty((n, fields, 2))
        noise = Latents(*(torch.empty(n, *shape) for shape in self.shapes))
        for i in range(n):
            rng = np.random.default_rng([seed, i, 0])
            for part in noise:
                part[i] = torch.from_numpy(rng.standard_normal(part.shape[1:], dtype=np.float32))
            codes[i], uniform[i] = rng.random(fields), rng.random((fields, 2))
        columns = torch.from_numpy(rows.notna().to_numpy())
        coded = [torch.from_numpy(array) for array in self.codec.encode(rows, codes)]
        # Where all rows know the same columns, one set of levels serves them all.
        alike = bool((columns == columns[:1]).all())
        decoded: list[list[Tensor]] = []
        latents = []
        for start in range(0, n, batch):
            chunk = slice(start, start + batch)
            here = columns[chunk].to(self.device)
            known = Known(
                None if images is None else images[chunk],
                self.encode_rows([field[chunk].to(self.device) for field in coded], here),
                here[:1] if alike else here,
            )
            tokens = solve(
                self.velocity,
                self.objective,
                Latents(*(x[chunk].to(self.device) for x in noise)),
                known,
                steps,
                guidance,
                self.settings.shared,
                absent,
            )
            image, table = self.latents(tokens)
            if self.autoencoder.reader is not None:
                table = torch.where(here[:, :, None], table, self.autoencoder.reader(image))
            decoded.append([field.float().cpu() for field in self.autoencoder.table_decoder(table)])
            latents.append(image.cpu())
        outputs = [torch.cat(parts).numpy() for parts in zip(*decoded, strict=True)]
        schema = self.codec.schema
        table_rows = self.codec.decode(outputs, uniform, needed(rows, schema))
        return settle(table_rows, rows, schema, self.codec.ranges()), torch.cat(latents)

    def save(self, folder: Path, parameters: dict[str, Any]) -> None:
        """Write the model as safetensors and JSON, with the generator's parameters."""
        tensors = (
            prefixed("autoencoder", self.autoencoder.state_dict())
            | prefixed("denoiser", self.denoiser.state_dict())
            | prefixed("scaling", self.scaling)
            | prefixed("space", self.space.arrays())
            | prefixed("noise", self.noise.arrays())
        )
        config = {
            "parameters": parameters,
            "settings": dataclasses.asdict(self.settings),
            "block": self.block,
            "token": self.token,
            "space": self.space.to_dict(),
            "codec": self.codec.to_dict(),
            "memorisation": self.memorisation,
        }
        save_model(folder, tensors, config)

    @classmethod
    def load(cls, folder: Path) -> tuple[LatentModel, dict[str, Any]]:
        """Read the model that :meth:`save` wrote, onto the CPU, and the generator's parameters.

        Raises:
            PluginError: A file is absent or cannot be read.
        """
        tensors, config = load_model(folder)
        model = cls(
            Settings(**config["settings"]),
            TableCodec.from_dict(config["codec"]),
            ImageSpace.restore(config["space"], under("space", tensors)),
            config["block"],
            config["token"],
            torch.device("cpu"),
        )
        model.noise = SensorNoise.restore(under("noise", tensors))
        model.autoencoder.load_state_dict(under("autoencoder", tensors))
        model.denoiser.load_state_dict(under("denoiser", tensors))
        model.autoencoder.eval()
        model.denoiser.eval()
        model.scaling = under("scaling", tensors)
        model.memorisation = config["memorisation"]
        return model, config["parameters"]
