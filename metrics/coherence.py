"""Whether a synthetic record's volume and row belong to the same person, with a verdict."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
from scipy.stats import norm

from mmbench.api import BOTH, Card, Evidence, Metric, Output, PluginError, Score, Trial, param, stats

from ._battery import Battery, Law, Side, examine
from ._components import leading_components
from ._conditional import Design, Ridge
from ._groups import Group, groups
from ._limits import broken_limits
from ._scores import MAX_UNMEASURABLE, no_features, no_table, too_few
from ._verdict import NOT_ASSESSABLE, UNPAIRED, Deviation, Statistic, Verdict, decide

_REFERENCE = (
    "mmbench; generalised covariance measure: Shah, Peters 2020 (Annals of Statistics 48); conditional two-sample tests: "
    "Lee, Cha, Kim 2024 (arXiv:2410.16636); intersection-union tests: Berger 1982 (Technometrics 24); equivalence: "
    "Schuirmann 1987 (J Pharmacokinet Biopharm 15); the claim that it tests: Mensing, Kapar, Hirsch, Guenther, Hahn, "
    "Wright 2026 (arXiv:2605.06699)"
)
_SIDES = ("training", "reference", "synthetic")
_METHOD = "first-order influence of the records"
_BINS = 10
_SURE = 3.0
"""Standard errors by which real pairs must score above broken ones for anything to be assessed."""
_MOST_SEEN = 5
_SEEN = 0.1
"""Share of an effect's variance that image features must tell for it to be a quantity."""
_READ = "as quantities tell it; synthetic over real; another mix of people moves it too"
_FEWEST_TRAIN = 60
"""Fewer training records give no regression worth the name."""


@dataclass
class Coherence(Metric):
    """The coherence battery: do measured quantities follow from the row as they do in real people?

    Learned from the real training records: the regression m(T) of the quantities C on the row T, their scatter about
    it, and with both the log-odds s(T, C) = log p(C | T) - log p(C) that C belongs to T. Then, on real records that no
    generator saw and on synthetic ones:

    * **kappa**, the score: (mean s of pairs - mean s of mismatched pairs), over the same with what real pairs
      would score on the synthetic rows. 1 for real pairs, 0 for broken ones, 1 - q where a share q of the pairs is broken,
      above 1 where quantities scatter less than among real people;
    * **slope**, **scatter** and **shift** of each primary quantity (those that real rows explain best) about m(T), synthetic against real, and differences
      of partial **association** with the strongest effects;
    * three tests of no difference, which another mix of people does not set off: of all partial associations (largest
      studentised difference), of the law of C given T (generalised covariance measure, weighted, cross-fitted, with
      products of residuals), and of kappa = 1.

    Exploratory are all other details, among them the other direction: the slope of each effect of the row on what
    the quantities say of it, synthetic over real.

    The verdict is COHERENT where every primary statistic is shown to lie within its margin, INCOHERENT where a test rejects
    (Holm) and a primary statistic lies wholly beyond its margin, NOT ASSESSABLE where real pairs cannot be told from
    broken ones either, and INDETERMINATE otherwise. Nothing is coherent because nothing was found.

    Without measured quantities, what the image features tell of the row takes their place: the columns as a regression
    on the leading components reads them off the volume, learned from the training records.
    """

    primary: tuple[str, ...] = param((), "names of the primary quantities; by default chosen as said above")
    quantities: int = param(5, "primary quantities: those that real rows explain best", minimum=1)
    effects: int = param(1, "primary associations of each of them: the strongest", minimum=0)
    alpha: float = param(0.05, "level of every verdict", minimum=0.001, maximum=0.2)
    kappa_margin: float = param(0.1, "kappa counts as 1 within this", minimum=0.01, maximum=0.5)
    slope_margin: float = param(0.1, "a calibration slope counts as 1 within this", minimum=0.01, maximum=0.5)
    scatter_margin: float = param(
        1.15, "a ratio of scatters counts as 1 up to this, either way", minimum=1.01
    )
    shift_margin: float = param(
        0.1, "a mean counts as equal within this, in standard deviations", minimum=0.01
    )
    association_margin: float = param(0.2, "partial associations count as equal within this", minimum=0.01)
    components: int = param(32, "components of image features where nothing is measured", minimum=1)
    subgroup_size: int = param(50, "synthetic records that a subgroup must have", minimum=10)

    card = Card(
        "Whether volume and row of a synthetic record belong to the same person, with a verdict.", _REFERENCE
    )
    version = 4
    kind = "coherence"
    needs = BOTH
    null = "pairs"
    null_draws: ClassVar[int] = 20
    outputs = (
        Output(
            "coherence",
            "Coherence (kappa)",
            "Share of the information that real volumes carry about their rows which synthetic pairs carry too: 1 for real "
            "pairs, 0 for broken ones.",
            "What the measurer does not measure, and a bias of the measurer that is as large on real volumes.",
            "higher",
            1.0,
        ),
    )

    def scores(self, trial: Trial) -> Iterable[Score]:
        if reason := too_few(trial, 2 * 10) or no_table(trial.reference, trial.synthetic, trial.train):
            return self._not_assessable(reason)
        try:
            found = self._quantities(trial)
        except _Unassessable as error:
            return self._not_assessable(str(error))
        judged = found.judged(trial.schema.names)
        names, sides = judged.names, judged.sides
        law = Law.fit(trial.schema, *sides[0])
        primary = self._chosen(names) if self.primary else law.primary(self.quantities)
        if not primary:
            return self._not_assessable(
                "real rows explain less than a quarter of every quantity: there is too little to cohere"
            )
        real, synthetic = (law.side(*side) for side in sides[1:])
        battery = examine(law, real, synthetic, trial.seed)
        if not battery.separation > _SURE * battery.separation_error:
            return self._not_assessable("real pairs of the reference cannot be told from broken ones")
        told = list(self._told(law, real, synthetic, battery, primary, judged))
        # Which volumes can be measured may bend a dependence, but takes none away.
        if found.gap and UNPAIRED not in told[0].verdict:
            told = self._not_assessable(found.gap)
        return [*told, *self._limits(trial, found)]

    def _chosen(self, names: Sequence[str]) -> list[int]:
        for name in self.primary:
            if name not in names:
                raise PluginError(
                    f"coherence: primary: there is no quantity '{name}'; known: {', '.join(names)}."
                )
        return [names.index(name) for name in self.primary]

    def _told(
        self,
        law: Law,
        real: Side,
        synthetic: Side,
        battery: Battery,
        primary: Sequence[int],
        found: _Found,
    ) -> Iterator[Score]:
        names, rows = found.names, found.sides[2][0]
        statistics = list(self._primary(law, battery, primary, names))
        tests = {
            "association": battery.association.p,
            "conditional": battery.conditional.test.p,
            "kappa": battery.kappa_p,
        }
        deviation = Deviation(statistics[0], battery.own, battery.explanation)
        n = min(len(real.x), len(synthetic.x))
        subgroups = groups(battery.scores, law.partition(rows), self.subgroup_size)
        verdict = decide(statistics, tests, deviation, n, self.alpha, weakest(subgroups, self.alpha))
        yield self._headline(statistics[0], verdict, found)
        for one in statistics:
            yield self._score(one.value, one.interval(), one.name, *standing(one, self.alpha))
        for name, p in tests.items():
            yield Score("coherence", p, f"p of {name}")
        yield Score("coherence", min(1.0, len(tests) * min(tests.values())), "p")
        yield Score("coherence", battery.broken, "share of broken pairs", note="largest likelihood")
        yield Score("coherence", battery.own, "dependence on the row, over the real one")
        yield Score(
            "coherence",
            battery.conditional.trimmed,
            "share without counterpart",
            note="rows outside the overlap",
        )
        yield Score(
            "coherence",
            battery.separation,
            "information",
            note="nats by which real pairs differ from broken ones",
        )
        for k in law.readable:
            slope = Statistic("slope", law.labels[k], *_pair(battery.reading, k), -math.inf, math.inf)
            yield self._score(slope.value, slope.interval(), f"{slope.name} on the volume", "", _READ)
        for group in subgroups:
            yield self._score(
                group.value,
                group.interval(),
                f"kappa of {group.name}",
                "",
                f"{group.n} records",
                group.reason,
            )
        for i, a in enumerate(names):
            for j in range(i):
                before, after = battery.residual_correlation[:, i, j]
                yield Score("coherence", float(after - before), f"residual correlation {names[j]} ~ {a}")
            for k, label in enumerate(law.labels):
                yield Score(
                    "coherence", float(battery.association_difference[k, i]), f"association {a} ~ {label}"
                )
        for j in primary:
            counts = np.histogram(battery.ranks[:, j], _BINS, (0, 1))[0] / len(battery.ranks)
            for place, share in enumerate(counts):
                yield Score("coherence", float(share), f"ranks of {names[j]} {place + 1}/{_BINS}")

    def _primary(
        self, law: Law, battery: Battery, primary: Sequence[int], names: Sequence[str]
    ) -> Iterator[Statistic]:
        m = self.kappa_margin
        yield Statistic("kappa", "", battery.kappa.value, battery.kappa.error, 1 - m, 1 + m)
        for j in primary:
            m = self.slope_margin
            yield Statistic("slope", names[j], *_pair(battery.slope, j), 1 - m, 1 + m)
            m = self.scatter_margin
            yield Statistic("scatter", names[j], *_pair(battery.scatter, j), 1 / m, m, logarithm=True)
            m = self.shift_margin
            yield Statistic("shift", names[j], *_pair(battery.shift, j), -m, m)
            m = self.association_margin
            for k in law.strongest(j, self.effects):
                value, error = battery.association_difference[k, j], battery.association_error[k, j]
                yield Statistic(
                    "association", f"{names[j]} ~ {law.labels[k]}", float(value), float(error), -m, m
                )

    def _limits(self, trial: Trial, found: _Found) -> Iterator[Score]:
        """Yield the share of synthetic records that cross each limit, beside that of real ones."""
        train, real, synthetic = found.sides
        ours, theirs = (broken_limits(trial.schema, found.names, train, side) for side in (real, synthetic))
        for (name, before), (_, after) in zip(ours, theirs, strict=True):
            share = stats.proportion(int(after.sum()), len(after))
            note = f"{100 * before.mean():.1f} % of real records"
            yield Score(
                "coherence", share.value, f"limit: {name}", share.low, share.high, share.method, note=note
            )

    def _headline(self, kappa: Statistic, verdict: Verdict, found: _Found) -> Score:
        low, high = kappa.interval()
        why = "; ".join(part for part in (verdict.why, found.source, found.gap) if part)
        return Score("coherence", kappa.value, "", low, high, _METHOD, "", verdict.label, why)

    def _score(
        self, value: float, ends: tuple[float, float], item: str, verdict: str, note: str, reason: str = ""
    ) -> Score:
        return Score("coherence", value, item, *ends, _METHOD, reason, verdict, note)

    def _not_assessable(self, reason: str) -> list[Score]:
        return [Score("coherence", math.nan, reason=reason, verdict=NOT_ASSESSABLE, note=reason)]

    def _quantities(self, trial: Trial) -> _Found:
        """Return rows and quantities of training, reference and synthetic records."""
        ordered = (trial.train, trial.reference, trial.synthetic)
        compositions = [_composition(side) for side in ordered]
        if all(one is not None for one in compositions):
            frames = [pd.DataFrame(one) for one in compositions]
            # A quantity that a twentieth of real people lack would cost too many records.
            kept = [
                str(name)
                for name in frames[0]
                if frames[0][name].notna().mean() >= 0.95 and frames[0][name].std() > 0
            ]
            if kept:
                found = [_complete(side, frame[kept]) for side, frame in zip(ordered, frames, strict=True)]
                gaps = [
                    _gap(name, 1 - len(rows) / len(side))
                    for name, side, (rows, _) in zip(_SIDES, ordered, found, strict=True)
                ]
                if real_gap := gaps[0] or gaps[1]:
                    raise _Unassessable(real_gap)
                _enough(found)
                return _Found(found, kept, "on measured quantities", gaps[2])
        if reason := no_features(*ordered):
            raise _Unassessable(f"nothing was measured on the volumes, and {reason}")
        values, names = seen_in_features(trial, self.components)
        found = [(side.cohort.rows, value) for side, value in zip(ordered, values, strict=True)]
        _enough(found)
        if not names:
            raise _Unassessable(
                "nothing was measured on the volumes, and their features tell nothing of the rows"
            )
        return _Found(found, names, "on what image features tell of the row, as nothing was measured")


@dataclass(frozen=True)
class _Found:
    """Rows with their quantities.

    Attributes:
        sides: Rows and quantities, shape (n, q), of training, reference and synthetic records.
        names: Names of the quantities.
        source: What they are.
        gap: That too many synthetic volumes could not be measured; empty otherwise.
    """

    sides: list[tuple[pd.DataFrame, np.ndarray]]
    names: list[str]
    source: str
    gap: str = ""

    def judged(self, columns: Sequence[str]) -> _Found:
        """Return the quantities that the table does not state itself, where there are any.

        One that it does, such as the waist, would carry nearly all the information there is: it has a limit.
        """
        kept = [j for j, name in enumerate(self.names) if name not in columns] or list(range(len(self.names)))
        sides = [(rows, values[:, kept]) for rows, values in self.sides]
        return dataclasses.replace(self, sides=sides, names=[self.names[j] for j in kept])


def _gap(name: str, share: float) -> str:
    if share <= MAX_UNMEASURABLE:
        return ""
    return (
        f"{share:.0%} of the volumes of the {name} sample could not be measured; "
        f"at most {MAX_UNMEASURABLE:.0%} may be"
    )


class _Unassessable(Exception):
    """Why a trial says nothing of coherence."""


def _composition(side: Evidence) -> pd.DataFrame | None:
    return (
        None if side.composition is None or side.composition.columns.empty else pd.DataFrame(side.composition)
    )


def _complete(side: Evidence, frame: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    rows = np.flatnonzero(np.isfinite(frame.to_numpy(float)).all(axis=1))
    return side.cohort.rows.iloc[rows], frame.to_numpy(float)[rows]


def _enough(found: Sequence[tuple[pd.DataFrame, np.ndarray]]) -> None:
    for name, least, (rows, _) in zip(_SIDES, (_FEWEST_TRAIN, 20, 20), found, strict=True):
        if len(rows) < least:
            raise _Unassessable(
                f"the {name} sample has {len(rows)} measured records; at least {least} are needed"
            )


def _pair(values: np.ndarray, j: int) -> tuple[float, float]:
    return float(values[0, j]), float(values[1, j])


def seen_in_features(trial: Trial, components: int) -> tuple[list[np.ndarray], list[str]]:
    """Return what image features tell of the row: for each side its effects as predicted from the volume, and names.

    Training records are predicted with themselves left out, so that they stand to their rows as others do.

    Args:
        trial: The trial.
        components: Components of the features that are used.

    Returns:
        Arrays of shape (n, k) for training, reference and synthetic records, of the at most ``_MOST_SEEN`` effects that
        features tell best, and their names.
    """
    points = leading_components(trial, components)
    design = Design.fit(trial.schema, trial.train.cohort.rows)
    effects = design.effects(trial.train.cohort.rows)
    if not points.train.shape[1] or not effects.shape[1]:
        return [np.empty((len(side), 0)) for side in (trial.train, trial.reference, trial.synthetic)], []
    ridge = Ridge.fit(points.train, effects)
    told = 1 - (ridge.residuals**2).mean(axis=0) / np.maximum(effects.var(axis=0), 1e-12)
    order = np.argsort(-told, kind="stable")[:_MOST_SEEN]
    chosen = order[told[order] > _SEEN]
    sides = [effects - ridge.residuals, ridge.predict(points.reference), ridge.predict(points.synthetic)]
    return [side[:, chosen] for side in sides], [f"{design.labels[k]} in the image" for k in chosen]


def standing(one: Statistic, alpha: float) -> tuple[str, str]:
    """Return where a statistic stands against its margin, and the margin."""
    word = "within" if one.equivalent(alpha) else "beyond" if one.outside(alpha) else "open"
    return word, f"margin {one.low:.3g} to {one.high:.3g}"


def weakest(subgroups: Sequence[Group], alpha: float) -> str:
    """Return the name of the assessed subgroup whose pairs are shown to be broken, or an empty text."""
    assessed = [group for group in subgroups if not group.reason]
    reach = float(norm.isf(alpha / (2 * max(len(assessed), 1))))
    broken = [group for group in assessed if group.value + reach * group.error < Group.LEAST]
    return min(broken, key=lambda group: group.value).name if broken else ""
