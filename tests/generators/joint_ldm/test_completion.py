import numpy as np
import pandas as pd
import pytest

from mmbench.api import Column, PluginError, Schema
from mmbench.generators.joint_ldm.completion import needed, partial_rows, settle, sources

RANGES = {"height_cm": (140, 210), "weight_kg": (40, 200), "age": (20, 75), "waist_cm": (50, 150)}


@pytest.mark.parametrize(
    "given",
    [
        {"bmi": 32.0},
        {"bmi": 26.37, "height_cm": 171.3},
        {"bmi": 26.37, "weight_kg": 80.0},
        {"sex": "F", "bmi": 21, "activity": "low", "age": 40, "diabetes": True},
    ],
)
def test_given_values_are_there_and_formulas_hold_to_rounding(kit, given):
    table = kit.people(60)
    settled = settle(table, partial_rows(given, kit.SCHEMA, 60), kit.SCHEMA, RANGES)
    for name, value in given.items():
        assert (settled[name] == value).all()
    # Both sources known or one of them: within half of the last decimal either way.
    np.testing.assert_allclose(kit.SCHEMA.derive(settled)["bmi"], settled["bmi"], atol=0.0051)


def test_only_the_first_unknown_source_moves_far(kit):
    table = kit.people(60)
    settled = settle(table, partial_rows({"bmi": 32.0}, kit.SCHEMA, 60), kit.SCHEMA, RANGES)
    assert (settled["height_cm"] - table["height_cm"]).abs().max() < 4.1
    np.testing.assert_array_equal(settled["weight_kg"], settled["weight_kg"].round(1))
    np.testing.assert_array_equal(settled["waist_cm"], table["waist_cm"])


def test_each_row_may_know_other_columns(kit):
    known = pd.DataFrame({"bmi": [30.0, np.nan, 25.0], "weight_kg": [np.nan, 70.0, 80.0]})
    settled = settle(kit.people(3), partial_rows(known, kit.SCHEMA), kit.SCHEMA, RANGES)
    assert settled["bmi"].tolist()[::2] == [30.0, 25.0]
    assert settled["weight_kg"].tolist()[1:] == [70.0, 80.0]


def test_what_a_known_derived_value_needs_is_needed(kit):
    known = partial_rows({"bmi": 32.0, "sex": "F"}, kit.SCHEMA, 2)
    there = pd.DataFrame(needed(known, kit.SCHEMA), columns=kit.SCHEMA.names)
    assert there.columns[there.all()].tolist() == ["sex", "height_cm", "weight_kg", "bmi"]


def test_sources_reach_through_derived_columns():
    schema = Schema(
        (
            Column("a", "continuous"),
            Column("ab", "continuous", formula="a + b"),
            Column("b", "continuous"),
            Column("c", "continuous", formula="2 * ab - a"),
        )
    )
    assert sources(schema["c"], schema) == ["a", "b"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"bmi": 32.0, "weight_kg": 80.0, "height_cm": 170.0}, "bmi = 32 contradicts"),
        ({"bmi": 500.0}, "within their ranges"),
        ({"sex": "X"}, "'X' is not among the levels"),
        ({"age": 50.5}, "no whole number"),
        ({"shoe": 43}, "no column 'shoe'"),
    ],
)
def test_values_that_cannot_be_are_refused(kit, given, message):
    with pytest.raises(PluginError, match=message):
        settle(kit.people(4), partial_rows(given, kit.SCHEMA, 4), kit.SCHEMA, RANGES)
