"""Prepared volumes kept between runs, each in a file named by the content that it was made of."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmbench.api import CohortError

FORMAT = 1
"""Part of every key: raised whenever the same files are prepared differently."""

_DTYPE = np.dtype("<f4")
_LONGEST_HEADER = 2**16


class Prepared(NamedTuple):
    """A record's volume as the cohort holds it, and what was found on the way.

    Attributes:
        voxels: float32 of shape (channels, x, y, z).
        levels: Typical intensity of each channel in the file's units: what normalisation divides by.
        kept: Share of the summed intensities that lies within the common grid, 1 without resampling.
        digests: sha256 of each channel's voxels.
    """

    voxels: np.ndarray
    levels: tuple[float, ...]
    kept: float
    digests: tuple[str, ...]


@dataclass(frozen=True)
class Cache:
    """A folder of prepared volumes; several processes may use it at once, and anybody may empty it.

    An entry is written under another name and then renamed; one that is cut short by a crash or damaged later on
    is recognised by its checksums and counts as absent.

    Attributes:
        folder: Where the entries lie.
    """

    folder: Path

    def get(self, key: str) -> Prepared | None:
        """Return an entry, or nothing where there is none that is sound."""
        try:
            with self._path(key).open("rb") as file:
                check, line = file.readline(_LONGEST_HEADER).split(b" ", 1)
                if check != _checksum(line):
                    return None
                header = json.loads(line)
                shape = tuple(map(int, header["shape"]))
                voxels = np.fromfile(file, _DTYPE, math.prod(shape)).reshape(shape)
            found = Prepared(
                voxels, tuple(map(float, header["levels"])), float(header["kept"]), tuple(header["digests"])
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if found.digests == digests(voxels) else None

    def put(self, key: str, entry: Prepared) -> None:
        """Keep an entry; one of the same key is replaced.

        Raises:
            CohortError: The folder cannot be written.
        """
        header = {"shape": entry.voxels.shape} | {
            name: getattr(entry, name) for name in ("levels", "kept", "digests")
        }
        line = json.dumps(header).encode() + b"\n"
        path = self._path(key)
        temporary = path.with_name(f".{key}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with temporary.open("wb") as file:
                    file.write(_checksum(line) + b" " + line)
                    file.write(np.ascontiguousarray(entry.voxels, _DTYPE).data)
                temporary.replace(path)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    temporary.unlink()
        except OSError as error:
            raise CohortError(
                f"cache: {self.folder} cannot be written ({error}); name a folder that can, or none."
            ) from None

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.volume"


def content_key(files: Sequence[Path], recipe: dict[str, Any]) -> str:
    """Return the sha256 over the bytes of files and all that decides what is made of them.

    Raises:
        CohortError: A file cannot be read.
    """
    digest = hashlib.sha256(json.dumps({"format": FORMAT} | recipe, sort_keys=True).encode())
    for path in files:
        try:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise CohortError(f"{path}: cannot be read ({error}); copy it anew.") from None
    return digest.hexdigest()


def _checksum(line: bytes) -> bytes:
    return hashlib.sha256(line).hexdigest().encode()


def digests(voxels: np.ndarray) -> tuple[str, ...]:
    """Return the sha256 of each channel of a volume of shape (channels, x, y, z)."""
    return tuple(hashlib.sha256(np.ascontiguousarray(channel, _DTYPE).data).hexdigest() for channel in voxels)
