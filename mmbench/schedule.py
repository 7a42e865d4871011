"""Runs cells in processes of their own: starts them as their needs are met, watches and records each."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from mmbench import store
from mmbench.cell import ANCHORS
from mmbench.config import Config
from mmbench.display import Display
from mmbench.files import plain, read_json, write_json
from mmbench.plan import Plan, composition_key, extractor_key, fit_key, metrics_key
from mmbench.store import REAL, Run
from mmbench.worker import PROGRESS_FD

POLL_SECONDS = 0.1
GRACE_SECONDS = 20.0
"""Time that a cell gets to stop cleanly before it is killed."""


@dataclass
class _Job:
    """A cell's process.

    Attributes:
        id: The cell.
        needs: Cells that must be over before it starts.
        key: What its result depends on; a finished cell under the same key is not repeated.
    """

    id: str
    needs: tuple[str, ...]
    key: str
    process: subprocess.Popen[bytes] | None = None
    progress: int = -1
    pending: bytes = b""
    started: float = 0.0
    peak_mb: float = 0.0
    phase: str = ""
    killed_as: tuple[str, str] | None = None
    stop_sent: float | None = None


@dataclass
class Schedule:
    """Starts cells as their needs are met, watches them, and records what becomes of each."""

    run: Run
    display: Display
    plugin_files: Sequence[Path]
    stopped: bool = False
    waiting: list[_Job] = field(default_factory=list)
    running: list[_Job] = field(default_factory=list)
    over: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        config = Config.model_validate(self.run.info["config"])
        self.limits = config.execution
        cores = os.cpu_count() or 1
        self.jobs = self.limits.jobs or min(2, cores)
        self.threads = self.limits.threads or max(1, cores // self.jobs)
        plan = Plan.from_dict(self.run.info["plan"])
        data = store.key(
            fingerprint=self.run.info["cohort"]["fingerprint"],
            roles=read_json(self.run.folder / "roles.json"),
        )
        metrics = metrics_key(plan.metrics)
        composed = composition_key(data, plan.measurer)
        extractor = ""
        if plan.extractor is not None:
            geometry = self.run.cohort.images.geometry
            extractor = extractor_key(plan.extractor, geometry, composed, self.limits.device, self.threads)
        measured = store.key(composition=composed, extractor=extractor)
        shared = store.key(measured=measured, metrics=metrics, seeds=plan.sample_seeds)
        keys: dict[str, str] = {}
        self.waiting = [
            _Job(REAL, (), store.key(cell=REAL, measured=measured)),
            _Job(ANCHORS, (REAL,), store.key(cell=ANCHORS, shared=shared)),
        ]
        for cell in plan.cells:
            if cell.recorded:
                fit = self.run.recorded_key(cell.generator)
            elif cell.plugin:
                fit = fit_key(cell, data, self.limits.device, self.threads, self.limits.budget)
            else:
                fit = store.key(parts=[keys[part] for part in cell.components])
            keys[cell.id] = store.key(fit=fit, shared=shared)
            self.waiting.append(_Job(cell.id, (REAL, *cell.components), keys[cell.id]))
            if cell.not_applicable:
                self._record(self.waiting[-1], "not_applicable", cell.not_applicable)
        # The anchors are short and nothing waits for them: let the long fits go first.
        self.waiting.sort(key=lambda job: job.id == ANCHORS)

    def work(self) -> None:
        """Run until nothing is left to do."""
        for job in list(self.waiting):
            record = self.run.status(job.id)
            if record["status"] in ("ok", "not_applicable") and record.get("key") == job.key:
                self.waiting.remove(job)
                self.over[job.id] = record["status"]
                self.display.say(f"{job.id}: {record['status'].replace('_', ' ')}, kept")
        while self.waiting or self.running:
            self._start_ready()
            for job in list(self.running):
                self._watch(job)
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Let running cells stop cleanly and start no more."""
        self.stopped = True

    def _start_ready(self) -> None:
        for job in list(self.waiting):
            if self.stopped:
                self.waiting.remove(job)
                self._record(job, "interrupted", "stopped before it started")
                continue
            if not all(need in self.over for need in job.needs):
                continue
            broken = [need for need in job.needs if self.over[need] != "ok"]
            if broken:
                self.waiting.remove(job)
                record = self.run.status(broken[0])
                status = "not_applicable" if self.over[broken[0]] == "not_applicable" else "failed"
                self._record(
                    job, status, f"needs {broken[0]}, which ended as {record['status']}: {record['reason']}"
                )
                self.display.end(job.id, f"{status}: needs {broken[0]}")
                continue
            if len(self.running) < self.jobs:
                self.waiting.remove(job)
                self._start(job)

    def _start(self, job: _Job) -> None:
        folder = self.run.cell_folder(job.id)
        folder.mkdir(parents=True, exist_ok=True)
        read_end, write_end = os.pipe()
        os.set_blocking(read_end, False)
        command = [
            sys.executable,
            "-P",
            "-m",
            "mmbench.worker",
            str(self.run.folder),
            job.id,
            "--key",
            job.key,
        ]
        for path in self.plugin_files:
            command += ["--plugin", str(path)]
        threads = str(self.threads)
        environment = os.environ | {
            PROGRESS_FD: str(write_end),
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
            # Sets of text are ordered by hash: without this two runs with equal seeds may differ.
            "PYTHONHASHSEED": "0",
        }
        with (folder / "log.txt").open("ab") as log:
            job.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=(write_end,),
                env=environment,
                start_new_session=True,
            )
        os.close(write_end)
        job.progress, job.started = read_end, time.monotonic()
        self.running.append(job)
        self.display.begin(job.id)
        self._event(job.id, "started")

    def _watch(self, job: _Job) -> None:
        process = job.process
        if process is None:
            return
        self._read_progress(job)
        self._check_limits(job, process)
        if process.poll() is None:
            return
        self._read_progress(job)
        os.close(job.progress)
        if process.stdin:
            process.stdin.close()
        _kill_group(process)
        self.running.remove(job)
        record = self.run.status(job.id)
        if job.killed_as:
            record |= {"status": job.killed_as[0], "reason": job.killed_as[1], "phase": job.phase}
        elif record["status"] == "running":
            code = process.returncode
            reason = f"ended by signal {-code}" if code < 0 else f"ended with status {code}"
            if code == -signal.SIGKILL:
                reason += " (the kernel's out-of-memory killer, or somebody)"
            record |= {"status": "failed", "reason": f"{reason}; see log.txt", "phase": job.phase}
        record["peak_rss_mb"] = max(record.get("peak_rss_mb") or 0.0, job.peak_mb)
        record["wall_seconds"] = time.monotonic() - job.started
        write_json(self.run.cell_folder(job.id) / "status.json", record)
        self.over[job.id] = record["status"]
        self._event(job.id, record["status"], reason=record["reason"])
        note = f" ({record['reason']})" if record["reason"] else ""
        self.display.end(job.id, f"{record['status']}{note}, {record['wall_seconds']:.0f} s")

    def _read_progress(self, job: _Job) -> None:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(job.progress, 65536):
                job.pending += data
        *lines, job.pending = job.pending.split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "phase" in message:
                job.phase = message["phase"]
                self._event(job.id, job.phase)
                self.display.progress(job.id, job.phase, 0, 1)
            else:
                label = f"{job.phase}: {message['label']}"
                self.display.progress(job.id, label, message["done"], message["total"])

    def _check_limits(self, job: _Job, process: subprocess.Popen[bytes]) -> None:
        job.peak_mb = max(job.peak_mb, resident := _resident_mb(process.pid))
        now = time.monotonic()
        if self.stopped and job.stop_sent is None:
            job.stop_sent = now
            _kill_group(process, signal.SIGTERM)
        if job.stop_sent is not None and now - job.stop_sent > GRACE_SECONDS and not job.killed_as:
            job.killed_as = ("interrupted", "stopped by the user")
            _kill_group(process)
        if job.killed_as:
            return
        limit = self.limits.memory_gib
        if limit is not None and resident > limit * 1024:
            job.killed_as = ("out_of_memory", f"held {resident / 1024:.1f} GiB, allowed are {limit:g} GiB")
        elif self.limits.timeout is not None and now - job.started > self.limits.timeout:
            job.killed_as = ("timeout", f"took longer than {self.limits.timeout:g} s")
        if job.killed_as:
            _kill_group(process)

    def _record(self, job: _Job, status: str, reason: str) -> None:
        folder = self.run.cell_folder(job.id)
        folder.mkdir(parents=True, exist_ok=True)
        record = {"cell": job.id, "key": job.key, "status": status, "phase": "", "reason": reason}
        write_json(folder / "status.json", record | {"seconds": {}, "peak_rss_mb": None})
        self.over[job.id] = status
        self._event(job.id, status, reason=reason)

    def _event(self, cell: str, event: str, **details: Any) -> None:
        line = json.dumps(plain({"time": time.time(), "cell": cell, "event": event, **details}))
        with (self.run.folder / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")


@contextlib.contextmanager
def forwarded_interrupts(schedule: Schedule) -> Iterator[None]:
    """Make Ctrl-C and SIGTERM stop the schedule cleanly; the cells are in sessions of their own."""
    previous = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        previous[number] = signal.signal(number, lambda *_: schedule.stop())
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for job in schedule.running:
            if job.process is not None:
                _kill_group(job.process)


def _kill_group(process: subprocess.Popen[bytes], number: int = signal.SIGKILL) -> None:
    # Also after the cell's own end: whatever it started dies with it.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _resident_mb(pid: int) -> float:
    total = 0.0
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss / 2**20
    return total
