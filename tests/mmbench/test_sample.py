"""`mmbench sample`: from a run's model to a cohort on disk, and every way in which it cannot be done."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from rich.console import Console

from mmbench import plugins
from mmbench.cell import CellWork
from mmbench.cohort import load_cohort
from mmbench.config import Config, read_config
from mmbench.context import WorkContext
from mmbench.display import make_display
from mmbench.errors import PluginError, SampleError, UsageError
from mmbench.files import write_json
from mmbench.inputs import load_inputs, load_source
from mmbench.model import CARD, open_model
from mmbench.runner import create
from mmbench.sample import read_conditions, sample

from .conftest import MISBEHAVING

CONDITIONAL = MISBEHAVING.with_name("conditional.py")
ROWS = MISBEHAVING.with_name("sampled.py")
GENERATORS = (
    "{nearby: {near: 6}, wilful: {}, permuted: {}, well: {}, too-few: {}, only-rows: {}, only-volumes: {}, "
    "lost: {}, 'pair(permuted, well)': {}}"
)


@pytest.fixture(scope="module")
def quiet():
    return make_display(Console(quiet=True))


@pytest.fixture(scope="module", autouse=True)
def known_plugins():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plugins, "_from_files", {kind: {} for kind in plugins.KINDS})
        for path in (CONDITIONAL, MISBEHAVING, ROWS):
            plugins.add_file(path)
        yield


@pytest.fixture(scope="module")
def run(cohort_folder, tmp_path_factory, quiet):
    """A run whose cells are done in this process."""
    text = (
        f"name: trial\ncohort: {{source: saved, path: '{cohort_folder}'}}\ngenerators: {GENERATORS}\n"
        "fit_seeds: [0, 1]\nmetrics: [column-shapes]\nmeasurer: null\nextractor: null\nsweep: null\n"
    )
    made = create(read_config(text, "config.yaml"), tmp_path_factory.mktemp("runs") / "run", quiet)
    for name in ("real", "anchors", *(cell["id"] for cell in made.cells)):
        if name in ("nearby.fit1", "pair_permuted_well.fit0", "pair_permuted_well.fit1"):
            continue
        made.cell_folder(name).mkdir(parents=True, exist_ok=True)
        work = CellWork(
            made, WorkContext(folder=made.cell_folder(name) / "scratch"), 1, None, lambda phase: None
        )
        status = {"status": "ok", "reason": ""}
        try:
            work.do(name)
        except SampleError as error:
            status = {"status": "failed", "reason": str(error)}
        write_json(made.cell_folder(name) / "status.json", status)
    return made


@pytest.fixture
def model_folder(run, tmp_path):
    """A model apart from its run."""
    return shutil.copytree(run.cell_folder("nearby.fit0") / "model", tmp_path / "model")


@pytest.fixture
def draw(tmp_path, quiet):
    def make(model, n=7, seed=0, given=(), out="out"):
        return sample(model, n, seed, given, tmp_path / out, quiet)

    return make


def read(folder, scratch):
    """Read a folder with ``source: bids`` and nothing else."""
    scratch.mkdir(exist_ok=True)
    return load_source({"source": "bids", "path": folder}, WorkContext(folder=scratch))


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestSample:
    def test_a_draw_is_the_runs_own_and_comes_back_through_bids(self, run, draw, tmp_path):
        own = load_cohort(run.cell_folder("nearby.fit0") / "draws" / "0" / "sample")
        found = read(draw(open_model(run.folder, "nearby"), len(own)), tmp_path / "scratch")
        columns = [dataclasses.replace(column, missing=False) for column in run.cohort.schema]
        assert [dataclasses.replace(column, missing=False) for column in found.schema] == columns
        assert found.rows.reset_index(drop=True).equals(own.rows.reset_index(drop=True))
        np.testing.assert_array_equal(found.images.stack(), own.images.stack())
        assert found.images.geometry == own.images.geometry
        assert not set(found.ids) & set(run.cohort.ids)

    def test_rows_have_what_was_given_and_the_description_says_so(self, run, draw, tmp_path):
        model = open_model(run.folder, "nearby")
        folder = draw(model, given=["bmi=27.5", "sex=F"], seed=3)
        found = read(folder, tmp_path / "scratch")
        assert set(found.rows["sex"]) == {"F"}
        assert set(found.rows["bmi"]) == {27.5}
        about = json.loads((folder / "dataset_description.json").read_text())
        assert about["GeneratedBy"][0]["Name"] == "mmbench"
        own = about["mmbench"]
        assert own["given"] == {"sex": "F", "bmi": 27.5}
        assert (own["generator"], own["seed"], own["records"]) == ("nearby", 3, 7)
        assert own["model_sha256"] == model.sha256
        assert own["synthetic"] is False  # it draws real people

    def test_the_same_seed_gives_the_same_bytes_also_away_from_the_run(self, run, draw, model_folder):
        first = draw(open_model(run.folder, "nearby"), given=["sex=M"], out="first")
        second = draw(open_model(model_folder), given=["sex=M"], out="second")
        other = draw(open_model(model_folder), given=["sex=M"], out="other", seed=1)
        assert files_of(first) == files_of(second)
        assert files_of(first).keys() == files_of(other).keys()
        assert files_of(first) != files_of(other)

    def test_what_a_generator_does_not_sample_is_not_written(self, run, draw, tmp_path, capsys):
        rows = draw(open_model(run.folder, "only-rows"), 40, out="rows")
        assert sorted(path.name for path in rows.iterdir()) == [
            "dataset_description.json",
            "participants.json",
            "participants.tsv",
        ]
        assert read(rows, tmp_path / "scratch").modalities == {"table"}
        spoken = make_display(Console())
        volumes = sample(open_model(run.folder, "only-volumes"), 12, 0, [], tmp_path / "volumes", spoken)
        assert "samples volumes only" in capsys.readouterr().out
        assert read(volumes, tmp_path / "scratch").modalities == {"volume"}

    def test_samples_are_evaluated_without_being_told_how_to_read_them(
        self, run, draw, cohort_folder, tmp_path
    ):
        folders = {
            name: draw(open_model(run.folder, name), 12, out=name)
            for name in ("well", "only-rows", "only-volumes")
        }
        samples = {name: {"source": "bids", "path": folder} for name, folder in folders.items()}
        real = {"source": "saved", "path": cohort_folder}
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        config = Config(cohort=real, generators={}, samples=samples)
        found = load_inputs(config, scratch, make_display(Console(quiet=True))).samples
        assert {name: set(one.cohort.modalities) for name, one in found.items()} == {
            "well": {"table", "volume"},
            "only-rows": {"table"},
            "only-volumes": {"volume"},
        }

    @pytest.mark.parametrize(
        ("name", "given", "error", "message"),
        [
            ("wilful", ["bmi=27"], SampleError, "wilful: was given bmi = 27"),
            ("too-few", [], SampleError, "returned 6 volumes, expected 7"),
            ("lost", [], SampleError, r"lost: failed while sampling \(RuntimeError: no such number"),
        ],
    )
    def test_a_generator_that_fails_leaves_nothing(self, run, draw, tmp_path, name, given, error, message):
        with pytest.raises(error, match=message):
            draw(open_model(run.folder, name), given=given)
        assert not list(tmp_path.iterdir())

    def test_the_folder_must_be_free(self, run, draw, tmp_path):
        model = open_model(run.folder, "nearby")
        (tmp_path / "out").mkdir()
        draw(model, 2)
        before = files_of(tmp_path)
        for out in ("out", "out/participants.tsv"):
            with pytest.raises(UsageError, match="exists already and is no empty folder"):
                draw(model, out=out)
        with pytest.raises(UsageError, match="cannot be written"):
            draw(model, out="out/participants.tsv/below")
        with pytest.raises(UsageError, match="at least one record"):
            draw(model, n=0, out="other")
        assert files_of(tmp_path) == before


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("sexx=F", "there is no column 'sexx'. Did you mean 'sex'"),
        ("sex", r"expected COLUMN=VALUE"),
        ("sex=X", "expected one of F, M, as in the table"),
        ("sex=", "expected one of F, M"),
        ("height_cm=tall", "expected a number, at least 140, at most 210"),
        ("height_cm=300", "expected a number, at least 140, at most 210"),
        ("height_cm=nan", "expected a number"),
        ("children=1.5", "expected a whole number, at least 0, at most 9"),
        ("bmi=inf", "expected a number, as in"),
        ("activity=n/a", "expected one of low, moderate, high"),
    ],
)
def test_a_value_that_a_column_cannot_have_is_refused(run, given, message):
    with pytest.raises(UsageError, match=f"--given {given}: .*{message}"):
        read_conditions([given], open_model(run.folder, "nearby"))


def test_conditions_are_typed_and_in_the_order_of_the_table(run):
    model = open_model(run.folder, "nearby")
    found = read_conditions(["smoker=true", "children=2", "height_cm=170", "sex=F"], model)
    assert list(found.items()) == [("sex", "F"), ("height_cm", 170.0), ("children", 2.0), ("smoker", True)]
    with pytest.raises(UsageError, match="'sex' is given twice"):
        read_conditions(["sex=F", "sex=M"], model)
    with pytest.raises(UsageError, match="'permuted' takes no conditions"):
        read_conditions(["sex=F"], open_model(run.folder, "permuted"))


class TestOpenModel:
    def test_a_run_a_cell_and_a_model_are_the_same(self, run, model_folder):
        cell = run.cell_folder("nearby.fit0")
        digests = {
            open_model(path, *which).sha256
            for path, *which in ((run.folder, "nearby"), (cell,), (cell / "model",), (model_folder,))
        }
        assert len(digests) == 1
        assert open_model(run.folder, "permuted", 1).cell.fit_seed == 1
        assert open_model(run.folder, "permuted").cell.fit_seed == 0

    def test_a_model_without_its_card_is_damaged(self, run, tmp_path):
        copied = shutil.copytree(run.folder, tmp_path / "run")
        folder = copied / "cells" / "nearby.fit0" / "model"
        (folder / CARD).unlink()
        for path, which in ((copied, "nearby"), (folder, None)):
            with pytest.raises(UsageError, match=CARD):
                open_model(path, which)

    @pytest.mark.parametrize(
        ("which", "message"),
        [
            ((None, None), "keeps models of .* generators; choose one with --generator: nearby, wilful"),
            (("nearbye", None), "no generator 'nearbye' in this run. Did you mean 'nearby'"),
            (("permuted", 7), "'permuted' was not fitted with seed 7; fit seeds: 0, 1"),
            (("nearby", 1), r"'nearby', fit seed 1, has no model \(interrupted: never started\); go on with"),
            (("pair(permuted, well)", None), "is a pair and has no model of its own"),
        ],
    )
    def test_a_model_that_a_run_has_not_is_one_message(self, run, which, message):
        with pytest.raises(UsageError, match=message):
            open_model(run.folder, *which)

    def test_models_that_cannot_be_saved_are_named(self, run, monkeypatch):
        monkeypatch.setattr(plugins.load("generators", "nearby"), "persistent", False)
        with pytest.raises(UsageError, match="nearby cannot save one"):
            open_model(run.folder, "nearby", 1)

    def test_no_model_at_all(self, run, model_folder, tmp_path):
        with pytest.raises(UsageError, match="no such folder"):
            open_model(tmp_path / "nowhere")
        with pytest.raises(UsageError, match="no fitted model here"):
            open_model(run.folder / "cohort")
        with pytest.raises(UsageError, match="no run; --generator and --fit-seed"):
            open_model(model_folder, "nearby")

    def test_damage_is_noticed(self, model_folder, draw):
        manifest = model_folder / "fitted.json"
        text = manifest.read_text()
        manifest.write_text(text + " ")
        with pytest.raises(UsageError, match="is damaged, absent or changed"):
            open_model(model_folder)
        manifest.unlink()
        with pytest.raises(UsageError, match="is damaged, absent or changed"):
            open_model(model_folder)
        manifest.write_text(text)
        card = model_folder / CARD
        whole = card.read_text()
        for damaged in (whole[: len(whole) // 2], "[]", "{}", whole.replace('"plugin"', '"plug"')):
            card.write_text(damaged)
            with pytest.raises(UsageError, match="cannot be read"):
                open_model(model_folder)
        card.write_text(whole.replace('"format": 1', '"format": 2'))
        with pytest.raises(UsageError, match="a model of format 2, expected 1"):
            open_model(model_folder)

    def test_a_generator_that_is_absent_or_has_changed(self, model_folder, monkeypatch, draw):
        model = open_model(model_folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(plugins, "_from_files", {kind: {} for kind in plugins.KINDS})
            with pytest.raises(
                UsageError, match="needs the generator 'nearby', which is not installed; give its"
            ):
                draw(model)
        changed = dataclasses.replace(model, cell=dataclasses.replace(model.cell, params={"nearest": 3}))
        with pytest.raises(PluginError, match="unknown parameter 'nearest'"):
            draw(changed)
        monkeypatch.setattr(model.plugin, "load", lambda self, folder: {}["weights"])
        with pytest.raises(UsageError, match=r"cannot be loaded \(KeyError: 'weights'\)"):
            draw(model)


def test_the_command_line(run, mmbench, tmp_path):
    plugin = ("--plugin", CONDITIONAL)
    done = mmbench(
        "sample", run.folder, "--generator", "nearby", "-n", 5, "--given", "sex=F", "--out", "out", *plugin
    )
    assert done.returncode == 0, done.stderr
    assert "5 records of nearby" in done.stdout
    assert "records" in done.stderr
    inspected = mmbench("cohort", "inspect", "out", "--json")
    assert inspected.returncode == 0, inspected.stderr
    assert json.loads(inspected.stdout)["records"] == 5
    absent = mmbench("sample", run.cell_folder("nearby.fit0"), "-n", 5, "--out", "other")
    assert absent.returncode == 2
    assert absent.stderr.count("\n") == 1
    assert mmbench("sample", run.folder, "-n", 0, "--out", "other").returncode == 2
    assert not (tmp_path / "other").exists()
