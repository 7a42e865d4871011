"""Measure how fast phantoms are made and looked at, and what memory that takes: ``python benchmarks/phantom_rate.py``.

Runs ``mmbench cohort make`` and ``mmbench cohort inspect`` as a user does, for cohorts of several sizes one after
the other, each in a temporary folder that is deleted again. Memory is that of the whole process tree, sampled every 0.1 s. Prints a
table and writes ``benchmarks/results/phantom_rate.json``.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from mmbench.files import write_json
from mmbench.provenance import hardware, versions

SIZES = (100, 1000, 3000)
RESULTS = Path(__file__).parent / "results" / "phantom_rate.json"
SAMPLED_EVERY_S = 0.1


def tree_mib(root: psutil.Process) -> float:
    """Return the memory of a process and all that it started, in MiB.

    Pages that processes share count once, where the system tells (Linux: proportional set size); elsewhere resident
    sizes are summed, which counts them in each.
    """
    total = 0
    for process in (root, *root.children(recursive=True)):
        # Processes come and go between being listed and being asked.
        with contextlib.suppress(psutil.Error):
            memory = process.memory_full_info()
            total += getattr(memory, "pss", memory.rss)
    return total / 2**20


def timed(arguments: Sequence[str]) -> tuple[float, float]:
    """Run a command of mmbench and return its wall seconds and the peak memory of its process tree in MiB.

    Raises:
        RuntimeError: It failed; the message is the command's.
    """
    with tempfile.TemporaryFile("w+") as told:
        start, peak = time.monotonic(), 0.0
        process = subprocess.Popen([sys.executable, "-m", "mmbench", *arguments], stdout=told, stderr=told)
        while process.poll() is None:
            with contextlib.suppress(psutil.Error):
                peak = max(peak, tree_mib(psutil.Process(process.pid)))
            time.sleep(SAMPLED_EVERY_S)
        seconds = time.monotonic() - start
        if process.returncode:
            told.seek(0)
            raise RuntimeError(told.read())
    return seconds, peak


def measure(subjects: int, options: Sequence[str], folder: Path) -> dict[str, float]:
    """Make one cohort below ``folder``, look into it, and return what either took."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        out = Path(scratch) / "cohort"
        made, peak = timed(["cohort", "make", "--subjects", str(subjects), "--out", str(out), *options])
        looked, inspection_peak = timed(["cohort", "inspect", str(out)])
        size = sum(path.stat().st_size for path in out.iterdir())
    return {
        "subjects": subjects,
        "seconds": round(made, 1),
        "subjects_per_second": round(subjects / made, 2),
        "peak_mib": round(peak, 1),
        "inspect_seconds": round(looked, 1),
        "inspect_peak_mib": round(inspection_peak, 1),
        "bytes": size,
    }


def main() -> None:
    """Read the arguments, measure every size, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("subjects", nargs="*", type=int, help=f"cohort sizes, default {SIZES}")
    parser.add_argument("--voxel", type=float, default=4.0, help="voxel spacing in plane, mm")
    parser.add_argument("--preset", default="nako")
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()), help="where there is space"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="JSON file to write")
    arguments = parser.parse_args()
    options = ["--voxel", str(arguments.voxel), "--preset", arguments.preset]
    rows = []
    print("subjects  GiB    make: seconds, per second, peak MiB    inspect: seconds, peak MiB")
    for subjects in arguments.subjects or SIZES:
        row = measure(subjects, options, arguments.folder)
        rows.append(row)
        print(
            f"{subjects:8d} {row['bytes'] / 2**30:6.2f} {row['seconds']:11.1f} {row['subjects_per_second']:11.2f} "
            f"{row['peak_mib']:9.0f} {row['inspect_seconds']:22.1f} {row['inspect_peak_mib']:9.0f}",
            flush=True,
        )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    settings = {"voxel_mm": arguments.voxel, "preset": arguments.preset}
    write_json(arguments.out, {**settings, "rows": rows, "hardware": hardware(), "versions": versions()})


if __name__ == "__main__":
    main()
