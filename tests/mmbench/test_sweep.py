"""Conditional generators: what they are given, what they must return, and how a run keeps and scores it."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from mmbench import plugins
from mmbench.anchors import responses
from mmbench.api import Evidence
from mmbench.cell import CellWork
from mmbench.config import Config, read_config
from mmbench.context import WorkContext
from mmbench.display import make_display
from mmbench.errors import ConfigError, SampleError
from mmbench.files import write_json
from mmbench.generators.bootstrap import Bootstrap
from mmbench.plan import Plan, make_plan
from mmbench.runner import create, gather
from mmbench.sweep import Given, departure, make_sweep
from mmbench.testing import check_generator, toy_cohort

from .conditional import Deaf, Forgetful, Nearby, Wilful
from .conftest import MISBEHAVING

CONDITIONAL = MISBEHAVING.with_name("conditional.py")


@pytest.fixture(scope="module")
def toy():
    return toy_cohort(200)


def test_by_default_sex_and_quantiles_of_bmi_are_swept(toy):
    sweep = make_sweep("auto", toy, 90)
    assert {given.records for given in sweep} == {30}
    values = {name: [g.value for g in sweep if g.column == name] for name in ("sex", "bmi")}
    assert len(sweep) == 7
    assert values["sex"] == ["F", "M"]
    expected = np.quantile(toy.rows["bmi"], [0.1, 0.3, 0.5, 0.7, 0.9]).round(2)
    assert values["bmi"] == expected.tolist()
    assert make_sweep("auto", toy, 9)[0].records == 20
    assert make_sweep(None, toy, 90) == ()


def test_a_rare_level_is_swept_on_demand_only(toy):
    sex = np.where(np.arange(len(toy)) < 8, "M", "F")
    cohort = dataclasses.replace(toy, table=toy.schema.coerce(toy.rows.assign(sex=sex)))
    assert {g.column for g in make_sweep("auto", cohort, 9)} == {"bmi"}
    assert [g.value for g in make_sweep({"sex": ["M", "F"]}, cohort, 9)] == ["M", "F"]
    fewer = cohort.take(np.arange(4, 100))
    with pytest.raises(ConfigError, match="4 training records have 'M'; 5 are needed"):
        make_sweep({"sex": ["M", "F"]}, fewer, 9)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"bmj": [20, 30]}, r"sweep.bmj: there is no such column. Did you mean 'bmi'"),
        ({"sex": ["F", "X"]}, r"sweep.sex: column 'sex', row 1: 'X' is not among the levels"),
        ({"bmi": ["thin", 30]}, r"sweep.bmi: column 'bmi', row 0: 'thin' is no finite number"),
        ({"children": [1, 1.5]}, "no whole number"),
        ({"bmi": [20, 90]}, r"sweep.bmi: 90 lies outside what the training records have"),
        ({"bmi": [25, 25]}, "at least two values"),
        ("everything", "'everything' is no sweep"),
    ],
)
def test_a_sweep_that_does_not_fit_the_table_is_refused(toy, wanted, message):
    with pytest.raises(ConfigError, match=message):
        make_sweep(wanted, toy, 9)


def test_rows_are_held_to_what_was_given(toy):
    rows = toy.rows.iloc[:3].assign(
        bmi=[25.0, 25.004, 25.0], sex=["F", "F", "M"], children=[2.0, 2.0, np.nan]
    )
    assert departure(Given("bmi", 25.0, 3), toy.schema, rows) == ""
    assert "row 3 has M" in departure(Given("sex", "F", 3), toy.schema, rows)
    assert "row 3 has nan" in departure(Given("children", 2.0, 3), toy.schema, rows)
    assert "row 2 has 25.1" in departure(Given("bmi", 25.0, 3), toy.schema, rows.assign(bmi=[25, 25.1, 25]))


def test_real_people_near_a_value_stand_for_records_drawn_there(toy):
    side = Evidence(toy, pd.DataFrame({"size": np.arange(200.0)}, index=toy.ids))
    median = float(toy.rows["bmi"].median())
    men, average = responses(side, [Given("sex", "M", 20), Given("bmi", median, 20)])
    assert set(men.evidence.cohort.rows["sex"]) == {"M"}
    assert len(men.evidence) == (toy.rows["sex"] == "M").sum()
    assert len(average.evidence) == 40
    ranks = toy.rows["bmi"].rank()[average.evidence.cohort.ids]
    assert ranks.min() >= 80
    assert ranks.max() <= 121
    assert set(average.evidence.cohort.ids) <= set(toy.ids)


def test_the_plan_has_a_sweep_only_where_somebody_takes_conditions(toy, monkeypatch):
    def plan_of(plugin, **settings):
        monkeypatch.setattr(
            "mmbench.plugins.load", lambda kind, name: plugin if kind == "generators" else load(kind, name)
        )
        config = Config(cohort={"source": "saved"}, generators={"g": {}}, extractor=None, **settings)
        return make_plan(config, toy)

    load = plugins.load
    monkeypatch.setattr("mmbench.plan.choose_measurer", lambda wanted, cohort: wanted and object())
    assert plan_of(Nearby).sweep
    assert plan_of(Nearby).cells[0].conditional
    assert not plan_of(Bootstrap).sweep
    assert not plan_of(Nearby, sweep=None).sweep
    assert not plan_of(Nearby, measurer=None).sweep
    assert not plan_of(Nearby, metrics={"sinkhorn": {}}).sweep
    with pytest.raises(ConfigError, match="bmj"):
        plan_of(Bootstrap, sweep={"bmj": [1, 2]})
    plan = dataclasses.replace(plan_of(Nearby), measurer=None)
    assert Plan.from_dict(dataclasses.asdict(plan)) == plan


def test_the_exam_asks_conditional_generators(tmp_path):
    toy = toy_cohort(30)

    def sit(generator):
        folder = tmp_path / type(generator).__name__
        folder.mkdir()
        check_generator(generator, toy, folder)

    sit(Nearby())
    sit(Deaf())
    with pytest.raises(SampleError, match=r"Wilful: was given bmi = \d+\.\d+, but row 1 has"):
        sit(Wilful())
    with pytest.raises(AssertionError, match=r"given sex = F: the same seed gave another sample"):
        sit(Forgetful())


def test_a_run_tells_who_obeys_from_who_is_deaf(cohort_folder, tmp_path, monkeypatch):
    """From the configuration to the scores, in this process: starting one for every cell takes longer than the work."""
    monkeypatch.setattr(plugins, "_from_files", {kind: {} for kind in plugins.KINDS})
    plugins.add_file(CONDITIONAL)
    text = (
        f"name: trial\ncohort: {{source: saved, path: '{cohort_folder}'}}\n"
        "generators: {nearby: {near: 6}, deaf: {near: 6}, wilful: {}, permuted: {}}\nsample_seeds: [3, 4]\nmetrics: [response]\n"
        "measurer: ball\nextractor: null\nsweep: {bmi: [22, 25.5, 29]}\n"
    )
    run = create(read_config(text, "config.yaml"), tmp_path / "run", make_display(Console(quiet=True)))
    assert run.info["plan"]["sweep"] == [
        {"column": "bmi", "value": value, "records": 20} for value in (22.0, 25.5, 29.0)
    ]

    def do(cell):
        run.cell_folder(cell).mkdir(parents=True, exist_ok=True)
        context = WorkContext(folder=run.cell_folder(cell) / "scratch")
        CellWork(run, context, 1, None, lambda phase: None).do(cell)
        write_json(run.cell_folder(cell) / "status.json", {"status": "ok"})

    for cell in ("real", "anchors", "nearby.fit0", "deaf.fit0", "permuted.fit0"):
        do(cell)
    with pytest.raises(SampleError, match=r"wilful: was given bmi = 22.0, but row 1 has"):
        do("wilful.fit0")

    scores = gather(run)
    heads = scores[scores["item"] == ""].set_index(["generator", "sample_seed"])
    obeys, ignores = heads.loc[("nearby", 3)], heads.loc[("deaf", 3)]
    assert obeys["value"] == pytest.approx(1, abs=0.2)
    assert obeys["verdict"] in ("within", "open")
    assert ignores["value"] == pytest.approx(0, abs=0.3)
    assert ignores["verdict"] == "beyond"
    assert obeys["ceiling"] == pytest.approx(1, abs=0.3)
    assert obeys["null"] == pytest.approx(0, abs=0.3)
    for who, why in ((("permuted", 3), "takes no conditions"), (("nearby", 4), "not its first draw")):
        assert heads.loc[who, "status"] == "not_applicable"
        assert why in heads.loc[who, "reason"]
    draws = run.cell_folder("nearby.fit0") / "draws"
    assert sorted(place.name for place in (draws / "3" / "given").iterdir()) == ["0", "1", "2"]
    assert not (draws / "4" / "given").exists()
    assert not (run.cell_folder("permuted.fit0") / "draws" / "3" / "given").exists()

    made = [*run.cell_folder("nearby.fit0").rglob("step.json")]
    before = [path.stat().st_mtime_ns for path in made]
    do("nearby.fit0")
    assert [path.stat().st_mtime_ns for path in made] == before
