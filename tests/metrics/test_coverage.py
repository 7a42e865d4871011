import dataclasses

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from mmbench.api import Evidence, Trial
from mmbench.metrics.coverage import ImageCoverage, TableCoverage, clipped_density, coverage


def pair(seed, n=80, m=60, shift=0.0):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, 3)), rng.normal(size=(m, 3)) + shift
    return cdist(x, x), cdist(x, y)


def test_coverage_and_density_match_brute_force():
    within, across = pair(0, shift=0.7)
    k = 5
    radii = [sorted(row)[k] for row in within]
    covered = np.mean([any(d <= r for d in row) for row, r in zip(across, radii, strict=True)])
    assert coverage(within, across, k) == pytest.approx(covered, abs=1e-12)

    clipped = [min(r, np.median(radii)) for r in radii]
    synthetic = [min(1, sum(across[i, j] <= clipped[i] for i in range(80)) / k) for j in range(60)]
    real = [min(1, sum(within[i, j] <= clipped[i] for i in range(80) if i != j) / k) for j in range(80)]
    assert clipped_density(within, across, k) == pytest.approx(min(1, np.mean(synthetic) / np.mean(real)))


def test_coverage_of_equal_laws_has_the_published_expectation():
    n = m = 60
    k = 5
    expected = 1 - np.prod([(n - j) / (n + m - j) for j in range(1, k + 1)])
    values = [coverage(*pair(seed, n, m), k) for seed in range(60)]
    assert np.mean(values) == pytest.approx(expected, abs=0.01)


def test_density_of_equal_laws_is_calibrated_to_one():
    # Each value is cut at 1, so that the mean lies a little below.
    values = [clipped_density(*pair(seed, 300, 300), 5) for seed in range(20)]
    assert 0.95 < np.mean(values) <= 1


def test_same_records_and_far_ones_are_the_ends():
    within, _ = pair(0)
    assert clipped_density(within, within, 5) == coverage(within, within, 5) == 1
    far = pair(0, shift=100)
    assert clipped_density(*far, 5) == coverage(*far, 5) == 0


def test_all_records_alike_are_covered_because_the_surface_counts():
    zeros = np.zeros((20, 20))
    assert coverage(zeros, zeros, 5) == 1
    assert clipped_density(zeros, zeros, 5) == 1


def test_unlikely_rows_score_worse_and_dropped_people_are_not_covered(people, headline):
    trial = people.trial(n=200)
    real = headline(TableCoverage(), trial)
    rng = np.random.default_rng(0)
    spread = trial.synthetic.cohort.rows.assign(bmi=rng.uniform(10, 60, 200), hba1c=rng.uniform(0, 20, 200))
    broken = headline(TableCoverage(), people.trial(people.with_table(trial.synthetic, spread), n=200))
    assert broken["table-density"].value < real["table-density"].value - 0.1
    women = trial.synthetic.take(np.flatnonzero(trial.synthetic.cohort.rows["sex"] == "F"))
    dropped = headline(TableCoverage(), people.trial(women, n=200))
    assert dropped["table-coverage"].value < real["table-coverage"].value - 0.2
    assert dropped["table-density"].value > 0.8


def test_images_of_equal_law_are_covered_and_noise_is_not(people, headline):
    trial = people.trial()
    real = headline(ImageCoverage(), trial)
    assert real["image-density"].value > 0.85
    assert real["image-coverage"].value == pytest.approx(ImageCoverage.outputs[1].ideal, abs=0.05)
    noise = dataclasses.replace(trial.synthetic, features=trial.synthetic.features + 10)
    for score in headline(ImageCoverage(), people.trial(noise)).values():
        assert score.value == 0
    # The units of the features do not matter.
    turned = people.map_trial(trial, lambda side: dataclasses.replace(side, features=side.features * 3 - 1))
    assert headline(ImageCoverage(), turned)["image-coverage"].value == pytest.approx(
        real["image-coverage"].value
    )


@pytest.mark.parametrize("metric", [TableCoverage(), ImageCoverage()])
def test_sizes_and_orders_do_not_matter(people, headline, metric):
    trial = people.trial(people.draw(90, 9))
    first = headline(metric, trial)
    shuffled = people.map_trial(
        trial, lambda side: side.take(np.random.default_rng(1).permutation(len(side)))
    )
    for name, score in headline(metric, shuffled).items():
        assert score.value == pytest.approx(first[name].value, abs=1e-9)
        assert score.low <= score.value <= score.high


def test_degenerate_input_gives_a_reason(people, headline):
    trial = people.trial()
    flat = dataclasses.replace(trial.train, features=np.ones_like(trial.train.features))
    none = Evidence(trial.synthetic.cohort)
    for bad, reason in (
        (Trial(trial.reference, trial.synthetic, flat, 0), "no image feature varies"),
        (Trial(trial.reference, none, trial.train, 0), "no image features"),
        (people.trial(people.draw(10, 1)), "at least 12 are needed"),
    ):
        for score in headline(ImageCoverage(), bad).values():
            assert np.isnan(score.value)
            assert reason in score.reason
