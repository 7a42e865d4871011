"""Every installed metric sits the same exam."""

import dataclasses

import pytest

from mmbench import plugins
from mmbench.testing import check_metric, toy_trial


@pytest.mark.parametrize("name", plugins.names("metrics"))
def test_metric_keeps_the_contract(name):
    check_metric(plugins.build("metrics", name, {}), toy_trial())


@pytest.mark.parametrize("name", plugins.names("metrics"))
def test_metric_says_what_it_means_and_what_it_cannot_see(name):
    metric = plugins.load("metrics", name)
    assert metric.card.reference
    for output in metric.outputs:
        assert output.meaning.endswith(".")
        assert output.blind.endswith(".")


def test_output_names_are_unique_over_all_metrics():
    names = [
        output.name for name in plugins.names("metrics") for output in plugins.load("metrics", name).outputs
    ]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", plugins.names("metrics"))
def test_metric_survives_a_handful_of_records(name):
    trial = toy_trial(6)
    two = dataclasses.replace(trial, synthetic=trial.synthetic.take([0, 1]))
    check_metric(plugins.build("metrics", name, {}), two)
