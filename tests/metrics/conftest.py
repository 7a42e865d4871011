from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from mmbench.api import Cohort, Column, Evidence, Schema, Trial

SCHEMA = Schema(
    (
        Column("age", "continuous", unit="years"),
        Column("bmi", "continuous", unit="kg/m2"),
        Column("hba1c", "continuous", unit="%", missing=True),
        Column("activity", "ordinal", levels=(1.0, 2.0, 3.0)),
        Column("sex", "categorical", levels=("F", "M")),
        Column("ethnicity", "categorical", levels=("a", "b", "c"), missing=True),
        Column("diabetes", "boolean"),
    )
)


class People:
    """Draws small cohorts in which the measured fat and lean volumes follow the table."""

    schema = SCHEMA

    def draw(self, n: int, seed: int) -> Evidence:
        rng = np.random.default_rng(seed)
        male = rng.random(n) < 0.5
        age = rng.uniform(20, 75, n)
        bmi = 22 + 0.06 * age + 3 * rng.standard_normal(n)
        hba1c = 4.5 + 0.05 * bmi + 0.3 * rng.standard_normal(n)
        hba1c[rng.random(n) < 0.15] = np.nan
        ethnicity = rng.choice(["a", "b", "c"], n, p=[0.6, 0.3, 0.1]).astype(object)
        ethnicity[rng.random(n) < 0.05] = None
        table = pd.DataFrame(
            {
                "age": age,
                "bmi": bmi,
                "hba1c": hba1c,
                "activity": np.clip(np.round(3 - 0.02 * age + 0.6 * rng.standard_normal(n)), 1, 3),
                "sex": np.where(male, "M", "F"),
                "ethnicity": ethnicity,
                "diabetes": rng.random(n) < 0.1 + 0.2 * (bmi > 27),
            }
        )
        fat = bmi - 3 * male + 2 * rng.standard_normal(n)
        lean = 30 + 8 * male + 0.4 * bmi + 2 * rng.standard_normal(n)
        spectrum = 1 / np.sqrt(np.arange(1, 21))
        features = rng.standard_normal((n, 2, 20)) * spectrum + 5
        features[:, :, 0] += 0.2 * fat[:, None]
        ids = np.array([f"s{seed}-{i}" for i in range(n)])
        cohort = Cohort("people", SCHEMA, ids, SCHEMA.coerce(table))
        return Evidence(cohort, pd.DataFrame({"fat_l": fat, "lean_l": lean}, index=ids), features)

    def trial(self, synthetic: Evidence | None = None, *, n: int = 120, seed: int = 0) -> Trial:
        """Return a trial against fresh real records, or against fresh real records as the synthetic ones."""
        other = self.draw(n, seed + 2) if synthetic is None else synthetic
        return Trial(self.draw(n, seed + 1), other, self.draw(360, seed), seed)

    def with_table(self, evidence: Evidence, table: pd.DataFrame | None) -> Evidence:
        cohort = dataclasses.replace(evidence.cohort, table=table)
        return dataclasses.replace(evidence, cohort=cohort)

    def columns_permuted(self, evidence: Evidence, seed: int = 0) -> Evidence:
        rng = np.random.default_rng(seed)
        rows = evidence.cohort.rows
        table = pd.DataFrame({name: rows[name].array[rng.permutation(len(rows))] for name in rows})
        return self.with_table(evidence, table)

    def pairs_broken(self, evidence: Evidence, share: float = 1.0, seed: int = 0) -> Evidence:
        rng = np.random.default_rng(seed)
        order = np.arange(len(evidence))
        moved = rng.choice(len(order), round(share * len(order)), replace=False)
        order[np.sort(moved)] = rng.permutation(moved)
        return Evidence(evidence.cohort, evidence.composition.iloc[order], evidence.features[order])

    def columns_reversed(self, evidence: Evidence) -> Evidence:
        schema = Schema(tuple(reversed(SCHEMA.columns)))
        cohort = dataclasses.replace(evidence.cohort, schema=schema, table=evidence.cohort.rows[schema.names])
        return dataclasses.replace(evidence, cohort=cohort)

    def map_trial(self, trial: Trial, function) -> Trial:
        sides = {name: function(getattr(trial, name)) for name in ("reference", "synthetic", "train")}
        return dataclasses.replace(trial, **sides)


@pytest.fixture(scope="session")
def people() -> People:
    return People()


@pytest.fixture(scope="session")
def headline():
    """Return a function that computes a metric's headline scores by output name."""

    def compute(metric, trial):
        return {score.output: score for score in metric.scores(trial) if not score.item}

    return compute
