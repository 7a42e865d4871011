import dataclasses

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from mmbench.api import Evidence
from mmbench.metrics.memorisation import (
    ImageMemorisation,
    TableMemorisation,
    balanced_share,
    permutation_p,
)

OUTPUTS = ("table-memorisation", "image-memorisation")


def scored(trial):
    """Return every score of both metrics by output and item."""
    found = [*TableMemorisation().scores(trial), *ImageMemorisation().scores(trial)]
    return {(score.output, score.item): score for score in found}


def heads(trial):
    return {output: score for (output, item), score in scored(trial).items() if not item}


def test_share_is_one_half_without_memorisation_whatever_the_sizes():
    rng = np.random.default_rng(0)
    for n in (50, 100, 400):
        values = []
        for _ in range(60):
            train, reference, synthetic = (rng.normal(size=(size, 3)) for size in (n, 100, 100))
            values.append(balanced_share(cdist(train, synthetic), cdist(reference, synthetic)))
        assert np.mean(values) == pytest.approx(0.5, abs=0.02)


def test_share_matches_brute_force_with_ties():
    rng = np.random.default_rng(0)
    train, reference, synthetic = (rng.integers(0, 3, (size, 2)).astype(float) for size in (30, 10, 20))
    credit = []
    for point in synthetic:
        near = np.linalg.norm(np.concatenate([train, reference]) - point, axis=1)
        tied = np.flatnonzero(near == near.min())
        credit.append(np.mean(tied < 30))
    share = np.mean(credit)
    expected = (share / 30) / (share / 30 + (1 - share) / 10)
    assert balanced_share(cdist(train, synthetic), cdist(reference, synthetic)) == pytest.approx(expected)


def test_p_is_uniform_without_memorisation():
    rng = np.random.default_rng(0)
    values = []
    for _ in range(200):
        train, reference, synthetic = (rng.normal(size=(size, 4)) for size in (60, 30, 30))
        values.append(permutation_p(cdist(train, synthetic), cdist(reference, synthetic), 39, rng))
    assert np.mean(np.array(values) <= 0.05) < 0.1
    assert np.mean(values) == pytest.approx(0.5, abs=0.07)


def test_copies_raise_the_alarm_and_all_copies_reach_one(people):
    trial = people.trial()
    real = scored(trial)
    mixed = trial.synthetic.take(np.arange(120))
    rows = mixed.cohort.rows.copy()
    rows.iloc[:36] = trial.train.cohort.rows.iloc[:36].to_numpy()
    features = mixed.features.copy()
    features[:36] = trial.train.features[:36]
    some = people.with_table(dataclasses.replace(mixed, features=features), people.schema.coerce(rows))
    some = scored(people.trial(some))
    copies = people.trial(trial.train.take(np.arange(120)))
    whole = scored(copies)
    for name in OUTPUTS:
        assert real[name, ""].low < 0.5 < real[name, ""].high
        assert real[name, "p"].value > 0.05
        assert some[name, "p"].value <= 0.01
        assert some[name, "near-copies"].value >= 0.3 > real[name, "near-copies"].value
        assert whole[name, ""].value == 1
        assert whole[name, "p"].value == pytest.approx(1 / 500)


def test_orders_and_sizes_do_not_matter(people):
    trial = people.trial(people.draw(70, 9))
    first = heads(trial)
    shuffled = people.map_trial(
        trial, lambda side: side.take(np.random.default_rng(1).permutation(len(side)))
    )
    shuffled = heads(people.map_trial(shuffled, people.columns_reversed))
    for name in OUTPUTS:
        assert shuffled[name].value == pytest.approx(first[name].value, abs=1e-9)


def test_an_absent_modality_and_few_records_give_a_reason(people):
    trial = people.trial()
    rows_only = heads(people.trial(Evidence(trial.synthetic.cohort)))
    assert np.isfinite(rows_only["table-memorisation"].value)
    assert np.isnan(rows_only["image-memorisation"].value)
    assert "no image features" in rows_only["image-memorisation"].reason
    images_only = heads(people.trial(people.with_table(trial.synthetic, None)))
    assert np.isnan(images_only["table-memorisation"].value)
    assert "no table" in images_only["table-memorisation"].reason
    assert np.isfinite(images_only["image-memorisation"].value)
    for score in heads(people.trial(people.draw(4, 1))).values():
        assert "4 records" in score.reason
