import numpy as np
import pytest

from mmbench.api import Trial
from mmbench.metrics.associations import Associations

NAME = "association-difference"


def test_identity_noise_and_permuted_columns_are_in_order(people, headline):
    trial = people.trial()
    same = headline(Associations(), Trial(trial.reference, trial.reference, trial.train, 0))[NAME]
    real = headline(Associations(), trial)[NAME]
    broken = headline(Associations(), people.trial(people.columns_permuted(trial.synthetic)))[NAME]
    assert same.value == 0
    assert 0 < real.value < real.high < broken.value


def test_details_are_signed_differences_of_every_pair(people):
    trial = people.trial()
    first, *items = Associations().scores(trial)
    assert len(items) == 21
    assert first.value == pytest.approx(np.mean([abs(score.value) for score in items]))
    broken = list(Associations().scores(people.trial(people.columns_permuted(trial.synthetic))))
    bmi = next(score for score in broken if score.item == "bmi ~ hba1c")
    assert bmi.value < -0.2


def test_a_flipped_effect_of_a_two_level_column_shows(people):
    trial = people.trial()
    rows = trial.reference.cohort.rows
    flipped = rows.assign(
        diabetes=rows["diabetes"].cat.rename_categories([True, False]).cat.reorder_categories([False, True])
    )
    synthetic = people.with_table(trial.reference, flipped)
    scores = {score.item: score.value for score in Associations().scores(people.trial(synthetic))}
    assert scores["bmi ~ diabetes"] < -0.2


def test_orders_and_sizes_do_not_matter(people, headline):
    trial = people.trial(people.draw(70, 9))
    value = headline(Associations(), trial)[NAME].value
    turned = people.map_trial(trial, people.columns_reversed)
    shuffled = people.map_trial(
        trial, lambda side: side.take(np.random.default_rng(1).permutation(len(side)))
    )
    assert headline(Associations(), turned)[NAME].value == pytest.approx(value, abs=1e-12)
    assert headline(Associations(), shuffled)[NAME].value == pytest.approx(value, abs=1e-12)


def test_a_constant_synthetic_column_has_no_association_and_a_constant_reference_no_score(people, headline):
    trial = people.trial()
    constant = trial.synthetic.cohort.rows.assign(bmi=25.0)
    scores = list(Associations().scores(people.trial(people.with_table(trial.synthetic, constant))))
    real = {score.item: score.value for score in Associations().scores(trial)}
    item = next(score for score in scores if score.item == "age ~ bmi")
    assert item.value < real["age ~ bmi"] - 0.1
    flat = people.with_table(trial.reference, trial.reference.cohort.rows.iloc[[0] * len(trial.reference)])
    score = headline(Associations(), Trial(flat, trial.synthetic, trial.train, 0))[NAME]
    assert np.isnan(score.value)
    assert "no pair of columns" in score.reason
