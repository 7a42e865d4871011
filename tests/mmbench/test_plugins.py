"""Plug-ins: found, described, built, and refused with a reason."""

import dataclasses
from importlib.metadata import EntryPoint, EntryPoints

import pytest

from mmbench import plugins
from mmbench.api import Generator, param
from mmbench.errors import PluginError


@pytest.mark.parametrize("kind", plugins.KINDS)
def test_every_built_in_plugin_loads_and_has_a_card(kind):
    for name in plugins.names(kind):
        plugin = plugins.load(kind, name)
        assert plugin.card.summary
        assert plugin.card.licence
        assert plugin.__doc__
        for parameter in plugins.parameters(plugin):
            assert parameter.doc, f"{name}.{parameter.name} says nothing of itself"


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(PluginError, match="Did you mean 'bootstrap'"):
        plugins.load("generators", "bootstraps")


@dataclasses.dataclass
class Knobs(Generator):
    size: tuple[int, ...] = param(doc="needed")
    steps: int = param(5, "steps", minimum=1, maximum=9)
    mode: str = param("a", "mode", choices=("a", "b"))

    def fit(self, train, context):
        pass

    def sample(self, n, seed, given=None):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": [1], "step": 3}, "unknown parameter 'step'.*'steps'"),
        ({"size": [1], "steps": 0}, "between 1 and 9"),
        ({"size": [1], "steps": 2.5}, "steps=2.5"),
        ({"size": [1], "mode": "c"}, "mode='c'"),
        ({}, "'size' is required"),
        ({"size": "big"}, "size='big'"),
    ],
)
def test_parameters_are_checked(values, message):
    with pytest.raises(PluginError, match=message):
        plugins.checked(Knobs, values, "generators.knobs")


def test_parameters_are_converted():
    assert plugins.checked(Knobs, {"size": [1, 2], "steps": 3}, "here") == {"size": (1, 2), "steps": 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "defines no plug-in"),
        ("import nothing_of_the_kind\n", "nothing_of_the_kind"),
        (
            "from mmbench.generators.bootstrap import Bootstrap as B\nclass Bootstrap(B): pass\n",
            "rename the class",
        ),
    ],
)
def test_a_file_without_a_plugin_is_refused(tmp_path, text, message):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(PluginError, match=message):
        plugins.add_file(path)
    with pytest.raises(PluginError, match="no such plug-in file"):
        plugins.add_file(tmp_path / "other.py")


def test_two_distributions_with_one_name_are_refused(monkeypatch):
    points = EntryPoints([EntryPoint("same", value, "mmbench.generators") for value in ("a:A", "b:B")])
    monkeypatch.setattr(plugins, "entry_points", lambda group: points)
    plugins._entry_points.cache_clear()
    try:
        with pytest.raises(PluginError, match=r"two distributions offer .*a:A.*b:B"):
            plugins.names("generators")
    finally:
        monkeypatch.undo()
        plugins._entry_points.cache_clear()


def test_the_code_digest_follows_the_code(tmp_path):
    text = "from mmbench.api import *\nclass Digested{n}(Generator):\n    def fit(self, t, c): ...\n    def sample(self, n, s, given=None): ...\n"
    digests = []
    for n in (1, 2):
        path = tmp_path / f"file{n}.py"
        path.write_text(text.format(n=n))
        (name,) = plugins.add_file(path)
        plugin = plugins.load("generators", name)
        digests.append(plugins.code_digest(plugin))
        assert plugins.code_digest(plugin) == digests[-1]
    assert digests[0] != digests[1]


def test_a_package_of_its_own_is_digested_whole(tmp_path, monkeypatch):
    package = tmp_path / "room" / "model"
    package.mkdir(parents=True)
    (tmp_path / "room" / "__init__.py").write_text("")
    (tmp_path / "room" / "_shared.py").write_text("A = 1\n")
    (package / "__init__.py").write_text("from .net import Net\n")
    (package / "net.py").write_text("from . import layers\nclass Net: pass\n")
    (package / "layers.py").write_text("SIZE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    from room.model import Net  # type: ignore[import-not-found]

    digests = {plugins.code_digest(Net)}
    for changed in (package / "layers.py", tmp_path / "room" / "_shared.py"):
        changed.write_text(changed.read_text() + "B = 2\n")
        digests.add(plugins.code_digest(Net))
    assert len(digests) == 3
