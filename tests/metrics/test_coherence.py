import dataclasses

import numpy as np
import pytest
from scipy import stats as scipy_stats

from mmbench.api import Evidence, Trial
from mmbench.metrics.coherence import Coherence, shrunk


def kappa(headline, trial):
    return headline(Coherence(resamples=100), trial)["coherence"]


def test_fresh_real_pairs_carry_all_and_broken_ones_nothing(people, headline):
    trial = people.trial()
    real = kappa(headline, trial)
    assert real.low < 1 < real.high
    assert real.low > 0.5
    broken = kappa(headline, people.trial(people.pairs_broken(trial.synthetic)))
    assert broken.high < real.low


def test_permuted_pairs_average_to_nothing_and_intervals_cover_it(people, headline):
    trial = people.trial()
    draws = [
        kappa(headline, people.trial(people.pairs_broken(trial.synthetic, seed=seed))) for seed in range(30)
    ]
    assert np.mean([draw.value for draw in draws]) == pytest.approx(0, abs=0.05)
    assert np.mean([draw.low <= 0 <= draw.high for draw in draws]) >= 0.85


def test_a_share_of_broken_pairs_takes_that_share_away(people, headline):
    trial = people.trial()
    whole = kappa(headline, trial).value
    for share in (0.1, 0.3):
        values = [
            kappa(headline, people.trial(people.pairs_broken(trial.synthetic, share, seed))).value
            for seed in range(12)
        ]
        assert np.mean(values) == pytest.approx((1 - share) * whole, abs=0.05)


def test_training_pairs_drawn_again_score_like_real_ones(people, headline):
    values = []
    for seed in range(0, 36, 3):
        train = people.draw(360, seed)
        again = train.take(np.random.default_rng(seed).integers(0, 360, 120))
        values.append(kappa(headline, people.trial(again, seed=seed)).value)
    assert np.mean(values) == pytest.approx(1, abs=0.06)


def test_details_are_differences_of_spearman_correlations(people):
    trial = people.trial()
    items = {score.item: score for score in Coherence(resamples=50).scores(trial) if score.item}
    assert set(items) >= {"fat_l ~ bmi", "lean_l ~ sex=M", "fat_l ~ ethnicity=b", "lean_l ~ diabetes=True"}
    assert {score.output for score in items.values()} == {"coherence-difference"}
    rho = [
        scipy_stats.spearmanr(side.composition["fat_l"], side.cohort.rows["bmi"]).statistic
        for side in (trial.synthetic, trial.reference)
    ]
    assert items["fat_l ~ bmi"].value == pytest.approx(rho[0] - rho[1], abs=1e-12)


def test_difference_is_nothing_for_the_same_pairs_and_grows_when_they_break(people, headline):
    trial = people.trial()
    metric = Coherence(resamples=50)
    same = headline(metric, Trial(trial.reference, trial.reference, trial.train, 0))
    assert same["coherence-difference"].value == 0
    assert same["coherence"].value == pytest.approx(1, abs=1e-12)
    real = headline(metric, trial)["coherence-difference"]
    broken = headline(metric, people.trial(people.pairs_broken(trial.synthetic)))["coherence-difference"]
    assert real.high < broken.value


def test_orders_sizes_and_units_do_not_matter(people, headline):
    trial = people.trial(people.draw(80, 9))
    value = kappa(headline, trial).value
    rng = np.random.default_rng(1)

    def scramble(side):
        side = people.columns_reversed(side.take(rng.permutation(len(side))))
        return dataclasses.replace(side, composition=np.exp(side.composition[["lean_l", "fat_l"]] / 10))

    assert kappa(headline, people.map_trial(trial, scramble)).value == pytest.approx(value, abs=1e-12)
    assert np.isfinite(value)


def test_what_quantities_have_in_common_counts_once(people, headline):
    trial = people.trial(people.pairs_broken(people.trial().synthetic, 0.5))

    def repeat(side):
        fat = side.composition["fat_l"]
        copies = {f"copy{i}": fat * (-1) ** i + 1 for i in range(6)}
        return dataclasses.replace(side, composition=side.composition.assign(**copies))

    once, often = kappa(headline, trial), kappa(headline, people.map_trial(trial, repeat))
    assert often.value == pytest.approx(once.value, abs=0.05)


def test_a_flipped_effect_lowers_the_score_below_a_lost_one(people, headline):
    trial = people.trial()
    composition = trial.synthetic.composition
    lost = dataclasses.replace(trial.synthetic, composition=composition.assign(fat_l=3.0))
    flipped = dataclasses.replace(
        trial.synthetic, composition=composition.assign(fat_l=-composition["fat_l"])
    )
    values = [kappa(headline, people.trial(side)).value for side in (trial.synthetic, lost, flipped)]
    assert values[0] > values[1] + 0.2 > values[2] + 0.4


def test_volumes_that_cannot_be_measured_are_left_out_up_to_a_share(people, headline):
    trial = people.trial()

    def lose(share):
        composition = trial.synthetic.composition.copy()
        composition.iloc[: round(share * len(composition))] = np.nan
        return people.trial(dataclasses.replace(trial.synthetic, composition=composition))

    assert kappa(headline, lose(0.1)).value == pytest.approx(kappa(headline, trial).value, abs=0.15)
    for score in headline(Coherence(), lose(0.3)).values():
        assert np.isnan(score.value)
        assert "30% of the volumes of the synthetic sample could not be measured" in score.reason


def test_no_association_to_look_for_gives_a_reason(people, headline):
    trial = people.trial()
    noise = np.random.default_rng(0)
    unrelated = people.map_trial(
        trial,
        lambda side: dataclasses.replace(
            side, composition=side.composition.apply(lambda column: noise.random(len(column)))
        ),
    )
    score = kappa(headline, unrelated)
    assert np.isnan(score.value)
    assert "association" in score.reason
    bare = kappa(headline, people.trial(Evidence(trial.synthetic.cohort)))
    assert np.isnan(bare.value)
    assert "nothing was measured" in bare.reason


def test_weights_within_one_standard_error_vanish_and_strong_ones_stay():
    weights = shrunk(np.array([0.0, 0.09, -0.05, 0.5, -0.9]), 100)
    np.testing.assert_array_equal(weights[:3], 0)
    np.testing.assert_allclose(weights[3:], [0.48, -0.9 + 1 / 90])
