"""A run on disk: its folders, its records, and the steps that are done.

::

    run.json            configuration, plan, seeds, package versions, hardware
    events.jsonl        each cell's changes of state, append-only
    cohort/             the real cohort as every cell reads it
    samples/<name>/     samples that existed before the run, as the cells read them
    cells/real/         ceiling and nulls: what the real subjects score against each other
    cells/real/extractor/   what the feature extractor learned, and the sha256 of its weights
    cells/<cell>/       status.json, log.txt, curves.jsonl, model/, draws/<seed>/{sample,measured,scores}/
    cells/<cell>/draws/<seed>/given/<place in the sweep>/{sample,measured}/     records at given values
    scores.parquet      all scores, tidy: one row a cell, draw, score and item
    report/
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmbench.cohort import Cohort, Roles, load_cohort
from mmbench.errors import UsageError
from mmbench.evidence import Evidence, load_measured
from mmbench.files import plain, publish_folder, read_json, write_json

FORMAT = 1
REAL = "real"
"""Name of the cell that holds the real subjects' measurements and the anchors."""
STEP = "step.json"
SAMPLES = "samples"
"""Folder that holds samples that existed before the run."""
MODEL = "model"
"""Folder in a cell that holds what its generator learned; see :mod:`mmbench.model`."""
EXTRACTOR = "extractor"
"""Folder in the cell of the real subjects that holds what the extractor learned."""

SCORE_COLUMNS = [
    "cohort", "generator", "fit_seed", "sample_seed", "metric", "score", "item", "kind", "direction",
    "value", "ci_low", "ci_high", "ci_method", "n_real", "n_synthetic",
    "ceiling", "ceiling_low", "ceiling_high", "null", "null_low", "null_high", "scaled",
    "status", "reason", "verdict", "note", "seconds", "peak_rss_mb", "metric_version", "extractor_sha256",
]  # fmt: skip


def key(**parts: Any) -> str:
    """Return the sha256 of everything a result depends on; the one function that makes keys."""
    return hashlib.sha256(json.dumps(plain(parts), sort_keys=True, allow_nan=False).encode()).hexdigest()


def step(folder: Path, step_key: str, make: Callable[[Path], Mapping[str, Any] | None]) -> dict[str, Any]:
    """Do a step unless it is done already under the same key.

    Args:
        folder: Where its result lives; it appears whole or not at all.
        step_key: Key of everything that the result depends on.
        make: Writes the result into the folder it is given and may return facts to record.

    Returns:
        The step's record: key, seconds, and what ``make`` returned.
    """
    record = _step_record(folder)
    if record and record.get("key") == step_key:
        return record
    if folder.exists():
        shutil.rmtree(folder)
    start = time.monotonic()
    with publish_folder(folder) as temporary:
        facts = make(temporary) or {}
        record = {"key": step_key, "seconds": time.monotonic() - start, **facts}
        write_json(temporary / STEP, record)
    return record


def _step_record(folder: Path) -> dict[str, Any] | None:
    try:
        record = read_json(folder / STEP)
    except (OSError, json.JSONDecodeError):
        return None
    return record if isinstance(record, dict) else None


@dataclass(frozen=True)
class Run:
    """A run's folder, for reading.

    Attributes:
        folder: The run's folder.
    """

    folder: Path

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Return the run in ``folder``.

        Raises:
            UsageError: There is none, or it was written by an incompatible version.
        """
        try:
            info = read_json(folder / "run.json")
        except FileNotFoundError:
            raise UsageError(f"{folder}: no run here (run.json is absent).") from None
        except json.JSONDecodeError as error:
            raise UsageError(f"{folder / 'run.json'}: cannot be read: {error}.") from None
        if info.get("format") != FORMAT:
            raise UsageError(
                f"{folder}: a run of format {info.get('format')}, expected {FORMAT}; run it anew."
            )
        return cls(folder)

    @cached_property
    def info(self) -> dict[str, Any]:
        """``run.json``: format, name, config, plan, versions, hardware, created."""
        return read_json(self.folder / "run.json")

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.info["name"]

    @cached_property
    def cohort(self) -> Cohort:
        """The real cohort."""
        return load_cohort(self.folder / "cohort")

    def recorded(self, name: str) -> Cohort:
        """Return samples that existed before the run."""
        return load_cohort(self.folder / SAMPLES / name)

    def recorded_key(self, name: str) -> str:
        """Return the key of samples that existed before the run: what they hold."""
        return key(step="recorded", fingerprint=self.info["samples"][name]["fingerprint"])

    @cached_property
    def roles(self) -> Roles:
        """Who of the real cohort is train, reference and floor."""
        roles = read_json(self.folder / "roles.json")
        return Roles(**{name: np.array(indices, dtype=int) for name, indices in roles.items()})

    @cached_property
    def scores(self) -> pd.DataFrame:
        """All scores with the columns :data:`SCORE_COLUMNS`; ``item`` is empty for headlines."""
        return pd.read_parquet(self.folder / "scores.parquet")

    @cached_property
    def anchor_scores(self) -> pd.DataFrame:
        """Scores of the anchors, as in :attr:`scores`; their ``generator`` is ``ceiling`` or ``null``.

        Empty until the real subjects are scored.
        """
        path = self.cell_folder(REAL) / "scores" / "scores.parquet"
        return pd.read_parquet(path) if path.exists() else pd.DataFrame(columns=SCORE_COLUMNS)

    @property
    def extractor(self) -> dict[str, Any] | None:
        """What made the features: ``name``, ``params``, ``version``, and ``digest``, the sha256 of its weights.

        The digest of an extractor that learns is empty until it is fitted. ``None`` without an extractor.
        """
        planned = self.info.get("extractor")
        if not planned:
            return None
        used = _step_record(self.cell_folder(REAL) / EXTRACTOR) or {}
        return {**planned, "digest": used.get("digest", planned.get("digest", ""))}

    @property
    def cells(self) -> list[dict[str, Any]]:
        """Planned cells in order: ``id``, ``generator``, ``fit_seed``, ``plugin``, ``components``, ``modalities``, ``copies``, ``recorded``."""
        return self.info["plan"]["cells"]

    @property
    def sample_seeds(self) -> list[int]:
        """Seeds of the sample draws of every cell."""
        return self.info["plan"]["sample_seeds"]

    def cell_folder(self, cell: str) -> Path:
        """Return the folder of a cell."""
        return self.folder / "cells" / cell

    def status(self, cell: str) -> dict[str, Any]:
        """Return a cell's record: ``status``, ``phase``, ``reason``, ``seconds`` by phase, ``peak_rss_mb``."""
        try:
            return read_json(self.cell_folder(cell) / "status.json")
        except FileNotFoundError:
            return {
                "status": "interrupted",
                "phase": "",
                "reason": "never started",
                "seconds": {},
                "peak_rss_mb": None,
            }

    def real(self, role: str) -> Evidence:
        """Return the real subjects of a role (``train``, ``reference``, ``floor``) with their measurements."""
        cohort = self.cohort.take(getattr(self.roles, role))
        return load_measured(cohort, self.cell_folder(REAL) / "measured" / role)

    def synthetic(self, cell: str, sample_seed: int) -> Evidence | None:
        """Return a cell's samples with their measurements, ``None`` where the cell has none."""
        draw = self.cell_folder(cell) / "draws" / str(sample_seed)
        if not (draw / "sample" / STEP).exists():
            return None
        return load_measured(load_cohort(draw / "sample"), draw / "measured")

    def curves(self, cell: str) -> pd.DataFrame:
        """Return a cell's training curves with the columns ``name``, ``step``, ``value``."""
        path = self.cell_folder(cell) / "curves.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return pd.DataFrame(rows, columns=["name", "step", "value"])
