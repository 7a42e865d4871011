"""Who the phantoms are: a generative population of clinical rows and the body composition behind them.

Every subject is a deterministic function of a vector of independent standard normals, drawn from a seed of
its own: subject 17 is the same person in a cohort of 20 and in one of 20,000. The table explains about 0.6
of the variance of visceral fat, as in life; the rest is seen in the volume only. ``benchmarks/population.py``
compares what comes out with what was published.

Pairs of constants are for (men, women). Sources, by the names used beside the constants, beyond those of
:mod:`mmbench.sources.phantom.presets`:

* OBB: Oxford Biobank DXA, n = 4,950 (Neville et al. 2018, PMC5965665), waist at the rib-iliac midpoint.
* KORA: KORA FF4 MRI, n = 384 (PMC6223151).
* Al-Gindan: total adipose tissue by MRI, n = 416 (Al-Gindan et al. 2015, PMC5276707).
* Lee: skeletal muscle mass (Lee et al. 2000, Am J Clin Nutr 72).
* solved: jointly fitted to the targets of visceral fat that ``benchmarks/population.py`` lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit, log_expit, ndtr

from mmbench.api import CohortError, Schema
from mmbench.errors import did_you_mean

from .presets import ETHNICITIES, PRESETS, Preset, schema_of

__all__ = ["ETHNICITIES", "PRESETS", "Population", "Preset", "draw_population"]

ADIPOSE_KG_PER_L = 0.92  # density of adipose tissue (Snyder et al. 1975, ICRP 23)
MUSCLE_KG_PER_L = 1.06  # density of skeletal muscle (Mendez and Keys 1960)
OTHER_ADIPOSE_L = 0.9  # between and within muscles and in the thorax: chosen
TRUNK_MUSCLE_SHARE = 0.235  # of muscle, hip joint to armpit: chosen so that trunks come out at their girth

_LATENTS = (
    *("sex", "age", "ethnicity", "height", "bmi", "waist", "hip", "visceral", "adipose", "abdominal"),
    *("muscle", "trunk_muscle", "liver", "liver_fat", "muscle_fat", "pressure", "glucose", "smoking"),
    *("activity", "diabetes", "no_systolic_bp", "no_hba1c", "no_smoking", "no_activity"),
)


class Population(NamedTuple):
    """Subjects as a clinic records them, and as they are.

    Attributes:
        schema: Columns of the table.
        table: One row for each subject.
        composition: For each subject ``visceral_l``, ``abdominal_subcutaneous_l`` (hip joint to the ninth
            thoracic vertebra), ``total_adipose_l`` (whole body), ``muscle_kg`` (skeletal muscle of the whole
            body), ``trunk_muscle_l`` (of it between hip joint and armpit), ``liver_l``,
            ``liver_fat_fraction`` and ``muscle_fat_fraction`` (proton density fat fractions, 0 to 1).
    """

    schema: Schema
    table: pd.DataFrame
    composition: pd.DataFrame


def draw_population(
    subjects: int,
    seed: int,
    preset: str = "nako",
    ethnicities: Mapping[str, float] | None = None,
    missing: float = 0.05,
) -> Population:
    """Draw clinical rows and the body composition behind them.

    Args:
        subjects: Number of rows.
        seed: Seed; the first rows do not depend on how many are drawn.
        preset: Name of the population, one of :data:`PRESETS`.
        ethnicities: Share of each ethnic group, positive, brought to a sum of 1; ``None`` for the preset's.
            Known groups are :data:`ETHNICITIES`.
        missing: Mean share of missing values in each of the columns that may have some, 0 to 0.3.

    Raises:
        CohortError: The preset or a group is unknown, or a share is no positive number.
    """
    if preset not in PRESETS:
        raise CohortError(f"phantom: unknown preset '{preset}'. {did_you_mean(preset, PRESETS)}")
    chosen = PRESETS[preset]
    shares = _shares(chosen.ethnicities if ethnicities is None else ethnicities)
    people = _People.draw(subjects, seed, chosen, shares)
    build = _build(people)
    composition = _composition(people, build)
    clinic, gaps = _clinic(people, build, composition)
    waist = build.crest_cm + people.by_sex(*chosen.waist_offset_cm)
    # Soft floor, chosen: hardly an adult's waist is below 55 cm.
    table = build.assign(**clinic, waist_cm=55 + 4 * np.logaddexp(0, (waist - 55) / 4))
    for name, chance in gaps.items():
        table[name] = table[name].mask(ndtr(people.z[f"no_{name}"]) < missing * chance)
    schema = schema_of(chosen, tuple(shares))
    for column in schema:
        if column.minimum is not None and column.formula is None:
            table[column.name] = (
                table[column.name].clip(column.minimum, column.maximum).round(column.decimals or 0)
            )
    return Population(schema, schema.coerce(schema.derive(table), "phantom"), composition)


def _shares(ethnicities: Mapping[str, float]) -> dict[str, float]:
    """Return the shares of the groups, brought to a sum of 1."""
    if not ethnicities:
        raise CohortError(
            f"phantom: ethnicities is empty; expected shares of some of {', '.join(ETHNICITIES)}."
        )
    problems = [
        f"phantom: ethnicities: unknown group '{name}'. {did_you_mean(str(name), ETHNICITIES)}"
        for name in ethnicities
        if name not in ETHNICITIES
    ]
    problems += [
        f"phantom: ethnicities: the share of '{name}' is {share}, expected a positive number; leave out "
        "a group that there is none of."
        for name, share in ethnicities.items()
        if not (isinstance(share, int | float) and 0 < share < np.inf)
    ]
    if problems:
        raise CohortError(problems)
    total = sum(ethnicities.values())
    return {name: share / total for name, share in ethnicities.items()}


@dataclass(frozen=True)
class _People:
    """Subjects before anything is measured on them.

    Attributes:
        z: Independent standard normals by name, each of shape (subjects,).
        women: 1 for a woman, 0 for a man.
        age: Whole years.
        names: Ethnic groups.
        ethnicity: Position among the names.
        preset: The population.
    """

    z: Mapping[str, np.ndarray]
    women: np.ndarray
    age: np.ndarray
    names: tuple[str, ...]
    ethnicity: np.ndarray
    preset: Preset

    @classmethod
    def draw(cls, subjects: int, seed: int, preset: Preset, shares: Mapping[str, float]) -> _People:
        latent = np.empty((subjects, len(_LATENTS)))
        for index, row in enumerate(latent):
            np.random.default_rng(np.random.SeedSequence([seed, index, 0])).standard_normal(out=row)
        z = dict(zip(_LATENTS, latent.T, strict=True))
        return cls(
            z=z,
            women=(ndtr(z["sex"]) < preset.women).astype(int),
            age=np.floor(np.interp(ndtr(z["age"]), np.linspace(0, 1, len(preset.ages)), preset.ages)),
            names=tuple(shares),
            ethnicity=np.searchsorted(np.cumsum(list(shares.values()))[:-1], ndtr(z["ethnicity"])),
            preset=preset,
        )

    @property
    def decades(self) -> np.ndarray:
        """Decades of age from 50."""
        return (self.age - 50) / 10

    def by_sex(self, men: float, women: float) -> np.ndarray:
        """Return the constant of each subject's sex."""
        return np.where(self.women, women, men)

    def by_group(self, attribute: str) -> np.ndarray:
        """Return the constant of each subject's ethnic group, and sex where it differs by sex."""
        pairs = [np.broadcast_to(getattr(self.preset.groups[name], attribute), 2) for name in self.names]
        return np.array(pairs)[self.ethnicity, self.women]


def _build(people: _People) -> pd.DataFrame:
    """Return what scale and tape show: recorded height and weight, BMI, waist at the iliac crest, hip."""
    z, by_sex, by_group, preset = people.z, people.by_sex, people.by_group, people.preset
    decades = people.decades
    height = (  # NHANES slopes with age, and spread
        by_sex(*preset.height_cm)
        + by_sex(-0.962, -1.015) * decades
        + by_sex(-0.214, -0.230) * decades**2
        + by_group("height_cm")
        + by_sex(6.9, 6.3) * by_group("height_spread") * z["height"].clip(-3.5, 3.5)
    )
    bulk = z["bmi"].clip(-2.6, 3)
    log_bmi = (
        by_sex(*preset.log_bmi)
        + by_sex(*preset.log_bmi_slope) * decades
        + by_sex(*preset.log_bmi_curve) * decades**2
        + by_group("log_bmi")
        + by_sex(0.011, -0.010) * z["height"].clip(-3.5, 3.5)  # NHANES: .016 and -.0155 per 10 cm
        # A shorter lower tail (chosen) spares BMI below 15.
        + by_sex(*preset.log_bmi_spread)
        * by_group("log_bmi_spread")
        * (bulk + 0.1 * np.minimum(bulk, 0) ** 2)
    )
    height = np.round(height, 1)
    weight = np.round(np.exp(log_bmi) * (height / 100) ** 2, 1)
    bmi = weight / (height / 100) ** 2
    tall = (height - 170) / 10
    # A part of the residual of waist is the fat stored behind it, visceral (solved) and in front (chosen).
    inner, outer = by_sex(0.19, 0.40), 0.35
    girth = inner * z["visceral"] + outer * z["abdominal"] + np.sqrt(1 - inner**2 - outer**2) * z["waist"]
    crest = (  # NHANES; the spread at equal BMI grows with BMI
        by_sex(20.49, 22.84)
        + by_sex(3.163, 3.145) * bmi
        - by_sex(0.0122, 0.0164) * bmi**2
        + by_sex(2.03, 1.37) * decades
        + by_sex(3.36, 3.63) * tall
        + by_group("waist_cm")
        + by_sex(4.2, 5.6) * (bmi / by_sex(28, 30)) ** by_sex(0.55, 0.9) * girth
    )
    # NHANES 2017-18; the correlation is that of its residual with the residual of waist.
    correlation = by_sex(0.18, 0.07)
    hip = (
        by_sex(59.09, 54.12)
        + by_sex(1.263, 2.022) * bmi
        + by_sex(0.0078, -0.0016) * bmi**2
        + by_sex(0.23, 0.44) * decades
        + by_sex(3.87, 4.25) * tall
        + by_sex(3.7, 4.5)
        * (bmi / 30) ** by_sex(1.3, 0.9)
        * (correlation * girth + np.sqrt(1 - correlation**2) * z["hip"])
    )
    return pd.DataFrame(
        {
            "sex": np.where(people.women, "F", "M"),
            "age": people.age,
            "ethnicity": np.array(people.names)[people.ethnicity],
            "height_cm": height,
            "weight_kg": weight,
            "bmi": bmi,
            "crest_cm": crest,
            "hip_cm": hip,
        }
    )


def _composition(people: _People, build: pd.DataFrame) -> pd.DataFrame:
    """Return the body composition of :class:`Population`."""
    z, by_sex, by_group = people.z, people.by_sex, people.by_group
    decades, age = people.decades, people.age
    height, weight, bmi = (build[name].to_numpy() for name in ("height_cm", "weight_kg", "bmi"))
    # Solved. Softplus: below some BMI there is little to lose; the lognormal residual has the spread of UKB.
    excess = (
        by_sex(3.50, 1.89)
        + by_sex(0.332, 0.153) * (bmi - by_sex(27, 25.5))
        + by_sex(0.35, 0.34) * (height - 170) / 10
    )
    spread = by_sex(0.38, 0.445)
    visceral = (
        0.3  # L, chosen: the leanest keep some
        - log_expit(-1.6 * excess)
        / 1.6
        * np.exp(by_sex(0.206, 0.160) * decades + spread * z["visceral"].clip(-3, 3) - spread**2 / 2)
        * by_group("visceral")
    )
    # Chosen: a cavity holds no more than about 14 L; 8 L lose 6 %.
    visceral = visceral / np.cbrt(1 + (visceral / 14) ** 3)
    # Al-Gindan; the spread is a little less than the standard errors of 3.8 and 3.0 kg, which hold measurement
    # error too. Chosen: who stores more viscerally has more in all, and a little less under the skin.
    residual = 0.4 * z["visceral"] + np.sqrt(1 - 0.4**2) * z["adipose"]
    midpoint = build.crest_cm.to_numpy() - by_sex(4, 6)
    adipose_kg = np.where(
        people.women,
        0.789 * weight + 0.0786 * age - 0.342 * height + 24.5 + 2.6 * residual,
        0.198 * weight + 0.478 * midpoint - 0.147 * height - 12.8 + 3.2 * residual,
    )
    # Soft floor of 2.5 L, chosen: even the leanest keep some under the skin.
    subcutaneous = adipose_kg / ADIPOSE_KG_PER_L - visceral - OTHER_ADIPOSE_L
    subcutaneous = 2.5 + np.logaddexp(0, subcutaneous - 2.5)
    muscle = (  # Lee; standard error of the estimate 2.8 kg, which holds that of MRI
        0.244 * weight
        + 7.80 * height / 100
        + by_sex(6.6, 0)
        - 0.098 * age
        + by_group("muscle_kg")
        - 3.3
        + 2.4 * z["muscle"].clip(-2.5, 2.5)
    ).clip(10)
    # Chosen, between German autopsies (1072.8 mL/m2) and Chinese CT (758.3 mL/m2); the spread is theirs.
    surface = np.sqrt(height * weight / 3600)  # m2, Mosteller 1987
    liver = (0.880 * surface - 0.220) * np.exp(0.16 * z["liver"].clip(-2.5, 2.5))
    # Solved for UKB liver MRI (n = 4,949: median 2.1 %, mean 3.9 %, above 5.5 % in 5 % of BMI < 25 and a third
    # of BMI > 30): a narrow lean liver, and fat that sets in beyond a threshold that size and VAT lower.
    steatosis = 0.075 * (bmi - 26) + 0.82 * np.log(visceral / 3) + z["liver_fat"] - 1.21
    liver_fat = np.exp(-3.885 + 0.3 * z["liver_fat"]) + 0.028 * np.logaddexp(0, 4 * steatosis)
    return pd.DataFrame(
        {
            "visceral_l": visceral,
            # Share of all subcutaneous fat: chosen for the mean of UKB.
            "abdominal_subcutaneous_l": by_sex(0.295, 0.290) * subcutaneous * np.exp(0.15 * z["abdominal"]),
            "total_adipose_l": subcutaneous + visceral + OTHER_ADIPOSE_L,
            "muscle_kg": muscle,
            # Individual variation: chosen.
            "trunk_muscle_l": TRUNK_MUSCLE_SHARE
            * muscle
            / MUSCLE_KG_PER_L
            * np.exp(0.03 * z["trunk_muscle"]),
            "liver_l": liver.clip(0.7),
            "liver_fat_fraction": liver_fat.clip(0.005, 0.45),
            # UKB thigh 7.2 +- 1.8 %; psoas and erector are fattier with age (PMC7063279).
            "muscle_fat_fraction": (0.062 + 0.012 * decades + 0.018 * z["muscle_fat"]).clip(0.02, 0.2),
        }
    )


def _clinic(
    people: _People, build: pd.DataFrame, composition: pd.DataFrame
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the clinical columns, and for those with gaps each subject's relative chance of one.

    Gaps are not completely at random; the chances have a mean of 1 in any population.
    """
    z, by_sex, by_group = people.z, people.by_sex, people.by_group
    decades, bmi, visceral = people.decades, build.bmi.to_numpy(), composition.visceral_l.to_numpy()
    # OBB means at 43 y; slopes with age and BMI, and a spread that grows with age, as in NHANES.
    pressure = (
        by_sex(126, 115)
        + by_sex(0.26, 0.54) * (people.age - 43)
        + 0.42 * (bmi - by_sex(26.1, 24.2))
        + 14 * np.exp(0.13 * decades) * z["pressure"]
    )
    # Chosen for Germany: a fifth smoke, three tenths have stopped; quitting comes with age.
    current = expit(by_sex(-1.15, -1.45) - 0.25 * decades)
    former = expit(by_sex(-0.35, -0.55) + 0.30 * decades) * (1 - current)
    smokes = ndtr(z["smoking"])
    # Chosen: a third each of the middle-aged, less with weight and age.
    drive = z["activity"] - 0.07 * (bmi - 26) - 0.10 * decades
    # Visceral fat: KORA, 3.4 L without and 6.9 L with diabetes; age and sex: NHANES.
    risk = expit(
        people.preset.diabetes
        + by_sex(0, 0.6)
        + 0.6 * (visceral - 3.5)
        + 0.35 * decades
        + by_group("diabetes")
    )
    diabetes = ndtr(z["diabetes"]) < risk
    # NHANES: 5.4 % without diabetes; quartiles of 6.2, 6.9 and 8.1 % with it.
    hba1c = np.where(
        diabetes,
        5.0 + np.exp(0.6 + 0.6 * z["glucose"]),
        5.4 + 0.10 * decades + 0.03 * (visceral - 3.5) + by_group("hba1c") + 0.33 * z["glucose"],
    )
    columns = {
        "systolic_bp": pressure,
        "hba1c": hba1c,
        "smoking": np.select([smokes < current, smokes < current + former], ["current", "former"], "never"),
        "activity": np.select([drive < -0.45, drive > 0.65], ["low", "high"], "moderate"),
        "diabetes": diabetes,
    }
    younger, heavier = 2 - 2 * ndtr(z["age"]), 2 * ndtr(z["bmi"])
    gaps = {
        "systolic_bp": younger,
        "hba1c": younger * np.where(diabetes, 0.4, 1.0) / (1 - 0.6 * risk),
        "smoking": np.where(smokes < current, 3.0, 1.0) / (1 + 2 * current),
        "activity": heavier,
    }
    return columns, gaps
