"""What is read off volumes: kept with its reasons, shown as it goes, and never read twice."""

import hashlib
import json
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from mmbench import plugins, runner
from mmbench.api import Card, Extractor, Interrupted, Measurer, NotMeasurable, PluginError, Quantity, param
from mmbench.cell import CellWork
from mmbench.cohort import save_cohort
from mmbench.config import read_config
from mmbench.context import WorkContext
from mmbench.display import make_display
from mmbench.evidence import load_measured, save_measured
from mmbench.measuring import features, measure
from mmbench.plan import Planned
from mmbench.store import REAL, Run
from mmbench.testing import toy_cohort


class Picky(Measurer):
    """Measures bright volumes only."""

    card = Card("picky")
    channels = ("c0",)
    quantities = (Quantity("mean", "1", "Mean intensity"),)
    seen = 0

    def measure(self, volume, geometry):
        Picky.seen += 1
        if volume.mean() < toy_cohort(6).images.stack().mean():
            raise NotMeasurable("too dark")
        return {"mean": float(volume.mean())}


@dataclass
class Learner(Extractor):
    """Features relative to what it learned: the training mean of volumes and of quantities."""

    card = Card("learner")
    learns = True
    uses_composition = True
    fits = 0
    gain: float = param(1.0, "factor")

    def fit(self, train, composition, context):
        Learner.fits += 1
        self.mean_ = float(np.mean([volume.mean(dtype=float) for volume in train]))
        self.quantities_ = composition.mean().to_numpy()

    def extract(self, volumes, composition=None):
        means = np.array([volume.mean(dtype=float) for volume in volumes])
        return self.gain * (means - self.mean_)[:, None, None]

    def digest(self, geometry):
        return hashlib.sha256(np.array([self.mean_, *self.quantities_]).tobytes()).hexdigest()


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    monkeypatch.setitem(plugins._from_files["measurers"], "picky", Picky)
    monkeypatch.setitem(plugins._from_files["measurers"], "learner", Learner)


def test_why_a_volume_could_not_be_measured_is_kept(tmp_path):
    cohort = toy_cohort(6)
    evidence = measure(cohort, Planned("picky", {}), None, WorkContext(folder=tmp_path))
    dark = evidence.composition["mean"].isna()
    assert 0 < dark.sum() < 6
    assert (evidence.unmeasurable[dark] == "too dark").all()
    assert (evidence.unmeasurable[~dark] == "").all()
    save_measured(evidence, tmp_path)
    again = load_measured(cohort, tmp_path)
    pd.testing.assert_series_equal(again.unmeasurable, evidence.unmeasurable, check_names=False)
    assert again.take([5, 0]).unmeasurable.tolist() == [evidence.unmeasurable.iloc[i] for i in (5, 0)]


def test_extraction_shows_progress_and_can_be_stopped():
    told = []
    context = WorkContext(report=lambda *step: told.append(step))
    extractor = Learner()
    extractor.mean_ = 0.0
    assert features(toy_cohort(6), extractor, None, context).shape == (6, 1, 1)
    assert told[0] == ("extracting features", 0, 6)
    context.stop.set()
    with pytest.raises(Interrupted):
        features(toy_cohort(6), extractor, None, context)


def test_features_of_another_shape_are_refused():
    class Flat(Learner):
        def extract(self, volumes, composition=None):
            return np.zeros((len(volumes), 3))

    with pytest.raises(PluginError, match=r"shape \(6, 3\).*\(n, blocks, d\)"):
        features(toy_cohort(6), Flat(), None, WorkContext())


@pytest.fixture
def make_run(tmp_path):
    saved = save_cohort(toy_cohort(40), tmp_path / "cohort")

    def make(name, extractor):
        config = read_config(
            json.dumps(
                {
                    "cohort": {"source": "saved", "path": str(saved)},
                    "generators": {"bootstrap": {}},
                    "metrics": ["image-mmd"],
                    "measurer": "picky",
                    "extractor": extractor,
                }
            ),
            "test",
        )
        with make_display(runner_console()) as display:
            return runner.create(config, tmp_path / name, display)

    return make


def runner_console():
    from rich.console import Console

    return Console(quiet=True)


def work(run, *cells):
    for cell in cells:
        context = WorkContext(folder=run.cell_folder(cell) / "scratch")
        CellWork(run, context, 1, None, lambda phase: None).do(cell)


def test_an_extractor_is_fitted_once_on_the_training_subjects_and_its_digest_is_told(make_run):
    run = make_run("run", {"learner": {"gain": 3}})
    assert Run.open(run.folder).extractor["digest"] == ""
    Learner.fits = Picky.seen = 0
    work(run, REAL)
    measured = Picky.seen
    work(run, REAL, "bootstrap.fit0", "anchors")
    assert Learner.fits == 1
    assert measured == len(run.cohort), "the training subjects are measured once, before the fit"
    train = run.cohort.take(run.roles.train).images.stack()
    expected = 3 * (
        train.mean(axis=(1, 2, 3, 4), dtype=float) - train.mean(axis=(1, 2, 3, 4), dtype=float).mean()
    )
    np.testing.assert_allclose(run.real("train").features[:, 0, 0], expected, atol=1e-9)
    told = Run.open(run.folder).extractor
    assert (told["name"], told["params"]) == ("learner", {"gain": 3})
    assert len(told["digest"]) == 64
    scores = runner.gather(run)
    assert set(scores["extractor_sha256"]) == {told["digest"]}


def test_another_extractor_measures_no_quantity_anew(make_run):
    run = make_run("run", {"learner": {}})
    work(run, REAL)
    info = json.loads((run.folder / "run.json").read_text())
    info["plan"]["extractor"] = {"name": "learner", "params": {"gain": 2.0}}
    (run.folder / "run.json").write_text(json.dumps(info))
    before = run.real("floor").features
    Picky.seen = 0
    work(Run.open(run.folder), REAL)
    assert Picky.seen == 0
    np.testing.assert_allclose(run.real("floor").features, 2 * before)
