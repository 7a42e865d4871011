import numpy as np
import pandas as pd
import pytest

from mmbench.api import Cohort, Column, Evidence, Schema, Trial
from mmbench.metrics.associations import Associations

NAME = "association-difference"


def value(metric_headline, trial):
    return metric_headline(Associations(), trial)[NAME]


def test_identity_and_permuted_columns_are_in_order(people, headline):
    trial = people.trial()
    same = value(headline, Trial(trial.reference, trial.reference, trial.train, 0))
    real = value(headline, trial)
    broken = value(headline, people.trial(people.columns_permuted(trial.synthetic)))
    assert same.value < 0
    assert same.value < real.value < broken.low < broken.value < broken.high


@pytest.mark.parametrize("n", [60, 300])
def test_fresh_real_records_give_nothing_at_any_size(people, headline, n):
    values = [value(headline, people.trial(n=n, seed=10 * seed)).value for seed in range(20)]
    assert np.mean(values) == pytest.approx(0, abs=0.05)
    assert min(values) < 0 < max(values)


def test_the_headline_is_the_root_mean_square_of_true_differences(headline):
    def draw(n, rho, seed):
        rng = np.random.default_rng(seed)
        x, z = rng.standard_normal((2, n))
        table = pd.DataFrame({"x": x, "y": rho * x + np.sqrt(1 - rho**2) * z, "w": rng.standard_normal(n)})
        schema = Schema(tuple(Column(name, "continuous") for name in table))
        return Evidence(Cohort("c", schema, np.arange(n).astype(str), schema.coerce(table)))

    sides = [draw(20_000, 0.8, 0), draw(20_000, 0.2, 1)]
    spearman = [6 / np.pi * np.arcsin(rho / 2) for rho in (0.8, 0.2)]
    # One of three pairs differs.
    expected = (spearman[0] - spearman[1]) / np.sqrt(3)
    assert value(headline, Trial(*sides, sides[0], 0)).value == pytest.approx(expected, abs=0.01)


def test_details_are_signed_differences_of_every_pair(people):
    trial = people.trial()
    broken = {
        s.item: s.value for s in Associations().scores(people.trial(people.columns_permuted(trial.synthetic)))
    }
    pairs = [item for item in broken if "~" in item]
    assert len(pairs) == 21
    assert broken["bmi ~ hba1c"] < -0.2
    assert broken["p"] == pytest.approx(0.005)
    # Two-level and three-level columns, each explained by each.
    assert {item for item in broken if item.startswith("U(")} == {
        f"U({a} | {b})"
        for a in ("sex", "ethnicity", "diabetes")
        for b in ("sex", "ethnicity", "diabetes")
        if a != b
    }


def test_a_flipped_effect_of_a_two_level_column_shows(people):
    trial = people.trial()
    rows = trial.reference.cohort.rows
    flipped = rows.assign(
        diabetes=rows["diabetes"].cat.rename_categories([True, False]).cat.reorder_categories([False, True])
    )
    synthetic = people.with_table(trial.reference, flipped)
    scores = {score.item: score.value for score in Associations().scores(people.trial(synthetic))}
    assert scores["bmi ~ diabetes"] < -0.2


def test_it_shows_which_level_goes_with_which_values(headline):
    def draw(n, seed, means):
        rng = np.random.default_rng(seed)
        group = rng.integers(0, 3, n)
        table = pd.DataFrame(
            {"group": np.array(list("abc"))[group], "x": np.take(means, group) + rng.standard_normal(n)}
        )
        schema = Schema((Column("group", "categorical", levels=tuple("abc")), Column("x", "continuous")))
        return Evidence(Cohort("c", schema, np.arange(n).astype(str), schema.coerce(table)))

    real, moved = draw(200, 0, [0, 1, 2]), draw(200, 1, [2, 0, 1])
    trial = Trial(real, moved, real, 0)
    assert value(headline, trial).low > 0.3
    strength = next(s for s in Associations().scores(trial) if s.item == "group ~ x")
    assert strength.value == pytest.approx(0, abs=0.15)


def test_units_orders_levels_and_constant_columns_do_not_matter(people, headline):
    trial = people.trial(people.draw(70, 9))
    expected = value(headline, trial).value

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
        other = value(headline, people.map_trial(trial, change)).value
        assert other == pytest.approx(expected, abs=1e-10), change.__name__


def test_a_constant_synthetic_column_has_no_association_and_a_constant_reference_no_score(people, headline):
    trial = people.trial()
    constant = trial.synthetic.cohort.rows.assign(bmi=25.0)
    scores = list(Associations().scores(people.trial(people.with_table(trial.synthetic, constant))))
    real = {score.item: score.value for score in Associations().scores(trial)}
    item = next(score for score in scores if score.item == "age ~ bmi")
    assert item.value < real["age ~ bmi"] - 0.1
    assert scores[0].value > 0.1
    flat = people.with_table(trial.reference, trial.reference.cohort.rows.iloc[[0] * len(trial.reference)])
    score = value(headline, Trial(flat, trial.synthetic, trial.train, 0))
    assert np.isnan(score.value)
    assert "no pair of columns" in score.reason
