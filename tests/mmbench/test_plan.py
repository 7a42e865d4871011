"""Plans: cells, pairs, and what does not apply."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest

from mmbench import plugins
from mmbench.api import Card, Extractor, Measurer, Quantity, param
from mmbench.config import Config
from mmbench.errors import ConfigError, PluginError
from mmbench.inputs import Samples
from mmbench.plan import (
    Plan,
    Planned,
    choose_extractor,
    choose_measurer,
    composition_key,
    extractor_key,
    features_key,
    make_plan,
)
from mmbench.testing import toy_cohort


def plan_of(generators, cohort=None, **settings):
    config = Config(cohort={"source": "saved"}, generators=generators, measurer=None, **settings)
    return make_plan(config, cohort or toy_cohort(8))


def test_a_grid_has_a_cell_for_every_generator_and_fit_seed():
    plan = plan_of({"bootstrap": {}, "permuted": {}}, fit_seeds=(0, 3))
    assert [cell.id for cell in plan.cells] == [
        "bootstrap.fit0",
        "permuted.fit0",
        "bootstrap.fit3",
        "permuted.fit3",
    ]


def test_a_pair_brings_its_components_and_reuses_them():
    plan = plan_of({"pair(bootstrap, permuted)": {}, "bootstrap": {}})
    by_id = {cell.id: cell for cell in plan.cells}
    assert len(by_id) == 3
    pair = by_id["pair_bootstrap_permuted.fit0"]
    assert pair.components == ("bootstrap.fit0", "permuted.fit0")
    assert pair.copies


def test_one_plugin_may_stand_under_two_labels():
    plan = plan_of({"ctgan": {"epochs": 1}, "ctgan-long": {"use": "ctgan", "epochs": 9}})
    assert [cell.params for cell in plan.cells] == [{"epochs": 1}, {"epochs": 9}]


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("bootstrapp", "Did you mean 'bootstrap'"),
        ("pair(bootstrap)", "must read pair"),
        ("pair(bootstrap, nobody)", "no generator 'nobody'"),
        ("pair(ctgan, tvae)", "'tvae' samples no volume"),
    ],
)
def test_a_wrong_label_is_explained(label, message):
    with pytest.raises((PluginError, ConfigError), match=message.replace("(", r"\(")):
        plan_of({label: {}})


def test_parameters_are_checked_before_anything_runs():
    with pytest.raises(PluginError, match=r"epoch'.*epochs"):
        plan_of({"ctgan": {"epoch": 3}})
    with pytest.raises(PluginError, match="epochs='many'"):
        plan_of({"ctgan": {"epochs": "many"}})
    with pytest.raises(PluginError, match="between 1"):
        plan_of({"ctgan": {"epochs": 0}})


def test_what_does_not_apply_says_why():
    rows_only = dataclasses.replace(toy_cohort(8), volumes=None)
    plan = plan_of({"mri-ldm": {}, "joint-ldm": {}, "ctgan": {}, "bootstrap": {}}, rows_only)
    assert [bool(cell.not_applicable) for cell in plan.cells] == [True, True, False, False]
    assert "the cohort has no volume" in plan.cells[1].not_applicable
    assert plan.cells[3].modalities == ("table",)
    assert plan.extractor is None


def test_a_measurer_is_chosen_by_the_channels():
    assert choose_measurer("auto", toy_cohort(4)) is None
    with pytest.raises(PluginError, match="needs the channels"):
        choose_measurer("dixon-composition", toy_cohort(4))
    with pytest.raises(PluginError, match="extracts features"):
        choose_measurer("random-cnn", toy_cohort(4))


@dataclasses.dataclass
class Toy(Measurer):
    """Measures a toy volume."""

    card = Card("toy")
    channels = ("c0",)
    automatic = False
    quantities = (Quantity("mean", "1", "Mean intensity"),)
    installed: bool = param(True, "whether the tool is there")

    def check(self):
        if not self.installed:
            raise PluginError("toy: install it")

    def measure(self, volume, geometry):
        return {"mean": float(volume.mean())}


@pytest.fixture
def toy_measurer(monkeypatch):
    monkeypatch.setitem(plugins._from_files["measurers"], "a-toy", Toy)


@pytest.mark.usefixtures("toy_measurer")
def test_a_measurer_takes_parameters_and_is_asked_whether_it_works():
    cohort = toy_cohort(4)
    assert choose_measurer("auto", cohort) is None
    assert choose_measurer({"a-toy": {"installed": True}}, cohort).params == {"installed": True}
    assert choose_measurer("a-toy", cohort).build("measurers").installed
    with pytest.raises(PluginError, match="install it"):
        choose_measurer({"a-toy": {"installed": False}}, cohort)
    with pytest.raises(PluginError, match="unknown parameter"):
        choose_measurer({"a-toy": {"fast": True}}, cohort)
    with pytest.raises(ConfigError, match="name one"):
        choose_measurer({"a-toy": {}, "brain-tissue": {}}, cohort)


@pytest.mark.usefixtures("toy_measurer")
def test_a_measurer_s_parameters_change_what_is_kept():
    plain, other = (composition_key("data", Planned("a-toy", {"installed": on})) for on in (True, False))
    assert plain != other


@dataclasses.dataclass
class Weighted(Extractor):
    """Reads a weights file."""

    card = Card("weighted")
    weights: str = param("", "path of the weights")
    gain: float = param(1.0, "factor", minimum=0)

    def check(self, geometry):
        if not Path(self.weights).is_file():
            raise PluginError(f"weighted: there is no {self.weights}")

    def extract(self, volumes, composition=None):
        return np.zeros((len(volumes), 1, 1))

    def digest(self, geometry):
        return hashlib.sha256(Path(self.weights).read_bytes()).hexdigest()


@dataclasses.dataclass
class Learning(Weighted):
    """Learns, and reads quantities."""

    learns = True
    uses_composition = True


@pytest.fixture
def weights(monkeypatch, tmp_path):
    for name, plugin in (("weighted", Weighted), ("learning", Learning)):
        monkeypatch.setitem(plugins._from_files["measurers"], name, plugin)
    path = tmp_path / "weights.bin"
    path.write_bytes(b"1")
    return path


def test_an_extractor_takes_parameters_and_is_asked_whether_it_works(weights):
    cohort = toy_cohort(4)
    params = {"weights": str(weights), "gain": 2.0}
    assert choose_extractor({"weighted": params}, cohort) == Planned("weighted", params)
    assert choose_extractor("random-cnn", cohort).build("measurers").networks == 5
    assert choose_extractor(None, cohort) is None
    with pytest.raises(PluginError, match="there is no"):
        choose_extractor("weighted", cohort)
    with pytest.raises(PluginError, match="must lie between 0"):
        choose_extractor({"weighted": {**params, "gain": -1}}, cohort)
    with pytest.raises(PluginError, match="gives no feature vectors"):
        choose_extractor("brain-tissue", cohort)
    with pytest.raises(ConfigError, match=r"extractor: .* name one"):
        choose_extractor({"weighted": {}, "random-cnn": {}}, cohort)


def test_a_plan_reads_back_what_json_kept(weights):
    plan = plan_of({"bootstrap": {}}, extractor={"weighted": {"weights": str(weights)}})
    assert Plan.from_dict(dataclasses.asdict(plan)) == plan


def test_other_parameters_or_weights_change_an_extractor_s_key(weights):
    geometry = toy_cohort(1).images.geometry

    def key(name="weighted", train="train", **params):
        return extractor_key(Planned(name, {"weights": str(weights), **params}), geometry, train, "cpu", 1)

    plain = key()
    assert key(train="other") == plain, "what learns nothing does not depend on the training subjects"
    changed = {plain, key(gain=2.0), key("learning"), key("learning", train="other")}
    learned = key("learning")
    weights.write_bytes(b"2")
    assert key() not in changed
    assert key("learning") == learned
    assert len(changed) == 4


def test_features_depend_on_the_weights_and_on_quantities_only_where_they_are_used(weights):
    planned, learning = (Planned(name, {"weights": str(weights)}) for name in ("weighted", "learning"))
    assert features_key("data", planned, "a", "c") != features_key("data", planned, "b", "c")
    assert features_key("data", planned, "a", "c") == features_key("data", planned, "a", "d")
    assert features_key("data", learning, "a", "c") != features_key("data", learning, "a", "d")


def test_samples_that_exist_already_are_one_cell_and_may_stand_in_a_pair():
    rows = dataclasses.replace(toy_cohort(8), volumes=None)
    samples = {"mine": Samples(rows, copies=True)}
    config = Config(cohort={}, generators={"pair(mine, permuted)": {}}, measurer=None, fit_seeds=(2, 5))
    cells = {cell.id: cell for cell in make_plan(config, toy_cohort(8), samples).cells}
    assert list(cells) == [
        "mine.fit2", "permuted.fit2", "pair_mine_permuted.fit2", "permuted.fit5", "pair_mine_permuted.fit5"
    ]  # fmt: skip
    mine = cells["mine.fit2"]
    assert (mine.recorded, mine.plugin, mine.modalities, mine.copies) == (True, "", ("table",), True)
    assert cells["pair_mine_permuted.fit5"].components == ("mine.fit2", "permuted.fit5")
    with pytest.raises(ConfigError, match="'mine' samples no volume"):
        make_plan(
            config.model_copy(update={"generators": {"pair(permuted, mine)": {}}}), toy_cohort(8), samples
        )
