"""The populations that phantoms may be drawn from, how ethnic groups differ in build, and what is recorded.

Pairs of constants are for (men, women). Sources, by the names used beside the constants:

* NAKO: baseline of the German National Cohort, n = 101,817 (Fischer et al. 2020, Bundesgesundheitsblatt 63).
* NHANES: regressions on NHANES 1999-2018 (NCHS, n = 51,438 adults), survey-weighted means and spreads.
* UKB: UK Biobank MRI, n = 5,326 (PMC7868647, table 1); both groups of liver fat pooled.
* chosen: no published figure was found; the comment says what the value is for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from mmbench.api import Column, Schema

Pair = tuple[float, float]
"""A constant of men and one of women."""


@dataclass(frozen=True)
class Group:
    """How an ethnic group differs from Europeans of the same population.

    Attributes:
        height_cm: Difference of mean height.
        height_spread: Ratio of the standard deviations of height.
        log_bmi: Difference of mean ln BMI.
        log_bmi_spread: Ratio of the standard deviations of ln BMI.
        waist_cm: Difference of waist at equal age, height and BMI.
        visceral: Ratio of visceral fat at equal age, height and BMI.
        muscle_kg: Difference of skeletal muscle at equal age, height and weight.
        diabetes: Difference of the log odds of diabetes at equal age and visceral fat.
        hba1c: Difference of HbA1c in % at equal age and diabetes.
    """

    height_cm: Pair = (0.0, 0.0)
    height_spread: Pair = (1.0, 1.0)
    log_bmi: Pair = (0.0, 0.0)
    log_bmi_spread: Pair = (1.0, 1.0)
    waist_cm: Pair = (0.0, 0.0)
    visceral: Pair = (1.0, 1.0)
    muscle_kg: float = 0.0
    diabetes: float = 0.0
    hba1c: float = 0.0


# Height, waist and ln BMI: NHANES, non-Hispanic Black and Asian, Mexican and other Hispanic Americans. Asians
# in Europe are chosen to lie half as far from Europeans in ln BMI as in NHANES, with South Asians nearer.
# Visceral fat: chosen, in the direction of CARDIA (men .74), HERITAGE and Carroll 2008 (African), and of M-CHAT,
# n = 822 (Asian). Muscle: the term for race of Lee et al. 2000, recalled. Diabetes: chosen, order of risk as in
# English surveys. HbA1c: NHANES without diabetes, at equal age and BMI; Asian chosen.
EUROPE: Mapping[str, Group] = MappingProxyType(
    {
        "European": Group(),
        "African": Group(
            height_cm=(-0.74, -0.37),
            log_bmi=(-0.007, 0.112),
            log_bmi_spread=(1.14, 1.00),
            waist_cm=(-3.34, -1.29),
            visceral=(0.78, 0.85),
            muscle_kg=1.4,
            diabetes=0.6,
            hba1c=0.18,
        ),
        "South Asian": Group(
            height_cm=(-6.75, -6.38),
            height_spread=(1.00, 0.94),
            log_bmi=(-0.03, -0.03),
            log_bmi_spread=(0.79, 0.735),
            waist_cm=(-0.68, -0.29),
            visceral=(1.20, 1.20),
            muscle_kg=-1.2,
            diabetes=0.9,
            hba1c=0.1,
        ),
        "East Asian": Group(
            height_cm=(-6.75, -6.38),
            height_spread=(1.00, 0.94),
            log_bmi=(-0.06, -0.07),
            log_bmi_spread=(0.79, 0.735),
            waist_cm=(-0.68, -0.29),
            visceral=(1.15, 1.15),
            muscle_kg=-1.2,
            diabetes=0.4,
            hba1c=0.1,
        ),
        "Hispanic": Group(
            height_cm=(-7.3, -6.4),
            height_spread=(1.06, 1.03),
            log_bmi=(0.015, 0.051),
            log_bmi_spread=(0.93, 0.90),
            waist_cm=(-0.1, 0.8),
            visceral=(1.05, 1.05),
            diabetes=0.5,
            hba1c=0.15,
        ),
    }
)
"""Ethnic groups in Europe."""

US: Mapping[str, Group] = MappingProxyType(
    {
        **EUROPE,
        "South Asian": replace(EUROPE["South Asian"], log_bmi=(-0.105, -0.133)),
        "East Asian": replace(EUROPE["East Asian"], log_bmi=(-0.105, -0.133)),
    }
)
"""Ethnic groups in the United States: NHANES 2011-18 for Asians."""

ETHNICITIES = tuple(EUROPE)
"""Names of the known ethnic groups."""

_MIDPOINT = "midway between lowest rib and iliac crest"


@dataclass(frozen=True)
class Preset:
    """A population of adults.

    Attributes:
        title: What it is modelled on.
        ages: Equally spaced quantiles of age in years, from the youngest to the end of the oldest year.
        women: Share of women.
        ethnicities: Default share of each ethnic group; they sum to 1.
        height_cm: Mean height of Europeans at 50.
        log_bmi: Mean ln BMI of Europeans at 50.
        log_bmi_spread: Standard deviation of ln BMI at equal age.
        log_bmi_slope: Change of mean ln BMI per decade from 50.
        log_bmi_curve: Change of mean ln BMI per squared decade from 50.
        diabetes: Log odds of diabetes of European men at 50 with 3.5 L of visceral fat.
        groups: How the ethnic groups differ.
        waist_offset_cm: Recorded waist less the waist at the iliac crest, where NHANES takes it; 4 and 6 cm
            less at the midpoint, by the medians of the Oxford Biobank (PMC5965665).
        waist_site: Where the waist is taken.
    """

    title: str
    ages: tuple[float, ...]
    women: float
    ethnicities: Mapping[str, float]
    height_cm: Pair
    log_bmi: Pair
    log_bmi_spread: Pair
    log_bmi_slope: Pair
    log_bmi_curve: Pair
    diabetes: float
    groups: Mapping[str, Group] = field(default_factory=lambda: EUROPE)
    waist_offset_cm: Pair = (-4.0, -6.0)
    waist_site: str = _MIDPOINT


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "nako": Preset(
            title="Adults of the general population of Germany, 20 to 74 years, after NAKO",
            ages=(
                20,
                75,
            ),  # chosen: even, to learn all ages; NAKO's MRI subsamples have 48 +- 12 and 52 +- 11 y
            women=0.5,
            # chosen: enough of each level to learn from; NAKO publishes none
            ethnicities={"European": 0.85, "African": 0.05, "South Asian": 0.05, "East Asian": 0.05},
            height_cm=(178.15, 165.17),  # NAKO means 178 and 165
            # NAKO, solved for: overweight 46.2 and 29.7 %, obese 23.5 and 21.2 %
            log_bmi=(3.319, 3.255),
            log_bmi_spread=(0.1474, 0.2181),
            log_bmi_slope=(
                0.012,
                0.020,
            ),  # chosen: a little more than in NHANES
            log_bmi_curve=(-0.009, -0.010),  # NHANES
            diabetes=-3.7,  # chosen: about 7 % have it
        ),
        "ukb": Preset(
            title="Volunteers of 45 to 74 years, leaner and healthier than the population, after UK Biobank imaging",
            ages=(45, 57, 63, 69, 75),  # UKB 62.6 +- 7.7 y
            women=0.56,  # UKB
            # chosen: UK Biobank is nearly all White; a little more of the others to learn from
            ethnicities={"European": 0.94, "African": 0.02, "South Asian": 0.02, "East Asian": 0.02},
            height_cm=(178.15, 165.17),  # as NAKO
            # UKB 26.4 +- 4.6 kg/m2, split by sex so (chosen): men 27.0 +- 3.9, women 26.0 +- 4.75
            log_bmi=(3.278, 3.232),
            log_bmi_spread=(0.153, 0.192),
            log_bmi_slope=(0.0, 0.0),  # chosen: flat at these ages in NHANES
            log_bmi_curve=(0.0, 0.0),
            diabetes=-4.3,  # chosen: about 5 % have it
        ),
        "nhanes": Preset(
            title="Adults of the United States, 20 to 74 years, after NHANES 1999-2018",
            ages=(20, 32, 44, 56, 75),  # NHANES
            women=0.505,  # NHANES
            # NHANES, without "other and multiracial"; non-Hispanic Asians count as East Asian
            ethnicities={"European": 0.69, "African": 0.12, "East Asian": 0.05, "Hispanic": 0.14},
            height_cm=(178.0, 163.9),  # NHANES 177.7 and 163.6 over all ages
            # NHANES, solved for: BMI 28.8 +- 5.9 and 28.6 +- 7.4
            log_bmi=(3.357, 3.340),
            log_bmi_spread=(0.2124, 0.2662),
            log_bmi_slope=(0.0076, 0.0106),  # NHANES
            log_bmi_curve=(-0.0091, -0.0103),  # NHANES
            diabetes=-3.6,  # chosen: about 8 % have it, as in NHANES
            groups=US,
            waist_offset_cm=(0.0, 0.0),
            waist_site="at the iliac crest",
        ),
    }
)
"""The populations by name."""


def schema_of(preset: Preset, ethnicities: tuple[str, ...]) -> Schema:
    """Return the columns of a clinical table of subjects of these ethnic groups."""

    def number(
        name: str, unit: str, low: float, high: float, meaning: str, decimals: int = 1, missing: bool = False
    ) -> Column:
        return Column(
            name,
            "continuous" if decimals else "integer",
            unit=unit,
            minimum=low,
            maximum=high,
            decimals=decimals or None,
            missing=missing,
            description=meaning,
        )

    bmi = Column(
        "bmi",
        "continuous",
        unit="kg/m2",
        minimum=12,
        maximum=80,
        decimals=2,
        formula="weight_kg / (height_cm / 100) ** 2",
        description="Body mass index",
    )
    smoking = Column(
        "smoking",
        "categorical",
        levels=("never", "former", "current"),
        missing=True,
        description="Smoking status; missing more often in smokers",
    )
    activity = Column(
        "activity",
        "ordinal",
        levels=("low", "moderate", "high"),
        missing=True,
        description="Physical activity; missing more often in the heavy",
    )
    pressure = "Systolic blood pressure; missing more often in the young"
    haemoglobin = "Glycated haemoglobin; missing more often in the young and without diabetes"
    return Schema(
        (
            Column("sex", "categorical", levels=("F", "M"), description="Sex at birth"),
            number("age", "y", preset.ages[0], preset.ages[-1] - 1, "Age at the examination", decimals=0),
            Column("ethnicity", "categorical", levels=ethnicities, description="Self-reported ethnicity"),
            number("height_cm", "cm", 125, 215, "Height"),
            number("weight_kg", "kg", 25, 270, "Weight"),
            bmi,
            number("waist_cm", "cm", 50, 195, f"Waist circumference, {preset.waist_site}"),
            number("hip_cm", "cm", 60, 210, "Hip circumference at its widest"),
            number("systolic_bp", "mmHg", 75, 230, pressure, decimals=0, missing=True),
            number("hba1c", "%", 3.5, 16, haemoglobin, missing=True),
            smoking,
            activity,
            Column("diabetes", "boolean", description="Diagnosed diabetes mellitus"),
        )
    )
