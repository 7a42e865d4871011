"""Measure how fast the metrics are and what memory they add, beside their peers: ``python benchmarks/metrics.py``.

Every figure comes from a process of its own that draws its data, imports what it needs, notes its memory and the time,
computes once, and notes both again. Memory is the rise of the peak resident size over what stood before the call.
Peers that are not installed are named as such; synthcity, whose pins fit no current environment, is timed with the
interpreter that ``--synthcity`` names, in an environment made by

    python3.11 -m venv synthcity && synthcity/bin/pip install synthcity==0.2.12 torch==2.2.2 opacus==1.5.3 'numpy<2'

Prints tables and writes ``benchmarks/results/metrics.json`` and ``metrics.md``; sizes that stand there already and are not
asked for stay. All of it takes two hours, of which the suites on 100,000 records (``--largest 0`` leaves them out) take most.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

NUMBERS, CODES = 15, 5
"""Columns of the table: numbers, and categories with four levels."""
SIZES = (1000, 5000, 10_000)
LARGEST = 100_000
DIMENSIONS = (64, 512)
TIMEOUT_S = 3600
RESULTS = Path(__file__).parent / "results"

SHARED = {
    "alpha-precision family": (("ours:alpha-precision", "ours:authenticity"), "synthcity:AlphaPrecision"),
    "optimal transport": (("ours:sinkhorn",), "synthcity:WassersteinDistance"),
    "density and coverage": (("ours:table-coverage",), "synthcity:PRDCScore"),
    "MMD": (("ours:table-mmd",), "synthcity:MaximumMeanDiscrepancy"),
}
"""Families that synthcity has too: our metrics and its class."""
OTHERS = {
    "column shapes": (("ours:column-shapes",), "sdmetrics:shapes", SIZES),
    "column pairs": (("ours:associations",), "sdmetrics:pairs", SIZES),
    "transport, 1,000 rows": (("ours:sinkhorn",), "pot:empirical_sinkhorn_divergence", (1000,)),
}
IMAGES = {
    "Frechet distance": (("ours:frechet",), ("torch-fidelity:fid", "monai:fid")),
    "coverage": (("ours:image-coverage",), ("prdc:compute_prdc",)),
    "MMD": (("ours:image-mmd",), ("torch-fidelity:kid",)),
}


# Data -----------------------------------------------------------------------------------------------------------------


def table(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return correlated numbers of shape (n, 15) and codes 0 to 3 of shape (n, 5)."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(0).standard_normal((NUMBERS + CODES, NUMBERS + CODES))
    latent = rng.standard_normal((n, NUMBERS + CODES)) @ mix / np.sqrt(NUMBERS + CODES)
    return latent[:, :NUMBERS], np.digitize(latent[:, NUMBERS:], [-0.7, 0.0, 0.7])


def features(n: int, d: int, seed: int) -> np.ndarray:
    """Return correlated features of shape (n, d) whose spectrum falls as those of networks do."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((d, d)))[0]
    return rng.standard_normal((n, d)) / np.sqrt(np.arange(1, d + 1)) @ turn + 3


# What is timed; each returns a call -----------------------------------------------------------------------------------


def ours(names: list[str], n: int, d: int) -> Callable[[], Any]:
    """Return a call that computes metrics, one after the other, on one trial."""
    from mmbench import plugins

    trial = _trial(n, d)
    metrics = [plugins.build("metrics", name, {}) for name in names]

    def call() -> dict[str, float]:
        seconds = {}
        for name, metric in zip(names, metrics, strict=True):
            start = time.monotonic()
            found = list(metric.scores(trial))
            seconds[name] = round(time.monotonic() - start, 2)
            heads = [score for score in found if not score.item]
            if not any(np.isfinite(score.value) for score in heads):
                raise RuntimeError(f"{name}: {heads[0].reason}")
        return seconds

    return call


def suite(kind: str, n: int, d: int) -> Callable[[], Any]:
    """Return a call that computes every installed metric that needs a table, or image features, alone."""
    from mmbench import plugins
    from mmbench.api import TABLE, VOLUME

    needs = TABLE if kind == "table" else VOLUME
    names = []
    small = _trial(64, d)
    for name in plugins.names("metrics"):
        metric = plugins.build("metrics", name, {})
        if metric.needs != needs or metric.needs_composition:
            continue
        try:
            found = list(metric.scores(small))
        except Exception:
            continue  # it reads voxels, of which there are none here
        if any(np.isfinite(score.value) for score in found):
            names.append(name)
    return ours(names, n, d)


def _trial(n: int, d: int) -> Any:
    import pandas as pd

    from mmbench.api import Cohort, Column, Evidence, Schema, Trial

    columns = [Column(f"x{i}", "continuous") for i in range(NUMBERS)]
    columns += [Column(f"c{i}", "categorical", levels=tuple("abcd")) for i in range(CODES)]
    schema = Schema(tuple(columns))

    def evidence(seed: int) -> Evidence:
        numbers, codes = table(n, seed)
        frame = pd.DataFrame(numbers, columns=[c.name for c in columns[:NUMBERS]])
        for i in range(CODES):
            frame[f"c{i}"] = np.array(list("abcd"), dtype=object)[codes[:, i]]
        cohort = Cohort("bench", schema, np.array([f"{seed}-{i}" for i in range(n)]), schema.coerce(frame))
        return Evidence(cohort, None, features(n, d, seed)[:, None, :] if d else None)

    return Trial(evidence(1), evidence(2), evidence(3), 0)


def synthcity(name: str, n: int, d: int) -> Callable[[], Any]:
    """Return a call of one of synthcity's statistical metrics on the same table, categories as codes."""
    import pandas as pd
    from synthcity.metrics import eval_statistical
    from synthcity.plugins.core.dataloader import GenericDataLoader

    def loader(seed: int) -> Any:
        numbers, codes = table(n, seed)
        frame = pd.DataFrame(np.hstack([numbers, codes]), columns=[f"x{i}" for i in range(NUMBERS + CODES)])
        return GenericDataLoader(frame, target_column=f"x{NUMBERS + CODES - 1}")

    metric = getattr(eval_statistical, name)(use_cache=False)
    real, synthetic = loader(1), loader(2)
    return lambda: metric.evaluate(real, synthetic)


def sdmetrics(name: str, n: int, d: int) -> Callable[[], Any]:
    """Return a call of SDMetrics' quality report, of its column shapes or of its column pairs."""
    import pandas as pd
    from sdmetrics.reports.single_table._properties import ColumnPairTrends, ColumnShapes

    def frame(seed: int) -> pd.DataFrame:
        numbers, codes = table(n, seed)
        result = pd.DataFrame(numbers, columns=[f"x{i}" for i in range(NUMBERS)])
        return result.assign(**{f"c{i}": codes[:, i].astype(str) for i in range(CODES)})

    columns = {f"x{i}": {"sdtype": "numerical"} for i in range(NUMBERS)}
    columns |= {f"c{i}": {"sdtype": "categorical"} for i in range(CODES)}
    real, synthetic = frame(1), frame(2)
    tool = {"shapes": ColumnShapes, "pairs": ColumnPairTrends}[name]()
    return lambda: tool.get_score(real, synthetic, {"columns": columns})


def pot(name: str, n: int, d: int) -> Callable[[], Any]:
    """Return a call of POT's empirical Sinkhorn divergence on the numbers."""
    import ot

    real, synthetic = table(n, 1)[0], table(n, 2)[0]
    strength = 0.2 * float(np.median(ot.dist(real[:500], real[:500])))
    return lambda: getattr(ot.bregman, name)(real, synthetic, strength)


def prdc(name: str, n: int, d: int) -> Callable[[], Any]:
    """Return a call of the authors' precision, recall, density and coverage."""
    import prdc as package

    real, synthetic = features(n, d, 1), features(n, d, 2)
    return lambda: getattr(package, name)(real, synthetic, nearest_k=5)


def torch_fidelity(name: str, n: int, d: int) -> Callable[[], Any]:
    """Return a call of torch-fidelity's Frechet or kernel inception distance on features."""
    import torch
    from torch_fidelity import metric_fid, metric_kid

    real, synthetic = (torch.from_numpy(features(n, d, seed)) for seed in (1, 2))
    if name == "fid":
        return lambda: metric_fid.fid_statistics_to_metric(
            metric_fid.fid_features_to_statistics(real),
            metric_fid.fid_features_to_statistics(synthetic),
            False,
        )
    return lambda: metric_kid.kid_features_to_metric(real, synthetic, verbose=False, kid_subset_size=n // 2)


def monai(name: str, n: int, d: int) -> Callable[[], Any]:
    """Return a call of MONAI's Frechet distance on features."""
    import torch
    from monai.metrics.fid import get_fid_score

    real, synthetic = (torch.from_numpy(features(n, d, seed)) for seed in (1, 2))
    return lambda: get_fid_score(synthetic, real)


TOOLS: dict[str, Callable[[str, int, int], Callable[[], Any]]] = {
    "suite": suite,
    "synthcity": synthcity,
    "sdmetrics": sdmetrics,
    "pot": pot,
    "prdc": prdc,
    "torch-fidelity": torch_fidelity,
    "monai": monai,
}


# One process a figure -------------------------------------------------------------------------------------------------


def child(what: list[str], n: int, d: int) -> None:
    """Time one call and print what it took as JSON."""
    tool = what[0].partition(":")[0]
    names = [name.partition(":")[2] for name in what]
    call = ours(names, n, d) if tool == "ours" else TOOLS[tool](names[0], n, d)
    before = _peak_mib(reset=True)
    start, cpu = time.monotonic(), time.process_time()
    found = call()
    figures = {
        "seconds": round(time.monotonic() - start, 3),
        "cpu_seconds": round(time.process_time() - cpu, 3),
        "added_mib": round(max(_peak_mib() - before, 0.0), 1),
        "peak_mib": round(_peak_mib(), 1),
    }
    if tool in ("ours", "suite"):
        figures["each"] = found
    print(json.dumps(figures))


def _peak_mib(*, reset: bool = False) -> float:
    """Return the peak resident size; ``reset`` puts it back to the present one first (Linux)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this system does not tell the peak resident size")


def measured(what: tuple[str, ...], n: int, d: int, synthcity_python: str | None) -> dict[str, Any]:
    """Run :func:`child` in a process of its own and return its figures, or why there are none."""
    tool = what[0].partition(":")[0]
    python = synthcity_python if tool == "synthcity" else sys.executable
    if python is None:
        return {"reason": "not installed"}
    command = [python, str(Path(__file__).resolve()), "child", *what, str(n), str(d)]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "CUDA_VISIBLE_DEVICES": ""}
    try:
        # synthcity leaves a folder where it runs.
        with tempfile.TemporaryDirectory() as scratch:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                env=environment,
                check=False,
                cwd=scratch,
            )
    except subprocess.TimeoutExpired:
        return {"reason": f"more than {TIMEOUT_S} s"}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"reason": "not installed" if "ModuleNotFoundError" in last else last}
    return json.loads(done.stdout.strip().splitlines()[-1])


# The tables -----------------------------------------------------------------------------------------------------------


def compare(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure every family at every size, ours and the peer's one after the other."""
    rows = []
    for n in arguments.sizes:
        for family, (mine, peer) in SHARED.items():
            rows.append(_row("table", family, mine, peer, n, 0, arguments))
        for family, (mine, peer, sizes) in OTHERS.items():
            if n in sizes:
                rows.append(_row("table", family, mine, peer, n, 0, arguments))
        for d in arguments.dimensions:
            for family, (mine, peers) in IMAGES.items():
                rows += [_row("image", family, mine, peer, n, d, arguments) for peer in peers]
    return rows


def _row(
    kind: str, family: str, mine: tuple[str, ...], peer: str, n: int, d: int, arguments: argparse.Namespace
) -> dict[str, Any]:
    row = {
        "kind": kind,
        "family": family,
        "n": n,
        "d": d or NUMBERS + CODES,
        "peer": peer,
        "ours": measured(mine, n, d, None),
        "theirs": measured((peer,), n, d, arguments.synthcity),
    }
    print(_line(row), flush=True)
    return row


def alone(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure the whole suites, ours alone."""
    rows = []
    jobs = [("table", n, 0) for n in arguments.sizes]
    jobs += [("image", n, d) for d in arguments.dimensions for n in arguments.sizes]
    if arguments.largest:
        jobs += [("table", arguments.largest, 0), ("image", arguments.largest, min(arguments.dimensions))]
    for kind, n, d in jobs:
        rows.append(
            {"kind": kind, "n": n, "d": d or NUMBERS + CODES, **measured((f"suite:{kind}",), n, d, None)}
        )
        print(_suite_line(rows[-1]), flush=True)
    return rows


def merged(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows by size, those of an earlier run where nothing was measured anew."""

    def key(row: dict[str, Any]) -> tuple[Any, ...]:
        return row["kind"], row.get("family", ""), row.get("peer", ""), row["d"], row["n"]

    rows = {key(row): row for row in [*before, *after]}
    return [rows[one] for one in sorted(rows, key=lambda one: (one[0] != "table", *one[1:]))]


def _cell(figures: dict[str, Any]) -> str:
    if "reason" in figures:
        return f"{figures['reason'][:60]} |"
    return f"{figures['seconds']:.2f} | {figures['added_mib']:.0f}"


def _line(row: dict[str, Any]) -> str:
    mine, theirs = row["ours"], row["theirs"]
    both = "reason" not in mine and "reason" not in theirs
    ratio = f"{theirs['seconds'] / max(mine['seconds'], 1e-3):.1f}" if both else ""
    return (
        f"| {row['kind']}: {row['family']} | {row['n']:,} x {row['d']} | {_cell(mine)} | {row['peer']} | "
        f"{_cell(theirs)} | {ratio} |"
    )


def _suite_line(row: dict[str, Any]) -> str:
    if "reason" in row:
        return f"| {row['kind']} | {row['n']:,} x {row['d']} | {row['reason']} | | |"
    slowest = sorted(row["each"].items(), key=lambda item: -item[1])[:3]
    named = ", ".join(f"{name} {seconds:.1f}" for name, seconds in slowest)
    return f"| {row['kind']} | {row['n']:,} x {row['d']} | {row['seconds']:.1f} | {row['peak_mib'] / 1024:.2f} | {named} |"


def _sums(rows: list[dict[str, Any]]) -> list[str]:
    lines = []
    for n in sorted({row["n"] for row in rows}):
        both = [
            row
            for row in rows
            if row["n"] == n
            and row["peer"].startswith("synthcity")
            and "reason" not in row["ours"]
            and "reason" not in row["theirs"]
        ]
        if len(both) == len(SHARED):
            mine, theirs = (sum(row[side]["seconds"] for row in both) for side in ("ours", "theirs"))
            memory, their_memory = (
                max(row[side]["added_mib"] for row in both) for side in ("ours", "theirs")
            )
            lines.append(
                f"- n = {n:,}: {mine:.2f} s against {theirs:.2f} s, {theirs / mine:.1f} times as fast; largest memory "
                f"added {memory:.0f} MiB against {their_memory:.0f} MiB, {memory / their_memory:.2f} of it."
            )
    return lines


def markdown(results: dict[str, Any]) -> str:
    """Return the tables as Markdown."""
    machine = ", ".join(f"{name}: {value}" for name, value in results["hardware"].items())
    return "\n".join(
        [
            "<!-- Made by: python benchmarks/metrics.py -->",
            f"Machine: {machine}. Seconds are wall time of one call, interval and permutations included; MiB is what the call",
            "added to the process's peak.",
            "",
            "| metrics | records | ours, s | MiB | peer | s | MiB | times as fast |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
            *map(_line, results["beside_peers"]),
            "",
            "In sum over what synthcity 0.2.12 has too:",
            "",
            *(_sums(results["beside_peers"]) or ["- synthcity was not measured."]),
            "",
            "Whole suites, ours alone (peak of the process in GiB, data included):",
            "",
            "| suite | records | s | GiB | slowest |",
            "| --- | --- | --- | --- | --- |",
            *map(_suite_line, results["alone"]),
            "",
        ]
    )


def main() -> None:
    """Read the arguments, measure, print and write the results."""
    if sys.argv[1:2] == ["child"]:
        *what, n, d = sys.argv[2:]
        child(what, int(n), int(d))
        return
    from mmbench.files import write_json
    from mmbench.provenance import hardware, versions

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", nargs="*", type=int, default=SIZES)
    parser.add_argument(
        "--largest", type=int, default=LARGEST, help="records that ours alone are tried with; 0 for none"
    )
    parser.add_argument("--dimensions", nargs="*", type=int, default=DIMENSIONS)
    parser.add_argument("--synthcity", help="interpreter of an environment that has synthcity")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    arguments = parser.parse_args()
    file = arguments.out / "metrics.json"
    before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    results = {
        name: merged(before.get(name, []), measure(arguments))
        for name, measure in (("beside_peers", compare), ("alone", alone))
    }
    results |= {"hardware": hardware(), "versions": versions()}
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_json(file, results)
    (arguments.out / "metrics.md").write_text(markdown(results), encoding="utf-8")
    print("\n".join(_sums(results["beside_peers"])))


if __name__ == "__main__":
    main()
