"""Computes scores. Whatever fails becomes a record with its reason."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mmbench import anchors, store
from mmbench.api import Cohort, Context, Evidence, Extractor, Metric, Score, Trial
from mmbench.measuring import measure
from mmbench.plan import Plan, Planned
from mmbench.sweep import Given


def score(
    plan: Plan, trial: Trial, context: Context, common: Mapping[str, Any]
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Compute every planned metric on a trial.

    Returns:
        Rows with the columns of :data:`store.SCORE_COLUMNS`, and the seconds of each metric.
    """
    rows: list[dict[str, Any]] = []
    seconds = {}
    for index in context.steps(len(plan.metrics), "scoring"):
        planned = plan.metrics[index]
        start = time.monotonic()
        rows += _score_metric(planned, trial, common)
        seconds[planned.name] = time.monotonic() - start
    return as_scores(rows), seconds


def _score_metric(planned: Planned, trial: Trial, common: Mapping[str, Any]) -> list[dict[str, Any]]:
    metric: Metric = planned.build("metrics")
    start = time.monotonic()
    reason = why_not(metric, trial)
    if reason:
        found: list[Score] = []
        status = "not_applicable"
    else:
        try:
            found = list(metric.scores(trial))
            status = "ok"
        except MemoryError as error:
            found, status, reason = [], "out_of_memory", str(error) or "MemoryError"
        except Exception as error:
            traceback.print_exc()
            found, status, reason = [], "failed", f"{type(error).__name__}: {error}"
    elapsed = time.monotonic() - start
    rows = score_rows(metric, planned.name, found, status, reason, common)
    sizes = {"n_real": len(trial.reference), "n_synthetic": len(trial.synthetic), "seconds": elapsed}
    return [{**row, **sizes} for row in rows]


def why_not(metric: Metric, trial: Trial) -> str:
    """Return why a metric does not apply to a trial, or an empty text."""
    for side in (trial.reference, trial.synthetic):
        absent = metric.needs - side.cohort.modalities
        if absent:
            return f"needs {' and '.join(sorted(metric.needs))}; there is no {' and '.join(sorted(absent))}"
        if metric.needs_composition and side.composition is None:
            return "needs measured quantities; no measurer fits these volumes"
    if metric.needs_responses and not trial.responses:
        return (
            "needs records at given values: the generator takes no conditions, nothing is swept, "
            "or this is not its first draw"
        )
    return ""


def score_rows(
    metric: Metric, name: str, found: Iterable[Score], status: str, reason: str, common: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return one row for each score found and one for every promised headline that was not."""
    rows = []
    missing = {output.name: output for output in metric.outputs}
    directions = {output.name: output.direction for output in metric.outputs}
    kinds = {output.name: output.kind or metric.kind for output in metric.outputs}
    base = {**common, "metric": name, "metric_version": metric.version}
    for item in found:
        if item.output not in directions:
            raise ValueError(f"metric '{name}' returned '{item.output}', which it does not declare")
        if not item.item:
            missing.pop(item.output, None)
        valid = math.isfinite(item.value)
        rows.append(
            base
            | {
                "score": item.output,
                "item": item.item,
                "kind": kinds[item.output],
                "direction": directions[item.output],
                "value": item.value,
                "ci_low": item.low,
                "ci_high": item.high,
                "ci_method": item.method,
                "status": "ok" if valid else "failed",
                "reason": item.reason if valid else item.reason or "the value is not a finite number",
                "verdict": item.verdict,
                "note": item.note,
            }
        )
    for output in missing.values():
        lost = reason or "the metric returned no such score"
        rows.append(
            base
            | {
                "score": output.name,
                "item": "",
                "kind": kinds[output.name],
                "direction": output.direction,
                "status": "failed" if status == "ok" else status,
                "reason": lost,
            }
        )
    return rows


def as_scores(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return rows as a table with every score column in its dtype."""
    frame = pd.DataFrame(rows, columns=store.SCORE_COLUMNS)
    text = {
        "cohort",
        "generator",
        "metric",
        "score",
        "item",
        "kind",
        "direction",
        "ci_method",
        "status",
        "reason",
        "verdict",
        "note",
        "extractor_sha256",
    }
    for name in frame:
        if name in text:
            frame[name] = frame[name].fillna("").astype(str)
        elif name in ("fit_seed", "sample_seed", "n_real", "n_synthetic", "metric_version"):
            frame[name] = frame[name].astype("Int64")
        else:
            frame[name] = frame[name].astype(float)
    return frame


def anchor_rows(
    plan: Plan,
    roles: Mapping[str, Evidence],
    extractor: Extractor | None,
    seed: int,
    context: Context,
    cohort_name: str,
) -> pd.DataFrame:
    """Score real against real (the ceiling) and against destroyed references (the null).

    Args:
        plan: What is scored.
        roles: The real subjects of every role, measured.
        extractor: Extracts features of destroyed volumes as it did of the real ones.
        seed: Seed of every random draw.
        context: Progress and stop flag.
        cohort_name: Name in the rows.

    Returns:
        Score rows with ``generator`` set to ``ceiling`` or ``null``; for the null ``value`` is the mean over
        the draws and the interval their range.
    """
    rows: list[dict[str, Any]] = []
    applicable: dict[str, list[Planned]] = {}
    floor = roles["floor"]
    trial = Trial(roles["reference"], floor, roles["train"], seed, anchors.responses(floor, plan.sweep))
    for planned in plan.metrics:
        metric: Metric = planned.build("metrics")
        rows += _score_metric(planned, trial, {"cohort": cohort_name, "generator": "ceiling"})
        if not why_not(metric, trial):
            applicable.setdefault(metric.null, []).append(planned)
    draws: list[dict[str, Any]] = []
    kinds = list(applicable)
    for index in context.steps(len(kinds), "nulls"):
        how = kinds[index]
        metrics = applicable[how]
        # Measuring may take long, and few metrics of voxels ask for quantities.
        wanted = any(metric.build("metrics").needs_composition for metric in metrics)
        measurer = plan.measurer if wanted or (extractor and extractor.uses_composition) else None

        def read(cohort: Cohort, measurer: Planned | None = measurer) -> Evidence:
            return measure(cohort, measurer, extractor, context)

        draws += _null_draws(how, metrics, roles, seed, read, cohort_name, plan.sweep)
    return as_scores(rows + _over_draws(draws))


def _null_draws(
    how: str,
    metrics: list[Planned],
    roles: Mapping[str, Evidence],
    seed: int,
    read: Callable[[Cohort], Evidence],
    cohort_name: str,
    sweep: Sequence[Given],
) -> list[dict[str, Any]]:
    """Score metrics that share a kind of destroyed reference; each draw is made once for all of them."""
    built: list[Metric] = [planned.build("metrics") for planned in metrics]
    rows = []
    for draw in range(max(metric.null_draws for metric in built)):
        bad = anchors.destroyed(how, roles["train"], roles["floor"], seed + draw, read)
        answers = anchors.responses(bad, sweep)
        broken = Trial(roles["reference"], bad, roles["train"], seed + draw, answers)
        for planned, metric in zip(metrics, built, strict=True):
            if draw < metric.null_draws:
                rows += _score_metric(planned, broken, {"cohort": cohort_name, "generator": "null"})
    return rows


def _over_draws(draws: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    if not draws:
        return rows
    for (_, item), group in pd.DataFrame(draws).groupby(["score", "item"], sort=False):
        if item:
            continue
        row: dict[str, Any] = {str(name): value for name, value in group.iloc[0].items()}
        values = (
            group.loc[group["status"] == "ok", "value"].to_numpy(float) if "value" in group else np.array([])
        )
        if len(values):
            row |= {
                "value": values.mean(),
                "ci_low": values.min(),
                "ci_high": values.max(),
                "status": "ok",
                "reason": "",
            }
            row["ci_method"] = f"range over {len(values)} draws"
        row |= _common_verdict(group)
        rows.append(row)
    return rows


def _common_verdict(draws: pd.DataFrame) -> dict[str, str]:
    """Return the most frequent verdict over draws, and in how many of them it was given."""
    verdicts = draws["verdict"].fillna("") if "verdict" in draws else pd.Series("", index=draws.index)
    if not verdicts.any():
        return {"verdict": "", "note": ""}
    counts = verdicts.value_counts()
    return {"verdict": str(counts.index[0]), "note": f"in {counts.iloc[0]} of {len(draws)} draws"}


def with_anchors(scores: pd.DataFrame, anchor_scores: pd.DataFrame) -> pd.DataFrame:
    """Fill ceiling, null and scaled value of every headline.

    scaled = (null - value) / (null - ceiling): 1 for real against real, 0 for the destroyed reference; NaN
    where the two anchors do not differ.
    """
    result = scores.copy()
    heads = anchor_scores[(anchor_scores["item"] == "") & (anchor_scores["status"] == "ok")]
    for name in ("ceiling", "null"):
        anchor = heads[heads["generator"] == name].set_index("score")
        for suffix, source in (("", "value"), ("_low", "ci_low"), ("_high", "ci_high")):
            found = result["score"].map(anchor[source].astype(float))
            result[f"{name}{suffix}"] = found.where(result["item"] == "").astype(float)
    span = result["null"] - result["ceiling"]
    scaled = (result["null"] - result["value"]) / span.where(span.abs() > 1e-12)
    result["scaled"] = scaled.astype(float)
    return result
