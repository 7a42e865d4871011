"""`mmbench evaluate`: the configuration that it makes, and what a user sees."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from rich.console import Console

from mmbench.cohort import save_cohort
from mmbench.display import make_display
from mmbench.errors import ConfigError, UsageError
from mmbench.evaluation import evaluation_config
from mmbench.reports._text import overview_text
from mmbench.runner import create
from mmbench.store import Run
from mmbench.testing import toy_cohort

QUICK = ["--set", "metrics=[column-shapes, table-memorisation, image-statistics]", "--set", "measurer=null"]
QUICK += ["--set", "extractor=null", "--set", "report.formats=[markdown]"]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    for name, n, seed in (("real", 60, 0), ("samples", 20, 1), ("train", 30, 2)):
        save_cohort(toy_cohort(n, seed), folder / name)
    save_cohort(dataclasses.replace(toy_cohort(20, 3), volumes=None), folder / "rows")
    (folder / "empty").mkdir()
    return folder


class TestConfig:
    def test_samples_are_named_after_their_folder_or_as_asked(self, places):
        config = evaluation_config(places / "real", [str(places / "samples"), f"v1.0={places / 'rows'}"])
        assert config.cohort == {"source": "saved", "path": str(places / "real")}
        assert list(config.samples) == ["samples", "v1.0"]
        assert config.samples["v1.0"]["path"] == str(places / "rows")
        assert config.training is None
        assert config.generators == {}

    def test_a_path_with_an_equals_sign_is_a_path(self, places, tmp_path):
        odd = tmp_path / "cfg=3 b"
        shutil.copytree(places / "rows", odd)
        assert list(evaluation_config(places / "real", [str(odd)]).samples) == ["cfg-3-b"]

    def test_a_configuration_gives_all_else_and_overrides_win(self, places):
        text = "name: mine\nsplit: {seed: 7}\ncohort: {source: saved, path: x, verify: false}\ngenerators: {ctgan: {}}\n"
        config = evaluation_config(
            places / "real",
            [str(places / "samples")],
            places / "train",
            text,
            "c.yaml",
            ["split.seed=8", "samples.samples.verify=false"],
        )
        assert (config.name, config.split.seed, config.generators) == ("mine", 8, {})
        assert config.cohort == {"source": "saved", "path": str(places / "real"), "verify": False}
        assert config.training == {"source": "saved", "path": str(places / "train")}
        assert config.samples["samples"]["verify"] is False

    def test_a_source_that_the_user_names_is_not_guessed(self, places):
        config = evaluation_config(
            places / "empty", [str(places / "samples")], overrides=["cohort.source=mine"]
        )
        assert config.cohort == {"source": "mine", "path": str(places / "empty")}

    @pytest.mark.parametrize(
        ("synthetic", "parts"),
        [
            (["samples", "x=samples", "samples"], ["'samples' is the name of", "NAME=PATH"]),
            (["a b=samples"], ["'a b' is no name"]),
            (["=samples"], ["'' is no name"]),
            (["x=nowhere"], ["nowhere: no such cohort"]),
            (["empty"], ["empty: no cohort", "no table", "a BIDS folder"]),
        ],
    )
    def test_mistakes(self, places, monkeypatch, synthetic, parts):
        monkeypatch.chdir(places)
        with pytest.raises(UsageError) as caught:
            evaluation_config(places / "real", synthetic)
        for part in parts:
            assert part in str(caught.value)

    def test_a_mistake_in_the_configuration_has_its_line(self, places):
        with pytest.raises(ConfigError, match=r"c\.yaml, line 1.*nmae"):
            evaluation_config(places / "real", [str(places / "samples")], None, "nmae: x\n", "c.yaml")


def test_samples_are_scored_with_anchors_and_a_report(mmbench, places, tmp_path):
    shutil.copytree(places / "samples", tmp_path / "mine")
    arguments = ("--real", places / "real", "--synthetic", "mine", *QUICK)
    done = mmbench("evaluate", *arguments, "--synthetic", f"rows={places / 'rows'}", "--out", "run")
    assert done.returncode == 0, done.stderr
    assert "without --train" in " ".join(done.stderr.split())
    run = Run.open(tmp_path / "run")
    heads = run.scores[run.scores["item"] == ""].set_index(["generator", "metric"]).sort_index()
    assert set(heads.index.unique("generator")) == {"mine", "rows"}
    assert set(heads.loc["mine", "status"]) == {"ok"}
    assert heads.loc["mine", ["ceiling", "null"]].notna().all(axis=None)
    assert set(heads.loc[("rows", "image-statistics"), "status"]) == {"not_applicable"}
    assert set(heads.loc[("rows", "column-shapes"), "status"]) == {"ok"}
    summary = (tmp_path / "run" / "report" / "summary.md").read_text()
    assert "mine (20 records)" in summary
    assert "may never have seen" in summary
    assert "learned from 36" not in summary
    # What is scored is what was given, each record at most once.
    given = {volume.tobytes() for volume in toy_cohort(20, 1).images}
    kept = [volume.tobytes() for volume in run.synthetic("mine.fit0", 0).cohort.images]
    assert len(set(kept)) == len(kept) == len(run.roles.reference)
    assert given.issuperset(kept)

    # Whoever sampled writes other samples into the same file: a run keeps what it scored.
    volumes = np.load(tmp_path / "mine" / "volumes.npy", mmap_mode="r+")
    volumes[:] = 0.5 * np.asarray(volumes)
    volumes.flush()
    header = json.loads((tmp_path / "mine" / "cohort.json").read_text())
    (tmp_path / "mine" / "cohort.json").write_text(json.dumps(header | {"fingerprint": None}))
    assert run.recorded("mine").fingerprint() == run.info["samples"]["mine"]["fingerprint"]
    assert "mine.fit0: ok, kept" in mmbench("run", "--resume", "run").stderr

    # Another evaluation takes the new ones, and will not take old scores for theirs.
    with make_display(Console(quiet=True)) as display:
        config = evaluation_config(places / "real", [str(tmp_path / "mine")])
        other = create(config, tmp_path / "other", display)
    assert other.recorded_key("mine") != run.recorded_key("mine")


def test_with_the_training_records_the_rest_is_reference_and_floor(places, tmp_path):
    split = "split={train: 0.2, reference: 0.2, floor: 0.6}"
    paths = (places / "real", [str(places / "samples")], places / "train")
    with make_display(Console(quiet=True)) as display:
        run = create(evaluation_config(*paths, overrides=[split]), tmp_path / "run", display)
    assert [len(role) for _, role in run.roles.items()] == [30, 15, 45]
    train = run.cohort.take(run.roles.train)
    assert {v.tobytes() for v in train.images} == {v.tobytes() for v in toy_cohort(30, 2).images}
    assert "The 30 training records are those that were given" in overview_text(run)


def test_a_mistake_is_one_message_and_leaves_nothing(mmbench, places, tmp_path):
    for arguments, part in (
        (("--real", places / "empty", "--synthetic", places / "samples"), "no cohort"),
        (
            ("--real", places / "real", "--synthetic", places / "samples", "--train", places / "real"),
            "real ones",
        ),
        (("--real", places / "real"), "--synthetic"),
    ):
        done = mmbench("evaluate", *arguments, *QUICK)
        assert done.returncode == 2
        assert part in done.stderr
        assert "Traceback" not in done.stderr
        assert list(tmp_path.iterdir()) == []


def test_a_dry_run_checks_everything_and_writes_nothing(mmbench, places, tmp_path):
    arguments = ("--real", places / "real", "--synthetic", places / "samples", *QUICK, "--dry-run")
    done = mmbench("evaluate", *arguments)
    assert done.returncode == 0, done.stderr
    assert "samples.fit0" in done.stdout
    assert list(tmp_path.iterdir()) == []
