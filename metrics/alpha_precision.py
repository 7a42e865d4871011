"""Fidelity, diversity and originality of table rows by the measures of Alaa et al."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from mmbench.api import TABLE, Card, Metric, Output, Score, Trial, param, stats

from ._manifold import covering_chances
from ._neighbours import Neighbours, nearest, neighbour_lists, reaches
from ._scores import no_table, too_few, undefined
from ._spaces import table_points

_PAPER = (
    "Alaa, van Breugel, Saveliev, van der Schaar 2022, How Faithful is your Synthetic Data? Sample-level "
    "Metrics for Evaluating and Auditing Generative Models (ICML)"
)
LEVELS = np.linspace(0, 1, 30)  # the authors' grid of alpha and beta
_WITHIN = 1 - 1e-12  # distances that differ by less are equal but for rounding
_SUBSAMPLE = 500  # most records of a side in one of the subsamples that an interval comes from


@dataclass
class AlphaPrecision(Metric):
    """Integrated alpha-precision and integrated beta-recall, in a corrected naive form.

    The variant is the naive one (no one-class embedding): rows are points of the space of the table metrics,
    fitted on the training rows, and none is left out. It departs from the authors' code, and from the synthcity
    numbers found in the literature, in three ways:

    * the integrals 1 - 2 * int |P_a - a| da are taken by the trapezoid rule over the authors' 30 levels
      (synthcity divides the sum of |P_a - a| by the sum of the levels: 1 - v is 30/29 times as much);
    * the beta-support is the ball that holds a share beta of *all* synthetic records; the code takes the
      quantiles of the selected nearest neighbours, which makes that condition hold by construction;
    * sample sizes may differ. Where they do, a real row counts by the chance that it is covered between
      samples as large as the smaller: beta-recall would rise with the number of synthetic rows otherwise.
    """

    repeats: int = param(40, "subsamples drawn for the intervals", minimum=10)

    card = Card(
        "Alpha-precision and beta-recall of table rows (naive embedding, corrected).",
        _PAPER,
    )
    version = 2
    kind = "fidelity"
    needs = TABLE
    null = "columns"
    outputs = (
        Output(
            "alpha-precision",
            "Alpha-precision (naive)",
            "How evenly synthetic rows fill the balls around the real centre that hold a given real share.",
            "Everything but the distance to one centre: rows on the wrong side of it look right.",
            "higher",
            1.0,
            range=(0.0, 1.0),
        ),
        Output(
            "beta-recall",
            "Beta-recall (naive)",
            "Share of real rows with a synthetic row nearer than the next real one, over synthetic supports.",
            "Memorisation, which it rewards where the copied rows are near the reference.",
            "higher",
            # Of two records drawn alike, either is as likely to be the nearer one.
            0.5,
            kind="diversity",
            range=(0.0, 1.0),
        ),
    )

    def scores(self, trial: Trial) -> Iterable[Score]:
        sides = (trial.reference, trial.synthetic, trial.train)
        if reason := no_table(*sides) or too_few(trial):
            return undefined(self.outputs, reason)
        space = table_points(trial)
        if not space.train.shape[1]:
            return undefined(self.outputs, "no column varies in the training table")
        real, synthetic = space.reference, space.synthetic
        among_real = neighbour_lists(trial, space, "reference", "reference", 1)
        to_synthetic = neighbour_lists(trial, space, "reference", "synthetic", 1)

        def precision(rows: np.ndarray, others: np.ndarray) -> float:
            return alpha_precision(real[rows], synthetic[others])

        def recall(rows: np.ndarray, others: np.ndarray) -> float:
            x, y = real[rows], synthetic[others]
            return beta_recall(x, y, nearest(x, x, 1, same=True), nearest(x, y, 1))

        whole = (
            alpha_precision(real, synthetic),
            beta_recall(real, synthetic, among_real, to_synthetic),
        )
        return [
            Score.of(
                output.name,
                stats.subsampling(
                    measure,
                    (len(real), len(synthetic)),
                    trial.seed,
                    self.repeats,
                    largest=_SUBSAMPLE,
                    least=0.0,
                    most=1.0,
                    value=value,
                ),
            )
            for output, measure, value in zip(self.outputs, (precision, recall), whole, strict=True)
        ]


@dataclass
class Authenticity(Metric):
    """Authenticity relative to unseen real rows, in a corrected naive form.

    A synthetic record is authentic where its nearest training record has a training record of its own that is
    nearer still. The authors' code and synthcity mix up the two indices here. The share of authentic records is
    divided by that of the reference records, because the raw value depends on the dimension: 1 is as original as
    unseen real rows. The details are both shares, ``share`` and ``share-real``.
    """

    card = Card(
        "Authenticity of table rows relative to unseen real ones (naive embedding, corrected).",
        _PAPER
        + "; interval of the ratio: Li, Tang, Wong 2014, Confidence intervals for ratio of two Poisson rates "
        "using the method of variance estimates recovery (Comput Stat 29)",
    )
    version = 2
    kind = "privacy"
    needs = TABLE
    null = "copies"
    outputs = (
        Output(
            "authenticity",
            "Relative authenticity (naive)",
            "Share of synthetic rows that are no near copy of a training row, relative to unseen real rows.",
            "A few copies among many rows, and rows that are far from everything, which count as original.",
            "higher",
            1.0,
            range=(0.0, np.inf),
        ),
    )

    def scores(self, trial: Trial) -> Iterable[Score]:
        sides = (trial.reference, trial.synthetic, trial.train)
        if reason := no_table(*sides) or too_few(trial):
            return undefined(self.outputs, reason)
        if len(trial.train) < 2:
            return undefined(self.outputs, "authenticity needs two training records")
        space = table_points(trial)
        if not space.train.shape[1]:
            return undefined(self.outputs, "no column varies in the training table")
        own = neighbour_lists(trial, space, "train", "train", 1).distances[:, 0]
        ceiling, value = (
            authentic(neighbour_lists(trial, space, side, "train", 1), own)
            for side in ("reference", "synthetic")
        )
        if not ceiling.any():
            return undefined(self.outputs, "every real record is as near as a copy; nothing to divide by")
        return [
            Score.of("authenticity", ratio_of_rates(value, ceiling)),
            Score("authenticity", float(value.mean()), item="share"),
            Score("authenticity", float(ceiling.mean()), item="share-real"),
        ]


def precision_curve(real: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    """Return the share P_a of synthetic records in the ball around the real mean that holds a real share a.

    Args:
        real: Points of shape (n, d).
        synthetic: Points of shape (m, d).

    Returns:
        Shares at the 30 ``LEVELS`` of a, from 0 to 1.
    """
    centre = real.mean(axis=0)
    radii = np.quantile(np.linalg.norm(real - centre, axis=1), LEVELS)
    return _shares_within(np.linalg.norm(synthetic - centre, axis=1), radii)


def alpha_precision(real: np.ndarray, synthetic: np.ndarray) -> float:
    """Return integrated alpha-precision, 1 - 2 * int |P_a - a| da (Alaa et al. 2022, section 4).

    Args:
        real: Points of shape (n, d); their mean is the centre.
        synthetic: Points of shape (m, d).

    Returns:
        From 0 to 1.
    """
    return _integrated(precision_curve(real, synthetic))


def beta_recall(
    real: np.ndarray, synthetic: np.ndarray, among_real: Neighbours, to_synthetic: Neighbours
) -> float:
    """Return integrated beta-recall, 1 - 2 * int |R_b - b| db (Alaa et al. 2022, section 4).

    Args:
        real: Points of shape (n, d).
        synthetic: Points of shape (m, d); their mean is the centre of the beta-supports.
        among_real: Nearest other real record of each real one.
        to_synthetic: Nearest synthetic record of each real one.

    Returns:
        From 0 to 1.
    """
    reach = np.linalg.norm(synthetic - synthetic.mean(axis=0), axis=1)
    covered = covering_chances(real, synthetic, among_real.distances, to_synthetic.distances)[:, 0]
    closest = reach[to_synthetic.positions[:, 0]]
    return _integrated(_shares_within(closest, np.quantile(reach, LEVELS), covered))


def authentic(to_train: Neighbours, own: np.ndarray) -> np.ndarray:
    """Return for each record whether it is further from its nearest training record than that one's neighbour.

    Args:
        to_train: Nearest training record of each record.
        own: Distance of each training record to its nearest other one, shape (m,).
    """
    return ~reaches(own[to_train.positions[:, 0]], to_train.distances[:, 0])


def ratio_of_rates(numerator: np.ndarray, denominator: np.ndarray) -> stats.Estimate:
    """Return the ratio of two independent rates with its interval.

    The method of variance estimates recovery (Li, Tang, Wong 2014, equation 4) on Wilson's intervals of both
    rates: it holds at rates of 0 and 1 too, where a normal interval has no width.

    Args:
        numerator: Booleans of shape (n,).
        denominator: Booleans of shape (m,), some of them true.
    """
    p, q = float(numerator.mean()), float(denominator.mean())
    (l1, u1), (l2, u2) = _wilson(numerator), _wilson(denominator)
    # Equation 4's lower end with its root brought into the denominator, which cannot vanish there.
    root = np.sqrt(max((p * q) ** 2 - l1 * u2 * (2 * p - l1) * (2 * q - u2), 0))
    low = l1 * (2 * p - l1) / (p * q + root) if l1 else 0.0
    root = np.sqrt(max((p * q) ** 2 - u1 * l2 * (2 * p - u1) * (2 * q - l2), 0))
    high = (p * q + root) / (l2 * (2 * q - l2))
    return stats.Estimate(
        p / q, float(low), float(high), "variance estimates recovered from Wilson intervals"
    )


def _wilson(flags: np.ndarray) -> tuple[float, float]:
    interval = binomtest(int(flags.sum()), len(flags)).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def _shares_within(distances: np.ndarray, radii: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the share of ``distances`` up to each radius, the surface included; each counts by its weight."""
    order = np.argsort(distances, kind="stable")
    ordered = distances[order] * _WITHIN
    sums = np.concatenate([[0.0], np.cumsum(np.ones(len(order)) if weights is None else weights[order])])
    return np.asarray(sums[np.searchsorted(ordered, radii, side="right")] / len(order))


def _integrated(shares: np.ndarray) -> float:
    return float(1 - 2 * np.trapezoid(np.abs(shares - LEVELS), LEVELS))
