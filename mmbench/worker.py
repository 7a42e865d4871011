"""The process of one cell: ``python -m mmbench.worker RUN CELL``. Started by the runner only."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

PROGRESS_FD = "MMBENCH_PROGRESS_FD"
"""Environment variable with the descriptor that takes progress as JSON lines."""


def main() -> None:
    """Do one cell and leave its record in ``status.json``."""
    parser = argparse.ArgumentParser(prog="python -m mmbench.worker")
    parser.add_argument("run", type=Path)
    parser.add_argument("cell")
    parser.add_argument("--key", default="")
    parser.add_argument("--plugin", type=Path, action="append", default=[])
    arguments = parser.parse_args()
    threading.Thread(target=_die_with_parent, daemon=True).start()
    sys.exit(_work(arguments))


def _die_with_parent() -> None:
    # The runner holds the other end of standard input; its death, however sudden, closes it.
    while os.read(0, 1):
        pass
    os._exit(1)


def _work(arguments: argparse.Namespace) -> int:
    from mmbench import plugins
    from mmbench.cell import CellWork
    from mmbench.context import WorkContext
    from mmbench.errors import Interrupted, MmbenchError
    from mmbench.files import write_json
    from mmbench.store import Run

    run = Run.open(arguments.run)
    folder = run.cell_folder(arguments.cell)
    folder.mkdir(parents=True, exist_ok=True)
    record: dict[str, Any] = {
        "cell": arguments.cell,
        "key": arguments.key,
        "status": "running",
        "phase": "start",
        "reason": "",
        "started": time.time(),
    }
    write_json(folder / "status.json", record)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    progress = _Progress()

    def enter(phase: str) -> None:
        if phase != record["phase"]:
            record["phase"] = phase
            progress.send({"phase": phase})

    work = None
    try:
        for path in arguments.plugin:
            plugins.add_file(path)
        execution = run.info["config"]["execution"]
        threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
        context = WorkContext(
            device=_device(execution["device"]),
            folder=folder / "scratch",
            report=lambda label, done, total: progress.send({"label": label, "done": done, "total": total}),
            curves=folder / "curves.jsonl",
            stop=stop,
        )
        work = CellWork(run, context, threads, execution["budget"], enter)
        work.do(arguments.cell)
        record["status"] = "ok"
    except Interrupted as error:
        record |= {"status": "interrupted", "reason": str(error)}
    except MemoryError as error:
        record |= {"status": "out_of_memory", "reason": str(error) or "MemoryError"}
    except Exception as error:
        traceback.print_exc()
        text = str(error) if isinstance(error, MmbenchError) else f"{type(error).__name__}: {error}"
        out_of_memory = type(error).__name__ == "OutOfMemoryError"
        record |= {"status": "out_of_memory" if out_of_memory else "failed", "reason": text}
    record |= {
        "phase": "" if record["status"] == "ok" else record["phase"],
        "seconds": work.seconds if work else {},
        "peak_rss_mb": _peak_mb(),
        "ended": time.time(),
    }
    write_json(folder / "status.json", record)
    return 0 if record["status"] == "ok" else 1


def _peak_mb() -> float:
    """Return the largest resident memory of this process in MiB."""
    status = Path("/proc/self/status")
    if status.exists():
        # Linux's ru_maxrss starts at that of the process that started this one; VmHWM does not.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    scale = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def _device(wanted: str) -> str:
    if wanted != "auto":
        return wanted
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


class _Progress:
    def __init__(self) -> None:
        number = os.environ.get(PROGRESS_FD)
        self._file = os.fdopen(int(number), "w", buffering=1) if number else None

    def send(self, message: dict[str, Any]) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.write(json.dumps(message) + "\n")


if __name__ == "__main__":
    main()
