"""Who the phantoms are: a generative population of clinical rows and the body composition behind them.

Every subject is a deterministic function of a vector of independent standard normals, drawn from a seed of
its own: subject 17 is the same person in a cohort of 20 and in one of 20,000. The table explains about 0.6
of the variance of visceral fat, as in life; the rest is seen in the volume only.

Sources, by the names used beside the constants:

* NAKO: baseline of the German National Cohort, n = 101,817 (Fischer et al. 2020, Bundesgesundheitsblatt 63).
* NHANES: regressions on NHANES 1999-2018 (n = 51,438 adults), centred on non-Hispanic Whites.
* OBB: Oxford Biobank DXA, n = 4,950 (Neville et al. 2018, PMC5965665), waist at the rib-iliac midpoint.
* UKB: UK Biobank MRI, n = 5,326 (Linge et al. 2018 and PMC7868647).
* KORA: KORA FF4 MRI, n = 384 (PMC6223151).
* Al-Gindan: total adipose tissue by MRI, n = 416 (Al-Gindan et al. 2015, PMC5276707).
* Lee: skeletal muscle mass (Lee et al. 2000, Am J Clin Nutr 72).
* chosen: no published figure was found; the value makes the named targets come out.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import expit, log_expit, ndtr

from mmbench.api import Column, Schema

ETHNICITIES = ("European", "African", "South Asian", "East Asian")
SHARES = np.array([0.7, 0.1, 0.1, 0.1])  # chosen: enough of each to learn from

# Offsets by ethnicity, (men, women), in the order of ETHNICITIES. NHANES: non-Hispanic Black, Asian.
HEIGHT_CM = np.array([[0.0, -0.74, -6.75, -6.75], [0.0, -0.37, -6.38, -6.38]])
# NHANES difference (Black); NHANES absolute means of Asians against NAKO's, which are leaner than US Whites.
LOG_BMI = np.array([[0.0, -0.007, -0.06, -0.06], [0.0, 0.101, -0.05, -0.05]])
WAIST_CM = np.array([[0.0, -3.34, -0.68, -0.68], [0.0, -1.29, -0.29, -0.29]])
# Visceral fat at equal size: CARDIA men .74, HERITAGE, Carroll 2008 (African); M-CHAT, n = 822 (Asian).
VISCERAL = np.array([[1.0, 0.78, 1.20, 1.15], [1.0, 0.85, 1.20, 1.15]])
MUSCLE_KG = np.array([0.0, 1.4, -1.2, -1.2])  # Lee, the term for race
DIABETES_LOGIT = np.array([0.0, 0.6, 0.9, 0.4])  # chosen, order of risk as in the English census cohorts

SCHEMA = Schema(
    (
        Column("sex", "categorical", levels=("F", "M"), description="Sex at birth"),
        Column("age", "integer", unit="y", minimum=20, maximum=74, description="Age at the examination"),
        Column("ethnicity", "categorical", levels=ETHNICITIES, description="Self-reported ethnicity"),
        Column(
            "height_cm", "continuous", unit="cm", minimum=135, maximum=215, decimals=1, description="Height"
        ),
        Column(
            "weight_kg", "continuous", unit="kg", minimum=30, maximum=230, decimals=1, description="Weight"
        ),
        Column(
            "bmi",
            "continuous",
            unit="kg/m2",
            minimum=13,
            maximum=65,
            decimals=2,
            formula="weight_kg / (height_cm / 100) ** 2",
            description="Body mass index",
        ),
        Column(
            "waist_cm",
            "continuous",
            unit="cm",
            minimum=50,
            maximum=185,
            decimals=1,
            description="Waist circumference, midway between lowest rib and iliac crest",
        ),
        Column(
            "systolic_bp",
            "integer",
            unit="mmHg",
            minimum=75,
            maximum=230,
            missing=True,
            description="Systolic blood pressure; missing more often in the young",
        ),
        Column(
            "smoking",
            "categorical",
            levels=("never", "former", "current"),
            missing=True,
            description="Smoking status; missing more often in smokers",
        ),
        Column(
            "activity",
            "ordinal",
            levels=("low", "moderate", "high"),
            missing=True,
            description="Physical activity; missing more often in the obese",
        ),
        Column("diabetes", "boolean", description="Diagnosed diabetes mellitus"),
    )
)
"""Columns of the phantom table."""

_LATENTS = (
    *("sex", "age", "ethnicity", "height", "bmi", "propensity", "waist", "visceral", "adipose", "trunk"),
    *("muscle", "liver", "steatosis", "pressure", "smoking", "activity", "diabetes", "infiltration"),
    *("no_pressure", "no_smoking", "no_activity"),
)


def draw_population(subjects: int, seed: int, missing: float = 0.05) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Draw clinical rows and the body composition behind them.

    Args:
        subjects: Number of rows.
        seed: Seed; the first rows do not depend on how many are drawn.
        missing: Mean share of missing values in each of the columns that may have some.

    Returns:
        The table with the columns of :data:`SCHEMA`, and a table of the same length with the composition of
        the whole body that it was drawn from: ``visceral_l``, ``abdominal_subcutaneous_l``, ``muscle_kg``,
        ``liver_l``, ``liver_fat_fraction``, ``muscle_fat_fraction`` and ``hip_cm``.
    """
    latent = np.stack(
        [
            np.random.default_rng(np.random.SeedSequence([seed, index, 0])).standard_normal(len(_LATENTS))
            for index in range(subjects)
        ]
    )
    z = pd.DataFrame(latent, columns=list(_LATENTS))
    women = (z.sex < 0).to_numpy(int)
    age = np.floor(20 + 55 * ndtr(z.age)).to_numpy()
    ethnicity = np.searchsorted(np.cumsum(SHARES)[:-1], ndtr(z.ethnicity))
    decades = (age - 50) / 10

    def by_sex(men: float, of_women: float) -> np.ndarray:
        return np.where(women, of_women, men)

    # NAKO means, NHANES slopes and spread; the age terms are centred on U(20, 74): E a = -.3, E a^2 = 2.5.
    height = (
        by_sex(177.9, 164.9)
        + by_sex(-0.962, -1.015) * (decades + 0.3)
        + by_sex(-0.214, -0.230) * (decades**2 - 2.5)
        + HEIGHT_CM[women, ethnicity]
        + by_sex(6.9, 6.3) * z.height.clip(-3.5, 3.5)
    )
    # NAKO shares of overweight and obesity; a shorter lower tail (chosen) spares BMI below 15.
    bulk = z.bmi.clip(-2.6, 3)
    skewed = bulk + 0.1 * np.minimum(bulk, 0) ** 2
    log_bmi = (
        by_sex(3.295, 3.224)
        + by_sex(0.012, 0.020) * decades
        + by_sex(-0.009, -0.010) * (decades**2 - 1)
        + LOG_BMI[women, ethnicity]
        + by_sex(0.146, 0.217) * skewed
    )
    height = np.round(height, 1)
    weight = np.round(np.exp(log_bmi) * (height / 100) ** 2, 1)
    bmi = weight / (height / 100) ** 2
    tall = (height - 170) / 10
    # NHANES equation at the iliac crest; 4 and 6 cm less at the midpoint (OBB medians). A part of its residual
    # is the propensity to store fat viscerally: chosen for the R2 of visceral fat on waist (PMC6174110).
    waist = (
        by_sex(20.49 - 4, 22.84 - 6)
        + by_sex(3.163, 3.145) * bmi
        - by_sex(0.0122, 0.0164) * bmi**2
        + by_sex(2.03, 1.37) * decades
        + by_sex(3.36, 3.63) * tall
        + WAIST_CM[women, ethnicity]
        + by_sex(1.8, 3.6) * z.propensity
        + by_sex(3.9, 4.3) * z.waist
    )
    waist = np.round(waist.clip(55, 185), 1)
    hip = (  # NHANES 2017-18
        by_sex(59.09, 54.12)
        + by_sex(1.263, 2.022) * bmi
        + by_sex(0.0078, -0.0016) * bmi**2
        + by_sex(0.23, 0.44) * decades
        + by_sex(3.87, 4.25) * tall
    )
    # UKB means and R2 on BMI and waist, CARDIA and Framingham age ratios: chosen to meet these together.
    excess = by_sex(3.45, 1.75) + by_sex(0.295, 0.168) * (bmi - by_sex(27, 25.5)) + by_sex(0.28, 0.16) * tall
    spread = by_sex(0.33, 0.42)
    visceral = (
        -log_expit(-1.6 * excess)
        / 1.6
        * np.exp(by_sex(0.20, 0.23) * decades)
        * np.exp(spread * (0.75 * z.propensity + 0.66 * z.visceral) - spread**2 / 2)
        * VISCERAL[women, ethnicity]
    )
    adipose_kg = np.where(  # Al-Gindan, with a little less than its standard errors of 3.8 and 3.0 kg
        women,
        0.789 * weight + 0.0786 * age - 0.342 * height + 24.5 + 2.2 * z.adipose,
        0.198 * weight + 0.478 * waist - 0.147 * height - 12.8 + 2.5 * z.adipose,
    )
    # 0.92 kg/L adipose tissue; 0.9 L lies in muscle and thorax. Soft floor: even the leanest keep some.
    subcutaneous = 2.5 + np.logaddexp(0, adipose_kg / 0.92 - visceral - 0.9 - 2.5)
    muscle = (  # Lee; standard error of the estimate 2.8 kg
        0.244 * weight
        + 7.80 * height / 100
        + by_sex(6.6, 0)
        - 0.098 * age
        + MUSCLE_KG[ethnicity]
        - 3.3
        + 2.4 * z.muscle.clip(-2.5, 2.5)
    )
    surface = np.sqrt(height * weight / 3600)  # m2, Mosteller 1987
    liver = (0.880 * surface - 0.220) * np.exp(0.16 * z.liver.clip(-2.5, 2.5))
    # UKB: median 2.1 %, mean 3.9 %, above 5.5 % in 5 % of BMI < 25 and a third of BMI > 30.
    liver_fat = np.exp(-3.80 + 0.055 * (bmi - 26) + 0.08 * (visceral - 3.5) + 0.75 * z.steatosis)
    composition = pd.DataFrame(
        {
            "visceral_l": visceral,
            "abdominal_subcutaneous_l": by_sex(0.295, 0.290) * subcutaneous * np.exp(0.12 * z.trunk),
            "muscle_kg": np.maximum(muscle, 10.0),
            "liver_l": np.maximum(liver, 0.7),
            "liver_fat_fraction": np.clip(liver_fat, 0.005, 0.35),
            # UKB thigh 7.2 +- 1.8 %; trunk muscle is fattier with age (PMC7063279).
            "muscle_fat_fraction": np.clip(0.07 + 0.012 * decades + 0.018 * z.infiltration, 0.02, 0.2),
            "hip_cm": hip,
        }
    )
    # OBB means at 43 y; slopes with age as in NHANES, with BMI 0.6 mmHg per kg/m2.
    pressure = (
        by_sex(126, 116) + by_sex(0.40, 0.62) * (age - 43) + 0.6 * (bmi - 26) + by_sex(12.5, 13) * z.pressure
    )
    # NAKO: about 20 % smoke, a third have stopped; quitting comes with age.
    current = expit(by_sex(-1.05, -1.35) - 0.25 * decades)
    former = expit(by_sex(-0.55, -0.75) + 0.30 * decades) * (1 - current)
    smokes = ndtr(z.smoking)
    drive = z.activity - 0.07 * (bmi - 26) - 0.10 * decades
    # KORA: 3.4 +- 2.3 L without, 6.9 +- 2.5 L with diabetes, which is a slope of about 0.6 per litre alone.
    risk = -3.2 + 0.40 * (visceral - 3.5) + 0.45 * decades + 0.03 * (bmi - 27) + DIABETES_LOGIT[ethnicity]
    table = pd.DataFrame(
        {
            "sex": np.where(women, "F", "M"),
            "age": age,
            "ethnicity": np.array(ETHNICITIES)[ethnicity],
            "height_cm": height,
            "weight_kg": weight,
            "waist_cm": waist,
            "systolic_bp": np.round(pressure).clip(75, 230),
            "smoking": np.select(
                [smokes < current, smokes < current + former], ["current", "former"], "never"
            ),
            "activity": np.select([drive < -0.45, drive > 0.65], ["low", "high"], "moderate"),
            "diabetes": ndtr(z.diabetes) < expit(risk),
        }
    )
    # Not completely at random; the divisors are the weights' means over the population.
    gaps = {
        "systolic_bp": (z.no_pressure, expit((42 - age) / 8) / 0.43),
        "smoking": (z.no_smoking, np.where(smokes < current, 3.0, 1.0) / 1.45),
        "activity": (z.no_activity, np.where(bmi > 30, 2.5, 1.0) / 1.35),
    }
    for name, (draw, weight_of_gap) in gaps.items():
        table[name] = table[name].mask(ndtr(draw) < missing * weight_of_gap)
    return SCHEMA.coerce(SCHEMA.derive(table), "phantom"), composition
