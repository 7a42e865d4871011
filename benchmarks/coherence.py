"""Error rates of the coherence verdict: ``python benchmarks/coherence.py``.

Draws many samples of which the truth is known, in two worlds, and counts what the coherence battery says of them:

* ``phantoms``: rows and body composition of the phantom population;
* ``misspecified``: simulated tables in which quantities bend with the row, numbers act upon each other, scatter grows
  with age and is skewed and heavy-tailed; the battery's regression and its normal scorer are wrong there.

Deviations are put into the synthetic sample alone: another mix of people (no deviation of what follows from a row), a
share of broken pairs, slopes of 0.8, the effect of sex turned round, residual scatter of 1.3 and 0.6, and a measurer
that reads a tenth too much on synthetic images. Prints a table, writes ``benchmarks/results/coherence.{md,json}`` and a
figure, and exits with 1 where an error rate is not what the documentation promises, naming it.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmbench import plugins
from mmbench.api import Cohort, Column, Evidence, Schema, Trial
from mmbench.files import write_json
from mmbench.sources.phantom.population import draw_population

ROOT = Path(__file__).parent
SIZES = (100, 300, 1000)
WORLDS = ("phantoms", "misspecified")
TESTS = ("association", "conditional", "kappa")
BIASED, PARTIAL, UNPAIRED, OVER = "biased", "partially paired", "unpaired", "over-coherent"


@dataclass(frozen=True)
class Scenario:
    """A deviation of the synthetic sample.

    Attributes:
        title: For the table.
        subtype: What the verdict should call it, empty where there is nothing to find.
        broken: Share of pairs that are broken.
        slope: Factor on all that depends on the row.
        flipped: Whether the effect of sex is turned round.
        scatter: Factor on residuals.
        read: Factor on the first quantity as measured on synthetic images.
        shifted: Whether they are another mix of people, older and heavier.
        repetitions: At least so many at 300 records; elsewhere at least a quarter.
        beyond: Whether some primary statistic truly lies at its margin or beyond it.
    """

    title: str
    subtype: str = ""
    broken: float = 0.0
    slope: float = 1.0
    flipped: bool = False
    scatter: float = 1.0
    read: float = 1.0
    shifted: bool = False
    repetitions: int = 50
    beyond: bool = True


SCENARIOS = {
    "real": Scenario("real against real", repetitions=200, beyond=False),
    "others": Scenario("another mix of people", shifted=True, repetitions=200, beyond=False),
    "broken-5": Scenario("5 % of pairs broken", "", broken=0.05, beyond=False),
    "broken-10": Scenario("10 % of pairs broken", PARTIAL, broken=0.1),
    "broken-30": Scenario("30 % of pairs broken", PARTIAL, broken=0.3, repetitions=200),
    "broken-100": Scenario("all pairs broken", UNPAIRED, broken=1.0),
    "slope": Scenario("slopes x 0.8", BIASED, slope=0.8),
    "flipped": Scenario("effect of sex turned round", BIASED, flipped=True),
    "wide": Scenario("scatter x 1.3", BIASED, scatter=1.3),
    "narrow": Scenario("scatter x 0.6", OVER, scatter=0.6),
    "read": Scenario("measurer reads 20 % more on synthetic images", BIASED, read=1.2),
}


@dataclass(frozen=True)
class People:
    """Rows with what is expected of their quantities, and residuals, on a logarithmic scale.

    Attributes:
        schema: Columns.
        rows: Table.
        expected: Shape (n, q).
        turned: The same with the other sex's rows' expectation, shape (n, q).
        residual: Shape (n, q).
        names: Names of the quantities.
    """

    schema: Schema
    rows: pd.DataFrame
    expected: np.ndarray
    turned: np.ndarray
    residual: np.ndarray
    names: tuple[str, ...]

    def take(self, chosen: np.ndarray) -> People:
        """Return the people at positions."""
        return dataclasses.replace(
            self,
            rows=self.rows.iloc[chosen].reset_index(drop=True),
            expected=self.expected[chosen],
            turned=self.turned[chosen],
            residual=self.residual[chosen],
        )

    def evidence(self, role: str, scenario: Scenario, rng: np.random.Generator) -> Evidence:
        """Return them as records whose volumes show the quantities, with a scenario's deviation."""
        expected = self.turned if scenario.flipped else self.expected
        centre = expected.mean(axis=0)
        logs = centre + scenario.slope * (expected - centre) + scenario.scatter * self.residual
        values = np.exp(logs)
        values[:, 0] *= scenario.read
        n = len(values)
        moved = rng.choice(n, round(scenario.broken * n), replace=False)
        order = np.arange(n)
        order[moved] = rng.permutation(moved)
        ids = np.array([f"{role}-{i}" for i in range(n)])
        cohort = Cohort(role, self.schema, ids, self.rows)
        composition = pd.DataFrame(values[order], columns=list(self.names), index=pd.Index(ids, name="id"))
        return Evidence(cohort, composition)


def draw(world: str, n: int, shifted: bool, rng: np.random.Generator) -> People:
    """Draw people of a world.

    Args:
        world: One of :data:`WORLDS`.
        n: People.
        shifted: Whether to draw another mix of them: older and heavier.
        rng: Source of the draws.
    """
    make = _phantoms if world == "phantoms" else _simulated
    if not shifted:
        return make(n, rng)
    pool = make(4 * n, rng)
    # Older and heavier people are likelier to be drawn; what follows from a row stays as it is.
    age, bmi = (pool.rows[name].to_numpy(float) for name in ("age", "bmi"))
    weight = np.exp(0.5 * (age - age.mean()) / age.std() + 0.3 * (bmi - bmi.mean()) / bmi.std())
    return pool.take(rng.choice(4 * n, n, replace=False, p=weight / weight.sum()))


QUANTITIES = ("visceral_l", "abdominal_subcutaneous_l", "total_adipose_l", "muscle_kg", "liver_fat_fraction")
ETHNICITIES = {"European": 0.7, "African": 0.1, "South Asian": 0.1, "East Asian": 0.1}


def _phantoms(n: int, rng: np.random.Generator) -> People:
    population = draw_population(n, int(rng.integers(2**31)), "nako", ETHNICITIES)
    logs = np.log(population.composition[list(QUANTITIES)].to_numpy(float))
    table = population.table
    expected = np.column_stack([model.predict(_features(table)) for model in _regressions()])
    other = table.assign(sex=np.where(table["sex"] == "M", "F", "M"))
    turned = np.column_stack([model.predict(_features(other)) for model in _regressions()])
    return People(population.schema, table, expected, turned, logs - expected, QUANTITIES)


@cache
def _regressions() -> list[Any]:
    """Return what is expected of each quantity given a row, learned from as many people as it takes."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    population = draw_population(40_000, 7, "nako", ETHNICITIES)
    logs = np.log(population.composition[list(QUANTITIES)].to_numpy(float))
    x = _features(population.table)
    return [
        HistGradientBoostingRegressor(max_iter=200, min_samples_leaf=100, random_state=0).fit(x, y)
        for y in logs.T
    ]


def _features(table: pd.DataFrame) -> np.ndarray:
    return np.column_stack(
        [
            table[name].to_numpy(float)
            if pd.api.types.is_numeric_dtype(table[name]) and not pd.api.types.is_bool_dtype(table[name])
            else pd.factorize(table[name], sort=True)[0].astype(float)
            for name in table
        ]
    )


SIMULATED = Schema(
    (
        Column("age", "continuous", "years"),
        Column("sex", "categorical", levels=("F", "M")),
        Column("bmi", "continuous", "kg/m2"),
        Column("activity", "continuous", "h/week"),
        Column("group", "categorical", levels=("a", "b", "c")),
    )
)
_MIXING = np.linalg.cholesky(np.array([[1.0, 0.4, 0.2], [0.4, 1.0, 0.3], [0.2, 0.3, 1.0]]))


def _simulated(n: int, rng: np.random.Generator) -> People:
    male = rng.random(n) < 0.5
    age = rng.uniform(20, 80, n)
    bmi = 26 + 0.04 * (age - 50) + 4 * rng.standard_t(8, n)
    activity = rng.gamma(2.0, 2.0, n)
    group = rng.choice(np.array(["a", "b", "c"], object), n, p=[0.6, 0.3, 0.1])
    rows = pd.DataFrame(
        {"age": age, "sex": np.where(male, "M", "F"), "bmi": bmi, "activity": activity, "group": group}
    )
    a, b, c = (age - 50) / 17, (bmi - 26) / 4.3, np.log(activity + 0.5)

    def expected(sex: np.ndarray) -> np.ndarray:
        sign = np.where(sex, 0.5, -0.5)
        return np.column_stack(
            [
                1.0 + 0.45 * np.tanh(1.5 * b) + 0.25 * a * b + 0.2 * np.sin(2 * a) + 0.4 * sign,
                2.2 + 0.4 * b - 0.15 * np.abs(a) * c - 0.5 * sign + 0.1 * (group == "c"),
                3.4 + 0.15 * np.maximum(b, 0) - 0.12 * a**2 + 0.05 * c + 0.35 * sign * (1 + 0.3 * a),
            ]
        )

    # Student's t with six degrees of freedom and a skew, wider among the old.
    raw = rng.standard_t(6, (n, 3)) @ _MIXING.T / math.sqrt(1.5)
    skewed = (np.exp(0.3 * np.clip(raw, -6, 6)) - math.exp(0.05)) / 0.32
    residual = skewed * np.array([0.28, 0.22, 0.12]) * (1 + 0.3 * a)[:, None]
    table = SIMULATED.coerce(rows)
    return People(
        SIMULATED,
        table,
        expected(male),
        expected(~male),
        residual,
        ("visceral_l", "subcutaneous_l", "lean_l"),
    )


def repeat(world: str, name: str, n: int, seed: int) -> dict[str, Any]:
    """Draw one sample and return what the battery says of it."""
    scenario = SCENARIOS[name]
    rng = np.random.default_rng([seed, n, WORLDS.index(world), list(SCENARIOS).index(name)])
    plain = Scenario("")
    trial = Trial(
        draw(world, n, False, rng).evidence("real", plain, rng),
        draw(world, n, scenario.shifted, rng).evidence("syn", scenario, rng),
        draw(world, 2 * n, False, rng).evidence("train", plain, rng),
        seed,
    )
    found = list(plugins.build("metrics", "coherence", {}).scores(trial))
    head = found[0]
    items = {score.item: score for score in found}
    tests = {test: items[f"p of {test}"].value for test in TESTS if f"p of {test}" in items}
    beyond = [score.item for score in found if score.verdict == "beyond"]
    return {
        "world": world, "scenario": name, "n": n, "seed": seed, "verdict": head.verdict,
        "kappa": head.value, "low": head.low, "high": head.high, "p": tests,
        "broken": items["share of broken pairs"].value if "share of broken pairs" in items else math.nan,
        "beyond": beyond,
    }  # fmt: skip


@dataclass(frozen=True)
class Line:
    """What was said in one cell of the study; shares are over the repetitions."""

    world: str
    scenario: str
    n: int
    repetitions: int
    coherent: float
    indeterminate: float
    not_assessable: float
    subtypes: dict[str, float]
    kappa: float
    kappa_sd: float
    covered: float
    tests: dict[str, float]

    @property
    def incoherent(self) -> float:
        """Share that is called incoherent."""
        return sum(self.subtypes.values())


def summarise(rows: pd.DataFrame) -> Line:
    """Return what was said of the repetitions of one cell."""
    first, total = rows.iloc[0], len(rows)
    counts = Counter(rows["verdict"])
    subtypes = {
        key[len("INCOHERENT (") : -1]: count / total
        for key, count in counts.items()
        if key.startswith("INCOHERENT")
    }
    due = 1 - SCENARIOS[first["scenario"]].broken
    return Line(
        first["world"], first["scenario"], int(first["n"]), total,
        counts["COHERENT"] / total, counts["INDETERMINATE"] / total, counts["NOT ASSESSABLE"] / total, subtypes,
        float(rows["kappa"].mean()), float(rows["kappa"].std(ddof=1)),
        float(((rows["low"] <= due) & (due <= rows["high"])).mean()),
        {name: float(np.mean([p[name] <= 0.05 for p in rows["p"] if p])) for name in TESTS},
    )  # fmt: skip


def allowed(rate: float, repetitions: int) -> float:
    """Return a rate with two Monte-Carlo standard errors beside it."""
    return rate + 2 * math.sqrt(rate * (1 - rate) / repetitions)


def complaints(line: Line) -> list[str]:
    """Return what a cell has that the documentation promises it has not."""
    scenario, found = SCENARIOS[line.scenario], []
    most = allowed(0.05, line.repetitions)
    if line.scenario in ("real", "others"):
        if line.incoherent > most:
            found.append(f"called INCOHERENT in {line.incoherent:.1%}, more than {most:.1%}")
        if line.subtypes.get(UNPAIRED):
            found.append("called unpaired")
    if scenario.beyond and line.coherent > most:
        found.append(f"called COHERENT in {line.coherent:.1%}, more than {most:.1%}")
    if line.scenario == "broken-30" and line.n == 300:
        if line.incoherent < 0.95:
            found.append(f"found in {line.incoherent:.1%}, less than 95 %")
        if abs(line.kappa - 0.7) > 0.05:
            found.append(f"broken share {1 - line.kappa:.2f}, not within 0.05 of 0.30")
    if scenario.subtype and line.n == max(SIZES) and line.scenario != "broken-10":
        right = line.subtypes.get(scenario.subtype, 0.0)
        if right < 0.8:
            found.append(f"called {scenario.subtype} in {right:.0%}, less than 80 %")
    return found


def as_markdown(lines: Sequence[Line]) -> str:
    """Return the study as Markdown tables, one a world."""
    parts = []
    for world in dict.fromkeys(line.world for line in lines):
        parts += [
            f"### {world}\n",
            "| synthetic sample | n | reps | COHERENT | INDETERMINATE | biased | partially paired | unpaired | over-coherent "
            "| kappa (sd) | p <= 0.05: association, conditional, kappa |",
            "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --- | --- |",
        ]
        for line in (line for line in lines if line.world == world):
            shares = [line.coherent, line.indeterminate]
            shares += [line.subtypes.get(name, 0.0) for name in (BIASED, PARTIAL, UNPAIRED, OVER)]
            tests = ", ".join(f"{line.tests[name]:.0%}" for name in line.tests)
            parts.append(
                f"| {SCENARIOS[line.scenario].title} | {line.n} | {line.repetitions} | "
                + " | ".join(f"{share:.0%}" if share else "" for share in shares)
                + f" | {line.kappa:.2f} ({line.kappa_sd:.2f}) | {tests} |"
            )
        parts.append("")
    return "\n".join(parts)


def draw_figure(lines: Sequence[Line], file: Path) -> None:
    """Draw what is said of each scenario, against the number of records."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    words = ["COHERENT", "INDETERMINATE", BIASED, PARTIAL, UNPAIRED, OVER]
    colours = ["#009E73", "#BBBBBB", "#E69F00", "#56B4E9", "#D55E00", "#CC79A7"]
    worlds = list(dict.fromkeys(line.world for line in lines))
    figure, axes = plt.subplots(1, len(worlds), figsize=(5.5 * len(worlds), 8), sharey=True, squeeze=False)
    for axis, world in zip(axes[0], worlds, strict=True):
        mine = [line for line in lines if line.world == world]
        left = np.zeros(len(mine))
        for word, colour in zip(words, colours, strict=True):
            share = np.array(
                [
                    {"COHERENT": line.coherent, "INDETERMINATE": line.indeterminate}.get(
                        word, line.subtypes.get(word, 0.0)
                    )
                    for line in mine
                ]
            )
            axis.barh(np.arange(len(mine)), share, left=left, color=colour, label=word)
            left += share
        axis.set_yticks(
            np.arange(len(mine)), [f"{SCENARIOS[line.scenario].title}, n = {line.n}" for line in mine]
        )
        axis.invert_yaxis()
        axis.set_xlim(0, 1)
        axis.set_title(world)
        axis.set_xlabel("share of repetitions")
    axes[0][0].legend(loc="upper center", bbox_to_anchor=(0.9, -0.07), ncols=3, frameon=False)
    figure.savefig(file, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)


def main() -> int:
    """Run the study; return 1 where an error rate is not what is promised."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--share", type=float, default=1.0, help="share of the repetitions")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="where the tables go")
    options = parser.parse_args()
    tasks = []
    for world in WORLDS:
        for name, scenario in SCENARIOS.items():
            for n in SIZES:
                many = scenario.repetitions if n == 300 else max(50, scenario.repetitions // 4)
                tasks += [(world, name, n, seed) for seed in range(max(2, round(many * options.share)))]
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    rows = []
    with ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for done, row in enumerate(pool.map(repeat, *zip(*tasks, strict=True), chunksize=10), 1):
            rows.append(row)
            if done % 50 == 0 or done == len(tasks):
                print(f"\r{done} of {len(tasks)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    frame = pd.DataFrame(rows)
    lines = [summarise(part) for _, part in frame.groupby(["world", "scenario", "n"], sort=False)]
    table = as_markdown(lines)
    print(table)
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "coherence.md").write_text(table)
    write_json(options.results / "coherence.json", {"cells": [dataclasses.asdict(line) for line in lines]})
    draw_figure(lines, options.results / "coherence.svg")
    wrong = [(line, text) for line in lines for text in complaints(line)]
    for line, text in wrong:
        print(f"{line.world}, {SCENARIOS[line.scenario].title}, n = {line.n}: {text}.")
    print(f"{len(lines)} cells, {len(wrong)} complaints.")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
