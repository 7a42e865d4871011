"""Runs from start to end: every outcome recorded, nothing repeated, nothing lost."""

import json
import os
import signal
import time
from pathlib import Path

import pandas as pd
import pytest

from mmbench.store import Run

MISBEHAVING = Path(__file__).parent / "misbehaving.py"
TIMINGS = ["seconds", "peak_rss_mb"]


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("the run did not come to the point that the test waits for")


def phase_begun(folder, cell, event):
    events = folder / "events.jsonl"
    if not events.exists():
        return False
    lines = [json.loads(line) for line in events.read_text().splitlines() if line.endswith("}")]
    return any(line["cell"] == cell and line["event"] == event for line in lines)


def test_every_way_to_go_wrong_is_a_record_and_the_run_goes_on(mmbench, write_config, tmp_path):
    names = [
        "well",
        "raises",
        "crashes",
        "hungry",
        "hangs",
        "wrong-level",
        "too-few",
        "blank",
        "pair(raises, well)",
    ]
    config = write_config(
        "{" + ", ".join(f"'{name}': {{}}" for name in names) + "}",
        "execution: {timeout: 30, memory_gib: 2, jobs: 2, threads: 1}\n",
    )
    done = mmbench("run", config, "--plugin", MISBEHAVING, "--out", "run")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    run = Run.open(tmp_path / "run")
    statuses = {cell["generator"]: run.status(cell["id"]) for cell in run.cells}
    assert {name: record["status"] for name, record in statuses.items()} == {
        "well": "ok",
        "raises": "failed",
        "crashes": "failed",
        "hungry": "out_of_memory",
        "hangs": "timeout",
        "wrong-level": "failed",
        "too-few": "failed",
        "blank": "failed",
        "pair(raises, well)": "failed",
    }
    assert "the loss is not a number" in statuses["raises"]["reason"]
    assert statuses["raises"]["phase"] == "fit"
    assert "signal 11" in statuses["crashes"]["reason"]
    assert "'X' is not among the levels" in statuses["wrong-level"]["reason"]
    assert "expected 12" in statuses["too-few"]["reason"]
    assert "NaN" in statuses["blank"]["reason"]
    assert "needs raises.fit0" in statuses["pair(raises, well)"]["reason"]
    heads = run.scores[run.scores["item"] == ""]
    assert len(heads) == len(names) * 2
    assert (heads.loc[heads["generator"] == "well", "status"] == "ok").all()
    assert (heads.loc[heads["generator"] == "hangs", "status"] == "timeout").all()
    assert heads.loc[heads["generator"] == "well", ["ceiling", "null", "scaled"]].notna().all(axis=None)


def test_a_killed_run_resumes_without_repeating_and_ends_with_the_same_scores(
    mmbench, write_config, tmp_path
):
    config = write_config("{well: {}, slow: {}, permuted: {}}", "execution: {jobs: 1, threads: 1}\n")
    whole = mmbench("run", config, "--plugin", MISBEHAVING, "--out", "undisturbed")
    assert whole.returncode == 0, whole.stderr

    process = mmbench("run", config, "--plugin", MISBEHAVING, "--out", "killed", background=True)
    folder = tmp_path / "killed"
    wait_for(lambda: phase_begun(folder, "slow.fit0", "fit"))
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = folder / "cells" / "well.fit0" / "draws" / "0" / "scores" / "step.json"
    before = finished.stat().st_mtime_ns
    assert not (folder / "cells" / "slow.fit0" / "model").exists()

    without_plugin = mmbench("run", "--resume", folder)
    assert without_plugin.returncode == 2
    assert "--plugin" in without_plugin.stderr

    resumed = mmbench("run", "--resume", folder, "--plugin", MISBEHAVING)
    assert resumed.returncode == 0, resumed.stderr
    assert "well.fit0: ok, kept" in resumed.stderr
    assert finished.stat().st_mtime_ns == before
    expected = Run.open(tmp_path / "undisturbed").scores.drop(columns=TIMINGS)
    pd.testing.assert_frame_equal(Run.open(folder).scores.drop(columns=TIMINGS), expected)


def test_cells_die_with_a_killed_run(mmbench, write_config, tmp_path):
    config = write_config("{hangs: {}}")
    process = mmbench("run", config, "--plugin", MISBEHAVING, "--out", "run", background=True)
    folder = tmp_path / "run"
    wait_for(lambda: phase_begun(folder, "hangs.fit0", "fit"))

    def workers():
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if str(folder.name) in path.read_text() and "mmbench.worker" in path.read_text():
                    cwd = os.readlink(path.parent / "cwd")
                    found += [path] if cwd == str(tmp_path) else []
            except OSError:
                continue
        return found

    if not Path("/proc").exists():
        pytest.skip("needs /proc to look for processes")
    assert workers()
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not workers(), 10)


def test_an_interrupt_stops_cleanly_and_tells_how_to_go_on(mmbench, write_config, tmp_path):
    config = write_config("{slow: {steps: 3000}, well: {}}", "execution: {jobs: 1}\n")
    process = mmbench("run", config, "--plugin", MISBEHAVING, "--out", "run", background=True)
    folder = tmp_path / "run"
    wait_for(lambda: phase_begun(folder, "slow.fit0", "fit"))
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    run = Run.open(folder)
    assert run.status("slow.fit0")["status"] == "interrupted"
    assert run.status("well.fit0")["reason"] == "stopped before it started"
    assert set(run.scores["status"]) == {"interrupted"}


def test_a_time_budget_ends_a_fit_early_and_cleanly(mmbench, write_config, tmp_path):
    config = write_config("{slow: {steps: 100000}}", "execution: {budget: 1}\n")
    done = mmbench("run", config, "--plugin", MISBEHAVING, "--out", "run")
    assert done.returncode == 0, done.stderr
    run = Run.open(tmp_path / "run")
    assert 1 <= run.status("slow.fit0")["seconds"]["fit"] < 5
    curves = run.curves("slow.fit0")
    assert 3 <= len(curves) <= 12


def test_draws_and_seeds_fill_the_grid(mmbench, write_config, tmp_path):
    config = write_config("{bootstrap: {}}", "fit_seeds: [0, 1]\nsample_seeds: [5, 6]\n")
    done = mmbench("run", config, "--out", "run")
    assert done.returncode == 0, done.stderr
    run = Run.open(tmp_path / "run")
    heads = run.scores[(run.scores["item"] == "") & (run.scores["score"] == "column-shapes")]
    assert sorted(zip(heads["fit_seed"], heads["sample_seed"], strict=True)) == [
        (0, 5),
        (0, 6),
        (1, 5),
        (1, 6),
    ]
    assert heads["value"].nunique() == 4
