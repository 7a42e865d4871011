"""Configurations: what is taken, and that every mistake is named with its line."""

import pytest

from mmbench.config import read_config
from mmbench.errors import ConfigError

GOOD = """
name: trial
cohort: {source: phantom}
generators:
  bootstrap: {}
"""


def test_defaults_fill_what_is_absent():
    config = read_config(GOOD, "c.yaml")
    assert config.fit_seeds == (0,)
    assert config.metrics is None
    assert config.report.include_real is False


def test_a_list_of_generators_is_taken_too():
    config = read_config("cohort: {source: phantom}\ngenerators: [bootstrap, permuted]", "c.yaml")
    assert list(config.generators) == ["bootstrap", "permuted"]


def test_settings_win_over_the_file_and_make_what_is_absent():
    config = read_config(GOOD, "c.yaml", ["generators.joint-ldm.steps=50", "execution.jobs=1", "name=x"])
    assert config.generators["joint-ldm"] == {"steps": 50}
    assert config.execution.jobs == 1
    assert config.name == "x"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (GOOD + "generatorz: {}\n", ["line 6", "generatorz", "generators"]),
        (GOOD + "execution:\n  job: 2\n", ["line 7", "execution.job", "jobs"]),
        (GOOD + "split:\n  seed: often\n", ["line 7", "split.seed", "often"]),
        (GOOD + "fit_seeds: []\n", ["line 6", "fit_seeds"]),
        ("generators: {bootstrap: {}}", ["'cohort' is required"]),
        (GOOD + "name: again\n", ["line 6", "name", "second time", "line 2"]),
        ("a: &x [1]\nb: *x\n", ["line 2", "aliases"]),
        ("cohort: [unclosed\n", ["c.yaml", "line"]),
        ("- 1\n", ["keys and values"]),
        (GOOD.replace("trial", "../evil"), ["name"]),
    ],
)
def test_a_mistake_is_named_with_its_place(text, parts):
    with pytest.raises(ConfigError) as caught:
        read_config(text, "c.yaml")
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("NO", "NO"),
        ("0123", "0123"),
        ("12:30", "12:30"),
        ("true", True),
        ("null", None),
        ("-3", -3),
    ],
)
def test_scalars_follow_yaml_1_2(text, value):
    config = read_config(GOOD, "c.yaml", [f"cohort.x={text}"])
    assert config.cohort["x"] == value


def test_a_tag_runs_nothing():
    with pytest.raises(ConfigError, match="tag"):
        read_config("cohort: !!python/object/apply:os.system ['echo']\ngenerators: {}", "c.yaml")


def test_a_setting_without_value_is_refused():
    with pytest.raises(ConfigError, match=r"path\.to\.key=value"):
        read_config(GOOD, "c.yaml", ["execution.jobs"])
