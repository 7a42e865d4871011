"""Records of a run: what is shown of them, how they are described, and how their columns are associated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mmbench.api import CohortError, Evidence, Run

from ._format import number

REAL_NAME = "real (reference)"


@dataclass(frozen=True)
class Group:
    """Records shown under one name: the real reference, or all fits and draws of one generator.

    Attributes:
        name: Name for readers.
        draws: Evidence of each draw, in order.
        private: Whether single records must not be shown.
        real: Whether the records are real subjects.
    """

    name: str
    draws: tuple[Evidence, ...]
    private: bool
    real: bool = False

    @property
    def has_volumes(self) -> bool:
        """Whether its records have volumes."""
        return any(draw.cohort.volumes is not None for draw in self.draws)

    def frame(self, quantities: Sequence[str]) -> pd.DataFrame:
        """Return table columns and measured quantities of all draws; quantities are prefixed by a space.

        The prefix keeps a quantity apart from a column of the same name.
        """
        frames = []
        for draw in self.draws:
            parts = []
            if draw.cohort.table is not None:
                parts.append(draw.cohort.table.reset_index(drop=True))
            if draw.composition is not None:
                measured = draw.composition.reset_index(drop=True).reindex(columns=list(quantities))
                parts.append(measured.add_prefix(" "))
            if parts:
                frames.append(pd.concat(parts, axis=1))
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def unmeasurable(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Return, for each group with volumes that could not be measured, how many and why.

    Returns:
        Rows with ``name``, ``n``, ``total`` and ``reasons``: up to three texts, the most frequent first. Numbers
        within a reason are left out of the comparison.
    """
    rows = []
    for group in groups:
        told = [draw.unmeasurable for draw in group.draws if draw.unmeasurable is not None]
        if not told:
            continue
        reasons = pd.concat(told)
        failed = reasons[reasons != ""]
        if len(failed):
            kinds = failed.groupby(failed.str.replace(r"[\d.]+", "#", regex=True), sort=False)
            common = sorted(kinds, key=lambda kind: -len(kind[1]))[:3]
            texts = [f"{of_kind.iloc[0]} ({len(of_kind)})" for _, of_kind in common]
            rows.append({"name": group.name, "n": len(failed), "total": len(reasons), "reasons": texts})
    return rows


def shows_real(run: Run) -> bool:
    """Return whether images and single rows of real subjects may be shown."""
    return bool(run.cohort.shareable or (run.info.get("config", {}).get("report") or {}).get("include_real"))


def copying_generators(run: Run) -> list[str]:
    """Return the generators whose samples hold training records."""
    return list(dict.fromkeys(cell["generator"] for cell in run.cells if cell.get("copies")))


def groups(run: Run) -> list[Group]:
    """Return the real reference and each generator that has samples, in the order of the plan."""
    guarded = not shows_real(run)
    copying = copying_generators(run)
    result = [Group(REAL_NAME, (run.real("reference"),), guarded, real=True)]
    for generator in dict.fromkeys(cell["generator"] for cell in run.cells):
        draws = []
        for cell in run.cells:
            if cell["generator"] == generator:
                for sample_seed in run.sample_seeds:
                    try:
                        evidence = run.synthetic(cell["id"], sample_seed)
                    except CohortError:
                        # A draw that was cut off has no readable samples; its cell's status tells so.
                        evidence = None
                    if evidence is not None:
                        draws.append(evidence)
        if draws:
            result.append(Group(generator, tuple(draws), guarded and generator in copying))
    return result


def quantities(run: Run) -> list[dict[str, Any]]:
    """Return the measured quantities: name, unit, meaning."""
    told = run.info.get("quantities")
    if told:
        return [{"unit": "", "meaning": ""} | dict(quantity) for quantity in told]
    composition = run.real("reference").composition
    return (
        [] if composition is None else [{"name": n, "unit": "", "meaning": ""} for n in composition.columns]
    )


def variables(run: Run) -> dict[str, str]:
    """Return the label with unit of each column of :meth:`Group.frame`."""
    labels = (
        {column.name: column.label for column in run.cohort.schema} if run.cohort.table is not None else {}
    )
    for quantity in quantities(run):
        unit = f" [{quantity['unit']}]" if quantity["unit"] else ""
        labels[f" {quantity['name']}"] = f"{quantity['name']}{unit}, measured"
    return labels


def ordered_variables(run: Run) -> set[str]:
    """Return the columns of :meth:`Group.frame` whose values have an order."""
    ordered = {column.name for column in run.cohort.schema if column.ordered}
    return ordered | {f" {quantity['name']}" for quantity in quantities(run)}


def describe(values: pd.Series) -> str:
    """Return mean and standard deviation of numbers with the share missing."""
    numbers = values.to_numpy(float)
    present = numbers[np.isfinite(numbers)]
    if len(present) == 0:
        return "all missing"
    mean, spread = present.mean(), present.std(ddof=1) if len(present) > 1 else 0.0
    text = f"{number(mean, max(abs(mean), spread))} ± {number(spread, max(abs(mean), spread))}"
    return text + _missing(1 - len(present) / len(numbers))


def _missing(share: float) -> str:
    return f", {100 * share:.0f} % missing" if share > 0 else ""


def level_shares(values: pd.Series, levels: Sequence[Any]) -> dict[str, float]:
    """Return the share of each level among all records, and of missing values as ``missing``."""
    counts = values.value_counts()
    shares = {str(level): float(counts.get(level, 0)) / max(len(values), 1) for level in levels}
    missing = float(values.isna().mean()) if len(values) else 0.0
    return shares | ({"missing": missing} if missing else {})
