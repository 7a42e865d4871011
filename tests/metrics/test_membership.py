import dataclasses

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.metrics import roc_auc_score, roc_curve

from mmbench.api import Evidence
from mmbench.metrics.membership import (
    ImageMembership,
    JointMembership,
    TableMembership,
    density_ratio,
    found_out_p,
    true_positive_rate,
)

METRICS = (TableMembership, ImageMembership, JointMembership)
SPACES = ("table", "image", "joint")


def heads(trial):
    return {score.output: score for metric in METRICS for score in metric().scores(trial) if not score.item}


def alarms(trial):
    found = (score for metric in METRICS for score in metric().scores(trial))
    return {score.output: score.value for score in found if score.item == "p"}


def real(rng, n):
    return rng.normal(size=(n, 5)) / np.sqrt(np.arange(1, 6))


def areas(n_train, n_reference, make, repeats=30):
    found = []
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        train, reference = real(rng, n_train), real(rng, n_reference)
        score = density_ratio(np.concatenate([train, reference]), make(rng, train))
        found.append(roc_auc_score(np.arange(len(score)) < n_train, score))
    return np.array(found)


@pytest.mark.parametrize(("n_train", "n_reference"), [(100, 100), (300, 100), (50, 150)])
@pytest.mark.parametrize("spread", [1.0, 0.5])
def test_area_is_one_half_without_memorisation_whatever_sizes_and_generator(n_train, n_reference, spread):
    found = areas(n_train, n_reference, lambda rng, train: spread * real(rng, 100))
    assert found.mean() == pytest.approx(0.5, abs=3 * found.std() / np.sqrt(len(found)))


def test_area_is_one_for_the_training_set_itself_and_grows_with_nearness():
    def near(noise):
        return areas(100, 100, lambda rng, train: train + noise * rng.normal(size=train.shape), 10).mean()

    assert near(0) == 1
    found = [near(noise) for noise in (0.1, 0.3, 1.0)]
    assert 1 > found[0] > found[1] > found[2] > 0.5


def test_ratio_matches_brute_force():
    rng = np.random.default_rng(0)
    points, synthetic = real(rng, 40), real(rng, 20)
    among = np.sort(cdist(points, points), axis=1)[:, 1:6]
    expected = np.log(among).mean(axis=1) - np.log(cdist(points, synthetic).min(axis=1))
    assert density_ratio(points, synthetic) == pytest.approx(expected)


def test_rate_agrees_with_the_roc_curve_where_a_whole_rank_is_asked_for():
    rng = np.random.default_rng(0)
    members, others = rng.normal(1, 1, 500), rng.normal(0, 1, 999)
    truth = np.repeat([1, 0], [500, 999])
    false, true, _ = roc_curve(truth, np.concatenate([members, others]), drop_intermediate=False)
    # The tenth highest of 999 others is itself not passed, so nine others are.
    assert true_positive_rate(members, others).value == pytest.approx(true[false <= 9 / 999].max())


def test_rate_is_one_in_a_hundred_without_memorisation_and_its_interval_holds_that():
    rng = np.random.default_rng(0)
    for n, m in ((300, 100), (500, 1000)):
        found = [true_positive_rate(rng.normal(size=n), rng.normal(size=m)) for _ in range(300)]
        values = np.array([e.value for e in found])
        assert values.mean() == pytest.approx(0.01, abs=3 * values.std() / np.sqrt(300))
        assert np.mean([e.low <= 0.01 <= e.high for e in found]) >= 0.92


def test_rate_says_what_few_unseen_records_leave_open():
    rng = np.random.default_rng(0)
    members = np.concatenate([rng.normal(9, 1, 100), rng.normal(0, 1, 200)])
    few, many = (true_positive_rate(members, rng.normal(size=m)) for m in (120, 2000))
    assert few.value == pytest.approx(many.value, abs=0.02)
    assert few.low == 0
    assert many.low > 0.25


def test_copies_are_found_out_and_real_records_are_not(people):
    trial = people.trial()
    fresh = heads(trial)
    copies = heads(people.trial(trial.train.take(np.arange(120))))
    exact = dataclasses.replace(trial, train=trial.synthetic)
    same = heads(exact)
    for space in SPACES:
        area = f"{space}-membership-auc"
        assert fresh[area].low < 0.5 < fresh[area].high
        # A third of the members were copied, and the others give nothing away.
        assert copies[area].low > 0.5
        assert copies[f"{space}-membership-tpr"].value == pytest.approx(1 / 3, abs=0.03)
        assert same[area].value > 0.98


def test_too_few_unseen_records_leave_the_rate_out(people):
    trial = people.trial(people.draw(60, 3), n=60)
    for space, metric in zip(SPACES, METRICS, strict=True):
        area, rate = metric().scores(trial)
        assert np.isfinite(area.value)
        assert (area.output, rate.output) == (f"{space}-membership-auc", f"{space}-membership-tpr")
        assert np.isnan(rate.value)
        assert "60 reference records" in rate.reason


def test_orders_do_not_matter(people):
    trial = people.trial()
    first = heads(trial)
    shuffled = people.map_trial(
        trial, lambda side: side.take(np.random.default_rng(1).permutation(len(side)))
    )
    for name, score in heads(people.map_trial(shuffled, people.columns_reversed)).items():
        assert score.value == pytest.approx(first[name].value, abs=1e-9)


def test_what_cannot_be_scored_gives_a_reason(people):
    trial = people.trial()
    rows_only = heads(people.trial(Evidence(trial.synthetic.cohort)))
    assert np.isfinite(rows_only["table-membership-auc"].value)
    assert "no image features" in rows_only["joint-membership-auc"].reason
    assert (
        "no table"
        in heads(people.trial(people.with_table(trial.synthetic, None)))["table-membership-tpr"].reason
    )
    constant = people.map_trial(trial, lambda side: trial.train.take(np.zeros(len(side), dtype=int)))
    for score in heads(constant).values():
        assert "nothing varies" in score.reason
    for score in heads(dataclasses.replace(trial, train=trial.train.take(np.arange(1)))).values():
        assert "fewer than 2" in score.reason


def test_being_found_out_has_an_exact_p(people):
    rng = np.random.default_rng(0)
    p = [found_out_p(rng.standard_normal(360), rng.standard_normal(120), seed) for seed in range(2000)]
    for level in (0.05, 0.2, 0.8):
        assert np.mean(np.array(p) <= level) == pytest.approx(level, abs=0.03)
    copied = alarms(people.trial(people.trial().train.take(np.arange(120))))
    assert set(copied) == {f"{space}-membership-tpr" for space in SPACES}
    assert max(copied.values()) <= 1e-6
    assert min(alarms(people.trial()).values()) > 0.001
