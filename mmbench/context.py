"""What a fit or a long loop gets from the harness: progress, a time budget, a clean stop, a log."""

from __future__ import annotations

import hashlib
import json
import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mmbench.errors import Interrupted

Reporter = Callable[[str, int, int], None]
"""Takes a label, the steps done, and their total."""

REPORT_EVERY = 0.2


def derive_seed(*parts: object) -> int:
    """Return a seed below 2**32 that depends on every part, so that no two uses share a random stream."""
    text = json.dumps([str(part) for part in parts])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def seed_everything(seed: int) -> None:
    """Seed the global generators of random, numpy and torch, which third-party models draw from."""
    import numpy as np
    import torch

    random.seed(seed)
    # Third-party models draw from the legacy global state; our own code never does.
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.manual_seed(seed)


@dataclass
class WorkContext:
    """The harness's :class:`mmbench.api.Context`.

    Attributes:
        device: torch device name.
        seed: Seed of the fit.
        folder: Scratch folder.
        report: Receives progress.
        budget: Seconds for all loops of the fit together, ``None`` for no limit.
        curves: File that receives training curves as JSON lines.
        stop: Set from outside to stop the work at the next step.
    """

    device: str = "cpu"
    seed: int = 0
    folder: Path = field(default_factory=Path)
    report: Reporter = lambda label, done, total: None
    budget: float | None = None
    curves: Path | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    started: float = field(default_factory=time.monotonic)

    def steps(self, total: int, label: str) -> Iterator[int]:
        """Yield step numbers; see :meth:`mmbench.api.Context.steps`."""
        reported = -math.inf
        for step in range(total):
            now = time.monotonic()
            if self.stop.is_set():
                raise Interrupted(f"stopped at step {step} of {total} ({label})")
            if self.budget is not None and now - self.started > self.budget:
                break
            if now - reported > REPORT_EVERY:
                self.report(label, step, total)
                reported = now
            yield step
        self.report(label, total, total)

    def remaining(self) -> float | None:
        """Return the seconds left; see :meth:`mmbench.api.Context.remaining`."""
        return None if self.budget is None else max(0.0, self.started + self.budget - time.monotonic())

    def log(self, name: str, value: float, step: int) -> None:
        """Append one point of a training curve."""
        if self.curves is not None and math.isfinite(value):
            with self.curves.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"name": name, "step": step, "value": value}) + "\n")
