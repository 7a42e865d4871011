import dataclasses

import numpy as np
import pytest

from mmbench.metrics._two_sample import MIN_RECORDS
from mmbench.metrics.detection import ImageDetection, JointDetection, TableDetection
from mmbench.testing import check_metric, toy_trial

QUICK = {"permutations": 199}
METRICS = {
    "table-detection": TableDetection,
    "image-detection": ImageDetection,
    "joint-detection": JointDetection,
}


def value(headline, trial, name="table-detection", **parameters):
    return headline(METRICS[name](**QUICK | parameters), trial)[name]


def items(trial, name="table-detection"):
    return {score.item: score.value for score in METRICS[name](**QUICK).scores(trial) if score.item}


@pytest.mark.parametrize("name", METRICS)
def test_fresh_real_records_cannot_be_told_from_others(people, headline, name):
    found = [value(headline, people.trial(seed=10 * seed), name) for seed in range(3)]
    assert np.mean([score.value for score in found]) == pytest.approx(0.5, abs=0.09)
    assert sum(score.low <= 0.5 <= score.high for score in found) >= 2


def test_permuted_columns_are_told_apart_where_each_column_alone_shows_nothing(people, headline):
    trial = people.trial(n=400)
    broken = people.trial(people.columns_permuted(trial.synthetic), n=400)
    assert value(headline, broken).low > 0.55
    details = items(broken)
    assert max(details["p"], details["p discriminant"], details["p trees"]) <= 0.02
    assert min(details["discriminant"], details["trees"]) > 0.55


def test_what_is_shifted_or_shrunk_is_told_apart(people, headline):
    trial = people.trial(n=200)
    rows = trial.synthetic.cohort.rows
    bmi = rows["bmi"]
    for changed in (bmi + 3, bmi.mean() + 0.4 * (bmi - bmi.mean())):
        table = people.schema.coerce(rows.assign(bmi=changed))
        assert value(headline, people.trial(people.with_table(trial.synthetic, table), n=200)).low > 0.52


def test_broken_pairs_are_told_apart_by_pairs_only(people, headline):
    trial = people.trial(n=200)
    broken = people.trial(people.pairs_broken(trial.synthetic), n=200)
    assert value(headline, broken, "joint-detection").low > 0.55
    for name in ("table-detection", "image-detection"):
        assert value(headline, broken, name).low < 0.5


def test_pairs_are_judged_by_features_where_nothing_was_measured(people, headline):
    trial = people.trial(n=200)
    bare = people.map_trial(trial, lambda side: dataclasses.replace(side, composition=None))
    shifted = dataclasses.replace(bare.synthetic, features=bare.synthetic.features + 0.5)
    assert value(headline, bare, "joint-detection").low < 0.5
    assert value(headline, dataclasses.replace(bare, synthetic=shifted), "joint-detection").low > 0.55


@pytest.mark.parametrize("name", METRICS)
def test_separate_records_score_one_with_an_interval_that_ends_there(people, headline, name):
    trial = people.trial()
    rows = trial.synthetic.cohort.rows
    table = people.schema.coerce(rows.assign(bmi=rows["bmi"] + 100))
    far = dataclasses.replace(
        people.with_table(trial.synthetic, table), features=trial.synthetic.features + 9
    )
    score = value(headline, people.trial(far), name)
    assert score.value > 0.99
    assert 0.9 < score.low < score.value <= score.high <= 1


@pytest.mark.parametrize("name", METRICS)
def test_copies_of_the_reference_are_not_better_than_perfect(people, headline, name):
    reference = people.trial().reference
    score = value(headline, people.trial(reference), name)
    assert score.value == pytest.approx(0.5, abs=1e-9)
    assert "memorisation alarm: 100% of the synthetic records are near copies" in score.reason
    assert items(people.trial(reference), name)["near-copies"] == 1


def test_twins_that_mislead_the_classifier_raise_the_alarm(people, headline):
    """Copies too far from their originals to count as near ones, and nearer than any other record."""
    trial = people.trial(n=150)
    rng = np.random.default_rng(0)
    rows = trial.reference.cohort.rows
    numbers = ["age", "bmi", "hba1c"]
    noise = {name: rows[name] + 0.12 * rows[name].std() * rng.standard_normal(len(rows)) for name in numbers}
    table = people.schema.coerce(rows.assign(**noise))
    score = value(headline, people.trial(people.with_table(trial.reference, table), n=150))
    assert score.value > 0.5
    assert score.low <= score.value <= score.high
    assert "memorisation alarm" in score.reason


def test_one_record_repeated_is_told_apart(people, headline):
    repeated = people.draw(120, 5).take(np.zeros(120, dtype=int))
    assert value(headline, people.trial(repeated)).value > 0.95
    own = people.trial().reference.take(np.zeros(120, dtype=int))
    assert value(headline, people.trial(own)).value > 0.9


def test_numbers_of_records_are_made_equal(people, headline):
    small, large = people.trial(people.draw(60, 9)), people.trial(people.draw(400, 9))
    for trial in (small, large):
        score = value(headline, trial)
        assert 0.3 < score.value < 0.7
    assert value(headline, small).high - value(headline, small).low > 0.2
    capped = [value(headline, large, max_records=limit).value for limit in (60, 120, 2000)]
    assert capped[0] != capped[1] == capped[2]


@pytest.mark.parametrize("name", METRICS)
def test_orders_and_units_do_not_matter(people, headline, name):
    trial = people.trial(people.draw(70, 9))
    rng = np.random.default_rng(1)

    def scramble(side):
        side = people.columns_reversed(side.take(rng.permutation(len(side))))
        rows = side.cohort.rows.assign(age=side.cohort.rows["age"] * 12)
        composition = side.composition[["lean_l", "fat_l"]] * 1000
        return dataclasses.replace(people.with_table(side, rows), composition=composition)

    expected = value(headline, trial, name).value
    assert value(headline, people.map_trial(trial, scramble), name).value == pytest.approx(expected, abs=1e-9)


def test_one_wild_value_changes_little(people, headline):
    trial = people.trial()
    expected = value(headline, trial).value
    bmi = trial.synthetic.cohort.rows["bmi"].to_numpy(copy=True)
    bmi[0] = 1e6
    table = people.schema.coerce(trial.synthetic.cohort.rows.assign(bmi=bmi))
    wild = people.trial(people.with_table(trial.synthetic, table))
    assert value(headline, wild).value == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize("name", METRICS)
def test_what_cannot_be_compared_gives_a_reason(people, headline, name):
    trial = people.trial()
    few = dataclasses.replace(trial, synthetic=trial.synthetic.take(np.arange(MIN_RECORDS - 1)))
    alone = dataclasses.replace(trial, train=trial.train.take([0]))
    bare = dataclasses.replace(people.with_table(trial.synthetic, None), features=None)
    same = people.map_trial(trial, lambda side: side.take(np.zeros(len(side), dtype=int)))
    for broken, reason in (
        (few, "19 records"),
        (alone, "fewer than 2"),
        (dataclasses.replace(trial, synthetic=bare), "no image features|no table"),
        (same, "nothing varies"),
    ):
        score = value(headline, broken, name)
        assert np.isnan(score.value)
        assert any(part in score.reason for part in reason.split("|"))


@pytest.mark.parametrize("metric", METRICS.values())
def test_contract(metric):
    check_metric(metric(**QUICK), toy_trial())
    check_metric(metric(**QUICK), toy_trial(6))


def test_the_same_seed_gives_the_same_score_and_another_another(people, headline):
    trial = people.trial()
    assert value(headline, trial) == value(headline, trial)
    assert value(headline, dataclasses.replace(trial, seed=7)).value != value(headline, trial).value
