import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import pdist

from mmbench.api import Column, Schema
from mmbench.metrics._table_space import MAX_MISMATCH, TableSpace


def test_two_random_real_rows_are_at_squared_distance_one(people):
    rows = people.draw(400, 0).cohort.rows
    points = TableSpace.fit(people.schema, rows).embed(rows)
    assert np.mean(pdist(points) ** 2) == pytest.approx(1, rel=0.01)


def test_distances_do_not_depend_on_units_or_column_order(people):
    rows = people.draw(80, 0).cohort.rows
    plain = pdist(TableSpace.fit(people.schema, rows).embed(rows))
    other = rows.assign(age=rows["age"] * 365.25 - 100, bmi=-rows["bmi"])
    schema = Schema(tuple(reversed(people.schema.columns)))
    changed = pdist(TableSpace.fit(schema, other[schema.names]).embed(other[schema.names]))
    np.testing.assert_allclose(changed, plain, rtol=1e-10, atol=1e-12)


def test_gaps_between_clusters_stay_and_a_heavy_tail_hides_nothing():
    rng = np.random.default_rng(0)
    schema = Schema((Column("x", "continuous"),))
    real = pd.DataFrame({"x": rng.choice([0.0, 10.0], 400) + 0.1 * rng.standard_normal(400)})
    low, middle, high = TableSpace.fit(schema, real).embed(pd.DataFrame({"x": [0.0, 5.0, 10.0]}))[:, 0]
    assert middle - low == pytest.approx(high - middle)
    heavy = pd.DataFrame({"x": rng.pareto(1.0, 4000)})
    quartiles = heavy.quantile([0.25, 0.75])
    spread = np.ptp(TableSpace.fit(schema, heavy).embed(quartiles))
    assert spread > 0.3 * np.ptp(TableSpace.fit(schema, real[:200]).embed(real[:200].quantile([0.25, 0.75])))


def test_ordinal_levels_keep_their_order_with_those_that_no_real_row_has():
    schema = Schema((Column("x", "ordinal", levels=(1.0, 2.0, 3.0, 4.0, 5.0)),))
    real = schema.coerce(pd.DataFrame({"x": [2.0] * 10 + [4.0] * 30}))
    points = TableSpace.fit(schema, real).embed(schema.coerce(pd.DataFrame({"x": [1.0, 2, 3, 4, 5]})))[:, 0]
    assert (np.diff(points) > 0).all()


def test_a_mismatch_costs_one_over_its_probability_up_to_a_limit():
    schema = Schema((Column("c", "categorical", levels=("x", "y")),))
    even = pd.DataFrame({"c": pd.Categorical(["x", "y"] * 50, categories=["x", "y"])})
    rare = pd.DataFrame({"c": pd.Categorical(["x"] * 99 + ["y"], categories=["x", "y"])})
    assert pdist(TableSpace.fit(schema, even).embed(even[:2]))[0] ** 2 == pytest.approx(2)
    assert pdist(TableSpace.fit(schema, rare).embed(rare[-2:]))[0] ** 2 == pytest.approx(MAX_MISMATCH)


def test_values_beyond_the_real_range_are_further_out_but_not_without_limit():
    schema = Schema((Column("x", "continuous"),))
    real = pd.DataFrame({"x": np.random.default_rng(0).normal(size=200)})
    values = pd.DataFrame({"x": [0.0, 1, 2, 6, 12, 24, 1e6, 1e9]})
    steps = np.diff(TableSpace.fit(schema, real).embed(values)[:, 0])
    assert steps[0] == pytest.approx(steps[1])
    assert 0 < steps[4] <= steps[3] < 4 * steps[0]
    assert steps[-1] == 0


def test_missing_values_are_a_distance_of_their_own_and_constant_columns_are_none():
    schema = Schema((Column("x", "continuous", missing=True), Column("k", "continuous")))
    real = pd.DataFrame({"x": [1.0, 2.0, 3.0, np.nan], "k": 7.0})
    points = TableSpace.fit(schema, real).embed(pd.DataFrame({"x": [2.0, np.nan], "k": [7.0, 8.0]}))
    assert points.shape == (2, 2)
    # The imputed value is the median; the indicator alone differs.
    assert points[0, 0] == points[1, 0]
    assert points[0, 1] != points[1, 1]
    assert TableSpace.fit(schema, real.assign(x=1.0)).empty
