"""Fidelity, diversity and originality of table rows by the measures of Alaa et al."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mmbench.api import TABLE, Card, Metric, Output, Score, Trial, param, stats

from ._neighbours import capped, distances, kth_nearest
from ._scores import no_table, too_few, undefined, within
from ._table_space import TableSpace

_PAPER = (
    "Alaa, van Breugel, Saveliev, van der Schaar 2022, How Faithful is your Synthetic Data? Sample-level "
    "Metrics for Evaluating and Auditing Generative Models (ICML)"
)
_LEVELS = np.linspace(0, 1, 30)  # the authors' grid of alpha and beta


@dataclass
class AlphaPrecision(Metric):
    """Integrated alpha-precision and integrated beta-recall, in a corrected naive form.

    The variant is the naive one (no one-class embedding): rows are points of the rank and indicator space of
    the table metrics. It departs from the authors' code, and from the synthcity numbers found in the
    literature, in three ways:

    * the integrals 1 - 2 * int |P_a - a| da are taken by the trapezoid rule over the authors' 30 levels;
    * the beta-support is the ball that holds a share beta of *all* synthetic records; the code takes the
      quantiles of the selected nearest neighbours, which makes that condition hold by construction;
    * sample sizes may differ.
    """

    max_records: int = param(2000, "largest number of records of a sample that is used", minimum=50)
    repeats: int = param(40, "halves drawn for the interval", minimum=10)

    card = Card(
        "Alpha-precision and beta-recall of table rows (naive embedding, corrected).",
        _PAPER,
    )
    version = 1
    kind = "fidelity"
    needs = TABLE
    null = "columns"
    outputs = (
        Output(
            "alpha-precision",
            "Alpha-precision",
            "How evenly synthetic rows fill the balls around the real centre that hold a given real share.",
            "Everything but the distance to one centre: rows on the wrong side of it look right.",
            "higher",
            1.0,
        ),
        Output(
            "beta-recall",
            "Beta-recall",
            "Share of real rows with a synthetic row nearer than the next real one, over synthetic supports.",
            "Memorisation, which it rewards where the copied rows are near the reference.",
            "higher",
            # Of two records drawn alike, either is as likely to be the nearer one.
            0.5,
            kind="diversity",
        ),
    )

    def scores(self, trial: Trial) -> Iterable[Score]:
        sides = (trial.reference, trial.synthetic)
        if reason := no_table(*sides) or too_few(trial):
            return undefined(self.outputs, reason)
        space = TableSpace.fit(trial.schema, trial.reference.cohort.rows)
        if space.empty:
            return undefined(self.outputs, "no column varies in the reference")
        real, synthetic = (
            space.embed(side.cohort.rows)[capped(len(side), self.max_records, trial.seed)] for side in sides
        )
        real_to_real, real_to_synthetic = distances(real, real), distances(real, synthetic)

        def precision(rows: np.ndarray, others: np.ndarray) -> float:
            return alpha_precision(real[rows], synthetic[others])

        def recall(rows: np.ndarray, others: np.ndarray) -> float:
            nearest = kth_nearest(real_to_real[np.ix_(rows, rows)], 1)
            return beta_recall(nearest, real_to_synthetic[np.ix_(rows, others)], synthetic[others])

        sizes = (len(real), len(synthetic))
        estimates = [
            within(stats.half_subsampling(measure, sizes, trial.seed, self.repeats))
            for measure in (precision, recall)
        ]
        return [
            Score.of("alpha-precision", estimates[0]),
            Score.of("beta-recall", estimates[1]),
        ]


@dataclass
class Authenticity(Metric):
    """Authenticity relative to unseen real rows, in a corrected naive form.

    A synthetic record is authentic where its nearest training record has a training record of its own that is
    nearer still. The authors' code and synthcity mix up the two indices here. The share of authentic records is
    divided by that of the reference records, because the raw value depends on the dimension: 1 is as original as
    unseen real rows.
    """

    max_records: int = param(2000, "largest number of records of a sample that is used", minimum=50)
    repeats: int = param(40, "halves drawn for the interval", minimum=10)

    card = Card(
        "Authenticity of table rows relative to unseen real ones (naive embedding, corrected).", _PAPER
    )
    version = 1
    kind = "privacy"
    needs = TABLE
    null = "copies"
    outputs = (
        Output(
            "authenticity",
            "Relative authenticity",
            "Share of synthetic rows that are no near copy of a training row, relative to unseen real rows.",
            "A few copies among many rows, and rows that are far from everything, which count as original.",
            "higher",
            1.0,
        ),
    )

    def scores(self, trial: Trial) -> Iterable[Score]:
        sides = (trial.reference, trial.synthetic, trial.train)
        if reason := no_table(*sides) or too_few(trial):
            return undefined(self.outputs, reason)
        if len(trial.train) < 2:
            return undefined(self.outputs, "authenticity needs two training records")
        space = TableSpace.fit(trial.schema, trial.reference.cohort.rows)
        if space.empty:
            return undefined(self.outputs, "no column varies in the reference")
        real, synthetic, train = (
            space.embed(side.cohort.rows)[capped(len(side), self.max_records, trial.seed)] for side in sides
        )
        own = kth_nearest(distances(train, train), 1)
        ceiling, value = authentic(real, train, own), authentic(synthetic, train, own)
        if not ceiling.any():
            return undefined(self.outputs, "every real record is as near as a copy; nothing to divide by")

        def relative(rows: np.ndarray, others: np.ndarray) -> float:
            return float(value[others].mean() / ceiling[rows].mean()) if ceiling[rows].any() else float("nan")

        estimate = stats.half_subsampling(relative, (len(real), len(synthetic)), trial.seed, self.repeats)
        return [Score.of("authenticity", within(estimate, high=np.inf))]


def alpha_precision(real: np.ndarray, synthetic: np.ndarray) -> float:
    """Return integrated alpha-precision, 1 - 2 * int |P_a - a| da (Alaa et al. 2022, section 4).

    Args:
        real: Points of shape (n, d); their mean is the centre.
        synthetic: Points of shape (m, d).
    """
    centre = real.mean(axis=0)
    radii = np.quantile(np.linalg.norm(real - centre, axis=1), _LEVELS)
    inside = np.linalg.norm(synthetic - centre, axis=1)[:, None] <= radii
    return _integrated(inside.mean(axis=0))


def beta_recall(nearest_real: np.ndarray, real_to_synthetic: np.ndarray, synthetic: np.ndarray) -> float:
    """Return integrated beta-recall, 1 - 2 * int |R_b - b| db (Alaa et al. 2022, section 4).

    Args:
        nearest_real: Distance of each real record to its nearest other one, shape (n,).
        real_to_synthetic: Distances of shape (n, m).
        synthetic: Points of shape (m, d); their mean is the centre of the beta-supports.
    """
    reach = np.linalg.norm(synthetic - synthetic.mean(axis=0), axis=1)
    radii = np.quantile(reach, _LEVELS)
    closest = real_to_synthetic.argmin(axis=1)
    covered = real_to_synthetic.min(axis=1) <= nearest_real
    return _integrated((covered[:, None] & (reach[closest][:, None] <= radii)).mean(axis=0))


def authentic(points: np.ndarray, train: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return for each point whether it is further from its nearest training record than that one's neighbour.

    Args:
        points: Points of shape (n, d).
        train: Training points of shape (m, d).
        own: Distance of each training record to its nearest other one, shape (m,).
    """
    to_train = distances(points, train)
    return to_train.min(axis=1) > own[to_train.argmin(axis=1)]


def _integrated(shares: np.ndarray) -> float:
    return float(1 - 2 * np.trapezoid(np.abs(shares - _LEVELS), _LEVELS))
