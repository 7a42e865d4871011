import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from mmbench.api import Cohort, Column, Evidence, Schema, Trial
from mmbench.metrics.column_shapes import ColumnShapes


def one_column(column, values):
    schema = Schema((column,))
    table = schema.coerce(pd.DataFrame({column.name: values}))
    return Evidence(Cohort("c", schema, np.arange(len(table)).astype(str), table))


def difference(column, real, synthetic):
    sides = [one_column(column, values) for values in (real, synthetic)]
    return next(iter(ColumnShapes().scores(Trial(*sides, sides[0], 0)))).value


def test_numbers_give_the_kolmogorov_smirnov_statistic():
    rng = np.random.default_rng(0)
    real, synthetic = rng.normal(size=50).round(1), rng.normal(0.5, 2, 80).round(1)
    expected = scipy_stats.ks_2samp(real, synthetic).statistic
    assert difference(Column("x", "continuous"), real, synthetic) == pytest.approx(expected, abs=1e-12)


def test_levels_give_total_variation_with_missing_as_a_level():
    column = Column("c", "categorical", levels=("x", "y"), missing=True)
    real, synthetic = ["x"] * 5 + ["y"] * 5, ["x"] * 5 + ["y"] * 3 + [None] * 2
    assert difference(column, real, synthetic) == pytest.approx(0.2)


@pytest.mark.parametrize("turn", [1.0, -1.0])
def test_missing_numbers_count_whichever_way_the_column_is_turned(turn):
    column = Column("x", "continuous", missing=True)
    values = turn * np.arange(20.0)
    gone = np.where(np.arange(20) < 8, np.nan, values)
    # The lowest (or highest) eight are missing: all mass below the ninth has moved.
    assert difference(column, values, gone) == pytest.approx(0.4)
    assert difference(column, values, np.full(20, np.nan)) == pytest.approx(1)
    assert difference(column, gone, gone) == 0


def test_headline_is_the_mean_of_the_columns_within_its_interval(people):
    first, *items = ColumnShapes().scores(people.trial())
    assert [score.item for score in items] == people.schema.names
    assert first.value == pytest.approx(np.mean([score.value for score in items]))
    assert 0 <= first.low < first.value < first.high <= 1


def test_same_rows_differ_by_nothing_and_uniform_ones_by_much(people, headline):
    trial = people.trial()
    same = headline(ColumnShapes(), Trial(trial.reference, trial.reference, trial.train, 0))["column-shapes"]
    rng = np.random.default_rng(0)
    rows = trial.synthetic.cohort.rows
    uniform = rows.assign(bmi=rng.uniform(10, 60, len(rows)), age=rng.uniform(0, 150, len(rows)))
    worse = headline(ColumnShapes(), people.trial(people.with_table(trial.synthetic, uniform)))[
        "column-shapes"
    ]
    assert same.value == 0
    assert worse.value > headline(ColumnShapes(), trial)["column-shapes"].value + 0.05


def test_orders_and_sizes_do_not_matter(people, headline):
    trial = people.trial(people.draw(60, 9))
    value = headline(ColumnShapes(), trial)["column-shapes"].value
    turned = people.map_trial(trial, people.columns_reversed)
    shuffled = people.map_trial(
        trial, lambda side: side.take(np.random.default_rng(1).permutation(len(side)))
    )
    assert headline(ColumnShapes(), turned)["column-shapes"].value == pytest.approx(value, abs=1e-12)
    assert headline(ColumnShapes(), shuffled)["column-shapes"].value == pytest.approx(value, abs=1e-12)


def test_too_few_records_give_a_reason(people, headline):
    score = headline(ColumnShapes(), people.trial(people.draw(3, 1)))["column-shapes"]
    assert np.isnan(score.value)
    assert "synthetic sample has 3 records" in score.reason
