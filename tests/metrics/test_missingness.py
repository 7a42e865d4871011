import numpy as np
import pandas as pd
import pytest

from mmbench.api import Trial
from mmbench.metrics.missingness import Missingness


def remade(people, evidence, **columns):
    rows = evidence.cohort.rows
    return people.with_table(evidence, rows.assign(**columns))


def details(trial, output):
    return {s.item: s for s in Missingness().scores(trial) if s.output == output}


def missing_for(people, evidence, share, by):
    """Return records whose HbA1c is missing for the upper share of another column."""
    rng = np.random.default_rng(0)
    full = np.where(
        np.isnan(rows := evidence.cohort.rows["hba1c"].to_numpy()), rng.uniform(5, 7, len(rows)), rows
    )
    rank = pd.Series(by).rank(pct=True).to_numpy()
    return remade(people, evidence, hba1c=np.where(rank > 1 - share, np.nan, full))


@pytest.mark.parametrize("n", [80, 300])
def test_fresh_real_records_give_nothing_at_any_size(people, headline, n):
    found = [headline(Missingness(), people.trial(n=n, seed=10 * seed)) for seed in range(20)]
    for name, tolerance in (("missing-rates", 0.01), ("missing-patterns", 0.05)):
        values = [scores[name].value for scores in found]
        assert np.mean(values) == pytest.approx(0, abs=tolerance)
        assert min(values) < 0 < max(values)


def test_a_changed_rate_shows_as_a_root_mean_square_over_all_columns(people):
    trial = people.trial(n=400)
    gone = remade(people, trial.synthetic, bmi=np.where(np.arange(400) < 200, np.nan, 25.0))
    found = details(Trial(trial.reference, gone, trial.train, 0), "missing-rates")
    assert found["bmi"].value == pytest.approx(0.5)
    assert found[""].value == pytest.approx(0.5 / np.sqrt(7), abs=0.02)
    assert found[""].low < found[""].value < found[""].high
    assert found["p"].value == pytest.approx(0.005)


def test_a_changed_pattern_shows_at_the_same_rate(people):
    trial = people.trial(n=300)
    ages = trial.synthetic.cohort.rows["age"].to_numpy()
    other = missing_for(people, trial.synthetic, trial.reference.cohort.rows["hba1c"].isna().mean(), ages)
    changed = Trial(trial.reference, other, trial.train, 0)
    rates, patterns = details(changed, "missing-rates"), details(changed, "missing-patterns")
    assert rates[""].low < 0
    assert patterns[""].low > 0.05
    assert patterns["hba1c missing ~ age"].value > 0.4
    assert patterns["p"].value == pytest.approx(0.005)
    assert "hba1c missing ~ hba1c" not in patterns


def test_values_that_are_missing_together_show(people):
    trial = people.trial(n=300)
    rows = trial.synthetic.cohort.rows
    ethnicity = rows["ethnicity"].astype(object).where(rows["hba1c"].notna(), None)
    found = details(
        Trial(trial.reference, remade(people, trial.synthetic, ethnicity=ethnicity), trial.train, 0),
        "missing-patterns",
    )
    assert found["hba1c missing ~ ethnicity missing"].value > 0.6


def test_a_complete_synthetic_table_counts_as_no_association(people):
    trial = people.trial(n=200)
    ages = trial.reference.cohort.rows["age"].to_numpy()
    reference = missing_for(people, trial.reference, 0.3, ages)
    complete = missing_for(people, trial.synthetic, 0.0, ages)
    found = details(Trial(reference, complete, trial.train, 0), "missing-patterns")
    assert found["hba1c missing ~ age"].value < -0.5
    assert found[""].value > 0.1


def test_nothing_missing_gives_a_reason(people, headline):
    trial = people.trial()
    complete = [remade(people, side, hba1c=5.0, ethnicity="a") for side in (trial.reference, trial.synthetic)]
    scores = headline(Missingness(), Trial(*complete, trial.train, 0))
    assert all(np.isnan(score.value) for score in scores.values())
    assert "no value is missing" in scores["missing-rates"].reason
    assert "no column of the reference" in scores["missing-patterns"].reason


def test_units_and_orders_do_not_matter(people, headline):
    trial = people.trial(people.draw(70, 9))
    before = headline(Missingness(), trial)

    def shuffled(side):
        return side.take(np.random.default_rng(1).permutation(len(side)))

    def scaled(side):
        return remade(people, side, age=12 * side.cohort.rows["age"])

    for change in (people.columns_reversed, shuffled, scaled):
        after = headline(Missingness(), people.map_trial(trial, change))
        for name, score in before.items():
            assert after[name].value == pytest.approx(score.value, abs=1e-10)
