"""Whether synthetic records lie nearer to training records than to real ones that no generator saw."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mmbench.api import Card, Evidence, Metric, Output, Score, Trial, param, stats

from ._image_space import whiten
from ._neighbours import capped, distances
from ._scores import no_features, no_table, too_few, undefined, within
from ._table_space import TableSpace

_NEAR_COPY = np.log(1 / 3)  # three times nearer to a training record than to any reference record
_LARGEST_RATIO = np.log(1000)  # beyond this nearer is nearer; keeps an exact copy finite
_TAIL = 0.02


@dataclass
class Memorisation(Metric):
    """Share of synthetic records whose nearest real record is a training record, in two spaces.

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

    dimensions: int = param(32, "most principal components of a block of image features", minimum=1)
    permutations: int = param(499, "label permutations of the test", minimum=19)
    max_records: int = param(2000, "largest number of records of a sample that is used", minimum=50)
    repeats: int = param(40, "halves drawn for the interval", minimum=10)

    card = Card(
        "Share of synthetic records nearer to training records than to unseen real ones, with an exact test.",
        "The comparison with a holdout: Platzer, Reutterer 2021, Holdout-Based Empirical Assessment of "
        "Mixed-Type Synthetic Data (Front Big Data 4); exactness of the permutation test: Lehmann, Romano "
        "2005, Testing Statistical Hypotheses, section 15.2; why distances alone give no privacy: Yao, Krco, "
        "Ganev, de Montjoye 2025, The DCR Delusion (arXiv:2505.01524)",
    )
    version = 1
    kind = "privacy"
    needs = frozenset()
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
        table, image = self.outputs
        sides = (trial.synthetic, trial.train, trial.reference)
        problem = too_few(trial)
        if not problem and len(trial.train) < 2:
            problem = "the training sample has fewer than 2 records"
        if reason := problem or no_table(*sides):
            yield from undefined([table], reason)
        else:
            yield from self._compare(table, self._rows(*sides, trial.seed), trial.seed)
        if reason := problem or no_features(*sides):
            yield from undefined([image], reason)
        else:
            yield from self._compare(image, self._volumes(*sides, trial.seed), trial.seed)

    def _rows(self, synthetic: Evidence, train: Evidence, reference: Evidence, seed: int) -> list[np.ndarray]:
        tables = [
            side.cohort.rows.iloc[capped(len(side), self.max_records, seed)]
            for side in (synthetic, train, reference)
        ]
        space = TableSpace.fit(synthetic.cohort.schema, pd.concat(tables[1:]))
        return [space.embed(table) for table in tables]

    def _volumes(
        self, synthetic: Evidence, train: Evidence, reference: Evidence, seed: int
    ) -> list[np.ndarray]:
        features = [
            np.asarray(side.features)[capped(len(side), self.max_records, seed)]
            for side in (synthetic, train, reference)
        ]
        real = np.concatenate(features[1:])
        return [
            np.concatenate(
                [whiten(part[:, b], real[:, b], self.dimensions) for b in range(real.shape[1])], axis=1
            )
            for part in features
        ]

    def _compare(self, output: Output, points: list[np.ndarray], seed: int) -> list[Score]:
        synthetic, train, reference = points
        if not synthetic.shape[1]:
            return undefined([output], "nothing varies among the real records")
        to_train, to_reference = distances(train, synthetic), distances(reference, synthetic)

        def share(others: np.ndarray, trains: np.ndarray, rows: np.ndarray) -> float:
            return balanced_share(to_train[np.ix_(trains, others)], to_reference[np.ix_(rows, others)])

        estimate = stats.half_subsampling(share, tuple(map(len, points)), seed, self.repeats)
        near_copies = float((_log_ratio(to_train, to_reference) < _NEAR_COPY).mean())
        p = permutation_p(to_train, to_reference, self.permutations, np.random.default_rng(seed))
        return [
            Score.of(output.name, within(estimate)),
            Score(output.name, p, item="p"),
            Score(output.name, near_copies, item="near-copies"),
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
