"""What the latent diffusion models share: grids, intensities, sensor noise, averaged weights, checkpoints."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mmbench.api import PluginError, Volumes

CHANNELS_LAST = torch.channels_last_3d
"""Memory layout in which convolutions over three axes are fastest on CPUs and on GPUs with tensor cores."""


def block_size(shape: Sequence[int], spacing: Sequence[float], cells: int) -> tuple[int, int, int]:
    """Return the edges, powers of two, of the voxel blocks that become the cells of a latent grid.

    The edge that is shortest in millimetres doubles until few enough blocks cover the volume: thick slices
    are left apart where fine pixels are merged.

    Args:
        shape: Voxels along x, y, z.
        spacing: Voxel spacing in millimetres.
        cells: Largest number of blocks.
    """
    block = [1, 1, 1]
    while math.prod(math.ceil(size / edge) for size, edge in zip(shape, block, strict=True)) > cells:
        axis = min(
            (axis for axis in range(3) if block[axis] < shape[axis]),
            key=lambda axis: block[axis] * spacing[axis],
        )
        block[axis] *= 2
    return (block[0], block[1], block[2])


def space_to_depth(volumes: Tensor, patch: Sequence[int]) -> Tensor:
    """Fold blocks of voxels into channels.

    Args:
        volumes: Shape (n, channels, x, y, z); each axis a multiple of its block.
        patch: Edges a, b, c of the blocks.

    Returns:
        Shape (n, channels * a * b * c, x / a, y / b, z / c).
    """
    n, channels, x, y, z = volumes.shape
    a, b, c = patch
    blocks = volumes.reshape(n, channels, x // a, a, y // b, b, z // c, c)
    return blocks.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(n, channels * a * b * c, x // a, y // b, z // c)


def depth_to_space(blocks: Tensor, patch: Sequence[int]) -> Tensor:
    """Undo :func:`space_to_depth`."""
    n, depth, x, y, z = blocks.shape
    a, b, c = patch
    channels = depth // (a * b * c)
    voxels = blocks.reshape(n, channels, a, b, c, x, y, z).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return voxels.reshape(n, channels, x * a, y * b, z * c)


@dataclass(frozen=True)
class ImageSpace:
    """The volumes as networks see them: padded to a multiple, centred on the mean image, of unit variance.

    Attributes:
        shape: Voxels along x, y, z as they are.
        padding: Voxels added in front and behind along x, y, z, repeating the border.
        mean: Mean training volume, padded, float32 of shape (channels, x, y, z).
        scale: Standard deviation about the mean image of each channel, float32 of shape (channels,).
        peak: 99.9th percentile of each channel, float32 of shape (channels,).
        non_negative: Whether no training voxel is negative, as in magnitude images.
    """

    shape: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    mean: np.ndarray
    scale: np.ndarray
    peak: np.ndarray
    non_negative: bool

    @classmethod
    def fit(cls, volumes: Volumes, multiple: Sequence[int]) -> ImageSpace:
        """Read mean and spread off the training volumes, one at a time.

        Args:
            volumes: Training volumes.
            multiple: What each padded axis must be a multiple of.
        """
        shape = volumes.geometry.shape
        extra = [-size % factor for size, factor in zip(shape, multiple, strict=True)]
        padding = tuple((add // 2, add - add // 2) for add in extra)
        first = np.zeros(volumes.geometry.full_shape, dtype=np.float64)
        second = np.zeros(len(first), dtype=np.float64)
        peaks, lowest = [], np.inf
        for volume in volumes:
            first += volume
            second += np.mean(np.square(volume, dtype=np.float64), axis=(1, 2, 3))
            peaks.append(np.quantile(volume.reshape(len(volume), -1), 0.999, axis=1))
            lowest = min(lowest, float(volume.min()))
        mean = first / len(volumes)
        variance = second / len(volumes) - np.mean(mean**2, axis=(1, 2, 3))
        peak = np.mean(peaks, axis=0)
        # A channel that never varies has nothing to scale by; the floor keeps it finite.
        scale = np.sqrt(np.maximum(variance, (1e-3 * np.abs(peak)) ** 2 + 1e-12))
        padded = np.pad(mean, ((0, 0), *padding), mode="edge")
        return cls(
            shape=tuple(shape),
            padding=padding,
            mean=padded.astype(np.float32),
            scale=scale.astype(np.float32),
            peak=peak.astype(np.float32),
            non_negative=lowest >= 0,
        )

    @property
    def padded(self) -> tuple[int, ...]:
        """Voxels along x, y, z after padding."""
        return self.mean.shape[1:]

    def encode(self, volumes: np.ndarray) -> Tensor:
        """Return volumes of shape (n, channels, x, y, z) padded, centred and scaled."""
        padded = np.pad(volumes, ((0, 0), (0, 0), *self.padding), mode="edge")
        return torch.from_numpy((padded - self.mean) / self.scale[:, None, None, None])

    def decode(self, images: Tensor) -> np.ndarray:
        """Undo :meth:`encode`; the padding is cut off."""
        volumes = images.cpu().numpy() * self.scale[:, None, None, None] + self.mean
        keep = tuple(
            slice(before, before + size) for (before, _), size in zip(self.padding, self.shape, strict=True)
        )
        return volumes[(slice(None), slice(None), *keep)]

    def to_dict(self) -> dict[str, Any]:
        """Return the part that is not an array, JSON-able."""
        return {"shape": self.shape, "padding": self.padding, "non_negative": self.non_negative}

    def arrays(self) -> dict[str, Tensor]:
        """Return the arrays as tensors."""
        return {name: torch.from_numpy(getattr(self, name)) for name in ("mean", "scale", "peak")}

    @classmethod
    def restore(cls, data: dict[str, Any], arrays: dict[str, Tensor]) -> ImageSpace:
        """Rebuild what :meth:`to_dict` and :meth:`arrays` returned."""
        return cls(
            shape=tuple(data["shape"]),
            padding=tuple((before, after) for before, after in data["padding"]),
            non_negative=data["non_negative"],
            **{name: arrays[name].numpy() for name in ("mean", "scale", "peak")},
        )


def principal_blocks(
    space: ImageSpace, volumes: Volumes, block: Sequence[int], count: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Return the principal components of blocks of voxels: the best linear autoencoder of a block.

    Started from these, an autoencoder needs a small part of the steps that it needs from random weights.

    Args:
        space: Normalises the volumes.
        volumes: Training volumes, of which at most 128 are read.
        block: Edges of the blocks.
        count: Number of components; at most the number of values in a block.
        rng: Chooses the volumes.

    Returns:
        Components of shape (count, values in a block), orthonormal, and their standard deviations, shape
        (count,), descending.
    """
    chosen = np.sort(rng.permutation(len(volumes))[:128])
    total: Any = 0.0
    for index in chosen:
        cells = space_to_depth(space.encode(volumes[int(index)][None]), block)[0].flatten(1)
        total = total + (cells @ cells.T / cells.shape[1]).double()
    variance, vectors = torch.linalg.eigh(total / len(chosen))
    top = slice(-count, None)
    return vectors[:, top].flip(1).T.float(), variance[top].flip(0).clamp(min=1e-8).sqrt().float()


LEVELS = 16
"""Intensity levels at which the noise is estimated."""
QUARTILE = 0.31863936396437514
"""Lower quartile of the absolute value of a standard normal variable."""
RAYLEIGH = 0.6551363775620336
"""Standard deviation of Rician noise without signal, sqrt(2 - pi/2), where it is 1 with strong signal."""


@dataclass(frozen=True)
class SensorNoise:
    """The white noise that a decoder averages away, by intensity, and how to put it back.

    A decoder returns the mean of what it saw: without its noise a sample is too smooth for any texture
    statistic. Magnitude noise is Rician, weaker and skewed where there is no signal, so it is estimated apart for
    each level of intensity.

    Attributes:
        levels: Intensities, ascending, float32 of shape (channels, 16).
        sigma: Standard deviation at each level, float32 of shape (channels, 16).
        floor: Decoded intensity below which training voxels are exactly zero, float32 of shape (channels,);
            minus infinity for a channel without a blank background.
    """

    levels: np.ndarray
    sigma: np.ndarray
    floor: np.ndarray

    @classmethod
    def fit(cls, volumes: np.ndarray, decoded: np.ndarray, spacing: Sequence[float]) -> SensorNoise:
        """Estimate the noise of training volumes.

        The mixed difference over squares of four voxels, in the plane of the two finest axes, has the standard
        deviation of white noise and cancels any plane. What is left of anatomy lies in its tails, so the spread is read
        off its lower quartile, which for a normal is 0.3186 standard deviations.

        Args:
            volumes: Shape (n, channels, x, y, z).
            decoded: The same volumes, encoded and decoded; they give the intensity levels.
            spacing: Voxel spacing along x, y, z in millimetres.
        """
        channels = volumes.shape[1]
        levels = np.zeros((channels, LEVELS), dtype=np.float32)
        sigma = np.zeros_like(levels)
        floor = np.full(channels, -np.inf, dtype=np.float32)
        axes = sorted(1 + np.argsort(spacing, kind="stable")[:2])
        for channel in range(channels):
            real, smooth = volumes[:, channel], decoded[:, channel]
            blank = real == 0
            # A few zeros arise from rounding; a masked background is a large share.
            if blank.mean() > 0.02:
                floor[channel] = np.quantile(smooth, blank.mean())
            signal = _square_sums(smooth, axes, (1, 1)) / 4
            detail = _square_sums(real, axes, (1, -1)) / 2
            if floor[channel] > -np.inf:
                inside = signal > floor[channel]
                signal, detail = signal[inside], detail[inside]
            if not signal.size:
                continue
            edges = np.quantile(signal, np.linspace(0, 1, LEVELS + 1))
            position = np.clip(np.searchsorted(edges, signal, side="right") - 1, 0, LEVELS - 1)
            for level in range(LEVELS):
                here = position == level
                levels[channel, level] = (edges[level] + edges[level + 1]) / 2
                if here.any():
                    sigma[channel, level] = np.quantile(np.abs(detail[here]), 0.25) / QUARTILE
            # Intensities that only edges have show anatomy all the same; true noise differs this much at most.
            sigma[channel] = np.minimum(sigma[channel], sigma[channel].min() / RAYLEIGH)
        return cls(levels, sigma, floor)

    def apply(self, volume: np.ndarray, rng: np.random.Generator, non_negative: bool) -> np.ndarray:
        """Return a decoded volume with its noise put back.

        Args:
            volume: Shape (channels, x, y, z).
            rng: Where the noise comes from.
            non_negative: Whether to return magnitudes.
        """
        result = np.empty_like(volume)
        for channel, decoded in enumerate(volume):
            # Where a decoder overshoots below the background, a magnitude would turn the error into signal.
            smooth = np.maximum(decoded, max(0.0, self.levels[channel, 0])) if non_negative else decoded
            sigma = np.interp(smooth, self.levels[channel], self.sigma[channel])
            noisy = smooth + sigma * rng.standard_normal(smooth.shape, dtype=np.float32)
            if non_negative:
                noisy = np.abs(noisy)
            result[channel] = np.where(decoded <= self.floor[channel], 0, noisy)
        return result

    def arrays(self) -> dict[str, Tensor]:
        """Return the arrays as tensors."""
        return {name: torch.from_numpy(getattr(self, name)) for name in ("levels", "sigma", "floor")}

    @classmethod
    def restore(cls, arrays: dict[str, Tensor]) -> SensorNoise:
        """Rebuild what :meth:`arrays` returned."""
        return cls(**{name: arrays[name].numpy() for name in ("levels", "sigma", "floor")})


def _square_sums(volumes: np.ndarray, axes: Sequence[int], weights: tuple[int, int]) -> np.ndarray:
    """Return weighted sums over squares of four voxels; an axis of one voxel counts as a pair of equal ones."""
    for axis in axes:
        even = volumes.shape[axis] // 2 * 2
        if even == 0:
            volumes = volumes * np.sqrt(2) if weights[1] < 0 else volumes * 2
            continue
        first = np.take(volumes, range(0, even, 2), axis)
        second = np.take(volumes, range(1, even, 2), axis)
        volumes = weights[0] * first + weights[1] * second
    return volumes


class Averaged:
    """Exponential moving average of a module's weights (Karras et al. 2022, arXiv:2206.00364, appendix F.2).

    Args:
        module: Module in training.
        decay: Largest share of the old average that is kept at a step; it is less in the first steps, so that the average
            forgets where the weights started.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = module
        self.decay = decay
        self.steps = 0
        self.average = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights of one more step."""
        self.steps += 1
        keep = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, value in self.module.state_dict().items():
            if value.dtype.is_floating_point:
                self.average[name].lerp_(value, 1 - keep)

    def install(self) -> None:
        """Replace the module's weights by their average."""
        self.module.load_state_dict(self.average)


class Training:
    """One module's optimisation: clipped gradients, a one-cycle learning rate, averaged weights.

    Args:
        module: Module in training.
        optimiser: Its learning rate is the largest.
        steps: Planned number of steps.
        decay: As in :class:`Averaged`.
    """

    def __init__(self, module: nn.Module, optimiser: torch.optim.Optimizer, steps: int, decay: float) -> None:
        self.module = module
        self.optimiser = optimiser
        self.schedule = one_cycle(optimiser, steps)
        self.average = Averaged(module, decay)

    def step(self, loss: Tensor) -> None:
        """Move the weights down the gradient of ``loss``."""
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimiser.step()
        self.schedule.step()
        self.average.update()

    def finish(self) -> None:
        """Install the averaged weights and leave training mode."""
        self.average.install()
        self.module.eval()


class Shuffled:
    """Positions in shuffled order, anew after every pass.

    Args:
        n: Number of records.
        rng: Shuffles.
    """

    def __init__(self, n: int, rng: np.random.Generator) -> None:
        self.n = n
        self.rng = rng
        self.rest = np.empty(0, dtype=int)

    def draw(self, size: int) -> np.ndarray:
        """Return ``size`` positions, fewer where there are not so many."""
        size = min(size, self.n)
        if len(self.rest) < size:
            self.rest = self.rng.permutation(self.n)
        batch, self.rest = self.rest[:size], self.rest[size:]
        return batch


def one_cycle(optimiser: torch.optim.Optimizer, total: int) -> torch.optim.lr_scheduler.LRScheduler:
    """Return a schedule that rises over a tenth of the steps and then falls to nothing along a cosine.

    Args:
        optimiser: Its learning rate is the largest.
        total: Number of steps.
    """
    rise = max(1, total // 10)

    def share(step: int) -> float:
        if step < rise:
            return 0.1 + 0.9 * step / rise
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, total - rise)))) + 1e-3

    return torch.optim.lr_scheduler.LambdaLR(optimiser, share)


def groups(width: int) -> int:
    """Return how many groups a GroupNorm over ``width`` channels has: 8 or the next smaller divisor."""
    return next(count for count in (8, 4, 2, 1) if width % count == 0)


def save_model(folder: Path, tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
    """Write weights and arrays as safetensors and everything else as JSON."""
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    save_file(contiguous, str(folder / "model.safetensors"))
    (folder / "model.json").write_text(json.dumps(config, indent=1))


def load_model(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save_model` wrote.

    Raises:
        PluginError: A file is absent or cannot be read.
    """
    try:
        config = json.loads((folder / "model.json").read_text())
        return load_file(str(folder / "model.safetensors")), config
    except (OSError, ValueError) as error:
        raise PluginError(f"{folder}: no saved model can be read here ({error}); fit it anew.") from error


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors with ``prefix.`` before each name."""
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors that :func:`prefixed` named so."""
    return {
        name.removeprefix(f"{prefix}."): value
        for name, value in tensors.items()
        if name.startswith(f"{prefix}.")
    }
