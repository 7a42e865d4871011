import dataclasses

import numpy as np
import pandas as pd
import pytest

from mmbench.api import Cohort, Column, Evidence, Schema, Trial, stats
from mmbench.metrics.coverage import ImageCoverage, TableCoverage, cut_at_one


def table_trial(reference, synthetic, train, seed=0):
    """Return a trial of arrays as tables of numbers."""
    schema = Schema(tuple(Column(f"x{j}", "continuous") for j in range(train.shape[1])))

    def side(values):
        ids = np.array([str(i) for i in range(len(values))])
        return Evidence(Cohort("c", schema, ids, pd.DataFrame(values, columns=schema.names)))

    return Trial(side(reference), side(synthetic), side(train), seed)


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


def test_rows_in_a_gap_between_real_clusters_are_seen_and_one_cluster_is_as_dense_as_all(headline):
    rng = np.random.default_rng(0)

    def clusters(n, centres=(-5, 0, 5)):
        return rng.choice(centres, n)[:, None] + 0.3 * rng.standard_normal((n, 3))

    reference, train = clusters(200), clusters(400)
    real = headline(TableCoverage(), table_trial(reference, clusters(200), train))
    gap = headline(TableCoverage(), table_trial(reference, clusters(200, (-2.5, 2.5)), train))
    edge = headline(TableCoverage(), table_trial(reference, clusters(200, (-5,)), train))
    assert real["table-density"].value > 0.85
    assert edge["table-density"].value > 0.85
    assert edge["table-coverage"].value < 0.5
    assert max(score.value for score in gap.values()) < 0.05


@pytest.mark.parametrize("metric", [TableCoverage(repeats=10), ImageCoverage(repeats=10)])
def test_unequal_sizes_do_not_change_scores_of_equal_laws(people, headline, metric):
    def means(m):
        draws = [headline(metric, people.trial(people.draw(m, 50 + s), n=60, seed=3 * s)) for s in range(5)]
        return {name: np.mean([draw[name].value for draw in draws]) for name in draws[0]}

    equal, more, fewer = means(60), means(300), means(30)
    for name, value in equal.items():
        assert more[name] == pytest.approx(value, abs=0.08)
        assert fewer[name] == pytest.approx(value, abs=0.08)


def test_intervals_hold_the_expectation_and_lie_within_the_range(headline):
    rng = np.random.default_rng(0)
    train = rng.standard_normal((200, 2))
    draws = [
        headline(
            TableCoverage(repeats=20),
            table_trial(rng.standard_normal((60, 2)), rng.standard_normal((60, 2)), train, seed),
        )
        for seed in range(40)
    ]
    for output in TableCoverage.outputs:
        scores = [draw[output.name] for draw in draws]
        expected = np.mean([score.value for score in scores])
        assert np.mean([score.low <= expected <= score.high for score in scores]) >= 0.85
        assert all(0 <= score.low <= score.value <= score.high <= 1 for score in scores)


def test_the_expectation_of_a_cut_value_is_held_as_often_as_that_of_the_value_itself():
    draws = np.random.default_rng(0).normal(1.02, 0.1, 4000)
    expected = np.minimum(draws, 1).mean()
    found = [cut_at_one(stats.Estimate(x, x - 0.196, x + 0.196)) for x in draws]
    assert np.mean([e.low <= expected <= e.high for e in found]) == pytest.approx(0.95, abs=0.012)
    assert cut_at_one(stats.Estimate(1.2, 1.2, 1.2)) == stats.Estimate(1, 1, 1)


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
