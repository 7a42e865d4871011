"""A run from configuration to scores and reports."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import mmbench
from mmbench import plugins, scoring, store, validity
from mmbench.api import Extractor, Report
from mmbench.cohort import Cohort, load_cohort, save_cohort
from mmbench.config import Config
from mmbench.display import Display
from mmbench.errors import Interrupted, UsageError
from mmbench.files import plain, read_json, write_json
from mmbench.inputs import Inputs, load_inputs
from mmbench.plan import Cell, Plan, make_plan
from mmbench.provenance import hardware, versions
from mmbench.schedule import Schedule, forwarded_interrupts
from mmbench.store import REAL, SAMPLES, Run


def create(config: Config, folder: Path, display: Display) -> Run:
    """Make a run's folder: load and keep the cohort and the samples that exist already, split, and write the plan.

    Raises:
        UsageError: The folder exists, or configuration or cohort cannot be used; nothing is left behind.
    """
    if folder.exists():
        raise UsageError(f"{folder}: exists already; resume it with --resume or choose another --out.")
    check_report_formats(config)
    above = folder.parent.exists()
    folder.mkdir(parents=True)
    try:
        scratch = folder / "scratch"
        scratch.mkdir()
        inputs = load_inputs(config, scratch, display)
        roles = inputs.roles
        plan = make_plan(config, inputs.cohort, inputs.samples, roles)
        saved = load_cohort(save_cohort(inputs.cohort, folder / "cohort"))
        samples = _kept_samples(inputs, folder)
        del inputs
        shutil.rmtree(scratch)
        fingerprint = read_json(folder / "cohort" / "cohort.json")["fingerprint"]
        write_json(folder / "roles.json", {name: rows.tolist() for name, rows in roles.items()})
        sizes = {name: len(rows) for name, rows in roles.items()}
        info = {
            "format": store.FORMAT,
            "name": config.name,
            "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "mmbench": mmbench.__version__,
            "config": config.model_dump(mode="json"),
            "plan": dataclasses.asdict(plan),
            "cohort": {
                "name": saved.name,
                "records": len(saved),
                "subjects": len(set(saved.people)),
                "fingerprint": fingerprint,
                "geometry": saved.volumes.geometry.to_dict() if saved.volumes is not None else None,
                "roles": sizes,
            },
            "samples": samples,
            "measurer": plan.measurer and plan.measurer.name,
            "extractor": _extractor_info(plan, saved),
            "validity": _failed_validity(plan),
            "quantities": _quantities(plan),
            "outputs": _outputs(plan),
            "versions": versions(),
            "hardware": hardware(),
        }
        write_json(folder / "run.json", info)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        if not above:
            with contextlib.suppress(OSError):
                folder.parent.rmdir()
        raise
    return Run.open(folder)


def _kept_samples(inputs: Inputs, folder: Path) -> dict[str, dict[str, Any]]:
    """Keep the samples that exist already below a run's folder; return the facts of each."""
    kept = {}
    for name, samples in inputs.samples.items():
        # A copy, never a link: whoever sampled may well overwrite the file with new samples.
        records = samples.cohort.take(np.arange(len(samples.cohort)))
        place = save_cohort(records, folder / SAMPLES / name)
        kept[name] = {"records": len(records), "fingerprint": read_json(place / "cohort.json")["fingerprint"]}
    return kept


def check_report_formats(config: Config) -> None:
    """Raise PluginError where a report format is unknown."""
    for name in config.report.formats:
        plugins.load("reports", name)


def execute(run: Run, display: Display, plugin_files: Sequence[Path] = ()) -> pd.DataFrame:
    """Do every cell of a run that is not done, gather all scores and write the reports.

    Returns:
        All scores.

    Raises:
        Interrupted: The user stopped the run; what is finished is kept.
    """
    schedule = Schedule(run, display, plugin_files)
    with forwarded_interrupts(schedule):
        schedule.work()
    scores = gather(run)
    if schedule.stopped:
        raise Interrupted(f"stopped; go on with: mmbench run --resume {run.folder}")
    return scores


def write_reports(runs: Sequence[Run], formats: Sequence[str], folder: Path) -> list[Path]:
    """Write reports over finished runs and return their main files.

    Raises:
        UsageError: A run has no scores yet.
    """
    for run in runs:
        if not (run.folder / "scores.parquet").exists():
            raise UsageError(
                f"{run.folder}: has no scores yet; go on with: mmbench run --resume {run.folder}"
            )
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in formats:
        report: Report = plugins.build("reports", name, {})
        written.append(report.write(runs, folder))
    return written


def gather(run: Run) -> pd.DataFrame:
    """Write ``scores.parquet``: one row for every planned score, whatever became of its cell."""
    plan = Plan.from_dict(run.info["plan"])
    frames = []
    for cell in plan.cells:
        record = run.status(cell.id)
        for sample_seed in plan.sample_seeds:
            path = run.cell_folder(cell.id) / "draws" / str(sample_seed) / "scores" / "scores.parquet"
            if record["status"] == "ok" and path.exists():
                frame = pd.read_parquet(path)
            else:
                frame = _lost_scores(run, plan, cell, sample_seed, record)
            frame["peak_rss_mb"] = float(record.get("peak_rss_mb") or float("nan"))
            frames.append(frame)
    scores = pd.concat(frames, ignore_index=True)
    anchors = run.cell_folder(REAL) / "scores" / "scores.parquet"
    if anchors.exists():
        scores = scoring.with_anchors(scores, pd.read_parquet(anchors))
    looks = {m.name for m in plan.metrics if "volume" in plugins.load("metrics", m.name).needs}
    weights = (run.extractor or {}).get("digest", "")
    scores["extractor_sha256"] = np.where(scores["metric"].isin(looks), weights, "")
    temporary = run.folder / ".scores.parquet.tmp"
    scores.to_parquet(temporary)
    temporary.replace(run.folder / "scores.parquet")
    return scores


def _lost_scores(run: Run, plan: Plan, cell: Cell, sample_seed: int, record: dict[str, Any]) -> pd.DataFrame:
    common = {
        "cohort": run.info["cohort"]["name"],
        "generator": cell.generator,
        "fit_seed": cell.fit_seed,
        "sample_seed": sample_seed,
    }
    rows: list[dict[str, Any]] = []
    phase = f"{record['phase']}: " if record.get("phase") else ""
    status = record["status"] if record["status"] not in ("ok", "running") else "interrupted"
    for planned in plan.metrics:
        reason = f"{phase}{record['reason'] or status}"
        rows += scoring.score_rows(planned.build("metrics"), planned.name, [], status, reason, common)
    return scoring.as_scores(rows)


def estimate(cell: Cell, folder: Path) -> tuple[float, float] | None:
    """Return median seconds and peak MiB of earlier fits of the same plug-in and parameters, if any.

    Args:
        cell: The planned cell.
        folder: Folder that holds earlier runs.
    """
    found = []
    for path in folder.glob("*/run.json"):
        try:
            run = Run.open(path.parent)
        except UsageError:
            continue
        for other in run.cells:
            record = run.status(other["id"])
            same = (other["plugin"], other["params"], other["components"]) == (
                cell.plugin,
                plain(cell.params),
                list(cell.components),
            )
            if same and record["status"] == "ok" and record.get("wall_seconds"):
                found.append((record["wall_seconds"], record["peak_rss_mb"]))
    if not found:
        return None
    seconds, memory = zip(*found, strict=True)
    return statistics.median(seconds), statistics.median(memory)


def _extractor_info(plan: Plan, cohort: Cohort) -> dict[str, Any] | None:
    if plan.extractor is None:
        return None
    extractor: Extractor = plan.extractor.build("measurers")
    known = {} if extractor.learns else {"digest": extractor.digest(cohort.images.geometry)}
    return {**dataclasses.asdict(plan.extractor), "version": extractor.version, **known}


def _failed_validity(plan: Plan) -> dict[str, list[str]]:
    names = {
        output.name for metric in plan.metrics for output in plugins.load("metrics", metric.name).outputs
    }
    return {name: failed for name, failed in validity.failures().items() if name in names}


def _quantities(plan: Plan) -> list[dict[str, Any]]:
    if plan.measurer is None:
        return []
    return [dataclasses.asdict(item) for item in plan.measurer.build("measurers").quantities]


def _outputs(plan: Plan) -> list[dict[str, Any]]:
    outputs = []
    for planned in plan.metrics:
        metric = plugins.load("metrics", planned.name)
        for output in metric.outputs:
            card = dataclasses.asdict(metric.card)
            outputs.append(
                {
                    **dataclasses.asdict(output),
                    "kind": output.kind or metric.kind,
                    "metric": planned.name,
                    "card": card,
                }
            )
    return outputs
