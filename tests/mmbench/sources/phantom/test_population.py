import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmbench.api import CohortError
from mmbench.sources.phantom.population import ETHNICITIES, PRESETS, draw_population

ROOT = Path(__file__).parents[4]
NHANES = ROOT.parent / "shared" / "data" / "nhanes_anthro" / "nhanes_1999_2018_adults.parquet"
COLUMNS = [
    *("sex", "age", "ethnicity", "height_cm", "weight_kg", "bmi", "waist_cm", "hip_cm"),
    *("systolic_bp", "hba1c", "smoking", "activity", "diabetes"),
]
COMPOSITION = [
    *("visceral_l", "abdominal_subcutaneous_l", "total_adipose_l", "muscle_kg", "trunk_muscle_l"),
    *("liver_l", "liver_fat_fraction", "muscle_fat_fraction"),
]


def load_benchmark():
    """Load benchmarks/population.py, which holds the published figures; it is no part of the package."""
    spec = importlib.util.spec_from_file_location(
        "benchmark_population", ROOT / "benchmarks" / "population.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


benchmark = load_benchmark()


@pytest.fixture(scope="module", params=PRESETS)
def population(request):
    return draw_population(4000, seed=3, preset=request.param)


@pytest.fixture(scope="module")
def nako():
    drawn = draw_population(8000, seed=3)
    return pd.concat([drawn.table, drawn.composition], axis=1)


@pytest.mark.parametrize("target", benchmark.TARGETS, ids=lambda target: f"{target.draw}: {target.name}")
def test_published_figure_is_met_within_a_tenth(target):
    assert abs(target.deviation()) <= benchmark.TOLERANCE


def test_benchmark_fails_where_a_figure_is_missed(monkeypatch, capsys):
    met = next(target for target in benchmark.TARGETS if target.name.startswith("height, men"))
    monkeypatch.setattr(benchmark, "TARGETS", (met,))
    assert benchmark.main() == 0
    monkeypatch.setattr(benchmark, "TARGETS", (met, replace(met, published=200.0)))
    assert benchmark.main() == 1
    printed = capsys.readouterr().out
    assert "| 200 | 178 | -11" in printed
    assert "2 figures, 1 beyond 10%" in printed


def test_table_obeys_its_schema(population):
    schema, table, _ = population
    assert schema.names == COLUMNS
    pd.testing.assert_frame_equal(schema.derive(table), table)
    for column in schema:
        values = table[column.name]
        assert values.isna().any() == column.missing
        if column.discrete:
            assert set(values.dropna().unique()) == set(column.levels)
        else:
            assert values.min() >= column.minimum
            assert values.max() <= column.maximum
            np.testing.assert_allclose(values, np.round(values, column.decimals or 0), atol=1e-9)


def test_nobody_is_cut_off_at_the_limits_of_size(population):
    schema, table, _ = population
    for name in ("height_cm", "weight_kg", "bmi", "waist_cm", "hip_cm"):
        assert schema[name].minimum < table[name].min()
        assert table[name].max() < schema[name].maximum


def test_composition_is_a_possible_body(population):
    _, table, composition = population
    assert list(composition.columns) == COMPOSITION
    assert set(composition.dtypes) == {np.dtype(float)}
    assert composition.notna().all().all()
    assert composition.visceral_l.between(0.3, 15).all()
    assert (composition.abdominal_subcutaneous_l > 0.3).all()
    elsewhere = composition.total_adipose_l - composition.visceral_l - composition.abdominal_subcutaneous_l
    assert (elsewhere > 1).all()
    # What is neither adipose tissue nor muscle: skeleton, organs, skin and blood weigh a quarter to a third.
    rest = 1 - (0.92 * composition.total_adipose_l + composition.muscle_kg) / table.weight_kg
    assert rest.min() > 0.03
    assert 0.25 < rest.mean() < 0.35
    assert composition.liver_l.between(0.7, 4).all()
    assert composition.liver_fat_fraction.between(0.005, 0.45).all()
    assert composition.muscle_fat_fraction.between(0.02, 0.2).all()
    share = 1.06 * composition.trunk_muscle_l / composition.muscle_kg
    assert share.between(0.20, 0.28).all()
    assert share.std() > 0.003


@pytest.mark.parametrize(("sex", "both_fats"), [("M", 0.47), ("F", 0.57)])
def test_girths_and_fat_hang_together(nako, sex, both_fats):
    people = nako[nako.sex == sex]
    ratio = people.waist_cm / people.hip_cm
    assert ratio.mean() == pytest.approx({"M": 0.93, "F": 0.82}[sex], abs=0.02)
    assert ratio.between(0.55, 1.25).all()
    fats = people[["visceral_l", "abdominal_subcutaneous_l"]].corr().iloc[0, 1]
    assert fats == pytest.approx(both_fats, abs=0.08)
    assert people[["waist_cm", "abdominal_subcutaneous_l"]].corr().iloc[0, 1] > 0.65


@pytest.mark.parametrize(("sex", "published"), [("M", 0.18), ("F", 0.07)])
def test_residuals_of_waist_and_hip_correlate_as_published(sex, published):
    people = benchmark.population("nhanes, European").query(f"sex == '{sex}'")
    design = np.column_stack([np.ones(len(people)), people.bmi, people.bmi**2, people.age, people.height_cm])
    girths = people[["waist_cm", "hip_cm"]].to_numpy()
    residuals = girths - design @ np.linalg.lstsq(design, girths, rcond=None)[0]
    assert np.corrcoef(residuals.T)[0, 1] == pytest.approx(published, abs=0.03)


def test_clinical_columns_hang_together(nako):
    sick = nako.diabetes.astype(bool)
    assert 0.05 < sick.mean() < 0.09
    assert nako.age[sick].mean() > nako.age[~sick].mean() + 8
    assert nako.systolic_bp.astype(float).corr(nako.age) > 0.3
    assert nako.systolic_bp.astype(float).corr(nako.bmi) > 0.1
    bmi = nako.groupby("activity", observed=True).bmi.mean()
    assert bmi["low"] > bmi["moderate"] > bmi["high"]
    assert nako.smoking.value_counts(normalize=True)["current"] == pytest.approx(0.22, abs=0.03)
    visceral = nako.query("sex == 'M'").groupby("ethnicity", observed=True).visceral_l.mean()
    assert visceral["African"] < visceral["European"]


def test_hba1c_follows_diabetes_age_and_visceral_fat(nako):
    sick = nako.diabetes.astype(bool)
    assert nako.hba1c[~sick].mean() == pytest.approx(5.4, abs=0.1)
    assert nako.hba1c[sick].mean() == pytest.approx(7.1, abs=0.3)
    assert sick[nako.hba1c >= 6.5].mean() > 0.9
    assert (nako.hba1c[sick] >= 6.5).mean() == pytest.approx(0.65, abs=0.06)
    assert nako[~sick].hba1c.corr(nako[~sick].age) > 0.25
    assert nako[~sick].hba1c.corr(nako[~sick].visceral_l) > 0.15


def test_gaps_are_not_completely_at_random(population):
    _, table, _ = population
    gaps = table.isna()
    for name in ("systolic_bp", "hba1c", "smoking", "activity"):
        assert gaps[name].mean() == pytest.approx(0.05, abs=0.012)
    for name in ("systolic_bp", "hba1c"):
        assert table.age[gaps[name]].mean() < table.age[~gaps[name]].mean() - 1.5
    assert table.bmi[gaps.activity].mean() > table.bmi.mean() + 0.5


def test_smokers_more_often_leave_smoking_out():
    complete, gappy = (draw_population(4000, seed=3, missing=missing).table for missing in (0.0, 0.1))
    rates = gappy.smoking.isna().groupby(complete.smoking, observed=True).mean()
    assert rates["current"] > 1.5 * rates["never"]


def test_no_gaps_when_none_are_asked_for():
    table = draw_population(300, seed=1, missing=0.0).table
    assert not table.isna().any().any()


@pytest.mark.parametrize("preset", PRESETS)
def test_first_subjects_do_not_depend_on_how_many_there_are(preset):
    few, many = (draw_population(n, seed=7, preset=preset) for n in (5, 40))
    pd.testing.assert_frame_equal(few.table, many.table.head(5))
    pd.testing.assert_frame_equal(few.composition, many.composition.head(5))


def test_seeds_give_other_people():
    one, other = (draw_population(20, seed=seed).table for seed in (1, 2))
    assert (one.height_cm != other.height_cm).mean() > 0.9


def test_presets_are_the_populations_that_they_are_named_after():
    tables = {name: draw_population(3000, seed=4, preset=name).table for name in PRESETS}
    assert tables["nako"].age.agg(["min", "max"]).tolist() == [20, 74]
    assert tables["ukb"].age.agg(["min", "max"]).tolist() == [45, 74]
    assert tables["nhanes"].age.agg(["min", "max"]).tolist() == [20, 74]
    bmi = {name: table.bmi.mean() for name, table in tables.items()}
    assert bmi["ukb"] < bmi["nhanes"] - 1.5
    assert bmi["nako"] < bmi["nhanes"] - 1.5
    assert "Hispanic" in tables["nhanes"].ethnicity.cat.categories
    for preset in PRESETS.values():
        assert sum(preset.ethnicities.values()) == pytest.approx(1)


def test_waist_is_wider_at_the_iliac_crest():
    at_crest = draw_population(10, seed=1, preset="nhanes").schema["waist_cm"].description
    between = draw_population(10, seed=1, preset="nako").schema["waist_cm"].description
    assert "iliac crest" in at_crest
    assert "midway" in between
    fits = {}
    for preset in ("nako", "nhanes"):
        people = draw_population(6000, seed=4, preset=preset, ethnicities={"European": 1}).table
        men = people[(people.sex == "M") & people.bmi.between(22, 32)]
        fits[preset] = np.polyval(np.polyfit(men.bmi, men.waist_cm, 2), 27)
    assert fits["nhanes"] - fits["nako"] == pytest.approx(4, abs=1)


def test_ethnic_groups_are_those_asked_for_in_their_shares():
    schema, table, _ = draw_population(4000, seed=2, ethnicities={"Hispanic": 3, "South Asian": 1})
    assert schema["ethnicity"].levels == ("Hispanic", "South Asian")
    assert (table.ethnicity == "Hispanic").mean() == pytest.approx(0.75, abs=0.03)


def test_every_known_group_can_be_drawn():
    table = draw_population(500, seed=2, ethnicities=dict.fromkeys(ETHNICITIES, 1)).table
    assert set(table.ethnicity) == {"European", "African", "South Asian", "East Asian", "Hispanic"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "nakoo"}, "unknown preset 'nakoo'. Did you mean 'nako'"),
        ({"ethnicities": {"Europaen": 1.0}}, "unknown group 'Europaen'. Did you mean 'European'"),
        ({"ethnicities": {"European": 0.5, "African": 0}}, "share of 'African' is 0, expected a positive"),
        ({"ethnicities": {"European": float("nan")}}, "share of 'European' is nan, expected a positive"),
        ({"ethnicities": {"European": "half"}}, "share of 'European' is half, expected a positive"),
        ({"ethnicities": {}}, "ethnicities is empty"),
    ],
)
def test_a_population_that_cannot_be_drawn_is_refused(arguments, message):
    with pytest.raises(CohortError, match=message):
        draw_population(10, seed=1, **arguments)


def test_every_wrong_share_is_listed():
    with pytest.raises(CohortError) as caught:
        draw_population(10, seed=1, ethnicities={"Martian": 1, "African": -1})
    assert len(caught.value.problems) == 2


@pytest.mark.skipif(not NHANES.exists(), reason="the NHANES table is not there")
@pytest.mark.parametrize("sex", ["M", "F"])
@pytest.mark.parametrize(("group", "label"), [("European", "NHWhite"), ("African", "NHBlack")])
def test_nhanes_preset_has_the_joint_distribution_of_the_table(sex, group, label):
    real = pd.read_parquet(NHANES).query(f"20 <= age <= 74 and sex == '{sex}' and ethnicity5 == '{label}'")
    drawn = benchmark.population("nhanes").query(f"sex == '{sex}' and ethnicity == '{group}'")
    names = ["height_cm", "weight_kg", "bmi", "waist_cm"]
    known = real.dropna(subset=["wt_mec_2yr", "waist_cm"])
    weighted = known.sample(20_000, replace=True, weights="wt_mec_2yr", random_state=0)
    np.testing.assert_allclose(drawn[names].corr(), weighted[names].astype(float).corr(), atol=0.1)
    for name in names:
        for quantile in (0.05, 0.25, 0.5, 0.75, 0.95):
            expected = weighted[name].astype(float).quantile(quantile)
            assert drawn[name].quantile(quantile) == pytest.approx(expected, rel=0.06)
