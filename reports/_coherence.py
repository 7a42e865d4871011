"""What the coherence battery said of each generator: verdicts, statistics, and what the figures show."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mmbench.api import Run

from . import _scores
from ._format import NOTHING, enumerated, number
from ._records import copying_generators

SCORE = "coherence"
"""Name of the score that comes with verdicts."""
COHERENT, INDETERMINATE = "COHERENT", "INDETERMINATE"
NOT_ASSESSABLE, INCOHERENT = "NOT ASSESSABLE", "INCOHERENT"
ORDER = (COHERENT, INDETERMINATE, NOT_ASSESSABLE, INCOHERENT)
"""From the best to the worst."""
STANDINGS = ("within", "open", "beyond")
"""Of a statistic against its margin, from the best to the worst."""
TITLE = "Do volume and row belong to the same person?"
REAL_SAMPLE = "fresh real sample"
PARTIAL = "partially paired"

MEANING = (
    (COHERENT, "every statistic in the table of margins is shown to lie within its margin."),
    (
        INCOHERENT,
        "a test rejects that quantities follow from the row as in real people, and a statistic lies wholly "
        "beyond its margin, so that no trifle counts. Unpaired: volumes know nothing of their rows. "
        "Partially paired: a share of the pairs is broken, the rest is sound. Over-coherent: quantities "
        "follow the row more closely than people's do. Biased: they follow it in another way, such as "
        "shifted, with another slope or scattering too widely.",
    ),
    (INDETERMINATE, "neither was shown, often for want of subjects."),
    (NOT_ASSESSABLE, "real pairs cannot be told from broken ones either, or too little could be measured."),
)
"""What each verdict says."""
PRINCIPLE = (
    "Compared is how quantities measured on the volume follow from the row: among synthetic records, and "
    "among real subjects that no generator saw. Nothing is called coherent because nothing was found."
)


@dataclass(frozen=True)
class Ruling:
    """What was said of one draw of one fit.

    Attributes:
        fit_seed: Seed of the fit; ``None`` for real subjects.
        sample_seed: Seed of the draw; ``None`` for real subjects.
        label: Verdict with its subtype.
        kappa: Coherence index, NaN where nothing could be assessed.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p: Smallest p-value of the tests after Holm's correction, NaN where there is none.
        broken: Share of broken pairs of largest likelihood, NaN where there is none.
        why: What led to the verdict.
    """

    fit_seed: int | None
    sample_seed: int | None
    label: str
    kappa: float
    low: float
    high: float
    p: float
    broken: float
    why: str

    @property
    def place(self) -> str:
        """Seeds of fit and draw, a dash for real subjects."""
        return NOTHING if self.fit_seed is None else f"{self.fit_seed}, {self.sample_seed}"

    @property
    def numbers(self) -> tuple[str, str]:
        """Value of kappa and its interval with two decimals; the latter may be empty."""
        # Three significant digits of an index that is near 0 say more than it can.
        value, low, high = (number(one, 1.0) for one in (self.kappa, self.low, self.high))
        return value, f"[{low}, {high}]" if math.isfinite(self.high - self.low) else ""

    @property
    def word(self) -> str:
        """The verdict without its subtype."""
        return self.label.partition(" (")[0]

    @property
    def subtype(self) -> str:
        """Of what kind an incoherence is, otherwise empty."""
        return self.label.partition(" (")[2].removesuffix(")")


@dataclass(frozen=True)
class Judged:
    """All that was said of one generator, or of real subjects.

    Attributes:
        name: Name of the generator, or :data:`REAL_SAMPLE`.
        rulings: One for each fit and draw with a verdict.
        details: Means over these of every detail, with the columns ``item``, ``value``, ``ci_low``,
            ``ci_high``, ``verdict`` (the worst), ``worst`` (in how many draws it was that), ``draws``, ``note``
            and ``reason``.
        real: Whether these are real subjects.
        copies: Whether its samples are training records as they are.
    """

    name: str
    rulings: tuple[Ruling, ...]
    details: pd.DataFrame
    real: bool = False
    copies: bool = False

    @property
    def majority(self) -> str:
        """The verdict of most draws, without subtype; the worse one of a tie."""
        counts = Counter(one.word for one in self.rulings)
        return max(counts, key=lambda word: (counts[word], badness(word)))

    @property
    def worst(self) -> Ruling:
        """The worst ruling, the first of several."""
        return max(self.rulings, key=lambda one: badness(one.word))

    def summary(self) -> str:
        """Return name, subtypes, kappa and what else belongs to the majority's verdict, in a few words."""
        chosen = [one for one in self.rulings if one.word == self.majority]
        told = []
        if subtypes := list(dict.fromkeys(one.subtype for one in chosen if one.subtype)):
            told.append(" or ".join(subtypes))
        if len(chosen) < len(self.rulings):
            told.append(f"in {len(chosen)} of {len(self.rulings)} fits and draws")
            if badness(self.worst.word) > badness(self.majority):
                told.append(f"at worst {self.worst.label}")
        if kappa := _kappa_text(chosen):
            told.append(kappa)
        shares = [one.broken for one in chosen if one.subtype == PARTIAL and math.isfinite(one.broken)]
        if shares:
            told.append(f"about {np.mean(shares):.0%} of the pairs broken".replace("%", " %"))
        if self.majority == NOT_ASSESSABLE:
            told += dict.fromkeys(one.why for one in chosen if one.why)
        if self.copies:
            told.append("its samples are training records")
        return f"{self.name} ({'; '.join(told)})" if told else self.name


def badness(word: str) -> int:
    """Return the place of a verdict from the best to the worst; one that is not known is the worst."""
    return ORDER.index(word) if word in ORDER else len(ORDER)


def _kappa_text(rulings: Sequence[Ruling]) -> str:
    found = [one for one in rulings if math.isfinite(one.kappa)]
    if not found:
        return ""
    if len(found) == 1:
        return f"kappa {' '.join(found[0].numbers)}".strip()
    low, high = (number(pick(one.kappa for one in found), 1.0) for pick in (min, max))
    return f"kappa {low}" if low == high else f"kappa {low} to {high}"


def judged(run: Run) -> list[Judged]:
    """Return what was said of real subjects and of each generator with a verdict, in the order of the plan.

    Empty for a run in which nobody has one: it was written before there were verdicts, or without the metric.
    """
    scores = _scores.tidy(run.scores)
    anchors = _scores.tidy(run.anchor_scores)
    copying = copying_generators(run)
    found = [_judged(REAL_SAMPLE, anchors[anchors["generator"] == "ceiling"], real=True)]
    for name in dict.fromkeys(cell["generator"] for cell in run.cells):
        found.append(_judged(name, scores[scores["generator"] == name], copies=name in copying))
    return [one for one in found if one is not None]


def _judged(name: str, scores: pd.DataFrame, real: bool = False, copies: bool = False) -> Judged | None:
    rows = scores[scores["score"] == SCORE]
    heads = rows[(rows["item"] == "") & (rows["verdict"] != "")]
    if heads.empty:
        return None
    rulings = []
    for head in heads.to_dict("records"):
        own = rows
        if not real:
            own = rows[(rows["fit_seed"] == head["fit_seed"]) & (rows["sample_seed"] == head["sample_seed"])]
        values = own.drop_duplicates("item").set_index("item")["value"].astype(float)
        rulings.append(
            Ruling(
                None if real else int(head["fit_seed"]),
                None if real else int(head["sample_seed"]),
                head["verdict"],
                float(head["value"]),
                float(head["ci_low"]),
                float(head["ci_high"]),
                float(values.get(_scores.P_VALUE, math.nan)),
                float(values.get("share of broken pairs", math.nan)),
                head["note"] or head["reason"],
            )
        )
    return Judged(name, tuple(rulings), _over_draws(rows[rows["item"] != ""]), real, copies)


def _over_draws(details: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for item, group in details.groupby("item", sort=False):
        words = [word for word in group["verdict"] if word]
        worst = max(words, key=lambda w: STANDINGS.index(w) if w in STANDINGS else -1, default="")
        means = {name: group[name].astype(float).mean() for name in ("value", "ci_low", "ci_high")}
        last = group.iloc[-1]
        rows.append(
            {
                "item": item,
                **means,
                "verdict": worst,
                "worst": words.count(worst),
                "draws": len(group),
                "note": last["note"],
                "reason": last["reason"],
            }
        )
    columns = ["item", "value", "ci_low", "ci_high", "verdict", "worst", "draws", "note", "reason"]
    return pd.DataFrame(rows, columns=columns)


def verdict_text(found: Sequence[Judged]) -> str:
    """Return the verdicts in words, the worst first."""
    generators = [one for one in found if not one.real]
    sentences = []
    for word in sorted({one.majority for one in generators}, key=badness, reverse=True):
        who = ", ".join(one.summary() for one in generators if one.majority == word)
        sentences.append(f"{word}: {who}.")
    if not any(one.majority == COHERENT for one in generators):
        sentences.append("No generator is shown to be coherent.")
    for one in found:
        if one.real:
            kappa = _kappa_text(one.rulings)
            beside = f" ({kappa})" if kappa else ""
            sentences.append(f"For comparison, a {one.name} is {one.worst.label}{beside}.")
    return " ".join(sentences)


@dataclass(frozen=True)
class Standing:
    """A statistic of one generator against its margin.

    Attributes:
        value: Mean over draws.
        low: Mean lower end of the 95 % intervals.
        high: Mean upper end.
        word: The worst of :data:`STANDINGS` in any draw.
        extent: In how many draws it stands so, where that is not in all.
    """

    value: float
    low: float
    high: float
    word: str
    extent: str


@dataclass(frozen=True)
class Statistic:
    """A primary statistic of everybody.

    Attributes:
        name: What it is.
        margin: Within what it counts as that of real people.
        standings: By name of the generator or of real subjects.
    """

    name: str
    margin: str
    standings: dict[str, Standing]


def statistics(found: Sequence[Judged]) -> list[Statistic]:
    """Return the primary statistics that the verdicts rest on."""
    result: dict[str, Statistic] = {}
    for one in found:
        for row in one.details[one.details["verdict"] != ""].to_dict("records"):
            margin = row["note"].removeprefix("margin ").replace("-", "−")
            entry = result.setdefault(row["item"], Statistic(row["item"], margin, {}))
            extent = "" if row["worst"] == row["draws"] else f"in {row['worst']} of {row['draws']}"
            entry.standings[one.name] = Standing(
                row["value"], row["ci_low"], row["ci_high"], row["verdict"], extent
            )
    return list(result.values())


def readings(found: Sequence[Judged]) -> list[Statistic]:
    """Return how columns of the row stand to what volumes say of them, in words of :func:`statistics`; no margins."""
    result: dict[str, Statistic] = {}
    for one in found:
        for row in one.details[one.details["item"].str.endswith(" on the volume")].to_dict("records"):
            entry = result.setdefault(row["item"], Statistic(row["item"], "exploratory", {}))
            entry.standings[one.name] = Standing(row["value"], row["ci_low"], row["ci_high"], "", "")
    return list(result.values())


@dataclass(frozen=True)
class Matrix:
    """Synthetic less real values by quantity and by what they are set against.

    Attributes:
        rows: Quantities.
        columns: Effects of the row, or quantities.
        values: By name of the generator, each of shape (rows, columns), NaN where there is none.
    """

    rows: list[str]
    columns: list[str]
    values: dict[str, np.ndarray]

    def with_rows(self, rows: list[str]) -> Matrix:
        """Return the matrix with these rows; those that it lacks are NaN."""
        blank = np.full(len(self.columns), math.nan)
        values = {
            name: np.array([of[self.rows.index(row)] if row in self.rows else blank for row in rows])
            for name, of in self.values.items()
        }
        return Matrix(rows, self.columns, values)

    def reduced(self, most: int) -> Matrix:
        """Return the ``most`` columns with the largest differences, in their own order."""
        if len(self.columns) <= most:
            return self
        largest = np.max([np.nan_to_num(np.abs(one)).max(axis=0) for one in self.values.values()], axis=0)
        kept = np.sort(np.argsort(-largest, kind="stable")[:most])
        return Matrix(
            self.rows,
            [self.columns[k] for k in kept],
            {name: values[:, kept] for name, values in self.values.items()},
        )


def association_differences(found: Sequence[Judged]) -> Matrix:
    """Return the differences of partial associations of quantities with effects."""
    return _matrix(found, "association ")


def residual_correlation_differences(found: Sequence[Judged]) -> Matrix:
    """Return the differences of correlations of quantities given the row; one half of the matrix is NaN."""
    return _matrix(found, "residual correlation ")


def _matrix(found: Sequence[Judged], prefix: str) -> Matrix:
    cells: dict[str, dict[tuple[str, str], float]] = {}
    for one in found:
        # Details with a verdict are primary statistics, which have a table of their own.
        plain = one.details[one.details["verdict"] == ""]
        for row in plain[plain["item"].str.startswith(prefix)].to_dict("records"):
            quantity, _, other = row["item"].removeprefix(prefix).partition(" ~ ")
            cells.setdefault(one.name, {})[quantity, other] = row["value"]
    pairs = list(dict.fromkeys(pair for values in cells.values() for pair in values))
    rows = list(dict.fromkeys(quantity for quantity, _ in pairs))
    columns = list(dict.fromkeys(other for _, other in pairs))
    values = {
        name: np.array([[of.get((row, column), math.nan) for column in columns] for row in rows])
        for name, of in cells.items()
    }
    return Matrix(rows, columns, values)


@dataclass(frozen=True)
class Subgroups:
    """kappa of subgroups of the rows.

    Attributes:
        names: Groups that were assessed for somebody.
        values: By name of the generator, value and ends of the interval, shape (groups, 3), NaN where it
            was not assessed.
        absent: Groups that were assessed for nobody.
    """

    names: list[str]
    values: dict[str, np.ndarray]
    absent: list[str]


def subgroups(found: Sequence[Judged]) -> Subgroups:
    """Return kappa of each subgroup; means over draws."""
    prefix = "kappa of "
    cells: dict[str, dict[str, tuple[float, float, float]]] = {}
    for one in found:
        plain = one.details[one.details["verdict"] == ""]
        for row in plain[plain["item"].str.startswith(prefix)].to_dict("records"):
            ends = (row["value"], row["ci_low"], row["ci_high"])
            cells.setdefault(one.name, {})[row["item"].removeprefix(prefix)] = ends
    names = list(dict.fromkeys(name for groups in cells.values() for name in groups))
    blank = (math.nan,) * 3
    values = {who: np.array([groups.get(name, blank) for name in names]) for who, groups in cells.items()}
    told = np.array([any(np.isfinite(one[k, 0]) for one in values.values()) for k in range(len(names))], bool)
    return Subgroups(
        [name for name, seen in zip(names, told, strict=True) if seen],
        {who: of[told] for who, of in values.items()},
        [name for name, seen in zip(names, told, strict=True) if not seen],
    )


def ranks(found: Sequence[Judged]) -> dict[str, dict[str, np.ndarray]]:
    """Return, by quantity and name, the shares of probability integral transforms in bins of equal width."""
    result: dict[str, dict[str, np.ndarray]] = {}
    for one in found:
        for row in one.details.to_dict("records"):
            if match := re.fullmatch(r"ranks of (.+) (\d+)/(\d+)", row["item"]):
                bins = result.setdefault(match[1], {}).setdefault(one.name, np.full(int(match[3]), math.nan))
                bins[int(match[2]) - 1] = row["value"]
    return result


def null(run: Run) -> Ruling | None:
    """Return kappa of pairs broken on purpose: mean and range over draws, which have no verdict in common."""
    anchors = _scores.tidy(run.anchor_scores)
    rows = anchors[(anchors["generator"] == "null") & (anchors["score"] == SCORE) & (anchors["item"] == "")]
    for row in rows.to_dict("records"):
        ends = (float(row["value"]), float(row["ci_low"]), float(row["ci_high"]))
        return Ruling(
            None, None, "", *ends, math.nan, math.nan, f"pairs broken on purpose; mean and {row['ci_method']}"
        )
    return None


def sample_sizes(run: Run) -> list[int]:
    """Return the numbers of records that were judged."""
    rows = run.scores[run.scores["score"] == SCORE]
    return [int(size) for size in rows["n_synthetic"].dropna().unique() if size > 0]


def without_verdict(run: Run, found: Iterable[Judged]) -> str:
    """Return a sentence on the generators without a verdict, empty where all have one."""
    have = {one.name for one in found}
    reasons = _scores.headlines(run)
    told = []
    for name in dict.fromkeys(cell["generator"] for cell in run.cells):
        if name not in have:
            rows = reasons[(reasons["generator"] == name) & (reasons["score"] == SCORE)]
            reason = next((text for text in rows["reason"].astype(str) if text), "")
            told.append(f"{name} ({reason})" if reason else name)
    return f"Without a verdict: {enumerated(told)}." if told else ""
