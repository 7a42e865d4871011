"""Fitted attributes on disk: arrays, tables, cohorts and JSON-able values, never a pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmbench.cohort import Cohort, load_cohort, save_cohort
from mmbench.errors import PluginError
from mmbench.files import read_json, write_json

_MANIFEST = "fitted.json"


def save_fitted(plugin: Any, folder: Path) -> None:
    """Write every attribute of ``plugin`` whose name ends in one underscore.

    Raises:
        PluginError: An attribute is of a type that has no safe file form.
    """
    manifest: dict[str, Any] = {}
    for name, value in vars(plugin).items():
        if not name.endswith("_") or name.startswith("_"):
            continue
        if isinstance(value, np.ndarray) and value.dtype != object:
            np.save(folder / f"{name}.npy", value, allow_pickle=False)
            manifest[name] = {"array": f"{name}.npy"}
        elif isinstance(value, pd.DataFrame):
            value.to_parquet(folder / f"{name}.parquet")
            manifest[name] = {"table": f"{name}.parquet"}
        elif isinstance(value, Cohort):
            save_cohort(value, folder / name, fingerprint=False)
            manifest[name] = {"cohort": name}
        elif isinstance(value, str | int | float | bool | list | dict | None):
            manifest[name] = {"value": value}
        else:
            raise PluginError(
                f"{type(plugin).__name__}.{name}: a {type(value).__name__} cannot be saved; keep arrays, tables, "
                "cohorts or JSON-able values in attributes that end in '_', or override save() and load()."
            )
    write_json(folder / _MANIFEST, manifest)


def load_fitted(plugin: Any, folder: Path) -> None:
    """Set the attributes that :func:`save_fitted` wrote."""
    for name, entry in read_json(folder / _MANIFEST).items():
        match entry:
            case {"array": file}:
                value: Any = np.load(folder / file, allow_pickle=False)
            case {"table": file}:
                value = pd.read_parquet(folder / file)
            case {"cohort": file}:
                value = load_cohort(folder / file)
            case _:
                value = entry["value"]
        setattr(plugin, name, value)
