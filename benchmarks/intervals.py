"""Check that intervals cover and p-values are uniform: ``python benchmarks/intervals.py``.

Scores every installed metric on many independent trials of simulated people with rows, measured quantities, image
features and small volumes, in two scenarios: real against real, and a generator that is moderately wrong. A 95 %
interval is to hold the score's own expectation at that number of records, which is the mean over the repetitions (of
signed roots the root of the mean square); the share that do must lie in the binomial band (92 to 98 % of 200). A score
of few distinct values, or within two standard deviations of an end of its range, may hold it more often: no interval of
a rate near 0 can do so less often than always. Under real against real every detail ``p`` must be uniform: a
Kolmogorov-Smirnov test gives more than 0.01, and 0.05 is undercut as often as the band around 5 % allows. A p-value of
few distinct values cannot be uniform; of it only the latter is asked, and only that it is not too often. One that is a
bound (Bonferroni) may be too large, but not too small.

Of exact intervals some lie outside the band by chance: a metric with a line outside gets as many other trials, and only
what lies outside there too is complained of. Prints a table, writes ``benchmarks/results/intervals.json`` and
``intervals.md``, and exits with 1 where something lies outside, naming it. Finished repetitions are kept in a work
folder for as long as a metric's code stays as it is, so that an interrupted or extended run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from mmbench import plugins
from mmbench.api import Metric, Score, Trial
from mmbench.files import write_json
from mmbench.scoring import why_not
from mmbench.validity import trials

ROOT = Path(__file__).parent
Z95 = 1.959963984540054
LEVEL = 0.05
KS_LEVEL = 0.01
FEWEST_VALUES = 20
"""A score or p-value with fewer distinct values over the repetitions is called discrete."""
NULL = "real"
EXACT = "p-labels"
"""Item with the exact part of an alarm that joins several tests (Bonferroni), which is uniform; the alarm itself may
only not be raised too often."""
BOUNDS = frozenset({"coherence"})
"""Scores whose p-value joins several tests of which none is exact: it may only not be too small."""
ROOTS = frozenset(
    {
        "column-shapes",
        "association-difference",
        "missing-rates",
        "missing-patterns",
        "rounding",
        "power-spectrum",
        "intensity-histogram",
    }
)
"""Signed roots of unbiased estimates of a square. They estimate the root of its expectation, which their intervals are
about, 0 where nothing differs; the expectation of the root itself is less where the square is hardly larger than its
own error."""
LOG_ROOTS = frozenset({"image-diversity"})
"""Scores whose logarithm is one, with its sign changed."""


def real_trial(seed: int, n: int) -> Trial:
    """Return a trial whose synthetic records are real ones that nobody saw."""
    rng = np.random.default_rng([seed, 0])
    return Trial(
        trials.people(rng, n, "real"), trials.people(rng, n, "syn"), trials.people(rng, 3 * n, "train"), seed
    )


def wrong_trial(seed: int, n: int) -> Trial:
    """Return a trial of a generator that is wrong in many ways, each of them moderately.

    People are eight years older and heavier, composition varies less around what the row says, volumes are a little dim, a fifth
    of the volumes belong to other rows, HbA1c is unrelated to the rest for half of the rows and less often missing, and
    the waist is shrunk towards its mean.
    """
    rng = np.random.default_rng([seed, 1])
    synthetic = trials.people(
        rng,
        n,
        "syn",
        body=trials.Body(noise=0.7),
        older=8.0,
        heavier=1.5,
        change=lambda volume, _: 0.97 * volume,
    )
    synthetic = trials.repaired(synthetic, trials.partly_permuted(rng, n, rng.binomial(n, 0.2) / n))
    rows = synthetic.cohort.rows
    order = trials.partly_permuted(rng, n, 1 / 2)
    hba1c = rows["hba1c"].to_numpy()[order]
    filled = np.isnan(hba1c) & (rng.random(n) < 0.3)
    hba1c = np.where(filled, np.nanmedian(hba1c), hba1c)
    waist = rows["waist_cm"].mean() + 0.7 * (rows["waist_cm"] - rows["waist_cm"].mean())
    synthetic = trials.with_table(synthetic, rows.assign(hba1c=hba1c, waist_cm=waist))
    return Trial(trials.people(rng, n, "real"), synthetic, trials.people(rng, 3 * n, "train"), seed)


SCENARIOS: dict[str, Callable[[int, int], Trial]] = {NULL: real_trial, "wrong": wrong_trial}


@dataclass(frozen=True)
class Line:
    """What the repetitions say of one score in one scenario.

    Attributes:
        score: Name of the output.
        metric: Metric that it belongs to.
        scenario: One of :data:`SCENARIOS`.
        n: Records of the reference and of the synthetic sample.
        repetitions: Repetitions with a value.
        mean: Their expectation, see :func:`expectation`.
        sd: Their standard deviation.
        coverage: Share of intervals that hold the mean, NaN where there are none.
        width: Mean length of the intervals over that of a normal one with the true standard deviation.
        p_rejects: Share of p-values of at most 0.05, NaN where there is no ``p``.
        p_uniform: p-value of the test that they are uniform, NaN where there is none or they are discrete.
        wrong: What lies outside, empty where nothing does.
        again: Coverage on as many other trials, where the first lay outside and these do not; otherwise empty.
    """

    score: str
    metric: str
    scenario: str
    n: int
    repetitions: int
    mean: float
    sd: float
    coverage: float
    width: float
    p_rejects: float
    p_uniform: float
    wrong: str
    again: str = ""


def band(share: float, repetitions: int) -> tuple[float, float]:
    """Return the 95 % binomial band around a share; 92 to 98 % around 95 % of 200."""
    reach = Z95 * math.sqrt(share * (1 - share) / repetitions)
    return share - reach, share + reach


def summarise(scores: pd.DataFrame, metric: str, scenario: str, n: int) -> Line:
    """Return what the repetitions say of one score.

    Args:
        scores: A row a repetition with ``output``, ``value``, ``low``, ``high`` and ``p``.
        metric: Name of the metric.
        scenario: Name of the scenario.
        n: Records.
    """
    found = scores[np.isfinite(scores["value"])]
    output = str(scores["output"].iloc[0])
    if len(found) < 2:
        nan = math.nan
        return Line(output, metric, scenario, n, len(found), nan, nan, nan, nan, nan, nan, "")
    values, low, high = (found[name].to_numpy(float) for name in ("value", "low", "high"))
    sd, target = float(values.std(ddof=1)), expectation(output, values, scenario)
    bounded = np.isfinite(low) & np.isfinite(high)
    coverage = width = math.nan
    complaints = []
    # A score that never changes is covered by any interval.
    if bounded.sum() > 1 and sd > 1e-12:
        coverage = float(((low <= target) & (target <= high))[bounded].mean())
        width = float((high - low)[bounded].mean() / (2 * Z95 * sd))
        least, most = band(1 - LEVEL, int(bounded.sum()))
        few = len(np.unique(values)) < FEWEST_VALUES
        at_end = min(target - found["least"].iloc[0], found["most"].iloc[0] - target) < 2 * sd
        if coverage < least or (coverage > most and not (few or at_end)):
            complaints.append(f"coverage {coverage:.1%} outside {least:.1%} to {most:.1%}")
    p = scores["p"].dropna().to_numpy(float)
    rejects = float((p <= LEVEL).mean()) if len(p) else math.nan
    uniform = math.nan
    if len(p) and scenario == NULL:
        least, most = band(LEVEL, len(p))
        discrete = len(np.unique(p)) < FEWEST_VALUES
        if not discrete:
            side = "greater" if output in BOUNDS else "two-sided"
            uniform = float(stats.kstest(p, "uniform", alternative=side).pvalue)
            if uniform <= KS_LEVEL:
                complaints.append(f"p-values are not uniform (p = {uniform:.2g})")
        if rejects > most or (rejects < least and not discrete and output not in BOUNDS):
            complaints.append(f"p <= {LEVEL:g} in {rejects:.1%}, outside {max(least, 0):.1%} to {most:.1%}")
        alarms = float((scores["alarm"].dropna().to_numpy(float) <= LEVEL).mean())
        if alarms > most:
            complaints.append(f"alarm in {alarms:.1%}, more than {most:.1%}")
    return Line(
        output,
        metric,
        scenario,
        n,
        len(found),
        target,
        sd,
        coverage,
        width,
        rejects,
        uniform,
        "; ".join(complaints),
    )


def expectation(output: str, values: np.ndarray, scenario: str) -> float:
    """Return what the intervals of a score are about, from its values over repetitions of shape (n,)."""
    if output in ROOTS | LOG_ROOTS and scenario == NULL:
        return 1.0 if output in LOG_ROOTS else 0.0
    if output in LOG_ROOTS:
        return math.exp(-_root_mean_square(-np.log(values)))
    return _root_mean_square(values) if output in ROOTS else float(values.mean())


def _root_mean_square(roots: np.ndarray) -> float:
    square = float((roots * np.abs(roots)).mean())
    return math.copysign(math.sqrt(abs(square)), square)


def rows_of(metric: Metric, trial: Trial) -> list[dict[str, Any]]:
    """Score a trial and return a row for each headline, with its detail ``p`` where there is one."""
    if why_not(metric, trial):
        return []
    found: list[Score] = list(metric.scores(trial))
    tests = {score.output: score.value for score in found if score.item == "p"}
    exact = {score.output: score.value for score in found if score.item == EXACT}
    ranges = {output.name: output.range for output in metric.outputs}
    return [
        {
            "output": score.output,
            "value": score.value,
            "low": score.low,
            "high": score.high,
            "p": exact.get(score.output, tests.get(score.output, math.nan)),
            "alarm": tests.get(score.output, math.nan),
            "least": ranges[score.output][0],
            "most": ranges[score.output][1],
        }
        for score in found
        if not score.item
    ]


def repeat(scenario: str, seed: int, n: int, digests: dict[str, str], folder: Path) -> None:
    """Score one trial by every metric that has no kept scores of it, and keep them.

    Args:
        scenario: One of :data:`SCENARIOS`.
        seed: Seed of the trial.
        n: Records.
        digests: Digest of the code of each metric.
        folder: Where scores are kept.
    """
    file = folder / f"{scenario}-{n}-{seed}.json"
    kept = json.loads(file.read_text()) if file.exists() else {}
    wanted = [name for name, digest in digests.items() if kept.get(name, {}).get("code") != digest]
    if not wanted:
        return
    trial = SCENARIOS[scenario](seed, n)
    for name in wanted:
        try:
            rows = rows_of(plugins.build("metrics", name, {}), trial)
        except Exception:
            traceback.print_exc()
            rows = []
        kept[name] = {"code": digests[name], "rows": rows}
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(kept))
    temporary.replace(file)


def lines_of(names: Sequence[str], seeds: Sequence[int], n: int, folder: Path) -> list[Line]:
    """Return a line for each score of the metrics in each scenario."""
    lines = []
    for scenario in SCENARIOS:
        files = [folder / f"{scenario}-{n}-{seed}.json" for seed in seeds]
        kept = [json.loads(file.read_text()) for file in files]
        for name in names:
            rows = [row for scores in kept for row in scores[name]["rows"]]
            if not rows:
                continue
            frame = pd.DataFrame(rows)
            for _, scores in frame.groupby("output", sort=False):
                lines.append(summarise(scores, name, scenario, n))
    return lines


def kept_lines(file: Path) -> list[Line]:
    """Return the lines that an earlier run wrote; none where there was none."""
    if not file.exists():
        return []
    names = [item.name for item in fields(Line)]
    rows = json.loads(file.read_text())["scores"]
    return [
        Line(**{key: math.nan if row[key] is None else row[key] for key in names if key in row})
        for row in rows
    ]


def merged(before: Sequence[Line], after: Sequence[Line]) -> list[Line]:
    """Return lines by scenario and metric; of metrics that were measured anew the new ones, none of those gone."""
    anew, installed = {line.metric for line in after}, set(plugins.names("metrics"))
    lines = [*(line for line in before if line.metric in installed - anew), *after]
    return sorted(lines, key=lambda line: (list(SCENARIOS).index(line.scenario), line.metric))


def replicated(lines: Sequence[Line], others: Sequence[Line]) -> list[Line]:
    """Return lines of which those that lay outside by chance say so.

    Of a hundred exact 95 % intervals about five lie outside the band of a first batch, and not again in a second.

    Args:
        lines: Lines of the first trials.
        others: Lines of as many other trials, of every metric that has a line outside.
    """
    again = {(line.score, line.scenario): line for line in others}

    def told(line: Line) -> Line:
        other = again.get((line.score, line.scenario))
        if not line.wrong or other is None or other.wrong:
            return line
        shown = f"{other.coverage:.1%}, p <= 0.05: {other.p_rejects:.1%}, p uniform: {other.p_uniform:.2g}"
        return replace(line, wrong="", again=shown.replace("nan%", "–").replace("nan", "–"))

    return [told(line) for line in lines]


def as_markdown(lines: Sequence[Line]) -> str:
    """Return the lines as a Markdown table."""
    rows = [
        "| score | scenario | n | repetitions | mean | sd | coverage | width | p <= 0.05 | p uniform | other trials | outside |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- |",
    ]
    for line in lines:
        figures = (
            f"{line.mean:.3g}",
            f"{line.sd:.2g}",
            f"{line.coverage:.1%}",
            f"{line.width:.2f}",
            f"{line.p_rejects:.1%}",
            f"{line.p_uniform:.2g}",
        )
        shown = [figure if "nan" not in figure else "–" for figure in figures]
        rows.append(
            f"| `{line.score}` | {line.scenario} | {line.n} | {line.repetitions} | {' | '.join(shown)} "
            f"| {line.again} | {line.wrong} |"
        )
    return "\n".join(rows) + "\n"


def main() -> int:
    """Run the repetitions, print and write the table; return 1 where something lies outside its band."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument(
        "--metrics", default="", help="names, separated by commas; all by default. Lines of others stay"
    )
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument(
        "--n", type=int, default=120, help="records of the reference; training has three times as many"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument(
        "--work", type=Path, default=ROOT.parent / "runs" / "intervals", help="kept repetitions"
    )
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="where the tables go")
    options = parser.parse_args()
    names = [name for name in options.metrics.split(",") if name] or plugins.names("metrics")
    digests = {name: plugins.code_digest(plugins.load("metrics", name)) for name in names}
    options.work.mkdir(parents=True, exist_ok=True)
    first, second = range(options.repetitions), range(options.repetitions, 2 * options.repetitions)
    # Two processes of one thread each are faster than two that share; these start with what stands here.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    # A forked torch may hang in its threads; a fresh process imports its own.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=context) as pool:

        def measured(names: Sequence[str], seeds: Sequence[int]) -> list[Line]:
            wanted = {name: digests[name] for name in names}
            running = [
                pool.submit(repeat, scenario, seed, options.n, wanted, options.work)
                for seed in seeds
                for scenario in SCENARIOS
            ]
            for done, future in enumerate(running, 1):
                future.result()
                print(f"\r{done} of {len(running)}", end="", file=sys.stderr, flush=True)
            print(file=sys.stderr)
            return lines_of(names, seeds, options.n, options.work)

        found = measured(names, first)
        if suspects := sorted({line.metric for line in found if line.wrong}):
            found = replicated(found, measured(suspects, second))
    lines = merged(kept_lines(options.results / "intervals.json"), found)
    table = as_markdown(lines)
    print(table)
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "intervals.md").write_text(table)
    write_json(options.results / "intervals.json", {"scores": [_finite(asdict(line)) for line in lines]})
    outside = [line for line in lines if line.wrong]
    for line in outside:
        print(f"{line.score}, {line.scenario}: {line.wrong}.")
    print(f"{len(lines)} lines, {len(outside)} outside.")
    return int(bool(outside))


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with None for NaN, which JSON does not have."""
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()
    }


if __name__ == "__main__":
    sys.exit(main())
