import json
import re
from importlib.resources import files

import pytest
from typer.testing import CliRunner

from mmbench import plugins, validity
from mmbench.cli import app
from mmbench.errors import UsageError
from mmbench.validity import model, peers, run, scorecard
from mmbench.validity.instruments import installed
from mmbench.validity.run import Result

RESULTS = [
    Result("one", "a", "V1", True, "as it should"),
    Result("one", "a", "V2", False, "0.5 for the reference itself"),
    Result("one", "b", "V1", None, "asks nothing"),
]
CHEAP = ("V2", "V22", "V24")


def test_new_failures_and_unexpected_passes_are_named():
    found = scorecard.surprises(RESULTS, {("a", "V1"): "known"})
    assert [(one.result.test, one.failed) for one in found] == [("V2", True), ("V1", False)]
    assert scorecard.surprises(RESULTS, {("a", "V2"): "known"}) == []


def test_what_does_not_apply_cannot_surprise():
    assert scorecard.surprises(RESULTS[2:], {("b", "V1"): "known"}) == []


def test_the_scorecard_is_written_as_a_table_and_as_json(tmp_path):
    page = scorecard.write(RESULTS, run.tests_named(["V1", "V2"]), tmp_path).read_text()
    assert "| one | a | + | ✗ | 1/2 |" in page
    assert "**a, V2**: 0.5 for the reference itself." in page
    rows = json.loads((tmp_path / "scorecard.json").read_text())
    assert [(row["output"], row["test"], row["passed"]) for row in rows] == [
        ("a", "V1", True),
        ("a", "V2", False),
    ]


def test_a_folder_that_cannot_be_written_is_one_message(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        scorecard.write(RESULTS, run.tests_named(["V1"]), tmp_path / "file")


def test_the_packaged_scorecard_speaks_of_installed_scores_and_known_tests():
    outputs = {o.name for name in plugins.names("metrics") for o in plugins.load("metrics", name).outputs}
    found = validity.failures()
    assert found.keys() <= outputs
    named = {f"{test.id} ({test.title})" for test in run.suite.TESTS}
    assert {test for tests in found.values() for test in tests} <= named


def test_declared_failures_have_a_reason_and_name_scores_and_tests_that_exist():
    outputs = {o.name for name in plugins.names("metrics") for o in plugins.load("metrics", name).outputs}
    for (output, test), reason in scorecard.known().items():
        assert output in outputs
        assert test in {one.id for one in run.suite.TESTS}
        assert len(reason.split()) > 3


def test_every_installed_metric_sits_the_cheap_tests_as_declared():
    results = run.run(installed(), model.SMOKE, run.tests_named(CHEAP))
    failed = [one.sentence for one in scorecard.surprises(results) if one.failed]
    assert not failed


def test_stored_numbers_of_peers_belong_to_trials_of_the_suite():
    known = {
        f"{name}/{setting}/{seed}"
        for series in run.catalogue(model.QUICK).values()
        for name, setting, seed in series.points()
    }
    for name in peers.STORED:
        assert files("mmbench.validity").joinpath(f"{name}.json").is_file()
        assert set(peers.stored(name)["scores"]) <= known


def test_the_command_prints_the_table_and_fails_on_what_is_not_declared(tmp_path):
    file = tmp_path / "bad.py"
    file.write_text(
        "from mmbench.api import *\n"
        "class Flat(Metric):\n"
        "    card = Card('Constant.')\n"
        "    kind, needs, null = 'fidelity', TABLE, 'columns'\n"
        "    outputs = (Output('flat', 'Flat', 'Nothing.', 'All.', 'higher', 1.0, range=(0.0, 1.0)),)\n"
        "    def scores(self, trial):\n"
        "        return [Score('flat', 1.0)]\n"
    )
    args = ["validity", "--metric", "flat", "--test", "V10", "--quick", "--processes", "1"]
    ended = CliRunner().invoke(app, [*args, "--plugin", str(file), "--out", str(tmp_path / "card")])
    plugins._from_files["metrics"].pop("flat")
    assert ended.exit_code == 1
    assert re.search(r"flat fails V10: table: 1\.00", ended.output)
    assert (tmp_path / "card" / "scorecard.md").exists()


def test_an_unknown_test_is_refused():
    with pytest.raises(UsageError, match="no validity test 'V99'"):
        run.tests_named(["V99"])
