"""Sentences and records about a run that all reports share."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from mmbench.api import Run

from ._format import enumerated, plural, status_text
from ._records import copying_generators, quantities, shows_real
from ._scores import outputs


def write_whole(path: Path, text: str) -> None:
    """Write a text file that is whole or absent."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def role_sizes(run: Run) -> dict[str, int]:
    """Return the number of records of each role."""
    return {name: len(indices) for name, indices in run.roles.items()}


def fit_seeds(run: Run) -> list[int]:
    """Return the fit seeds of all cells, ascending."""
    return sorted({cell["fit_seed"] for cell in run.cells})


def times(n: int) -> str:
    """Return ``once``, ``twice`` or ``n times``."""
    return {1: "once", 2: "twice"}.get(n, f"{n} times")


def overview_text(run: Run) -> str:
    """Return what was done and how it ended, in plain language."""
    sizes = role_sizes(run)
    recorded = recorded_samples(run)
    generators = [
        name for name in dict.fromkeys(cell["generator"] for cell in run.cells) if name not in recorded
    ]
    ended = [run.status(cell["id"])["status"] for cell in run.cells]
    bad = {status: ended.count(status) for status in dict.fromkeys(ended) if status != "ok"}
    outcome = f"{ended.count('ok')} of {plural(len(ended), 'cell' if recorded else 'fit')} ended well"
    if bad:
        outcome += "; " + ", ".join(f"{count} {status_text(status)}" for status, count in bad.items())
    learned = (
        f"{plural(len(generators), 'generator')} ({enumerated(generators)}) learned from {sizes['train']} "
        f"training subjects of the cohort {run.cohort.name}. "
        if generators
        else ""
    )
    fitted = (
        f" Each generator was fitted with {plural(len(fit_seeds(run)), 'seed')} and sampled "
        f"{times(len(run.sample_seeds))} per fit."
        if generators
        else ""
    )
    return (
        f"{learned}{recorded_text(run)}Every score compares their samples with {sizes['reference']} reference "
        "subjects "
        f"that no generator saw; {sizes['floor']} further real subjects show what a perfect generator would "
        "reach "
        f"(ceiling), and a destroyed copy of them what a useless one would (null).{fitted} {outcome}."
    )


def recorded_samples(run: Run) -> list[str]:
    """Return the names of the samples that existed before the run."""
    return [cell["generator"] for cell in run.cells if cell.get("recorded")]


def recorded_text(run: Run) -> str:
    """Return where samples that existed before the run come from, and what is not known of them; may be empty."""
    names = recorded_samples(run)
    if not names:
        return ""
    train, cohort = role_sizes(run)["train"], run.cohort.name
    if (run.info.get("config") or {}).get("training"):
        seen = f"The {train} training records are those that were given as what they were learned from. "
    else:
        seen = (
            f"What they were learned from was not given: {train} records of the cohort {cohort} stand for it, which "
            "their generators may never have seen, so that privacy scores say little. "
        )
    counts = enumerated(
        [f"{name} ({plural(run.info['samples'][name]['records'], 'record')})" for name in names]
    )
    return f"Samples that existed before the run were scored: {counts}. {seen}"


def facts(run: Run) -> list[tuple[str, str]]:
    """Return what a reader needs to repeat the run, as terms and values."""
    info = run.info
    cohort = info.get("cohort", {})
    sizes = role_sizes(run)
    people = len(set(run.cohort.subjects.tolist())) if run.cohort.subjects is not None else len(run.cohort)
    rows = [
        ("Cohort", f"{run.cohort.name}: {plural(len(run.cohort), 'record')} of {plural(people, 'subject')}"),
        (
            "Cohort fingerprint",
            f"sha256 {cohort['fingerprint']}" if cohort.get("fingerprint") else "not recorded",
        ),
        ("Split", ", ".join(f"{name} {size}" for name, size in sizes.items()) + " records"),
    ]
    if run.cohort.volumes is not None:
        geometry = run.cohort.images.geometry
        rows.append(
            (
                "Volumes",
                f"{' × '.join(map(str, geometry.shape))} voxels of "
                f"{' × '.join(f'{s:.4g}' for s in geometry.spacing)} mm, "
                f"channels {enumerated(geometry.channels)}",
            )
        )
    if run.cohort.table is not None:
        missing = sum(column.missing for column in run.cohort.schema)
        rows.append(("Table", f"{plural(len(run.cohort.schema), 'column')}, {missing} with missing values"))
    rows += [
        ("Fit seeds", enumerated(map(str, fit_seeds(run)))),
        ("Sample seeds", enumerated(map(str, run.sample_seeds))),
    ]
    if info.get("measurer"):
        rows.append(("Measurer", str(info["measurer"])))
    extractor = run.extractor
    if extractor:
        rows.append(
            (
                "Feature extractor",
                f"{extractor.get('name', '')}, weights sha256 {extractor.get('digest', '')}",
            )
        )
    hardware = info.get("hardware") or {}
    if hardware:
        memory = hardware.get("memory_gib")
        rows.append(
            (
                "Hardware",
                ", ".join(
                    part
                    for part in (
                        str(hardware.get("cpu") or ""),
                        f"{hardware['cores']} cores" if hardware.get("cores") else "",
                        f"{memory:.1f} GiB of memory" if memory else "",
                        str(hardware.get("gpu") or "no GPU"),
                    )
                    if part
                ),
            )
        )
    versions = dict(info.get("versions") or {})
    if info.get("code_version"):
        rows.append(("Code version", str(info["code_version"])))
    if versions:
        rows.append(
            ("Package versions", ", ".join(f"{name} {version}" for name, version in sorted(versions.items())))
        )
    if info.get("created"):
        rows.append(("Run created", str(info["created"])))
    return rows


def status_rows(run: Run) -> list[dict[str, Any]]:
    """Return each cell with its record and the seconds of all phases together."""
    rows = []
    for cell in run.cells:
        record = run.status(cell["id"])
        seconds = {name: value for name, value in (record.get("seconds") or {}).items() if value is not None}
        rows.append(
            {
                "id": cell["id"],
                "generator": cell["generator"],
                "fit_seed": cell["fit_seed"],
                "components": list(cell.get("components") or ()),
                "status": record.get("status", "interrupted"),
                "phase": record.get("phase") or "",
                "reason": record.get("reason") or "",
                "seconds": seconds,
                "total": float(sum(seconds.values())) if seconds else None,
                "peak_rss_mb": record.get("peak_rss_mb"),
            }
        )
    return rows


def privacy_text(run: Run) -> str:
    """Return what the report shows of real subjects."""
    copying = copying_generators(run)
    if run.cohort.shareable:
        return "This cohort holds no real persons: its volumes and rows may be shown, and they are."
    if shows_real(run):
        return (
            "This report shows volumes and single records of real subjects because the configuration asks "
            "for it "
            "(report.include_real). Handle it like the cohort itself."
        )
    also = (
        f" The same holds for {enumerated(copying)}, whose samples are copies of training records."
        if copying
        else ""
    )
    return (
        "This report shows neither volumes nor single records of real subjects: they appear as numbers over "
        "many "
        f"subjects only (means, quantiles, bins, regression lines).{also}"
    )


def methods(run: Run) -> list[str]:
    """Return a description of the method, in paragraphs."""
    sizes = role_sizes(run)
    described = outputs(run)
    given = bool((run.info.get("config") or {}).get("training"))
    divided = "split by subject, training records being given, into" if given else "split by subject into"
    drawn = f"{times(len(run.sample_seeds))}, each time as many records as the reference has"
    sampled = (
        f"Every generator was fitted to the training records with {plural(len(fit_seeds(run)), 'seed')} and sampled "
        f"{times(len(run.sample_seeds))} per fit, each time as many records as the reference has."
    )
    recorded = recorded_samples(run)
    if recorded:
        fitted = "" if len(recorded) == len(run.cells) else f"{sampled} "
        sampled = (
            f"{fitted}Of samples that existed before the run, records were drawn without replacement {drawn}."
        )
    measured = [f"{q['name']} ({q['unit']})" if q["unit"] else q["name"] for q in quantities(run)]
    extractor = (run.extractor or {}).get("name")
    instruments = []
    if measured:
        by = f" by {run.info['measurer']}" if run.info.get("measurer") else ""
        instruments.append(
            f"Body or tissue composition was measured on every volume{by}: {enumerated(measured)}."
        )
    if extractor:
        instruments.append(f"Feature vectors of volumes come from {extractor}.")
    mmbench = (run.info.get("versions") or {}).get("mmbench") or run.info.get("mmbench")
    version = f" {mmbench}" if isinstance(mmbench, str) else ""
    return [
        f"The cohort {run.cohort.name} was {divided} {sizes['train']} training, "
        f"{sizes['reference']} "
        f"reference and {sizes['floor']} floor records. {sampled} {' '.join(instruments)}",
        f"{plural(len(described), 'score')} compare each sample with the reference records. The ceiling of "
        "a score is its value for "
        "the floor records, which are real; the null is its value for records in which exactly what the "
        "score "
        "looks for was destroyed, or, for privacy, for copied training records. The scaled score is (null − "
        "value) / "
        "(null − ceiling): 0 at the null, 1 at the ceiling; it may leave this range, and it is left out "
        "where ceiling and null lie in each other's interval or in the wrong order, since the score then "
        "cannot tell real from destroyed at this number of subjects. Intervals are at 95 % and speak of the "
        "sampling of subjects; "
        "each score names how its interval was made.",
        "Leaderboard entries are means over fits and draws, taken over those that every generator with the "
        "score has; "
        "the denominator is the number of planned ones. The interval shown is the mean of the single "
        "intervals, and the "
        "range beneath it is that of the single fits and draws, so that training randomness can be seen "
        "apart from the "
        f"sampling of subjects. Computed with mmbench{version}.",
    ]
