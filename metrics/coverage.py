"""Density, coverage, precision and recall of k-nearest-neighbour balls, for rows and for image features."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from mmbench.api import TABLE, VOLUME, Card, Metric, Output, Score, Trial, param, stats

from ._manifold import PRECISION_NEIGHBOURS, Fill, Lists, fill
from ._neighbours import neighbour_lists
from ._scores import no_features, no_table, too_few, undefined
from ._spaces import Points, image_components, table_points

_REFERENCE = (
    "Naeem, Oh, Uh, Choi, Yoo 2020, Reliable Fidelity and Diversity Metrics for Generative Models (ICML); "
    "Salvy, Talbot, Thirion 2026, Clipped Density and Coverage (ICLR; written anew from the formulas); "
    "Kynkaanniemi, Karras, Laine, Lehtinen, Aila 2019, Improved Precision and Recall Metric for Assessing "
    "Generative Models (NeurIPS)"
)
# Chance that a ball with the 5 nearest of n other real records holds one of n synthetic ones drawn alike,
# for large n (Naeem et al. 2020, equation 8).
_PERFECT_COVERAGE = 1 - 2.0**-5
_SUBSAMPLE = 500  # most records of a side in one of the subsamples that the interval comes from
_CUT = frozenset({"density", "clipped_coverage"})  # estimates whose definition ends in min(1, .)


def _outputs(prefix: str, records: str, blind: str) -> tuple[Output, ...]:
    title = prefix.capitalize()
    unit = (0.0, 1.0)
    return (
        Output(
            f"{prefix}-density",
            f"{title} density",
            f"How densely synthetic {records} lie among real ones, relative to real ones among themselves.",
            f"{records.capitalize()} that are never generated; {blind}.",
            "higher",
            1.0,
            kind="fidelity",
            range=unit,
        ),
        Output(
            f"{prefix}-coverage",
            f"{title} coverage",
            f"Share of real {records} with a synthetic one within reach of their fifth nearest real neighbour.",
            f"Unrealistic {records} beside the real ones; how often each real region is met; {blind}.",
            "higher",
            _PERFECT_COVERAGE,
            range=unit,
        ),
        Output(
            f"{prefix}-clipped-coverage",
            f"{title} clipped coverage",
            f"Share of synthetic {records} that, drawn like real ones, would fill the real ones' balls as well.",
            f"Unrealistic {records} beside the real ones; too little spread in many dimensions; {blind}.",
            "higher",
            1.0,
            range=unit,
        ),
        Output(
            f"{prefix}-precision",
            f"{title} precision",
            f"Share of synthetic {records} within the third-neighbour ball of any real one.",
            f"How likely the {records} are: one real outlier has a wide ball, and any {records} drawn too "
            f"narrowly pass; even a perfect sample has less than 1 in many dimensions; {blind}.",
            "higher",
            1.0,
            kind="fidelity",
            range=unit,
        ),
        Output(
            f"{prefix}-recall",
            f"{title} recall",
            f"Share of real {records} within the third-neighbour ball of any synthetic one.",
            f"How often each region is met: {records} drawn too widely have wide balls and cover everything; even "
            f"a perfect sample has less than 1 in many dimensions; {blind}.",
            "higher",
            1.0,
            range=unit,
        ),
    )


@dataclass
class TableCoverage(Metric):
    """Density, coverage, precision and recall of table rows, in the space of the table metrics.

    Nothing is left out, however many rows there are. With unequal numbers of rows coverage is what as many
    rows of the larger sample would have; the other scores do not depend on the numbers beyond their noise.
    The detail ``unclipped`` of the density is that of Naeem et al. 2020.
    """

    k: int = param(5, "neighbours that a ball of density and coverage holds", minimum=1, maximum=50)
    repeats: int = param(40, "subsamples drawn for the intervals", minimum=10)

    card = Card("Density, coverage, precision and recall of table rows by nearest neighbours.", _REFERENCE)
    version = 2
    kind = "diversity"
    needs = TABLE
    null = "columns"
    outputs = _outputs("table", "rows", "copies of training rows look as good as new ones")

    def scores(self, trial: Trial) -> Iterable[Score]:
        sides = (trial.reference, trial.synthetic, trial.train)
        if reason := no_table(*sides) or too_few(trial, 2 * self.k + 2):
            return undefined(self.outputs, reason)
        space = table_points(trial)
        if not space.train.shape[1]:
            return undefined(self.outputs, "no column varies in the training table")
        return _scores(self.outputs, trial, [space], self.k, self.repeats)


@dataclass
class ImageCoverage(Metric):
    """The same of image features, averaged over the blocks of the extractor.

    Each block is standardised and whitened on the training records: on the reference, whose noise the
    whitening would fit, reference and fresh real volumes would not look alike.
    """

    k: int = param(5, "neighbours that a ball of density and coverage holds", minimum=1, maximum=50)
    dimensions: int = param(32, "most principal components of a block of features", minimum=1)
    repeats: int = param(40, "subsamples drawn for the intervals", minimum=10)

    card = Card(
        "Density, coverage, precision and recall of image features by nearest neighbours.", _REFERENCE
    )
    version = 2
    kind = "diversity"
    needs = VOLUME
    null = "noise"
    outputs = _outputs("image", "volumes", "what the feature extractor does not see")

    def scores(self, trial: Trial) -> Iterable[Score]:
        sides = (trial.reference, trial.synthetic, trial.train)
        if reason := no_features(*sides) or too_few(trial, 2 * self.k + 2):
            return undefined(self.outputs, reason)
        spaces = image_components(trial, self.dimensions)
        if not spaces:
            return undefined(self.outputs, "no image feature varies among the training records")
        return _scores(self.outputs, trial, spaces, self.k, self.repeats)


def _scores(
    outputs: Sequence[Output], trial: Trial, spaces: Sequence[Points], k: int, repeats: int
) -> list[Score]:
    whole = _mean([fill(space.reference, space.synthetic, k, _lists(trial, space, k)) for space in spaces])
    drawn: dict[bytes, Fill] = {}

    def subsample(rows: np.ndarray, others: np.ndarray) -> Fill:
        # Each score asks for the same subsamples.
        key = rows.tobytes() + others.tobytes()
        if key not in drawn:
            drawn[key] = _mean([fill(space.reference[rows], space.synthetic[others], k) for space in spaces])
        return drawn[key]

    def estimate(name: str) -> stats.Estimate:
        cut = name in _CUT
        found = stats.subsampling(
            lambda rows, others: float(getattr(subsample(rows, others), name)),
            (len(trial.reference), len(trial.synthetic)),
            trial.seed,
            repeats,
            largest=_SUBSAMPLE,
            least=-np.inf if cut else 0.0,
            most=np.inf if cut else 1.0,
            value=getattr(whole, name),
        )
        return cut_at_one(found) if cut else found

    results = []
    for output, name in zip(outputs, Fill._fields[: len(outputs)], strict=True):
        found = estimate(name)
        reason = "" if np.isfinite(found.value) else "no real record lies within reach of another"
        results.append(Score(output.name, found.value, "", found.low, found.high, found.method, reason))
    return [*results, Score(outputs[0].name, whole.unclipped_density, item="unclipped")]


def _lists(trial: Trial, space: Points, k: int) -> Lists:
    most = max(k, PRECISION_NEIGHBOURS)
    return Lists(
        neighbour_lists(trial, space, "reference", "reference", most).distances,
        neighbour_lists(trial, space, "reference", "synthetic", k).distances,
        neighbour_lists(trial, space, "synthetic", "synthetic", PRECISION_NEIGHBOURS).distances,
    )


def _mean(fills: Sequence[Fill]) -> Fill:
    return Fill(*(float(value) for value in np.mean(fills, axis=0)))


def cut_at_one(estimate: stats.Estimate) -> stats.Estimate:
    """Return the estimate of an expected min(X, 1) from that of a normal X with a symmetric interval.

    With X of mean m and standard deviation s that expectation is m - s (z Phi(z) + phi(z)), z = (m - 1) / s,
    which rises with m: the ends of the interval go through it. Cutting the ends alone would leave out what
    the cut takes from the expectation, and miss it too often where X is near 1.
    """
    value = min(estimate.value, 1.0)
    spread = (estimate.high - estimate.low) / (2 * stats.Z95)
    if not spread > 0:
        return stats.Estimate(value, min(estimate.low, 1.0), min(estimate.high, 1.0), estimate.method)
    ends = np.array([estimate.low, estimate.high])
    z = (ends - 1) / spread
    low, high = ends - spread * (z * norm.cdf(z) + norm.pdf(z))
    return stats.Estimate(value, max(float(min(low, value)), 0.0), float(max(high, value)), estimate.method)
