"""Training of the model: the joint autoencoder, then the denoiser on its latents."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmbench.api import Cohort, Context

from .._imaging import SensorNoise, principal_blocks, space_to_depth
from .autoencoder import draw, kl_divergence, reconstruction_loss, start_linear
from .fusion import table_loss
from .latent_model import DECODING_BATCH, LatentModel
from .latents import Latents, Levels, draw_known
from .memorisation import monitor
from .objective import draw_levels, loss
from .optimisation import Randomness, Task, Training

LINEAR_SHARE = 0.02
"""Learning rate of the linear parts of the image autoencoder, as a share of that of the rest."""
MOST_FOR_GUESS = 1024
"""Training records from which the Gaussian guess is made: bounds the time of its decomposition."""
TABLE_BATCH = 256
"""Rows, without images, that every step of the autoencoder learns from beside its pairs."""
AUTOENCODER_SHARE = 0.4
"""Share of a time budget that the autoencoder may spend."""
FEWEST_HELD_OUT = 4
"""Fewer held-out records say nothing, and are better learned from."""
MOST_HELD_OUT = 64
"""Held-out records that are looked at: bounds the time that this takes."""
LOOKS = 4
"""Noise levels at which each held-out latent is looked at."""


@dataclass
class Fit:
    """One fit in progress.

    Attributes:
        model: What is trained.
        train: Training cohort.
        context: Progress, budget and curves.
        randomness: Source of every random number.
        learned: Positions of the records that are learned from.
        held_out: Positions of the others, by which training is watched.
        folder: Where checkpoints lie.
        key: What they depend on.
    """

    model: LatentModel
    train: Cohort
    context: Context
    randomness: Randomness
    learned: np.ndarray
    held_out: np.ndarray
    folder: Path
    key: str

    @classmethod
    def of(cls, model: LatentModel, train: Cohort, context: Context) -> Fit:
        """Split off the records that training is watched by and make ready."""
        rng = np.random.default_rng(context.seed)
        count = min(MOST_HELD_OUT, round(model.settings.validation * len(train)))
        order = rng.permutation(len(train))
        held_out = np.sort(order[:count]) if count >= FEWEST_HELD_OUT else order[:0]
        learned = np.setdiff1d(order, held_out)
        key = _key(dataclasses.asdict(model.settings), context.seed, str(model.device), train.fingerprint())
        randomness = Randomness(torch.Generator().manual_seed(context.seed), rng)
        folder = context.folder / "joint-ldm"
        return cls(model, train, context, randomness, learned, held_out, folder, key)

    def run(self) -> None:
        """Train both networks and look for copies of training records."""
        model = self.model
        components, spread = principal_blocks(
            model.space,
            self.train.images.take(self.learned),
            model.block,
            model.channels,
            self.randomness.numpy,
        )
        start_linear(model.autoencoder.image_encoder, model.autoencoder.image_decoder, components, spread)
        self._fit_autoencoder()
        encoded = Encoded.of(model, self.train, self.learned, self.randomness.numpy)
        self._fit_noise(encoded)
        self._fit_denoiser(encoded)
        model.memorisation = monitor(
            model, encoded, self.learned, self.held_out, importance(model), self.randomness.torch
        )
        for name, value in model.memorisation.items():
            self.context.log(f"memorisation {name}", value, 0)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _train(self, task: Task, share: float) -> None:
        left = self.context.remaining()
        seconds = None if left is None else share * left
        Training(task, self.randomness, self.folder, self.key).run(self.context, seconds)

    def _fit_autoencoder(self) -> None:
        settings, model = self.model.settings, self.model.autoencoder
        # The linear parts start where they should end; full steps would throw them off course.
        linear = [*model.image_encoder.project.parameters(), *model.image_decoder.project.parameters()]
        others = [p for p in model.parameters() if not any(p is q for q in linear)]
        groups: list[dict[str, Any]] = [
            {"params": others},
            {"params": linear, "lr": settings.learning_rate * LINEAR_SHARE},
        ]
        optimiser = torch.optim.AdamW(groups, settings.learning_rate, betas=(0.9, 0.95), weight_decay=1e-2)
        task = Task(
            "autoencoder",
            model,
            optimiser,
            settings.autoencoder_steps,
            0.98,
            self._autoencoder_loss,
            self._autoencoder_validation if len(self.held_out) else None,
        )
        self._train(task, AUTOENCODER_SHARE)

    def _coded(self, rows: np.ndarray, rng: np.random.Generator) -> list[Tensor]:
        codec = self.model.codec
        uniform = rng.random((len(rows), len(codec.fields)))
        return self.model.fields(codec.encode(self.train.rows.iloc[rows], uniform))

    def _autoencoder_loss(self, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        model, settings = self.model.autoencoder, self.model.settings
        rng, generator = self.randomness.numpy, self.randomness.torch
        rows = self.learned[self.randomness.rows(settings.batch_size, len(self.learned))]
        images = self.model.images(self.train.images.take(rows).stack())
        fields = self._coded(rows, rng)
        seen = (torch.rand(2, len(rows), generator=generator) >= settings.modality_dropout).float()
        with self.model.autocast():
            posterior = model.encode(images, fields, *seen.to(self.model.device))
            latent = draw(posterior.image, posterior.image_log_variance, generator)
            image_loss = reconstruction_loss(model.image_decoder(latent), images, self.model.block)
            row = draw(posterior.table, posterior.table_log_variance, generator)
            paired_loss = table_loss(model.table_decoder(row), fields)
            if model.reader is not None:
                paired_loss = paired_loss + table_loss(model.table_decoder(model.reader(latent)), fields)

            more = self._coded(self.learned[rng.integers(len(self.learned), size=TABLE_BATCH)], rng)
            mean, log_variance = model.encode_table(more)
            # As while sampling: some columns are known and encoded alone, the others come with the whole row.
            known = draw_known(TABLE_BATCH, len(more), generator).to(self.model.device)
            alone = model.encode_table(more, known)
            mixed = torch.where(
                known[:, :, None], draw(*alone, generator), draw(mean, log_variance, generator)
            )
            row_loss = table_loss(model.table_decoder(mixed), more)
            # The divergence grows on a ramp: strong from the start, it empties the latent for good.
            ramp = min(1.0, 2 * progress)
            image_divergence, table_divergence = posterior.divergence()
            penalty = settings.kl_weight * image_divergence + settings.table_kl_weight * (
                table_divergence + kl_divergence(mean, log_variance)
            )
            total = image_loss + paired_loss + row_loss + ramp * penalty
        return total.float(), {"image loss": image_loss, "table loss": row_loss}

    def _autoencoder_validation(self) -> float:
        # The same numbers at every look, so that looks differ by the weights alone.
        rng = np.random.default_rng(self.context.seed)
        model, total = self.model.autoencoder, 0.0
        for start in range(0, len(self.held_out), DECODING_BATCH):
            rows = self.held_out[start : start + DECODING_BATCH]
            images = self.model.images(self.train.images.take(rows).stack())
            fields = self._coded(rows, rng)
            ones = torch.ones(len(rows), device=self.model.device)
            with self.model.autocast():
                posterior = model.encode(images, fields, ones, ones)
                table = posterior.table if model.reader is None else model.reader(posterior.image)
                image_loss = reconstruction_loss(
                    model.image_decoder(posterior.image), images, self.model.block
                )
                found = image_loss + table_loss(model.table_decoder(table), fields)
            total += found.item() * len(rows)
        return total / len(self.held_out)

    def _fit_noise(self, encoded: Encoded) -> None:
        rows = self.learned[:64]
        decoded = [self.model.decode_images(encoded.image[i : i + 1]) for i in rows]
        self.model.noise = SensorNoise.fit(
            self.train.images.take(rows).stack(), np.concatenate(decoded), self.train.images.geometry.spacing
        )

    def _fit_denoiser(self, encoded: Encoded) -> None:
        model, settings = self.model, self.model.settings
        weight = importance(model)
        generator = self.randomness.torch
        order = torch.randperm(len(self.learned), generator=generator)[:MOST_FOR_GUESS].numpy()
        model.denoiser.guess.fit(encoded.tokens(model, self.learned[order], generator), weight)
        optimiser = torch.optim.AdamW(
            model.denoiser.parameters(), settings.latent_learning_rate, betas=(0.9, 0.95), weight_decay=1e-2
        )

        def of_rows(rows: np.ndarray, generator: torch.Generator) -> Tensor:
            levels, known = draw_levels(
                len(rows), len(encoded.fields), model.objective, generator, settings.shared
            )
            clean = encoded.tokens(model, rows, generator, levels, known)
            noise = Latents(*(torch.randn(x.shape, generator=generator).to(model.device) for x in clean))
            there = Levels(*(level.to(model.device) for level in levels))
            return loss(model.velocity, model.objective, clean, there, noise, weight)

        def learn(progress: float) -> tuple[Tensor, dict[str, Tensor]]:
            chosen = torch.randint(len(self.learned), (settings.latent_batch_size,), generator=generator)
            found = of_rows(self.learned[chosen.numpy()], generator)
            return found, {"loss": found}

        def look() -> float:
            same = torch.Generator().manual_seed(self.context.seed)
            return float(np.mean([of_rows(self.held_out, same).item() for _ in range(LOOKS)]))

        task = Task(
            "denoiser",
            model.denoiser,
            optimiser,
            settings.steps,
            0.99,
            learn,
            look if len(self.held_out) else None,
        )
        self._train(task, 0.95)


@dataclass(frozen=True)
class Encoded:
    """The training cohort in the latent space, read once; on the CPU.

    Attributes:
        image: Posterior means of image latents, shape (n, channels, x', y', z').
        image_log_variance: The same shape.
        image_alone: Means of image latents whose rows are unknown, the same shape.
        table: Posterior means of table latents, shape (n, fields, table_latent).
        table_log_variance: The same shape.
        fields: Coded rows; for each field shape (n, width + 1).
    """

    image: Tensor
    image_log_variance: Tensor
    image_alone: Tensor
    table: Tensor
    table_log_variance: Tensor
    fields: list[Tensor]

    @classmethod
    @torch.no_grad()
    def of(cls, model: LatentModel, train: Cohort, learned: np.ndarray, rng: np.random.Generator) -> Encoded:
        """Encode a cohort and take the latents' scaling from the records that are learned from."""
        uniform = rng.random((len(train), len(model.codec.fields)))
        fields = [torch.from_numpy(array) for array in model.codec.encode(train.rows, uniform)]
        parts: list[tuple[Tensor, ...]] = []
        for start in range(0, len(train), DECODING_BATCH):
            rows = np.arange(start, min(start + DECODING_BATCH, len(train)))
            images = model.images(train.images.take(rows).stack())
            ones = torch.ones(len(rows), device=model.device)
            here = [field[rows].to(model.device) for field in fields]
            found = model.autoencoder.encode(images, here, ones, ones)
            lone = model.autoencoder.encode_image(images)
            parts.append((found.image, found.image_log_variance, lone, found.table, found.table_log_variance))
        image, image_spread, alone, table, table_spread = (
            torch.cat([x.cpu() for x in part]) for part in zip(*parts, strict=True)
        )
        encoded = cls(image, image_spread, alone, table, table_spread, fields)
        image_mean, image_std = _moments(encoded.image[learned], encoded.image_log_variance[learned])
        table_mean, table_std = _moments(encoded.table[learned], encoded.table_log_variance[learned])
        scaling = {
            "image_mean": image_mean, "image_std": image_std, "table_mean": table_mean, "table_std": table_std
        }  # fmt: skip
        model.scaling = {name: value.to(model.device) for name, value in scaling.items()}
        return encoded

    def tokens(
        self,
        model: LatentModel,
        rows: np.ndarray,
        generator: torch.Generator,
        levels: Levels | None = None,
        known: Tensor | None = None,
    ) -> Latents:
        """Draw tokens of records; what is known of a part alone is encoded without the rest, as while sampling.

        Args:
            model: Encodes rows and scales latents.
            rows: Positions of the records.
            generator: Draws from the posteriors.
            levels: Noise levels, 0 where an image is known; ``None`` for nowhere.
            known: True where a column is known, shape (n, fields).
        """
        image = draw(self.image[rows], self.image_log_variance[rows], generator)
        table = draw(self.table[rows], self.table_log_variance[rows], generator)
        if levels is not None:
            clean = levels.image == 0
            image = torch.where(clean[:, None, None, None, None], self.image_alone[rows], image)
        tokens = Latents(
            model.image_tokens(image.to(model.device)), model.table_tokens(table.to(model.device))
        )
        if known is None or not known.any():
            return tokens
        columns = known.to(model.device)
        alone = model.encode_rows([field[rows].to(model.device) for field in self.fields], columns)
        return Latents(tokens.image, torch.where(columns[:, :, None], alone, tokens.table))


def _key(*parts: Any) -> str:
    """Return a digest of everything that a checkpoint depends on, the code among it."""
    digest = hashlib.sha256(json.dumps([*parts, torch.__version__], sort_keys=True).encode())
    here = Path(__file__).parent
    for file in (*sorted(here.glob("*.py")), here.parent / "_imaging.py"):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def importance(model: LatentModel) -> Tensor:
    """Return the weight of each number of the image part, shape (t, image_width), mean 1.

    What each moves in the image: errors that hardly show matter less.
    """
    gain = model.autoencoder.image_decoder.project.weight.detach().flatten(1).norm(dim=0)
    moved = space_to_depth(model.scaling["image_std"] * gain[None, :, None, None, None], model.token)
    return (moved / moved.mean()).flatten(2)[0].T


def _moments(mean: Tensor, log_variance: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation, number by number, of all posteriors together, shape (1, ...).

    Volumes lie on one grid: what a cell's latent usually is, and how far it varies, depends on where it is.
    """
    centre = mean.mean(dim=0, keepdim=True)
    variance = (mean - centre).square().mean(dim=0, keepdim=True)
    return centre, (variance + log_variance.exp().mean(dim=0, keepdim=True)).sqrt()
