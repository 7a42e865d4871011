"""Validity tests V11, V12 and V24: what must not matter, what must be seen, and what gives no score."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from mmbench.api import Column, Evidence, Schema, Trial
from mmbench.validity import criteria, laws
from mmbench.validity.common import EVERYWHERE, anything, compares, equal, far
from mmbench.validity.instruments import Reading, Trait
from mmbench.validity.laws import Sides
from mmbench.validity.model import Evidences, Profile, Series, Setting, Test, Verdict, broken, verdict
from mmbench.validity.trials import Domain, mapped, trial_of, with_table


def _changes(domain: Domain) -> tuple[str, ...]:
    common = ("as it is", "order of records", "other units")
    if domain == "table":
        return (*common, "order of columns", "a constant column")
    if domain == "features":
        return (*common, "rotation")
    return ("as it is", "order of records", "order of columns", "names of levels")


def _invariances(profile: Profile, domain: Domain) -> list[Series]:
    def make(setting: Setting, rng: np.random.Generator, seed: int) -> Trial:
        trial = equal(domain, rng, profile.n // 2, seed)
        rest = np.random.default_rng(seed)
        match setting:
            case "order of records":
                return mapped(trial, lambda side: side.take(rest.permutation(len(side))))
            case "other units":
                return mapped(trial, _affine)
            case "order of columns":
                return mapped(trial, _reversed)
            case "a constant column":
                return mapped(trial, _with_constant)
            case "names of levels":
                return mapped(trial, _renamed)
            case "rotation":
                turn = np.linalg.qr(rest.standard_normal((8, 8)))[0]
                return mapped(trial, lambda side: dataclasses.replace(side, features=side.features @ turn))
        return trial

    return [*_reach(profile, domain), Series(f"V11/{domain}", _changes(domain), 1, make)]


def _reach(profile: Profile, domain: Domain) -> list[Series]:
    return far(profile, domain) if domain != "people" else []


def _affine(side: Evidence) -> Evidence:
    """Return the same records with the first column in units a thousand times smaller and a shifted origin.

    A power of two and no shift of the others: rounding plays no part.
    """
    if side.cohort.table is not None:
        table = side.cohort.rows.copy()
        table["x0"] = 1024.0 * table["x0"]
        return with_table(side, table)
    features = np.array(side.features)
    features[..., 0] *= 1024.0
    return dataclasses.replace(side, features=features)


def _with_schema(side: Evidence, schema: Schema, table: pd.DataFrame) -> Evidence:
    return dataclasses.replace(
        side, cohort=dataclasses.replace(side.cohort, schema=schema, table=schema.coerce(table))
    )


def _reversed(side: Evidence) -> Evidence:
    schema = Schema(tuple(reversed(side.cohort.schema.columns)))
    return _with_schema(side, schema, side.cohort.rows[schema.names])


def _with_constant(side: Evidence) -> Evidence:
    schema = Schema((*side.cohort.schema.columns, Column("constant", "continuous")))
    return _with_schema(side, schema, side.cohort.rows.assign(constant=1.0))


def _renamed(side: Evidence) -> Evidence:
    """Return the same people with other names, in another order, for the levels of categorical columns."""
    columns, table = [], side.cohort.rows.copy()
    for column in side.cohort.schema:
        if column.kind == "categorical":
            names = {level: f"level {i}" for i, level in enumerate(column.levels)}
            table[column.name] = table[column.name].astype(object).map(names, na_action="ignore")
            levels = tuple(reversed(list(names.values())))
            columns.append(dataclasses.replace(column, levels=levels))
        else:
            columns.append(column)
    return _with_schema(side, Schema(tuple(columns)), table)


def _judge_invariances(found: Evidences) -> Verdict:
    curves = found.under("V11/")
    curves = {name: curve for name, curve in curves.items() if not broken({name: curve})} or curves
    if problem := broken(curves):
        return Verdict(False, problem)
    parts = []
    for name, curve in curves.items():
        moved = {
            str(setting): max(
                abs(a - b) for a, b in zip(curve.at(setting), curve.at("as it is"), strict=True)
            )
            for setting in curve.settings[1:]
        }
        failed = [f"{setting} (by {gap:.2g})" for setting, gap in moved.items() if gap > criteria.EXACT]
        text = f"{name.partition('/')[2]}: changed by {', '.join(failed)}" if failed else f"{name}: unchanged"
        parts.append((not failed, text))
    return verdict(parts)


def _coarse(profile: Profile, domain: Domain) -> list[Series]:
    def make(setting: Setting, rng: np.random.Generator, seed: int) -> Trial:
        trial = equal(domain, rng, profile.n, seed)
        table = trial.synthetic.cohort.rows.copy()
        if setting == "rounded":
            table = table.assign(age=(table["age"] / 15).round() * 15)
        elif setting == "missing":
            gone = np.random.default_rng(seed).random(len(table)) < 0.3
            table["hba1c"] = table["hba1c"].mask(gone)
        return dataclasses.replace(trial, synthetic=with_table(trial.synthetic, table))

    return [Series(f"V12/{domain}", ("as it is", "rounded", "missing"), max(profile.seeds, 3), make)]


def _judge_coarse(found: Evidences) -> Verdict:
    curves = found.under("V12/")
    if problem := broken(curves):
        return Verdict(False, problem)
    parts = []
    for curve in curves.values():
        before = curve.at("as it is")
        # One of the two may be none of its business, which it then does not notice at all.
        noticed = [setting for setting in ("rounded", "missing") if curve.at(setting) != before]
        for setting in noticed or ("rounded", "missing"):
            seen = criteria.visible(before, curve.at(setting))
            parts.append((seen, f"{setting}: {curve.mean('as it is'):.3f} -> {curve.mean(setting):.3f}"))
    return verdict(parts)


def _degenerate(profile: Profile, domain: Domain) -> list[Series]:
    def make(setting: Setting, rng: np.random.Generator, seed: int) -> Trial:
        if domain == "people":
            return _degenerate_people(setting, rng, seed)
        d = 1 if setting == "one dimension" else 4
        real, other, train = (laws.normal(rng, m, d) for m in (40, 40, 80))
        match setting:
            case "two records":
                real, other = real[:2], other[:2]
            case "two synthetic records":
                other = other[:2]
            case "constant, alike" | "constant, apart":
                real, other, train = (np.full_like(x, 1.0) for x in (real, other, train))
                other = other + (setting == "constant, apart")
        return trial_of(domain, Sides(real, other, train), seed)

    settings: tuple[Setting, ...] = (
        "one dimension",
        "two records",
        "two synthetic records",
        "constant, alike",
        "constant, apart",
    )
    if domain == "people":
        settings = ("two records", "one class", "another class", "never measured")
    return [Series(f"V24/{domain}", settings, 1, make)]


def _degenerate_people(setting: Setting, rng: np.random.Generator, seed: int) -> Trial:
    trial = equal("people", rng, 60, seed)

    def of_sex(side: Evidence, sex: str) -> Evidence:
        return side.take(np.flatnonzero((side.cohort.rows["sex"] == sex).to_numpy()))

    match setting:
        case "two records":
            return Trial(
                trial.reference.take(np.arange(2)), trial.synthetic.take(np.arange(2)), trial.train, seed
            )
        case "one class":
            return mapped(trial, lambda side: of_sex(side, "F"))
        case "another class":
            return Trial(
                of_sex(trial.reference, "F"), of_sex(trial.synthetic, "M"), of_sex(trial.train, "F"), seed
            )
    gone = trial.synthetic.cohort.rows.assign(hba1c=np.nan)
    return dataclasses.replace(trial, synthetic=with_table(trial.synthetic, gone))


def _modest(trait: Trait, reading: Reading) -> bool:
    """Whether a value comes with an interval over half of its range at least: a rate of two records is one."""
    return bool(reading.high - reading.low >= trait.width / 2)


def _judge_degenerate(found: Evidences) -> Verdict:
    parts = []
    for name, curve in found.under("V24/").items():
        for setting in curve.settings:
            reading = curve.readings[setting][0]
            where = f"{name.split('/')[1]}, {setting}"
            if reading.error:
                parts.append((False, f"{where}: raised {reading.error}"))
            elif not reading.given:
                parts.append((bool(reading.reason), f"{where}: NaN, {reading.reason or 'without a reason'}"))
            elif str(setting).startswith("two") and not _modest(found.trait, reading):
                parts.append((False, f"{where}: {reading.value:.3g} from {setting}"))
        alike, apart = (curve.readings.get(f"constant, {how}", [None])[0] for how in ("alike", "apart"))
        # A number is honest where it tells the two apart, and made up where it does not.
        if alike and apart and alike.given and criteria.same(alike.value, apart.value):
            parts.append(
                (False, f"{name.split('/')[1]}: {alike.value:.3g} for constant data, whether alike or not")
            )
    result = verdict(parts)
    return Verdict(result.passed, "a value or a reason everywhere") if result.passed else result


TESTS = (
    Test(
        "V11",
        "what must not matter",
        "Order of records and columns, units, names of levels, constant columns and rotations change nothing.",
        anything,
        _invariances,
        _judge_invariances,
        EVERYWHERE,
    ),
    Test(
        "V12",
        "rounded column, other missing values",
        "Both are visible.",
        lambda trait: trait.null == "uniform" and compares(trait),
        _coarse,
        _judge_coarse,
        ("people",),
    ),
    Test(
        "V24",
        "degenerate data",
        "NaN with a reason, or an honest value; never an exception, never a number made up.",
        anything,
        _degenerate,
        _judge_degenerate,
        EVERYWHERE,
    ),
)
