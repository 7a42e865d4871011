"""Classifier two-sample tests: how well cross-fitted classifiers tell two samples apart.

Every area under the ROC curve is taken within a fold and averaged over folds. The records of a fold are scored
by one classifier that saw none of them, so that for equal laws their labels are exchangeable given the scores,
and each area is 1/2 in expectation whatever the classifier. Scores of different folds are never compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import rankdata
from threadpoolctl import threadpool_limits

from mmbench.api import stats

from ._classifiers import boosted_trees, discriminant, with_products
from ._neighbours import distances, nearest

FOLDS = 5
LEARNERS = ("discriminant", "trees")

MIN_RECORDS = 4 * FOLDS
"""With fewer records of a sample a fold has next to none."""

_PAST = 2  # folds that the first classifier of the predictive test learns from
_NEAR_COPY = 0.1  # of the median distance of a real record to its nearest other
_NATURAL = 0.05  # a larger share of real records as near as copies makes nearness no sign of copying
_BLOCK = 512
_DECIMALS = 9  # of points whose spread is about 1


@dataclass(frozen=True)
class Verdict:
    """What a classifier two-sample test says.

    Attributes:
        auc: Area under the ROC curve of both learners together, with its interval.
        areas: Area of each learner alone.
        p: p-value of the hypothesis that both samples are from one law, by both learners together.
        ps: p-values of each learner alone, adjusted for their number by Holm's method.
        copies: Share of the second sample that is a near copy of a record of the first.
        standard_error: Standard error of the area for equal laws.
    """

    auc: stats.Estimate
    areas: dict[str, float]
    p: float
    ps: dict[str, float]
    copies: float
    standard_error: float


def two_sample_test(
    first: np.ndarray, second: np.ndarray, scale: np.ndarray, permutations: int, seed: int
) -> Verdict:
    """Tell two samples apart with a discriminant on pairwise products and with boosted trees.

    Together the learners score by their mean rank within a fold. Which of them does better is never chosen by
    looking at the result: the larger of two areas is above 1/2 for equal laws.

    The test is predictive (Dawid 1984, Statistical theory: the prequential approach, JRSS A 147): classifiers
    that learned from the first 2, 3 and 4 of 5 folds are judged on the next one. Labels are permuted within a
    fold, with the scores as they are; these depend on earlier folds only, so that the area of a fold is a
    Mann-Whitney statistic whatever came before. Under cross-fitting each record both teaches and judges, the
    area varies up to twice as much for equal laws, and the same permutations would reject too often.

    For the same reason the interval takes DeLong's variance times 2 - r, where r is the correlation of the scores
    that two classifiers from disjoint records give to the same ones: 0 where all that they learn is noise, 1
    where more records would teach them nothing new.

    Args:
        first: Points of shape (n, d), n at least 20.
        second: Points of shape (n, d).
        scale: Real points that set centre, unit and spacing, of shape (m, d).
        permutations: Permutations of the labels.
        seed: Seed of folds, trees and permutations.
    """
    import sklearn.ensemble  # noqa: F401  only the threads of what is loaded can be limited

    # So small a task is over before threads have found each other; on a busy machine they wait a hundred times as
    # long as it takes.
    with threadpool_limits(1):
        return _verdict(first, second, scale, permutations, seed)


def _verdict(
    first: np.ndarray, second: np.ndarray, scale: np.ndarray, permutations: int, seed: int
) -> Verdict:
    rng = np.random.default_rng(seed)
    points = np.concatenate([first, second])
    labels = np.repeat([0, 1], [len(first), len(second)])
    copies = near_copies(points, scale, len(first))
    fold = deal(labels, twins(labels, copies), rng)
    features = with_products(points, scale)

    def scores(learn: Sequence[int], judge: Sequence[int]) -> list[np.ndarray]:
        taught, judged = np.isin(fold, learn), np.isin(fold, judge)
        found = np.stack(
            [
                discriminant(features[taught], labels[taught], features[judged]),
                boosted_trees(points[taught], labels[taught], points[judged], seed),
            ]
        )
        return [found[:, fold[judged] == k] for k in judge]

    every, last = range(FOLDS), FOLDS - 1
    truth = [labels[fold == k] for k in every]
    cross = [scores([j for j in every if j != k], [k])[0] for k in every]
    next_fold, ahead = scores(range(_PAST), [_PAST, last])
    past = [next_fold, *(scores(range(k), [k])[0] for k in range(_PAST + 1, last)), cross[last]]
    p, ps = _predictive_test(past, truth[_PAST:], permutations, rng)
    agreement = _correlation(_together(ahead), _together(scores(range(_PAST, 2 * _PAST), [last])[0]))

    together = [_together(found) for found in cross]
    variance = (2 - max(agreement, 0.0)) * _delong_variance(truth, together)
    value = mean_area(truth, together)
    pairs = [(int((fold_truth == 0).sum()), int(fold_truth.sum())) for fold_truth in truth]
    equal = sum((a + b + 1) / (12 * a * b) for a, b in pairs) / FOLDS**2
    copied = np.isin(copies[len(first) :], copies[: len(first)])
    return Verdict(
        stats.Estimate(value, *_wilson(value, variance, len(first)), "DeLong, inflated for cross-fitting"),
        {name: mean_area(truth, [found[i] for found in cross]) for i, name in enumerate(LEARNERS)},
        p,
        ps,
        float(copied.mean()),
        float(np.sqrt(2 * equal)),
    )


def canonical(points: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return points with coordinates and records in an order that the values themselves set.

    Folds go to records and the trees' draws to coordinates by position; so neither depends on the order in which
    they came.

    Args:
        points: Shape (n, d).
        scale: Points that set the order of the coordinates, of shape (m, d).
    """
    order = np.lexsort(np.sort(np.round(scale, _DECIMALS), axis=0))
    points = np.round(points, _DECIMALS)[:, order]
    return points[np.lexsort(points.T)]


def near_copies(points: np.ndarray, scale: np.ndarray, size: int) -> np.ndarray:
    """Return for each record the number of its group: a record and its near copies are one group.

    Near is a tenth of the median distance of a real record to its nearest other among ``size`` of them. Where
    more than one in twenty real records is as near to another, as in a table of few levels, nearness is no sign
    of copying, and every record is a group of its own.

    Args:
        points: Shape (n, d).
        scale: Real points, of shape (m, d).
        size: Records of a sample.
    """
    alone = np.arange(len(points))
    real = scale[np.linspace(0, len(scale) - 1, min(size, len(scale))).astype(int)]
    if len(real) < 2:
        return alone
    spacing = nearest(real, real, 1, same=True)[0][:, 0]
    near = _NEAR_COPY * float(np.median(spacing))
    if (spacing <= near).mean() > _NATURAL:
        return alone
    links = []
    for start in range(0, len(points), _BLOCK):
        rows, columns = np.nonzero(distances(points[start : start + _BLOCK], points) <= near)
        links.append((rows + start, columns))
    rows, columns = (np.concatenate(part) for part in zip(*links, strict=True))
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(points), len(points)))
    return np.asarray(connected_components(graph, directed=False)[1])


def twins(labels: np.ndarray, copies: np.ndarray) -> np.ndarray:
    """Return the groups that must not be divided among folds: near copies with records of both samples.

    A classifier that learned from one would give the other the wrong label. Copies within one sample are left
    alone: to repeat itself is a property of a law, for a classifier to find. So is a group as large as a fold's
    share of a sample, which no fold could hold.

    Args:
        labels: 0 or 1, of shape (n,).
        copies: Number of each record's group of near copies, from 0, of shape (n,).
    """
    ones, size = np.bincount(copies, labels), np.bincount(copies)
    whole = (ones > 0) & (ones < size) & (size <= len(labels) / (2 * FOLDS))
    alone = len(size) + np.arange(len(labels))
    return np.unique(np.where(whole[copies], copies, alone), return_inverse=True)[1]


def deal(labels: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the fold of each record: groups stay whole, and labels are spread evenly.

    Where that would leave a fold without one of the labels groups are divided.

    Args:
        labels: 0 or 1, of shape (n,).
        groups: Number of each record's group, from 0, of shape (n,).
        rng: Source of the order in which groups are dealt out.
    """
    ones, size = np.bincount(groups, labels), np.bincount(groups)
    # Groups of the same make-up are dealt out in turn.
    order = np.lexsort((rng.random(len(size)), ones, size))
    fold = np.empty(len(size), dtype=int)
    fold[order] = np.arange(len(size)) % FOLDS
    found = fold[groups]
    short = np.bincount(2 * found + labels, minlength=2 * FOLDS).min() == 0
    return deal(labels, np.arange(len(labels)), rng) if short and len(size) < len(labels) else found


def mean_area(labels: Sequence[np.ndarray], scores: Sequence[np.ndarray]) -> float:
    """Return the area under the ROC curve, averaged over folds, ties counted by half.

    Args:
        labels: 0 or 1 for each record of each fold.
        scores: Higher for the likelier label 1.
    """
    return float(np.mean([_placements(*fold)[0].mean() for fold in zip(labels, scores, strict=True)]))


def holm(ps: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number (Holm 1979, Scandinavian Journal of Statistics 6)."""
    values = np.asarray(ps, dtype=float)
    order = np.argsort(values)
    adjusted = np.empty(len(values))
    factors = np.arange(len(values), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1)
    return [float(p) for p in adjusted]


def _together(scores: np.ndarray) -> np.ndarray:
    """Return the mean over learners of their scores' ranks in a fold, of shape (records,)."""
    return np.asarray(rankdata(scores, axis=1).mean(axis=0))


def _predictive_test(
    scores: Sequence[np.ndarray], labels: Sequence[np.ndarray], permutations: int, rng: np.random.Generator
) -> tuple[float, dict[str, float]]:
    """Return p-values of both learners together and of each, the latter adjusted for their number.

    Args:
        scores: Of the learners for the records of a fold, arrays of shape (learners, records).
        labels: Of the same records.
        permutations: Permutations of the labels within folds.
        rng: Source of the permutations.
    """
    sums = np.zeros((permutations + 1, 1 + len(LEARNERS)))
    for found, truth in zip(scores, labels, strict=True):
        ranks = rankdata(np.vstack([_together(found), found]), axis=1)
        orders = rng.permuted(np.tile(truth, (permutations, 1)), axis=1)
        sums += np.vstack([truth, orders]) @ ranks.T / len(truth)
    # Rounding must not make equal sums differ: ties count for equal laws.
    ps = (1 + (sums[1:] >= sums[0] - 1e-9).sum(axis=0)) / (1 + permutations)
    return float(ps[0]), dict(zip(LEARNERS, holm(ps[1:]), strict=True))


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    if not a.std() or not b.std():
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def _placements(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each record of label 1 the share of label 0 below it, and for each of label 0 that of 1 above."""
    ones, zeros = scores[labels == 1], scores[labels == 0]
    ranks = rankdata(np.concatenate([ones, zeros]))
    below = (ranks[: len(ones)] - rankdata(ones)) / len(zeros)
    above = 1 - (ranks[len(ones) :] - rankdata(zeros)) / len(ones)
    return below, above


def _delong_variance(labels: Sequence[np.ndarray], scores: Sequence[np.ndarray]) -> float:
    """Return the variance of the mean area by DeLong, DeLong, Clarke-Pearson (1988, Biometrics 44)."""
    folds = [_placements(*fold) for fold in zip(labels, scores, strict=True)]
    sides = (np.concatenate(side) for side in zip(*folds, strict=True))
    return float(sum(side.var(ddof=1) / len(side) for side in sides))


def _wilson(value: float, variance: float, n: int) -> tuple[float, float]:
    """Return the interval of Wilson (1927) with the number of trials that would give ``variance``.

    Unlike a symmetric one it holds close to 0 and 1. Where nothing varies each of ``n`` records is a trial.
    """
    binomial = value * (1 - value)
    weight = stats.Z95**2 / (binomial / variance if binomial > 0 and variance > 0 else n)
    middle = (value + weight / 2) / (1 + weight)
    reach = np.sqrt(weight * (binomial + weight / 4)) / (1 + weight)
    return min(max(float(middle - reach), 0.0), value), max(min(float(middle + reach), 1.0), value)
