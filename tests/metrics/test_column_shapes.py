import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from mmbench.api import Cohort, Column, Evidence, Schema, Trial
from mmbench.metrics.column_shapes import ColumnShapes


def evidence(columns, values):
    schema = Schema(tuple(columns))
    table = schema.coerce(pd.DataFrame({c.name: v for c, v in zip(columns, values, strict=True)}))
    return Evidence(Cohort("c", schema, np.arange(len(table)).astype(str), table))


def scores(columns, real, synthetic):
    sides = [evidence(columns, values) for values in (real, synthetic)]
    return {score.item: score for score in ColumnShapes().scores(Trial(*sides, sides[0], 0))}


def difference(column, real, synthetic):
    return scores([column], [real], [synthetic])[column.name].value


def test_numbers_give_the_kolmogorov_smirnov_statistic():
    rng = np.random.default_rng(0)
    real, synthetic = rng.normal(size=50).round(1), rng.normal(0.5, 2, 80).round(1)
    expected = scipy_stats.ks_2samp(real, synthetic).statistic
    assert difference(Column("x", "continuous"), real, synthetic) == pytest.approx(expected, abs=1e-12)


def test_columns_are_those_of_sdmetrics():
    metrics = pytest.importorskip("sdmetrics.single_column", reason="comes with the extra sdv")
    rng = np.random.default_rng(1)
    real, synthetic = rng.normal(size=70).round(1), rng.normal(0.3, 1, 60).round(1)
    ours = difference(Column("x", "continuous"), real, synthetic)
    theirs = metrics.KSComplement.compute(pd.Series(real), pd.Series(synthetic))
    assert ours == pytest.approx(1 - theirs, abs=1e-12)
    real, synthetic = rng.choice(list("abc"), 70), rng.choice(list("abc"), 60, p=[0.2, 0.2, 0.6])
    ours = difference(Column("c", "categorical", levels=tuple("abc")), real, synthetic)
    theirs = metrics.TVComplement.compute(pd.Series(real), pd.Series(synthetic))
    assert ours == pytest.approx(1 - theirs, abs=1e-12)


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


@pytest.mark.parametrize("n", [100, 500])
def test_fresh_real_records_give_nothing_at_any_size(people, headline, n):
    values = [
        headline(ColumnShapes(), people.trial(n=n, seed=10 * seed))["column-shapes"].value
        for seed in range(12)
    ]
    assert np.mean(values) == pytest.approx(0, abs=0.02)
    assert min(values) < 0 < max(values)


def test_far_from_chance_the_headline_is_the_root_mean_square():
    columns = [Column("x", "continuous"), Column("y", "continuous")]
    rng = np.random.default_rng(0)
    real, near, far = rng.normal(size=(2, 400)), rng.normal(size=400), rng.normal(9, 1, 400)
    found = scores(columns, real, [near, far])
    assert found["y"].value == 1
    assert found[""].value == pytest.approx(np.sqrt(1 / 2), abs=0.01)
    assert found[""].low < found[""].value < found[""].high <= 1
    assert found["adjusted p of y"].value == pytest.approx(0.005)
    assert found["adjusted p of x"].value > 0.05
    assert found["p"].value == pytest.approx(0.005)
    assert found["floor"].value == pytest.approx(0.907 / np.sqrt(200), rel=0.1)


def test_the_same_rows_are_closer_than_chance_and_uniform_ones_far(people, headline):
    trial = people.trial()
    same = headline(ColumnShapes(), Trial(trial.reference, trial.reference, trial.train, 0))["column-shapes"]
    rng = np.random.default_rng(0)
    rows = trial.synthetic.cohort.rows
    uniform = rows.assign(bmi=rng.uniform(10, 60, len(rows)), age=rng.uniform(0, 150, len(rows)))
    worse = headline(ColumnShapes(), people.trial(people.with_table(trial.synthetic, uniform)))
    assert same.value < same.high < 0
    assert worse["column-shapes"].value > headline(ColumnShapes(), trial)["column-shapes"].value + 0.1


def test_units_orders_levels_and_constant_columns_do_not_matter(people, headline):
    trial = people.trial(people.draw(60, 9))
    value = headline(ColumnShapes(), trial)["column-shapes"].value

    def changed(side):
        rows = side.cohort.rows.assign(age=side.cohort.rows["age"] * 365.25 + 7, constant=1.0)
        schema = Schema((*people.schema.columns, Column("constant", "continuous")))
        return Evidence(Cohort("c", schema, side.cohort.ids, schema.coerce(rows)))

    def relabelled(side):
        columns = [
            c if c.name != "ethnicity" else Column(c.name, c.kind, levels=("c", "a", "b"), missing=True)
            for c in people.schema
        ]
        schema = Schema(tuple(columns))
        return Evidence(
            Cohort(
                "c", schema, side.cohort.ids, schema.coerce(side.cohort.rows.astype({"ethnicity": object}))
            )
        )

    def shuffled(side):
        return side.take(np.random.default_rng(1).permutation(len(side)))

    for change in (people.columns_reversed, shuffled, changed, relabelled):
        other = headline(ColumnShapes(), people.map_trial(trial, change))["column-shapes"].value
        assert other == pytest.approx(value, abs=1e-10), change.__name__


def test_what_cannot_be_compared_gives_a_reason(people, headline):
    score = headline(ColumnShapes(), people.trial(people.draw(3, 1)))["column-shapes"]
    assert np.isnan(score.value)
    assert "synthetic sample has 3 records" in score.reason
    constant = scores([Column("x", "continuous")], [np.ones(20)], [np.ones(20)])[""]
    assert np.isnan(constant.value)
    assert "no column varies" in constant.reason
