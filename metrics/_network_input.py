"""What stands between a volume and a pretrained network: intensities, grid, slices, and pooling of its output."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from mmbench.api import Geometry, PluginError, Volumes

from ._foreground import foreground

NORMALISATIONS = ("volume", "range", "none")
BRIGHTEST = 0.999  # quantile of a channel that counts as its brightest intensity; what is above is clipped
DEVICES = ("cpu", "cuda")
Network = Callable[[torch.Tensor], torch.Tensor]


def read_weights(name: str, path: str, suffixes: Sequence[str], advice: str) -> bytes:
    """Return the content of a weights file.

    Args:
        name: Name of the extractor, for messages.
        path: Where the user says it is.
        suffixes: Endings that are taken.
        advice: What to do with a file of another kind.

    Raises:
        PluginError: No path is given, there is no such file, or its ending is not among ``suffixes``.
    """
    if not path:
        raise PluginError(f"{name}: the parameter 'weights' is empty; give the path of a file. {advice}")
    file = Path(path).expanduser()
    if not file.is_file():
        raise PluginError(f"{name}: there is no file {file.absolute()} (parameter 'weights').")
    if file.suffix.lower() not in suffixes:
        raise PluginError(
            f"{name}: {file} ends in '{file.suffix}', expected {' or '.join(suffixes)}. {advice}"
        )
    return file.read_bytes()


def sha256(content: bytes) -> str:
    """Return the sha256 as hexadecimal text."""
    return hashlib.sha256(content).hexdigest()


def load_parameters(network: torch.nn.Module, found: dict[str, torch.Tensor], where: str) -> None:
    """Set every parameter and buffer of a network; those that count training batches may be absent.

    Raises:
        PluginError: One is absent, unknown, or of another shape; the message names the first few.
    """
    wanted = network.state_dict()
    counters = {key for key in wanted if key.endswith("num_batches_tracked")}
    wrong = [f"{key} is absent" for key in wanted if key not in found and key not in counters]
    wrong += [f"{key} is unknown" for key in found if key not in wanted]
    wrong += [
        f"{key} has the shape {tuple(found[key].shape)}, expected {tuple(wanted[key].shape)}"
        for key in wanted
        if key in found and found[key].shape != wanted[key].shape
    ]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise PluginError(f"{where}: these weights belong to another network: {'; '.join(wrong[:5])}{more}.")
    network.load_state_dict(found, strict=False)


def check_device(name: str, device: str) -> None:
    """Raise PluginError where a device is asked for that is not there."""
    if device == "cuda" and not torch.cuda.is_available():
        raise PluginError(f"{name}: device is cuda, but torch finds no GPU; use device: cpu.")


def normalised(volume: np.ndarray, how: str) -> np.ndarray:
    """Return a volume with the intensities of each channel brought to a common scale, float32.

    Args:
        volume: Array of shape (channels, x, y, z).
        how: ``volume`` for zero mean and unit variance over the foreground; ``range`` for [0, 1] between the least
            value and the 99.9th percentile, clipped; ``none``. Both of the former hide an error of overall gain.
    """
    if how == "none" or not np.isfinite(volume).all():
        return volume.astype(np.float32)
    image = volume.astype(float)
    if how == "volume":
        inside = image[:, foreground(volume)]
        low, scale = inside.mean(axis=1), inside.std(axis=1)
    else:
        low = image.min(axis=(1, 2, 3))
        scale = np.quantile(image.reshape(len(image), -1), BRIGHTEST, axis=1) - low
    scale[scale == 0] = 1
    image = (image - low[:, None, None, None]) / scale[:, None, None, None]
    return (np.clip(image, 0, 1) if how == "range" else image).astype(np.float32)


def whole(volumes: Volumes, how: str, shape: Sequence[int] | None, batch: int) -> Iterator[torch.Tensor]:
    """Yield batches of normalised volumes, float32 of shape (up to ``batch``, channels, x, y, z).

    Args:
        volumes: The volumes.
        how: Normalisation.
        shape: Voxels that they are resampled to, trilinearly; as they are where ``None``.
        batch: Volumes at a time.
    """
    for some in volumes.batches(batch):
        x = torch.from_numpy(np.stack([normalised(volume, how) for volume in some]))
        yield (
            x
            if shape is None
            else functional.interpolate(x, tuple(shape), mode="trilinear", align_corners=False)
        )


def slices(volume: np.ndarray, geometry: Geometry, axis: int, count: int, side: int) -> torch.Tensor:
    """Return slices across one axis, evenly spaced, with square pixels, float32 of shape (n, channels, side, side).

    A slice keeps its proportions in millimetres and is padded with each channel's least value.

    Args:
        volume: Array of shape (channels, x, y, z).
        geometry: Its grid.
        axis: 0, 1 or 2: slices are sagittal, coronal or axial where x runs left to right and z upwards.
        count: Slices; all of them where there are fewer.
        side: Pixels of either edge.
    """
    depth = geometry.shape[axis]
    chosen = (
        np.unique(((np.arange(count) + 0.5) * depth / count).astype(int))
        if count < depth
        else np.arange(depth)
    )
    planes = torch.from_numpy(np.moveaxis(volume, axis + 1, 0)[chosen].astype(np.float32))
    extent = [length for other, length in enumerate(geometry.field_of_view) if other != axis]
    height, width = (max(round(side * length / max(extent)), 1) for length in extent)
    planes = functional.interpolate(
        planes, (height, width), mode="bilinear", align_corners=False, antialias=True
    )
    least = torch.from_numpy(volume.min(axis=(1, 2, 3)).astype(np.float32))
    canvas = least[None, :, None, None].repeat(len(planes), 1, side, side)
    top, left = (side - height) // 2, (side - width) // 2
    canvas[..., top : top + height, left : left + width] = planes
    return canvas


def pooled(output: object, which: int, where: str) -> torch.Tensor:
    """Return a network's output as vectors, float64 of shape (n, d).

    Vectors stay; maps of shape (n, d, ...) are averaged over space; tokens of shape (n, tokens, d) over the tokens.

    Args:
        output: A tensor, or several in a list or tuple.
        which: Position of the wanted one among several.
        where: Names the network in messages.

    Raises:
        PluginError: It is none of these.
    """
    if isinstance(output, list | tuple) and -len(output) <= which < len(output):
        output = output[which]
    if not isinstance(output, torch.Tensor) or output.ndim < 2:
        found = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise PluginError(
            f"{where}: output {which} is {found}, expected a tensor of shape (n, d) or (n, d, ...)."
        )
    output = output.double()
    if output.ndim == 3:
        return output.mean(1)
    return output.flatten(2).mean(2) if output.ndim > 3 else output


def channel_groups(channels: int, inputs: int) -> list[list[int]]:
    """Return which channels of a volume enter a network together; each group is one block of features.

    All of them where the network takes as many; otherwise each by itself, repeated to fill the inputs.
    """
    return (
        [list(range(channels))] if inputs == channels else [[channel] * inputs for channel in range(channels)]
    )
