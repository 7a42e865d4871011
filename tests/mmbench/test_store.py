"""Steps are done once, appear whole, and depend on their key."""

import json
import math

import pytest

from mmbench import store
from mmbench.errors import UsageError
from mmbench.files import publish_folder, read_json, write_json


def test_a_step_is_done_once_for_a_key(tmp_path):
    made = []

    def make(folder):
        made.append(1)
        (folder / "result").write_text(str(len(made)))
        return {"n": len(made)}

    folder = tmp_path / "step"
    first = store.step(folder, "a", make)
    again = store.step(folder, "a", make)
    assert first == again
    assert made == [1]
    other = store.step(folder, "b", make)
    assert other["n"] == 2
    assert (folder / "result").read_text() == "2"


def test_a_step_that_fails_leaves_nothing(tmp_path):
    def fail(folder):
        (folder / "half").write_text("half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        store.step(tmp_path / "step", "a", fail)
    assert list(tmp_path.iterdir()) == []


def test_a_torn_record_counts_as_not_done(tmp_path):
    folder = tmp_path / "step"
    store.step(folder, "a", lambda path: None)
    (folder / store.STEP).write_text('{"key": "a"')
    assert store.step(folder, "a", lambda path: {"again": True})["again"]


def test_a_key_depends_on_every_part_and_not_on_their_order():
    assert store.key(a=1, b=[2]) == store.key(b=[2], a=1)
    assert store.key(a=1) != store.key(a=2)
    assert store.key(a=1) != store.key(b=1)


def test_json_has_no_nan(tmp_path):
    write_json(tmp_path / "x.json", {"a": [math.nan, math.inf, 1.5], "b": (1, 2)})
    assert read_json(tmp_path / "x.json") == {"a": [None, None, 1.5], "b": [1, 2]}


def test_a_published_folder_never_replaces_another(tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(FileExistsError), publish_folder(tmp_path / "there"):
        pass


def test_opening_what_is_no_run_says_so(tmp_path):
    with pytest.raises(UsageError, match="no run here"):
        store.Run.open(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(UsageError, match="cannot be read"):
        store.Run.open(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(UsageError, match="format 99"):
        store.Run.open(tmp_path)
