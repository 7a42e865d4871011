"""What the user sees while a run works: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Display(Protocol):
    """Takes what happens to tasks."""

    def __enter__(self) -> Display: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def begin(self, task: str) -> None:
        """A task starts."""

    def progress(self, task: str, label: str, done: int, total: int) -> None:
        """A task has done ``done`` of ``total`` steps of what ``label`` says."""

    def end(self, task: str, text: str) -> None:
        """A task is over."""

    def say(self, text: str) -> None:
        """Print a line."""


def make_display(console: Console) -> Display:
    """Return bars where there is a terminal, otherwise lines."""
    return _Bars(console) if console.is_terminal else _Lines(console)


class _Bars:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[label]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Display:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def begin(self, task: str) -> None:
        self._tasks[task] = self._bars.add_task(task, total=None, label="starting")

    def progress(self, task: str, label: str, done: int, total: int) -> None:
        self._bars.update(self._tasks[task], completed=done, total=total, label=label)

    def end(self, task: str, text: str) -> None:
        if task in self._tasks:
            self._bars.remove_task(self._tasks.pop(task))
        self._console.print(f"{task}: {text}", markup=False, highlight=False)

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._labels: dict[str, str] = {}

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def begin(self, task: str) -> None:
        self.say(f"{task}: started")

    def progress(self, task: str, label: str, done: int, total: int) -> None:
        if self._labels.get(task) != label:
            self._labels[task] = label
            self.say(f"{task}: {label}")

    def end(self, task: str, text: str) -> None:
        self.say(f"{task}: {text}")

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)
