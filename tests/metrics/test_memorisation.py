import dataclasses

import numpy as np
import pytest
from scipy import stats as scipy_stats
from scipy.spatial.distance import cdist

from mmbench.api import Evidence
from mmbench.metrics._label_test import RealNeighbours, balanced_share, label_p
from mmbench.metrics._near_copies import Closeness, near_copy_p
from mmbench.metrics._real_spaces import real_image_points, real_joint_points, real_table_points
from mmbench.metrics._spaces import Points
from mmbench.metrics.memorisation import ImageMemorisation, JointMemorisation, TableMemorisation

METRICS = (TableMemorisation, ImageMemorisation, JointMemorisation)
OUTPUTS = ("table-memorisation", "image-memorisation", "joint-memorisation")


def scored(trial):
    """Return every score of the metrics by output and item."""
    return {(score.output, score.item): score for metric in METRICS for score in metric().scores(trial)}


def heads(trial):
    return {output: score for (output, item), score in scored(trial).items() if not item}


def copied(people, trial, share, jitter=0.0):
    """Return the trial with copies of training records for a share of the synthetic ones."""
    count = max(round(share * len(trial.synthetic)), 1)
    synthetic, train = trial.synthetic, trial.train
    rng = np.random.default_rng(0)
    rows = synthetic.cohort.rows.copy()
    rows.iloc[:count] = train.cohort.rows.iloc[:count].to_numpy()
    for name in ("age", "bmi", "hba1c"):
        noise = jitter * train.cohort.rows[name].std() * rng.standard_normal(count)
        rows.iloc[:count, rows.columns.get_loc(name)] += noise
    features = synthetic.features.copy()
    spread = train.features.std(axis=0)
    features[:count] = train.features[:count] + jitter * spread * rng.standard_normal(features[:count].shape)
    table = people.schema.coerce(rows)
    return dataclasses.replace(
        trial, synthetic=people.with_table(dataclasses.replace(synthetic, features=features), table)
    )


def gaussian(rng, n, d=6):
    return rng.normal(size=(n, d)) / np.sqrt(np.arange(1, d + 1))


def nearness(points):
    found = RealNeighbours.find(points, 0)
    return near_copy_p(
        points, Closeness.of(found.distance, found.position, found.is_train), Closeness.of_reference(points)
    )


def test_share_is_one_half_without_memorisation_whatever_the_sizes():
    rng = np.random.default_rng(0)
    for n in (50, 100, 400):
        shares = []
        for _ in range(60):
            points = Points(gaussian(rng, 100), gaussian(rng, 100), gaussian(rng, n))
            shares.append(balanced_share(RealNeighbours.find(points, 0)).value)
        assert np.mean(shares) == pytest.approx(0.5, abs=0.02)


def test_share_matches_brute_force_with_ties():
    rng = np.random.default_rng(0)
    train, reference, synthetic = (rng.integers(0, 3, (size, 2)).astype(float) for size in (15, 5, 20))
    near = cdist(synthetic, np.concatenate([train, reference]))
    tied = near == near.min(axis=1, keepdims=True)
    share = (tied[:, :15].sum(axis=1) / tied.sum(axis=1)).mean()
    expected = (share / 15) / (share / 15 + (1 - share) / 5)
    found = RealNeighbours.find(Points(reference, synthetic, train), 0)
    assert found.distance.shape[1] == 20
    assert balanced_share(found).value == pytest.approx(expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda rng, draw: draw(60),
        lambda rng, draw: 0.5 * draw(60),
        lambda rng, draw: draw(6)[rng.integers(0, 6, 60)],
    ],
    ids=["perfect", "under-dispersed", "few modes"],
)
def test_interval_of_the_share_covers_its_mean(make):
    estimates = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        points = Points(gaussian(rng, 60), make(rng, lambda n, rng=rng: gaussian(rng, n)), gaussian(rng, 120))
        estimates.append(balanced_share(RealNeighbours.find(points, seed)))
    mean = np.mean([e.value for e in estimates])
    assert 0.91 <= np.mean([e.low <= mean <= e.high for e in estimates]) <= 0.99


@pytest.mark.parametrize("spread", [1.0, 0.5])
def test_label_p_is_uniform_without_memorisation_whatever_the_generator(spread):
    values = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        points = Points(gaussian(rng, 30), spread * gaussian(rng, 30), gaussian(rng, 60))
        values.append(label_p(RealNeighbours.find(points, seed), 39, rng))
    values = np.array(values)
    assert np.mean(values <= 0.05) < 0.1
    assert scipy_stats.kstest(values - rng.uniform(0, 1 / 40, 200), "uniform").pvalue > 0.01


@pytest.mark.parametrize(
    "make",
    [
        lambda rng, real: real(100),
        lambda rng, real: 0.5 * real(100),
        lambda rng, real: real(100) + 1,
        lambda rng, real: np.repeat(real(1), 100, axis=0),
        lambda rng, real: np.column_stack([rng.permutation(column) for column in real(100).T]),
    ],
    ids=["perfect", "under-dispersed", "shifted", "one record", "independent columns"],
)
@pytest.mark.parametrize("kind", ["continuous", "rounded", "levels"])
def test_nearness_raises_no_false_alarm_for_honest_generators(make, kind):
    alarms = []
    for seed in range(25):
        rng = np.random.default_rng(seed)

        def real(n, rng=rng):
            found = rng.normal(size=(n, 6))
            return {"continuous": found, "rounded": found.round(1), "levels": found.round().clip(-2, 2)}[kind]

        alarms.append(nearness(Points(real(100), make(rng, real), real(200))) <= 0.05)
    assert np.mean(alarms) <= 0.16


def test_principal_components_fitted_to_noise_raise_no_alarm(people):
    rng = np.random.default_rng(0)
    trial = people.trial()
    noise = people.map_trial(
        trial, lambda side: dataclasses.replace(side, features=rng.normal(size=(len(side), 1, 512)))
    )
    found = {s.item: s.value for s in ImageMemorisation().scores(noise)}
    assert found["p-nearness"] > 0.05


@pytest.mark.parametrize("share", [0.01, 0.03, 0.1])
@pytest.mark.parametrize("jitter", [0.0, 0.02])
def test_a_few_copies_raise_the_alarm(people, share, jitter):
    found = scored(copied(people, people.trial(), share, jitter))
    # One jittered row of categories and three numbers is not told from chance.
    sure = OUTPUTS[1:] if jitter and share == 0.01 else OUTPUTS
    for name in sure:
        assert found[name, "p"].value <= 0.05
        assert found[name, ""].value < 0.8


def test_real_records_raise_none(people):
    found = [scored(people.trial(seed=seed)) for seed in (0, 10, 20, 30)]
    for name in OUTPUTS:
        assert np.mean([scores[name, "p"].value <= 0.05 for scores in found]) <= 0.25
        assert np.median([scores[name, "closest-record"].value for scores in found]) == pytest.approx(
            1, abs=0.2
        )


def test_copies_throughout_reach_one(people):
    whole = scored(people.trial(people.trial().train.take(np.arange(120))))
    for name in OUTPUTS:
        assert whole[name, ""].value == whole[name, ""].high == 1
        assert whole[name, "p-labels"].value == pytest.approx(1 / 500)
        assert whole[name, "near-copies"].value == 1
        # Pairs and features are projected, where rounding may leave a trace.
        assert whole[name, "closest-record"].value == pytest.approx(0, abs=1e-6)


def test_one_record_repeated_is_an_alarm_only_where_it_is_a_training_record(people):
    trial = people.trial()
    repeated = np.zeros(120, dtype=int)
    copy, honest = (
        scored(people.trial(trial.train.take(repeated))),
        scored(people.trial(trial.synthetic.take(repeated))),
    )
    for name in OUTPUTS:
        assert copy[name, "p"].value <= 0.05 < honest[name, "p"].value
        # One record repeated is no more than one observation.
        assert copy[name, ""].low < 0.5


def test_orders_and_sizes_do_not_matter(people):
    trial = people.trial(people.draw(70, 9))
    first = heads(trial)
    shuffled = people.map_trial(
        trial, lambda side: side.take(np.random.default_rng(1).permutation(len(side)))
    )
    shuffled = heads(people.map_trial(shuffled, people.columns_reversed))
    for name in OUTPUTS:
        assert shuffled[name].value == pytest.approx(first[name].value, abs=1e-9)


def test_joint_space_weighs_both_modalities_alike(people):
    trial = people.trial()
    joint, table, image = real_joint_points(trial, 16), real_table_points(trial), real_image_points(trial, 16)
    real = np.concatenate([joint.train, joint.reference])
    d = table.train.shape[1]
    assert joint.train.shape[1] == d + image.train.shape[1] == d + 16
    for part in (real[:, :d], real[:, d:]):
        assert 2 * part.var(axis=0).sum() == pytest.approx(1)


def test_spaces_do_not_tell_training_from_reference_records(people):
    trial = people.trial()
    swapped = dataclasses.replace(trial, reference=trial.train, train=trial.reference)
    for points in (real_table_points, lambda t: real_image_points(t, 8), lambda t: real_joint_points(t, 8)):
        a, b = points(trial), points(swapped)
        assert cdist(a.synthetic, a.train) == pytest.approx(cdist(b.synthetic, b.reference))
        assert cdist(a.synthetic, a.reference) == pytest.approx(cdist(b.synthetic, b.train))


def test_an_absent_modality_and_few_records_give_a_reason(people):
    trial = people.trial()
    rows_only = heads(people.trial(Evidence(trial.synthetic.cohort)))
    assert np.isfinite(rows_only["table-memorisation"].value)
    images_only = heads(people.trial(people.with_table(trial.synthetic, None)))
    assert np.isfinite(images_only["image-memorisation"].value)
    for score, reason in (
        (rows_only["image-memorisation"], "no image features"),
        (rows_only["joint-memorisation"], "no image features"),
        (images_only["table-memorisation"], "no table"),
        (images_only["joint-memorisation"], "no table"),
    ):
        assert np.isnan(score.value)
        assert reason in score.reason
    for score in heads(people.trial(people.draw(4, 1))).values():
        assert "4 records" in score.reason


def test_constant_real_records_give_a_reason(people):
    trial = people.map_trial(people.trial(), lambda side: side.take(np.zeros(len(side), dtype=int)))
    trial = dataclasses.replace(trial, reference=trial.train.take(np.arange(120)))
    for score in heads(trial).values():
        assert np.isnan(score.value)
        assert "nothing varies" in score.reason
