"""Whether synthetic records lie nearer to training records than to real ones that no generator saw."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mmbench.api import TABLE, VOLUME, Card, Metric, Output, Score, Trial, param, stats

from ._image_space import whiten
from ._neighbours import capped, distances
from ._scores import no_features, no_table, too_few, undefined, within
from ._table_space import TableSpace

_NEAR_COPY = np.log(1 / 3)  # three times nearer to a training record than to any reference record
_LARGEST_RATIO = np.log(1000)  # beyond this nearer is nearer; keeps an exact copy finite
_TAIL = 0.02


_REFERENCE = (
    "The comparison with a holdout: Platzer, Reutterer 2021, Holdout-Based Empirical Assessment of "
    "Mixed-Type Synthetic Data (Front Big Data 4); exactness of the permutation test: Lehmann, Romano "
    "2005, Testing Statistical Hypotheses, section 15.2; why distances alone give no privacy: Yao, Krco, "
    "Ganev, de Montjoye 2025, The DCR Delusion (arXiv:2505.01524)"
)


@dataclass
class TableMemorisation(Metric):
    """Share of synthetic rows whose nearest real row is a training row.

    With N training and m reference records a record that was not memorised has a training record as its
    nearest with probability N / (N + m). The share S is therefore reweighted to equal sizes,

        (S / N) / (S / N + (1 - S) / m),

    which is 1/2 without memorisation and 1 where every synthetic record is a copy. (Subsampling the training
    records to m instead would miss the copies of those left out.) Equal distances share a record.

    The detail ``p`` is the p-value of a test that permutes the labels training and reference. These are
    exchangeable where nothing was memorised, so its level is exact. The statistic is the largest of three,
    each standardised over the permutations: the share, the 2 % quantile of the log ratio of the two nearest
    distances, and the share of ratios below 1/3, which is also the detail ``near-copies``. With three times as
    many training as reference records a copy is labelled training by chance in three of four permutations: it
    takes many copies to raise the alarm. The space is fitted on all real records alike, so that it
    does not tell the labels apart.
    """

    permutations: int = param(499, "label permutations of the test", minimum=19)
    max_records: int = param(2000, "largest number of records of a sample that is used", minimum=50)
    repeats: int = param(40, "halves drawn for the interval", minimum=10)

    card = Card("Share of synthetic rows nearer to training rows than to unseen real ones.", _REFERENCE)
    version = 1
    kind = "privacy"
    needs = TABLE
    null = "copies"
    outputs = (
        Output(
            "table-memorisation",
            "Table memorisation",
            "Share of synthetic rows nearer to a training row than to any unseen one, at equal numbers of both.",
            "A few copies among many rows, and leaks that are not nearness of whole rows.",
            "lower",
            0.5,
        ),
    )

    def scores(self, trial: Trial) -> Iterable[Score]:
        sides = (trial.synthetic, trial.train, trial.reference)
        if reason := _too_few(trial) or no_table(*sides):
            return undefined(self.outputs, reason)
        tables = [side.cohort.rows.iloc[capped(len(side), self.max_records, trial.seed)] for side in sides]
        space = TableSpace.fit(trial.schema, pd.concat(tables[1:]))
        points = [space.embed(table) for table in tables]
        return _compare(self.outputs, points, self.permutations, self.repeats, trial.seed)


@dataclass
class ImageMemorisation(Metric):
    """Share of synthetic volumes whose nearest real volume is a training volume.

    The same share and test as :class:`TableMemorisation`, in the whitened space of the image features.
    """

    dimensions: int = param(32, "most principal components of a block of image features", minimum=1)
    permutations: int = param(499, "label permutations of the test", minimum=19)
    max_records: int = param(2000, "largest number of records of a sample that is used", minimum=50)
    repeats: int = param(40, "halves drawn for the interval", minimum=10)

    card = Card("Share of synthetic volumes nearer to training volumes than to unseen real ones.", _REFERENCE)
    version = 1
    kind = "privacy"
    needs = VOLUME
    null = "copies"
    outputs = (
        Output(
            "image-memorisation",
            "Image memorisation",
            "Share of synthetic volumes nearer to a training volume than to any unseen one, at equal numbers of "
            "both.",
            "Copies that were flipped, shifted or changed in any way that the image features react to.",
            "lower",
            0.5,
        ),
    )

    def scores(self, trial: Trial) -> Iterable[Score]:
        sides = (trial.synthetic, trial.train, trial.reference)
        if reason := _too_few(trial) or no_features(*sides):
            return undefined(self.outputs, reason)
        features = [
            np.asarray(side.features)[capped(len(side), self.max_records, trial.seed)] for side in sides
        ]
        real = np.concatenate(features[1:])
        points = [
            np.concatenate(
                [whiten(part[:, b], real[:, b], self.dimensions) for b in range(real.shape[1])], axis=1
            )
            for part in features
        ]
        return _compare(self.outputs, points, self.permutations, self.repeats, trial.seed)


def _too_few(trial: Trial) -> str:
    few_train = "the training sample has fewer than 2 records" if len(trial.train) < 2 else ""
    return too_few(trial) or few_train


def _compare(
    outputs: tuple[Output, ...], points: list[np.ndarray], permutations: int, repeats: int, seed: int
) -> list[Score]:
    """Return share, p and near copies of points of the synthetic, training and reference records."""
    synthetic, train, reference = points
    if not synthetic.shape[1]:
        return undefined(outputs, "nothing varies among the real records")
    to_train, to_reference = distances(train, synthetic), distances(reference, synthetic)

    def share(others: np.ndarray, trains: np.ndarray, rows: np.ndarray) -> float:
        return balanced_share(to_train[np.ix_(trains, others)], to_reference[np.ix_(rows, others)])

    estimate = stats.half_subsampling(share, tuple(map(len, points)), seed, repeats)
    near_copies = float((_log_ratio(to_train, to_reference) < _NEAR_COPY).mean())
    p = permutation_p(to_train, to_reference, permutations, np.random.default_rng(seed))
    name = outputs[0].name
    return [
        Score.of(name, within(estimate)),
        Score(name, p, item="p"),
        Score(name, near_copies, item="near-copies"),
    ]


def balanced_share(to_train: np.ndarray, to_reference: np.ndarray) -> float:
    """Return the share of records nearest to a training record, as if there were as many of either.

    Args:
        to_train: Distances of shape (training records, synthetic records).
        to_reference: Distances of shape (reference records, synthetic records).
    """
    share = _nearest_is_train(to_train, to_reference).mean()
    odds_train, odds_reference = share / len(to_train), (1 - share) / len(to_reference)
    return float(odds_train / (odds_train + odds_reference))


def permutation_p(
    to_train: np.ndarray, to_reference: np.ndarray, permutations: int, rng: np.random.Generator
) -> float:
    """Return the p-value of the label permutation test for memorisation.

    Args:
        to_train: Distances of shape (training records, synthetic records).
        to_reference: Distances of shape (reference records, synthetic records).
        permutations: Number of random relabellings.
        rng: Source of the relabellings.
    """
    pooled = np.concatenate([to_train, to_reference])
    orders = [np.arange(len(pooled)), *(rng.permutation(len(pooled)) for _ in range(permutations))]
    cut = len(to_train)
    statistics = np.array([_signs_of_copying(pooled[order[:cut]], pooled[order[cut:]]) for order in orders])
    spread = statistics.std(axis=0)
    # A statistic that no relabelling changes tells nothing.
    standardised = (statistics - statistics.mean(axis=0)) / np.where(spread > 0, spread, np.inf)
    largest = standardised.max(axis=1)
    # Rounding must not make equal statistics differ: ties count against the alarm.
    return float((1 + (largest[1:] >= largest[0] - 1e-9).sum()) / (1 + permutations))


def _signs_of_copying(to_train: np.ndarray, to_reference: np.ndarray) -> tuple[float, float, float]:
    ratio = _log_ratio(to_train, to_reference)
    share = _nearest_is_train(to_train, to_reference).mean()
    return float(share), -float(np.quantile(ratio, _TAIL)), float((ratio < _NEAR_COPY).mean())


def _log_ratio(to_train: np.ndarray, to_reference: np.ndarray) -> np.ndarray:
    tiny = np.finfo(float).tiny
    ratio = np.log(to_train.min(axis=0) + tiny) - np.log(to_reference.min(axis=0) + tiny)
    return np.clip(ratio, -_LARGEST_RATIO, _LARGEST_RATIO)


def _nearest_is_train(to_train: np.ndarray, to_reference: np.ndarray) -> np.ndarray:
    train, reference = to_train.min(axis=0), to_reference.min(axis=0)
    result = (train < reference).astype(float)
    tied = train == reference
    if tied.any():
        trains = (to_train[:, tied] == train[tied]).sum(axis=0)
        references = (to_reference[:, tied] == train[tied]).sum(axis=0)
        result[tied] = trains / (trains + references)
    return result
