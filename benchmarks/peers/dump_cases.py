"""Write the arrays of every table trial of the quick validity suite into one file.

    python benchmarks/peers/dump_cases.py cases.npz

The file goes to an environment that mmbench cannot be installed in; see synthcity_scores.py.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from mmbench.validity import model, run
from mmbench.validity.trials import arrays_of

SKIPPED = ("V9/", "V11/", "V20/", "V23/")
"""Hundreds of trials that would take a day, or that ask for more than a number."""


def main() -> None:
    """Write the arrays."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    arrays = {}
    for series in run.catalogue(model.QUICK).values():
        if "/table" not in series.name or series.name.startswith(SKIPPED):
            continue
        for name, setting, seed in series.points():
            key = f"{name}/{setting}/{seed}"
            for role, values in arrays_of(series.trial(setting, seed))._asdict().items():
                arrays[f"{key}|{role}"] = values
    np.savez_compressed(parser.parse_args().out, **arrays)


if __name__ == "__main__":
    main()
