"""Shows how far the measurers ``dixon-composition`` and ``t1-body`` can be trusted: fresh phantoms, known truth.

    python benchmarks/composition_accuracy.py [--subjects 200] [--seed 2024] [--grid fine|demo|both]

Phantoms have all artefacts on. R2 is 1 - SSE/SST against the line of identity, without a fit, so that bias counts; the
limits of agreement hold 95 % of the differences (Bland and Altman 1986, Lancet 327). Prints a table for each grid and
measurer and writes them into ``benchmarks/results/composition_accuracy.md``.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmbench.api import Cohort, Geometry, Measurer, NotMeasurable
from mmbench.context import WorkContext
from mmbench.metrics.dixon_composition import DixonComposition
from mmbench.metrics.t1_body import T1Body
from mmbench.provenance import hardware
from mmbench.sources.phantom import PhantomSource

RESULTS = Path(__file__).parent / "results" / "composition_accuracy.md"
GRIDS: dict[str, tuple[str, dict[str, Any]]] = {
    "fine": ("4 mm in-plane, 112 x 88 x 80 voxels of 4 x 4 x 6 mm", {"voxel": 4.0}),
    "demo": (
        "demonstration, 80 x 64 x 16 voxels of 5.5 x 5.5 x 30 mm",
        {"shape": (80, 64, 16), "spacing": (5.5, 5.5, 30)},
    ),
}
CHANNELS = ("water", "fat", "t1")
MEASURERS: dict[str, Measurer] = {"dixon-composition": DixonComposition(), "t1-body": T1Body()}


def progress(label: str, done: int, total: int) -> None:
    """Show how far a step is."""
    print(f"\r{label}: {done} of {total}", end="" if done < total else "\n", flush=True)


def measure(cohort: Cohort, measurer: Measurer) -> tuple[pd.DataFrame, float]:
    """Return the quantities of every volume, NaN where not measurable, and CPU milliseconds a volume."""
    names = [quantity.name for quantity in measurer.quantities]
    full = cohort.images.geometry
    channels = [full.channels.index(name) for name in measurer.channels]
    geometry = Geometry(full.shape, full.affine, measurer.channels)
    rows, spent = [], 0.0
    for volume in cohort.images:
        start = time.process_time()
        try:
            rows.append(measurer.measure(volume[channels], geometry))
        except NotMeasurable:
            rows.append(dict.fromkeys(names, np.nan))
        spent += time.process_time() - start
    return pd.DataFrame(rows, index=cohort.ids, columns=names), 1000 * spent / len(rows)


def truth_for(name: str, truth: pd.DataFrame) -> pd.DataFrame:
    """Return the truth as a measurer defines it: to ``t1-body`` fat is adipose tissue, lean all other tissue."""
    if name != "t1-body":
        return truth
    adipose = truth.visceral_fat_l + truth.subcutaneous_fat_l
    return truth.assign(fat_l=adipose, lean_l=truth.lean_l + truth.fat_l - adipose)


def agreement(read: pd.Series, truth: pd.Series) -> dict[str, str]:
    """Return one row of the table."""
    seen = read.notna()
    measured, true = read[seen], truth[seen]
    error = measured - true
    spread = 1.96 * error.std()
    return {
        "R2": f"{1 - (error**2).sum() / ((true - true.mean()) ** 2).sum():.3f}",
        "r": f"{np.corrcoef(measured, true)[0, 1]:.3f}",
        "bias": f"{100 * (measured.mean() / true.mean() - 1):+.1f} %",
        "limits of agreement": f"{error.mean() - spread:+.3g} to {error.mean() + spread:+.3g}",
        "mean": f"{true.mean():.3g}",
        "not measurable": f"{100 * (1 - seen.mean()):.1f} %",
    }


def table(cohort: Cohort, name: str) -> str:
    """Return the accuracy of one measurer on one cohort as Markdown."""
    measurer = MEASURERS[name]
    read, milliseconds = measure(cohort, measurer)
    truth = truth_for(name, pd.DataFrame(cohort.truth))
    rows = {
        f"`{quantity.name}` ({quantity.unit})": agreement(read[quantity.name], truth[quantity.name])
        for quantity in measurer.quantities
    }
    heads = ["quantity", *next(iter(rows.values()))]
    lines = [f"`{name}`, {milliseconds:.0f} ms of CPU time a volume", ""]
    lines += [f"| {' | '.join(heads)} |", f"| {' | '.join(['---'] * len(heads))} |"]
    lines += [f"| {' | '.join([label, *row.values()])} |" for label, row in rows.items()]
    return "\n".join(lines)


def main() -> None:
    """Make, measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--subjects", type=int, default=200, help="phantoms for each grid")
    parser.add_argument("--seed", type=int, default=2024, help="seed of the phantoms")
    parser.add_argument("--grid", choices=[*GRIDS, "both"], default="both")
    options = parser.parse_args()
    machine = hardware()
    text = [
        "# Accuracy of the measured body composition",
        "",
        f"`python benchmarks/composition_accuracy.py --subjects {options.subjects} --seed {options.seed} "
        f"--grid {options.grid}` on {machine['cpu']}, {machine['cores']} cores, one used; {machine['system']}.",
    ]
    for grid in GRIDS if options.grid == "both" else [options.grid]:
        title, parameters = GRIDS[grid]
        with tempfile.TemporaryDirectory() as folder:
            source = PhantomSource(
                subjects=options.subjects, seed=options.seed, channels=CHANNELS, **parameters
            )
            cohort = source.load(WorkContext(folder=Path(folder), report=progress))
            text += ["", f"## {title[0].upper()}{title[1:]}: {options.subjects} phantoms"]
            for name in MEASURERS:
                text += ["", table(cohort, name)]
                print(f"\n{title}\n{text[-1]}\n")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text("\n".join(text) + "\n")
    print(f"written: {RESULTS}")


if __name__ == "__main__":
    main()
