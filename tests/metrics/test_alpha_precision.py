import itertools

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from mmbench.api import Trial
from mmbench.metrics._neighbours import nearest
from mmbench.metrics.alpha_precision import (
    LEVELS,
    AlphaPrecision,
    Authenticity,
    alpha_precision,
    authentic,
    beta_recall,
    precision_curve,
    ratio_of_rates,
)


def recall(real, synthetic):
    return beta_recall(real, synthetic, nearest(real, real, 1, same=True), nearest(real, synthetic, 1))


def authenticity(points, train):
    return authentic(nearest(points, train, 1), nearest(train, train, 1, same=True).distances[:, 0])


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_alpha_precision_is_one_for_equal_laws_and_falls_with_scale_and_shift(rng):
    real, fresh = rng.normal(size=(2, 2000, 4))
    value = alpha_precision(real, fresh)
    assert value == pytest.approx(1, abs=0.05)
    for other in (0.5 * fresh, 2 * fresh, fresh + 2):
        assert alpha_precision(real, other) < value - 0.2
    assert alpha_precision(real, fresh + 1000) == pytest.approx(0, abs=0.05)
    assert alpha_precision(real, real) == pytest.approx(1, abs=1e-3)


def test_alpha_precision_is_the_integral_of_the_published_definition(rng):
    real, synthetic = rng.normal(size=(50, 3)), 1.3 * rng.normal(size=(70, 3)) + 0.2
    centre = real.mean(axis=0)
    to_real = sorted(np.linalg.norm(x - centre) for x in real)
    to_synthetic = [np.linalg.norm(y - centre) for y in synthetic]
    shares = []
    for level in range(30):
        at = level / 29 * (len(real) - 1)
        low = int(np.floor(at))
        radius = to_real[low] + (at - low) * (to_real[min(low + 1, len(real) - 1)] - to_real[low])
        shares.append(sum(distance <= radius for distance in to_synthetic) / len(synthetic))
    np.testing.assert_allclose(precision_curve(real, synthetic), shares, atol=1e-12)
    gaps = [abs(share - level / 29) for level, share in enumerate(shares)]
    area = sum((a + b) / 2 / 29 for a, b in itertools.pairwise(gaps))
    assert alpha_precision(real, synthetic) == pytest.approx(1 - 2 * area, abs=1e-12)


def test_beta_recall_matches_brute_force(rng):
    real, synthetic = rng.normal(size=(60, 3)), 0.8 * rng.normal(size=(60, 3))
    within, across = cdist(real, real), cdist(real, synthetic)
    np.fill_diagonal(within, np.inf)
    reach = np.linalg.norm(synthetic - synthetic.mean(axis=0), axis=1)
    gaps = []
    for level in LEVELS:
        radius = np.quantile(reach, level)
        hits = [across[i].min() <= within[i].min() and reach[across[i].argmin()] <= radius for i in range(60)]
        gaps.append(abs(np.mean(hits) - level))
    assert recall(real, synthetic) == pytest.approx(1 - 2 * np.trapezoid(gaps, LEVELS), abs=1e-12)


def test_beta_recall_is_one_half_for_equal_laws_and_one_for_copies(rng):
    real, fresh = rng.normal(size=(2, 1000, 4))
    assert recall(real, fresh) == pytest.approx(0.5, abs=0.06)
    assert recall(real, real) == pytest.approx(1, abs=1e-2)
    assert recall(real, np.abs(fresh)) < 0.3


@pytest.mark.parametrize("m", [200, 800, 4000])
def test_beta_recall_of_equal_laws_does_not_depend_on_the_number_of_rows(rng, m):
    values = [recall(rng.normal(size=(400, 2)), rng.normal(size=(m, 2))) for _ in range(4)]
    assert np.mean(values) == pytest.approx(0.5, abs=0.05)


def test_authenticity_matches_brute_force(rng):
    train, points = rng.normal(size=(60, 3)), rng.normal(size=(40, 3))
    for point, flag in zip(points, authenticity(points, train), strict=True):
        gaps = [np.linalg.norm(point - other) for other in train]
        i = int(np.argmin(gaps))
        own = min(np.linalg.norm(train[i] - other) for j, other in enumerate(train) if j != i)
        assert flag == (gaps[i] > own)


def test_copies_are_not_authentic_and_far_records_are(rng):
    train = rng.normal(size=(100, 3))
    assert not authenticity(np.repeat(train[:1], 50, axis=0), train).any()
    assert authenticity(np.concatenate([train[:50], train[:50] + 100]), train).mean() == 0.5


def test_half_copies_and_half_far_rows_have_half_the_share(people, headline):
    trial = people.trial()
    train = trial.train.cohort.rows
    far = train.iloc[:60].assign(bmi=train["bmi"].max() + np.arange(1.0, 61) * 50)
    table = people.schema.coerce(train.iloc[:60]._append(far, ignore_index=True))
    mixed = Trial(trial.reference, people.with_table(trial.synthetic, table), trial.train, 0)
    details = {score.item: score.value for score in Authenticity().scores(mixed)}
    assert details["share"] == pytest.approx(0.5)
    assert details[""] == pytest.approx(0.5 / details["share-real"])


def test_interval_of_a_ratio_of_rates_holds_it_and_has_width_at_its_ends(rng):
    held = []
    for _ in range(400):
        found = ratio_of_rates(rng.random(100) < 0.3, rng.random(80) < 0.6)
        held.append(found.low <= 0.5 <= found.high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.03)
    none = ratio_of_rates(np.zeros(50, bool), np.ones(50, bool))
    assert (none.value, none.low) == (0, 0)
    assert 0 < none.high < 0.2


def test_real_records_score_near_their_ideals_and_copies_have_no_authenticity(people, headline):
    trials = [people.trial(seed=seed) for seed in range(0, 60, 3)]
    draws = [headline(AlphaPrecision(repeats=10), t) | headline(Authenticity(), t) for t in trials]
    means = {name: np.mean([draw[name].value for draw in draws]) for name in draws[0]}
    assert means["alpha-precision"] == pytest.approx(1, abs=0.15)
    assert means["beta-recall"] == pytest.approx(0.5, abs=0.1)
    assert means["authenticity"] == pytest.approx(1, abs=0.1)
    copies = headline(Authenticity(), people.trial(people.draw(360, 0).take(np.arange(120))))
    assert copies["authenticity"].value == 0


def test_sizes_and_orders_do_not_matter(people, headline):
    trial = people.trial(people.draw(200, 9))

    def both(trial):
        return headline(AlphaPrecision(), trial) | headline(Authenticity(), trial)

    first = both(trial)
    turned = both(people.map_trial(trial, people.columns_reversed))
    shuffled = people.map_trial(
        trial, lambda side: side.take(np.random.default_rng(1).permutation(len(side)))
    )
    for name, score in both(shuffled).items():
        assert np.isfinite(score.value)
        assert score.value == pytest.approx(first[name].value, abs=1e-9)
        assert turned[name].value == pytest.approx(first[name].value, abs=1e-9)


def test_degenerate_input_gives_a_reason(people, headline):
    trial = people.trial()
    flat = people.with_table(trial.train, trial.train.cohort.rows.iloc[[0] * len(trial.train)])
    for score in headline(AlphaPrecision(), Trial(trial.reference, trial.synthetic, flat, 0)).values():
        assert np.isnan(score.value)
        assert "no column varies" in score.reason
    alone = Trial(trial.reference, trial.synthetic, trial.train.take(np.array([0])), 0)
    score = headline(Authenticity(), alone)["authenticity"]
    assert np.isnan(score.value)
    assert "two training records" in score.reason
