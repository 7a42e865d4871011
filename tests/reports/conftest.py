"""A small run on disk as the runner writes it, with everything a report must cope with."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmbench.api import Cohort, Column, Evidence, Geometry, Run, Schema, Volumes
from mmbench.cohort import Roles, save_cohort
from mmbench.evidence import save_measured
from mmbench.files import write_json
from mmbench.store import SCORE_COLUMNS

HOSTILE = "<script>alert(1)</script>"
HOSTILE_COLUMN = "a&<b>|c $x_1$"
GEOMETRY = Geometry.regular((20, 16, 8), (20.0, 16.0, 110.0), ("water", "fat"))
SCHEMA = Schema(
    (
        Column("age", "integer", "years", missing=True),
        Column("bmi", "continuous", "kg/m²", decimals=1),
        Column("sex", "categorical", levels=("F", "M")),
        Column(HOSTILE_COLUMN, "ordinal", levels=("low", "50 %", "<i>high</i>"), missing=True),
    )
)
QUANTITIES = [
    {"name": "fat_l", "unit": "L", "meaning": "Volume of fat."},
    {"name": "lean_l", "unit": "L", "meaning": "Volume of lean tissue."},
]
OUTPUTS = [
    {
        "name": "column_shape",
        "title": "Column shapes",
        "kind": "fidelity",
        "direction": "higher",
        "unit": "",
        "metric": "column-shapes",
        "meaning": "Each column has the real distribution.",
        "blind": "links of columns.",
    },
    {
        "name": "frechet",
        "title": "Fréchet distance",
        "kind": "fidelity",
        "direction": "lower",
        "unit": "",
        "metric": "frechet",
        "meaning": "Images have the real mean and spread of features.",
        "blind": "pairing.",
    },
    {
        "name": "coverage",
        "title": "Coverage",
        "kind": "diversity",
        "direction": "higher",
        "unit": "",
        "metric": "coverage",
        "meaning": "Real subjects have a synthetic neighbour.",
        "blind": "copies.",
    },
    {
        "name": "coherence",
        "title": "Coherence",
        "kind": "coherence",
        "direction": "higher",
        "unit": "nats",
        "metric": "coherence",
        "meaning": "The volume fits its row.",
        "blind": "quality.",
    },
    {
        "name": "copies",
        "title": "Copied records",
        "kind": "privacy",
        "direction": "lower",
        "unit": "%",
        "metric": "memorisation",
        "meaning": "Samples lie on training records.",
        "blind": "inference.",
    },
]
for _output in OUTPUTS:
    _output["card"] = {"reference": f"Paper on {_output['title']} 2024", "licence": "Apache-2.0"}
P_VALUES = {("joint", 0): 0.002, ("joint", 1): 0.4, ("copier", 0): 0.03}
"""Of coherence, by generator and fit seed."""
VALIDITY = {"frechet": [{"test": "V4", "detail": "lowest at spread 0.7"}], "coverage": []}
ANCHORS = {
    "column_shape": (0.92, 0.4),
    "frechet": (1.2, 30.0),
    "coverage": (0.95, 0.1),
    "coherence": (0.6, 0.0),
    "copies": (0.0, 100.0),
}
QUALITY = {"joint": 0.8, "copier": 1.0, HOSTILE: 0.3, "table-only": 0.7, "volume-only": 0.6}
BOTH, TABLE, VOLUME = ["table", "volume"], ["table"], ["volume"]


def ellipsoids(radii: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Volumes of shape (n, 2, 20, 16, 8): a shell of fat around water, the wider the larger the radius."""
    grid = np.meshgrid(*(np.linspace(-1, 1, n) for n in GEOMETRY.shape), indexing="ij")
    distance = np.sqrt(grid[0] ** 2 + 1.6 * grid[1] ** 2 + 0.7 * grid[2] ** 2)
    inner, outer = distance < 0.55, distance[None] < radii[:, None, None, None]
    water = inner[None] * 0.9 * outer
    fat = (outer & ~inner[None]) * 0.8
    volumes = np.stack([water, fat], axis=1) + 0.02 * rng.standard_normal((len(radii), 2, *GEOMETRY.shape))
    return volumes.astype(np.float32)


def people(n: int, seed: int, prefix: str, modalities: list[str] = BOTH, linked: bool = True) -> Evidence:
    """Records whose fat follows their bmi, or does not."""
    rng = np.random.default_rng(seed)
    bmi = np.round(rng.normal(27, 4, n).clip(18, 42), 1)
    seen = bmi if linked else rng.permutation(bmi)
    frame = pd.DataFrame(
        {
            "age": np.where(rng.random(n) < 0.1, np.nan, rng.integers(30, 75, n)),
            "bmi": bmi,
            "sex": np.where(rng.random(n) < 0.5, "F", "M"),
            HOSTILE_COLUMN: rng.choice(["low", "50 %", "<i>high</i>"], n),
        }
    )
    table = SCHEMA.coerce(frame) if "table" in modalities else None
    volumes = Volumes(ellipsoids(0.6 + (seen - 18) / 50, rng), GEOMETRY) if "volume" in modalities else None
    ids = np.array([f"{prefix}{i:03d}" for i in range(n)])
    composition = pd.DataFrame(
        {"fat_l": 1.2 * seen - 12 + rng.normal(0, 2, n), "lean_l": rng.normal(45, 6, n)},
        index=pd.Index(ids, name="id"),
    )
    cohort = Cohort("toy bodies", SCHEMA, ids, table, volumes)
    if volumes is None:
        return Evidence(cohort)
    reasons = pd.Series([""] * n, index=composition.index, dtype=object)
    reasons.iloc[:2] = ["the body fills 3% of the volume", "the body fills 4% of the volume"]
    composition.iloc[:2] = np.nan
    return Evidence(cohort, composition, rng.standard_normal((n, 1, 4)), reasons)


def build_run(folder: Path, *, shareable: bool = True, include_real: bool = False, name: str = "toy") -> Run:
    """Write a run with every kind of ending into ``folder``."""
    real = people(30, 0, "person-")
    real = dataclasses.replace(real, cohort=dataclasses.replace(real.cohort, shareable=shareable))
    save_cohort(real.cohort, folder / "cohort")
    roles = Roles(np.arange(0, 12), np.arange(12, 22), np.arange(22, 30))
    write_json(folder / "roles.json", dict(roles.items()))
    for role, indices in roles.items():
        target = folder / "cells" / "real" / "measured" / role
        target.mkdir(parents=True)
        save_measured(real.take(indices), target)
    cells = [
        _cell("joint", 0, BOTH),
        _cell("table-only", 0, TABLE),
        _cell("volume-only", 0, VOLUME),
        _cell("broken", 0, BOTH),
        _cell(HOSTILE, 0, BOTH, id="hostile.fit0"),
        _cell("copier", 0, BOTH, copies=True),
        _cell("joint", 1, BOTH),
    ]
    for position, cell in enumerate(cells):
        _write_cell(folder, cell, position, real.take(roles.train))
    write_json(
        folder / "run.json",
        {
            "format": 1,
            "name": name,
            "created": "2026-01-02T03:04:05+00:00",
            "config": {"report": {"include_real": include_real}},
            "plan": {"cells": cells, "sample_seeds": [0]},
            "versions": {"mmbench": "0.1.0", "torch": "2.13.0"},
            "hardware": {"cpu": "Toy CPU", "cores": 2, "memory_gib": 8.0, "gpu": None},
            "code_version": "abc123",
            "cohort": {"name": "toy bodies", "fingerprint": "f" * 64},
            "measurer": "dixon-composition",
            "extractor": {"name": "random-cnn", "digest": "e" * 64},
            "quantities": QUANTITIES,
            "outputs": OUTPUTS,
            "validity": VALIDITY,
        },
    )
    pd.DataFrame(_scores(cells), columns=SCORE_COLUMNS).to_parquet(folder / "scores.parquet")
    return Run.open(folder)


def _cell(generator: str, seed: int, modalities: list[str], id: str = "", copies: bool = False) -> dict:
    return {
        "id": id or f"{generator}.fit{seed}",
        "generator": generator,
        "fit_seed": seed,
        "plugin": generator,
        "components": [],
        "modalities": modalities,
        "copies": copies,
    }


def _write_cell(folder: Path, cell: dict, position: int, train: Evidence) -> None:
    home = folder / "cells" / cell["id"]
    home.mkdir(parents=True)
    if cell["generator"] == "broken":
        write_json(
            home / "status.json",
            {
                "status": "failed",
                "phase": "fit",
                "reason": "ValueError: loss is NaN | at <step> 3",
                "seconds": {"fit": 2.5},
                "peak_rss_mb": 300.0,
            },
        )
        return
    seconds = {"fit": 75.0 + position, "sample": 3.2, "measure": 1.0, "score": 8.0}
    write_json(
        home / "status.json",
        {"status": "ok", "phase": "score", "reason": "", "seconds": seconds, "peak_rss_mb": 812.4},
    )
    sample = (
        train.take(np.arange(10))
        if cell["copies"]
        else people(
            10, 100 + position, f"s{position}-", cell["modalities"], linked=cell["generator"] == "joint"
        )
    )
    draw = home / "draws" / "0"
    save_cohort(sample.cohort, draw / "sample")
    write_json(draw / "sample" / "step.json", {"key": "x"})
    (draw / "measured").mkdir()
    save_measured(sample, draw / "measured")
    if cell["generator"] == "joint":
        lines = [
            json.dumps({"name": "denoiser loss", "step": s, "value": 1 / (s + 1)}) for s in range(0, 100, 5)
        ]
        (home / "curves.jsonl").write_text("\n".join(lines) + "\n")


def _scores(cells: list[dict]) -> list[dict]:
    rows = []
    for cell in cells:
        if cell["generator"] == "broken":
            continue
        for output in OUTPUTS:
            ceiling, null = ANCHORS[output["name"]]
            row = dict.fromkeys(SCORE_COLUMNS, float("nan")) | {
                "cohort": "toy bodies",
                "generator": cell["generator"],
                "fit_seed": cell["fit_seed"],
                "sample_seed": 0,
                "metric": output["metric"],
                "score": output["name"],
                "item": "",
                "kind": output["kind"],
                "direction": output["direction"],
                "ci_method": "percentile bootstrap, 400 resamples",
                "n_real": 10,
                "n_synthetic": 10,
                "ceiling": ceiling,
                "null": null,
                "status": "ok",
                "reason": "",
                "seconds": 0.5,
                "peak_rss_mb": float("nan"),
                "metric_version": 1,
            }
            span = abs(ceiling - null)
            for anchor in ("ceiling", "null"):
                row |= {
                    f"{anchor}_low": row[anchor] - 0.05 * span,
                    f"{anchor}_high": row[anchor] + 0.05 * span,
                }
            needs = {"column_shape": TABLE, "frechet": VOLUME, "coverage": VOLUME}.get(output["name"], BOTH)
            if not set(needs) <= set(cell["modalities"]):
                rows.append(
                    row
                    | {"status": "not_applicable", "reason": f"needs {' and '.join(needs)}", "ci_method": ""}
                )
            elif cell["generator"] == HOSTILE and output["name"] == "frechet":
                rows.append(
                    row | {"status": "failed", "reason": "LinAlgError: SVD did not converge", "ci_method": ""}
                )
            else:
                good = QUALITY[cell["generator"]] - 0.05 * cell["fit_seed"]
                if output["kind"] == "privacy":
                    good = 0.0 if cell["copies"] else 1.0
                elif output["kind"] == "coherence" and cell["generator"] == HOSTILE:
                    good = 0.02
                value = null + good * (ceiling - null)
                rows.append(
                    row
                    | {
                        "value": value,
                        "ci_low": value - 0.08 * span,
                        "ci_high": value + 0.08 * span,
                        "scaled": good,
                    }
                )
                p = P_VALUES.get((cell["generator"], cell["fit_seed"]))
                if output["kind"] == "coherence" and p is not None:
                    rows.append(row | {"item": "p", "value": p})
    return rows


@pytest.fixture(scope="session")
def shareable_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return build_run(tmp_path_factory.mktemp("shareable") / "toy")


@pytest.fixture(scope="session")
def private_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return build_run(tmp_path_factory.mktemp("private") / "toy", shareable=False)


VERDICTS = {
    ("joint", 0): ("COHERENT", 0.98, "all 5 primary statistics are shown to lie within their margins"),
    ("joint", 1): ("INDETERMINATE", 0.93, "about 900 records are needed (scatter of fat_l)"),
    ("copier", 0): ("COHERENT", 1.0, "all 5 primary statistics are shown to lie within their margins"),
    (HOSTILE, 0): ("INCOHERENT (partially paired)", 0.7, "the kappa test <b>rejects</b> & kappa lies beyond"),
}
"""Verdict, kappa and why, by generator and fit seed; nobody else has one."""


def battery(row: dict, verdict: str, kappa: float, why: str) -> list[dict]:
    """Headline and details of the coherence battery, made of a score's row."""
    word = "within" if verdict == "COHERENT" else "beyond" if "INCOHERENT" in verdict else "open"
    ends = {"ci_low": kappa - 0.05, "ci_high": kappa + 0.05}
    plain = {"value": 0.1, "ci_low": float("nan"), "ci_high": float("nan"), "verdict": "", "note": ""}
    base = row | {"value": kappa, **ends, "verdict": verdict, "note": why, "status": "ok", "reason": ""}
    stated = {"verdict": word, "note": "margin 0.9 to 1.1"}
    details = [
        {"item": "kappa"} | stated,
        {"item": "slope of fat_l"} | stated,
        {"item": "association of fat_l ~ bmi", "verdict": word, "note": "margin -0.2 to 0.2"},
        {"item": "slope of bmi on the volume", "verdict": "", "note": "as quantities tell it"},
        {"item": "p", **plain, "value": 0.004},
        {"item": "share of broken pairs", **plain, "value": 1 - kappa},
        {"item": "kappa of sex=F", "verdict": "", "note": "93 records"},
        {"item": f"kappa of {HOSTILE_COLUMN}=<i>high</i>", **plain, "value": float("nan"), "reason": "few"},
        {"item": "residual correlation fat_l ~ lean_l", **plain},
        *({"item": f"association {q} ~ {e}", **plain} for q in ("fat_l", "lean_l") for e in ("bmi", "sex=M")),
        *({"item": f"ranks of fat_l {k}/10", **plain} for k in range(1, 11)),
    ]
    return [base | {"item": ""}, *(base | detail for detail in details)]


def judge(folder: Path, verdicts: dict = VERDICTS, ceiling: str = "INDETERMINATE") -> Run:
    """Add verdicts on coherence to a run, and those on its anchors."""
    scores = pd.read_parquet(folder / "scores.parquet")
    heads = scores[(scores["score"] == "coherence") & (scores["item"] == "")].to_dict("records")
    rows = [scores[scores["score"] != "coherence"]]
    for head in heads:
        told = verdicts.get((head["generator"], head["fit_seed"]))
        rows.append(pd.DataFrame(battery(head, *told) if told else [head]))
    pd.concat(rows).to_parquet(folder / "scores.parquet")
    real = heads[0] | {"fit_seed": None, "sample_seed": None, "kind": "coherence"}
    anchors = battery(real | {"generator": "ceiling"}, ceiling, 1.01, "about 900 records are needed")
    null = battery(real | {"generator": "null", "ci_method": "range over 20 draws"}, "INCOHERENT", 0.0, "")
    target = folder / "cells" / "real" / "scores"
    target.mkdir(exist_ok=True)
    pd.DataFrame([*anchors, null[0]]).to_parquet(target / "scores.parquet")
    return Run.open(folder)


@pytest.fixture(scope="session")
def judged_run(shareable_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("judged") / "toy"
    shutil.copytree(shareable_run.folder, folder)
    return judge(folder)
