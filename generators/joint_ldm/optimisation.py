"""One training loop: paced by a budget, watched on held-out records, and resumed where it stopped."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mmbench.api import Context, Interrupted

from .._imaging import Averaged, prefixed, under

CHECKPOINT_SECONDS = 60.0
"""Time between checkpoints: what a crash may cost."""
EVALUATIONS = 20
"""Looks at the held-out records in a training."""
PATIENCE = 8
"""Looks without improvement after which a training ends."""
WARM_UP = 3
"""First steps, slower than the others, from which no pace is read."""


@dataclass
class Randomness:
    """Where a training's random numbers come from, so that both can be written down.

    Attributes:
        torch: Generator on the CPU.
        numpy: Generator.
        order: What is left of the current pass over the records.
    """

    torch: torch.Generator
    numpy: np.random.Generator
    order: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=int))

    def rows(self, size: int, n: int) -> np.ndarray:
        """Return the next positions of ``n`` records in shuffled order, anew after every pass."""
        size = min(size, n)
        if len(self.order) < size:
            self.order = self.numpy.permutation(n)
        batch, self.order = self.order[:size], self.order[size:]
        return batch


class Pace:
    """How far a training has come, from 0 to 1, where time may not suffice for all its steps.

    Without a limit every step is an equal part. With one, the steps still to come are those that the time left
    allows at the pace so far, so that the learning rate has fallen to nothing when the time is over.

    Args:
        total: Largest number of steps.
        seconds: Time for them; ``None`` for no limit.
        clock: Tells the time in seconds.
    """

    def __init__(
        self, total: int, seconds: float | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.total, self.progress, self.done = total, 0.0, 0
        self._clock, self._start = clock, clock()
        self._end = None if seconds is None else self._start + seconds
        self._timed = 0

    def step(self) -> None:
        """Count one step."""
        left = self.total - self.done
        self.done += 1
        self._timed += 1
        if self._timed == WARM_UP:
            self._start = self._clock()
        if self._end is not None and self._timed > WARM_UP:
            now = self._clock()
            each = (now - self._start) / (self._timed - WARM_UP)
            left = min(left, 1 + max(0, int((self._end - now) / max(each, 1e-9))))
        self.progress += (1 - self.progress) / max(1, left)


def learning_rate(progress: float) -> float:
    """Return the share of the largest learning rate: a rise over a tenth, then a cosine to nothing."""
    if progress < 0.1:
        return 0.1 + 9 * progress
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - 0.1) / 0.9))) + 1e-3


@dataclass
class Task:
    """What is to be trained.

    Attributes:
        label: Name of the loop; prefixes its curves.
        module: Module in training.
        optimiser: Its learning rates are the largest.
        steps: Largest number of steps.
        decay: As in :class:`Averaged`.
        loss: Takes the progress from 0 to 1; returns the loss and the curves' points by name.
        validate: Returns the loss of held-out records by the module's present weights; ``None`` without any.
    """

    label: str
    module: nn.Module
    optimiser: torch.optim.Optimizer
    steps: int
    decay: float
    loss: Callable[[float], tuple[Tensor, dict[str, Tensor]]]
    validate: Callable[[], float] | None = None


class Training:
    """Runs a task; interrupted at any step and started again, it ends with the same weights.

    Args:
        task: What is to be trained.
        randomness: What ``task.loss`` draws from.
        folder: Where its checkpoint lies.
        key: What the checkpoint depends on; another's is ignored.
    """

    def __init__(self, task: Task, randomness: Randomness, folder: Path, key: str) -> None:
        self.task, self.randomness, self.key = task, randomness, key
        self.file = folder / f"{task.label}.safetensors"
        self.average = Averaged(task.module, task.decay)
        self.rates = [group["lr"] for group in task.optimiser.param_groups]
        self.best: dict[str, Tensor] = {}
        self.state: dict[str, Any] = {"best_loss": math.inf, "since_best": 0, "looks": 0, "finished": False}
        self.curves: list[tuple[str, float, int]] = []

    def run(self, context: Context, seconds: float | None = None) -> None:
        """Train, within ``seconds`` where given, and install the best averaged weights."""
        task = self.task
        pace = Pace(task.steps, seconds)
        self._restore(pace, context)
        saved = time.monotonic()
        try:
            for _ in context.steps(0 if self.state["finished"] else task.steps - pace.done, task.label):
                self._step(pace, context)
                if self._enough(pace, context):
                    break
                if time.monotonic() - saved > CHECKPOINT_SECONDS:
                    self._save(pace)
                    saved = time.monotonic()
        except Interrupted:
            self._save(pace)
            raise
        if not self.state["finished"]:
            # What a budget cut off has not been looked at yet.
            if pace.done:
                self._look(pace, context)
            self.state["finished"] = True
            self._save(pace)
        task.module.load_state_dict(self.best or self.average.average)
        task.module.eval()

    def _step(self, pace: Pace, context: Context) -> None:
        for group, rate in zip(self.task.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * learning_rate(pace.progress)
        self.task.module.train()
        loss, points = self.task.loss(pace.progress)
        self.task.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.task.module.parameters(), 1.0)
        self.task.optimiser.step()
        self.average.update()
        if pace.done % 10 == 0:
            for name, value in points.items():
                self._log(context, f"{self.task.label} {name}", value.item(), pace.done)
        pace.step()

    def _enough(self, pace: Pace, context: Context) -> bool:
        if pace.progress * EVALUATIONS >= self.state["looks"] + 1 and pace.progress < 1:
            self.state["looks"] = int(pace.progress * EVALUATIONS)
            self._look(pace, context)
        return pace.progress >= 1 or self.state["since_best"] >= PATIENCE

    def _look(self, pace: Pace, context: Context) -> None:
        """Compare the averaged weights, on held-out records, with the best so far."""
        if self.task.validate is None:
            return
        module = self.task.module
        present = {name: value.detach().clone() for name, value in module.state_dict().items()}
        module.load_state_dict(self.average.average)
        module.eval()
        with torch.no_grad():
            loss = self.task.validate()
        module.load_state_dict(present)
        self._log(context, f"{self.task.label} validation loss", loss, pace.done)
        if loss < self.state["best_loss"]:
            self.state |= {"best_loss": loss, "since_best": 0}
            self.best = {name: value.clone() for name, value in self.average.average.items()}
        else:
            self.state["since_best"] += 1

    def _log(self, context: Context, name: str, value: float, step: int) -> None:
        self.curves.append((name, value, step))
        context.log(name, value, step)

    def _save(self, pace: Pace) -> None:
        moments = {
            f"{place}.{name}": value
            for place, entry in self.task.optimiser.state_dict()["state"].items()
            for name, value in entry.items()
        }
        tensors = (
            prefixed("module", self.task.module.state_dict())
            | prefixed("average", self.average.average)
            | prefixed("best", self.best)
            | prefixed("moments", moments)
            | {"random": self.randomness.torch.get_state(), "order": torch.from_numpy(self.randomness.order)}
        )
        notes = {
            "key": self.key,
            "state": self.state,
            "curves": self.curves,
            "averaged": self.average.steps,
            "done": pace.done,
            "progress": pace.progress,
            "random": self.randomness.numpy.bit_generator.state,
        }
        self.file.parent.mkdir(parents=True, exist_ok=True)
        # Named last, so that a checkpoint is whole or not there.
        whole = self.file.with_suffix(".part")
        contiguous = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
        save_file(contiguous, str(whole), {"notes": json.dumps(notes)})
        whole.replace(self.file)

    def _restore(self, pace: Pace, context: Context) -> None:
        if not self.file.exists():
            return
        with safe_open(str(self.file), "pt") as file:
            notes = json.loads(file.metadata()["notes"])
            if notes["key"] != self.key:
                return
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 no mapping
        device = next(self.task.module.parameters()).device
        self.task.module.load_state_dict(under("module", tensors))
        self.average.average = {k: v.to(device) for k, v in under("average", tensors).items()}
        self.average.steps = notes["averaged"]
        self.best = {k: v.to(device) for k, v in under("best", tensors).items()}
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in under("moments", tensors).items():
            place, part = name.split(".")
            moments.setdefault(int(place), {})[part] = value
        groups = self.task.optimiser.state_dict()["param_groups"]
        self.task.optimiser.load_state_dict({"state": moments, "param_groups": groups})
        self.randomness.torch.set_state(tensors["random"])
        self.randomness.numpy.bit_generator.state = notes["random"]
        self.randomness.order = tensors["order"].numpy()
        self.state = notes["state"]
        pace.done, pace.progress = notes["done"], notes["progress"]
        for name, value, step in notes["curves"]:
            self._log(context, name, value, step)
