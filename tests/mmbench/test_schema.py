"""Schema: inference, correction, coercion, derived columns, and its form on disk."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbench.errors import CohortError, ConfigError
from mmbench.schema import Column, Schema, as_numbers


def inferred(values, **correction):
    return Schema.infer(pd.DataFrame({"x": values}), {"x": correction} if correction else None)["x"]


class TestInfer:
    @pytest.mark.parametrize(
        ("values", "kind"),
        [
            (["a", "b", "a"], "categorical"),
            ([True, False, True], "boolean"),
            (["True", "False", None], "boolean"),
            (["true", "false"], "boolean"),
            ([1, 2, 3, 2], "ordinal"),
            (["1.0", "2.0", "n"], "categorical"),
            (["0", "0.5", "1", "2"], "ordinal"),
            (range(20), "integer"),
            ([f"{i}.0" for i in range(20)], "integer"),
            (np.arange(20) / 4, "continuous"),
            (["a", 1, 2.5], "categorical"),
        ],
    )
    def test_kind(self, values, kind):
        assert inferred(list(values)).kind == kind

    def test_numbers_have_range_decimals_and_missingness(self):
        column = inferred([*np.arange(20) / 4, None])
        assert (column.minimum, column.maximum, column.decimals, column.missing) == (0, 4.75, 2, True)

    def test_whole_levels_print_without_a_point(self):
        assert [str(level) for level in inferred(["2.0", "1.0", None]).levels] == ["1", "2"]
        assert inferred([0, 0.5, 1, 2]).levels == (0, 0.5, 1, 2)

    def test_order_of_pandas_categories_is_kept(self):
        values = pd.Series(pd.Categorical(["mid", "low"], ["low", "mid", "high"], ordered=True))
        column = inferred(values)
        assert (column.kind, column.levels) == ("ordinal", ("low", "mid", "high"))

    def test_corrections_win(self):
        column = inferred(["1", "2", "1"], kind="categorical", levels=(2, 1, 3), unit="u", description="d")
        assert (column.kind, column.levels, column.unit, column.description) == (
            "categorical",
            (2, 1, 3),
            "u",
            "d",
        )

    @pytest.mark.parametrize(
        ("values", "text"),
        [
            ([None, None], "every value is missing"),
            (["a", None, "a"], "every value is 'a'"),
            ([f"id{i}" for i in range(60)] * 2, "60 distinct values"),
            ([f"id{i}" for i in range(11)], "11 distinct values in 11 rows"),
            ([1.0, 2.0, np.inf], "row 2: inf is no finite number"),
        ],
    )
    def test_unusable_column(self, values, text):
        with pytest.raises(CohortError, match=f"'x'.*{text}"):
            inferred(values)

    def test_text_among_numbers_is_named_by_row(self):
        with pytest.raises(CohortError, match="'x', row 1: 'two' is no number"):
            inferred(["1", "two", "3"], kind="continuous")

    def test_all_unusable_columns_are_listed(self):
        with pytest.raises(CohortError) as caught:
            Schema.infer(pd.DataFrame({"a": [1, 1], "b": [None, None], "c": [1, 2]}))
        assert len(caught.value.problems) == 2

    def test_unknown_names_are_refused_with_the_nearest(self):
        with pytest.raises(ConfigError, match="Did you mean 'x'"):
            Schema.infer(pd.DataFrame({"x": [1, 2]}), {"xx": {}})
        with pytest.raises(ConfigError, match=r"'unti'.*Did you mean 'unit'"):
            inferred([1, 2], unti="m")
        with pytest.raises(ConfigError, match=r"'ordinl'.*Did you mean 'ordinal'"):
            inferred([1, 2], kind="ordinl")


class TestColumn:
    @pytest.mark.parametrize(
        ("values", "text"),
        [
            ({"kind": "categorical"}, "needs its levels"),
            ({"kind": "ordinal", "levels": (1, 2, 1)}, "levels are repeated"),
            ({"kind": "continuous", "minimum": 2, "maximum": 1}, "minimum"),
            ({"kind": "number"}, "unknown kind"),
        ],
    )
    def test_contradictions(self, values, text):
        with pytest.raises(ConfigError, match=f"'x'.*{text}"):
            Column("x", **values)

    def test_label(self):
        assert Column("age", "continuous", unit="years").label == "age [years]"
        assert Column("ratio", "continuous").label == "ratio"

    def test_repeated_names(self):
        with pytest.raises(ConfigError, match="repeated: x"):
            Schema((Column("x", "continuous"), Column("x", "integer")))


class TestCoerce:
    schema = Schema(
        (
            Column("age", "integer"),
            Column("grade", "ordinal", levels=(0, 0.5, 1), missing=True),
            Column("sex", "categorical", levels=("F", "M")),
            Column("smoker", "boolean", missing=True),
        )
    )

    def frame(self, **values):
        base = {"age": ["31", "42"], "grade": ["0.5", None], "sex": ["M", "F"], "smoker": ["True", None]}
        return pd.DataFrame(base | values, index=["a", "b"])

    def test_types_and_order(self):
        table = self.schema.coerce(self.frame()[["sex", "smoker", "grade", "age"]])
        assert table.columns.tolist() == ["age", "grade", "sex", "smoker"]
        assert table.index.tolist() == ["a", "b"]
        assert table["age"].dtype == float
        assert table["grade"].dtype.ordered
        assert not table["sex"].dtype.ordered
        assert table["smoker"].tolist()[0] is True

    @pytest.mark.parametrize(
        "values", [["0", "1"], [0, 1], [0.0, 1.0], ["0.0", "1.0"], [np.int64(0), np.int64(1)]]
    )
    def test_one_number_is_one_level_however_it_was_written(self, values):
        np.testing.assert_array_equal(
            self.schema.codes(self.schema.coerce(self.frame(grade=values)))[:, 1], [0, 2]
        )

    @pytest.mark.parametrize(
        "values", [[False, True], ["False", "True"], ["false", "true"], [0, 1], ["0", "1"]]
    )
    def test_one_truth_value_however_it_was_written(self, values):
        assert self.schema.coerce(self.frame(smoker=values))["smoker"].tolist() == [False, True]

    @pytest.mark.parametrize(
        ("values", "text"),
        [
            ({"age": ["31", "x"]}, "'age', row b: 'x' is no finite number"),
            ({"age": [31, np.inf]}, "'age', row b: inf is no finite number"),
            ({"age": [31, 42.5]}, "'age', row b: 42.5 is no whole number"),
            ({"age": [31, None]}, "'age', row b: a value is missing"),
            ({"sex": ["M", "X"]}, r"'sex', row b: 'X' is not among the levels \['F', 'M'\]"),
            ({"grade": [0.5, 7]}, "'grade', row b: 7.0 is not among the levels"),
        ],
    )
    def test_bad_value_is_named(self, values, text):
        with pytest.raises(CohortError, match=f"sample: column {text}"):
            self.schema.coerce(self.frame(**values), "sample")

    def test_all_problems_are_listed(self):
        with pytest.raises(CohortError) as caught:
            self.schema.coerce(self.frame(age=["x", "1"], sex=["X", "F"]).drop(columns="smoker"))
        assert len(caught.value.problems) == 3

    def test_codes(self):
        codes = self.schema.codes(self.schema.coerce(self.frame()))
        np.testing.assert_array_equal(codes, [[31, 1, 1, 1], [42, np.nan, 0, np.nan]])

    def test_as_numbers(self):
        assert as_numbers(pd.Series(["1", None, "2.5"])).dropna().tolist() == [1, 2.5]
        assert as_numbers(pd.Series(["1", "n/a"])) is None


WEIGHT, HEIGHT = Column("weight", "continuous"), Column("height", "continuous")


class TestFormula:
    def test_bmi(self):
        bmi = Column("bmi", "continuous", decimals=1, formula="weight / (height / 100) ^ 2", missing=True)
        schema = Schema((bmi, WEIGHT, HEIGHT))
        frame = pd.DataFrame({"weight": [80.0, 70, np.nan, 70], "height": [180.0, 175, 170, 0], "bmi": 0.0})
        derived = schema.derive(frame)
        np.testing.assert_array_equal(derived["bmi"], [24.7, 22.9, np.nan, np.nan])
        assert frame["bmi"].eq(0).all()

    def test_derived_from_derived_in_any_order(self):
        columns = (
            Column("c", "continuous", formula="-b"),
            Column("b", "integer", formula="weight * 1.3"),
            WEIGHT,
        )
        derived = Schema(columns).derive(pd.DataFrame({"weight": [1.0, 10.0], "b": 0.0, "c": 0.0}))
        assert derived["c"].tolist() == [-1, -13]

    def test_constant_formula(self):
        schema = Schema((WEIGHT, Column("k", "continuous", formula="2 * 3")))
        assert schema.derive(pd.DataFrame({"weight": [1.0, 2.0], "k": 0.0}))["k"].tolist() == [6, 6]

    def test_towers_of_powers_end_at_once(self):
        schema = Schema((WEIGHT, Column("k", "continuous", formula="9 ** 9 ** 9 ** 9", missing=True)))
        assert schema.derive(pd.DataFrame({"weight": [1.0], "k": 0.0}))["k"].isna().all()

    @pytest.mark.parametrize(
        "formula",
        [
            "__import__('os').system('true')",
            "weight.real",
            "weight[0]",
            "(lambda: 1)()",
            "[weight for weight in (1,)]",
            "weight if weight else 1",
            "weight < 1",
            "weight and 1",
            "weight // 2",
            "'text'",
            "True",
            "2j",
            "f'{weight}'",
            "weight := 1",
            "weight; 1",
            "weight +",
            "",
            "weight\0",
            "(" * 5000 + "weight" + ")" * 5000,
            "1" + "0" * 400,
            "unknown * 2",
            "x * 2",
            "sex * 2",
        ],
    )
    def test_only_arithmetic_over_other_columns_of_numbers(self, formula):
        sex = Column("sex", "categorical", levels=("F", "M"))
        with pytest.raises(ConfigError, match="'x'"):
            Schema((WEIGHT, sex, Column("x", "continuous", formula=formula)))

    def test_unknown_column_gets_the_nearest(self):
        with pytest.raises(ConfigError, match="Did you mean 'weight'"):
            Schema((WEIGHT, Column("x", "continuous", formula="wieght * 2")))

    def test_circles_are_refused(self):
        columns = (Column("a", "continuous", formula="b"), Column("b", "continuous", formula="a"))
        with pytest.raises(ConfigError, match="circle"):
            Schema(columns)

    def test_levels_cannot_be_computed(self):
        with pytest.raises(ConfigError, match="categorical"):
            Schema((WEIGHT, Column("x", "categorical", levels=("a", "b"), formula="weight")))


cells = st.one_of(
    st.none(),
    st.integers(-1000, 1000),
    st.floats(-1e6, 1e6),
    st.booleans(),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=4),
)
alike = st.one_of(
    st.lists(kind, min_size=4, max_size=30)
    for kind in (cells, st.integers(0, 3), st.sampled_from(["a", "b", None]), st.floats(-10, 10) | st.none())
)


@settings(deadline=None, max_examples=200)
@given(values=alike)
def test_an_inferred_schema_takes_its_own_table(values):
    """Whatever the column: it is refused with its name, or typed without loss and restored from JSON."""
    frame = pd.DataFrame({"x": pd.Series(values, dtype=object)})
    problems = []
    try:
        schema = Schema.infer(frame)
    except CohortError as error:
        problems = error.problems
    if problems:
        assert all("'x'" in text for text in problems)
        return
    table = schema.coerce(frame)
    assert table["x"].isna().tolist() == frame["x"].isna().tolist()
    pd.testing.assert_frame_equal(schema.coerce(table), table)
    assert Schema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema
    codes = schema.codes(table)
    assert np.isnan(codes[:, 0]).tolist() == frame["x"].isna().tolist()
    column = schema["x"]
    if not column.discrete:
        assert np.nanmin(codes) >= column.minimum
        assert np.nanmax(codes) <= column.maximum


def test_schema_on_disk_keeps_everything():
    schema = Schema(
        (
            Column("a", "continuous", "kg", 1, 9, decimals=2, missing=True, description="mass"),
            Column("b", "ordinal", levels=(0, 0.5, "x", True)),
            Column("c", "continuous", formula="a * 2"),
        )
    )
    assert Schema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema


def test_schema_from_nonsense():
    with pytest.raises(ConfigError, match="'kind' is absent"):
        Schema.from_dict([{"name": "a"}])
    with pytest.raises(ConfigError, match=r"'knd'.*Did you mean 'kind'"):
        Schema.from_dict([{"name": "a", "knd": "continuous"}])
