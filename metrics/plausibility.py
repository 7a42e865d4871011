"""Whether a synthetic volume could be one of a person, judged one volume at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats
from scipy.spatial.distance import cdist

from mmbench.api import VOLUME, Card, Metric, Output, Score, Trial, param, stats

from ._anatomy import CONNECTEDNESS, SYMMETRY, shapes
from ._conformal import LEVEL, p_stranger, p_values, share_within, strangeness
from ._foreground import other_grid
from ._neighbours import capped, nearest
from ._scores import too_few, undefined
from ._spaces import image_components

MIN_TRAIN = 20
"""Fewer training records do not tell what is usual."""
_NEIGHBOURS = 5
_MOST_TRAIN = 2000  # training volumes whose balls are looked at
_BLOCK = 1024
_REASONS = 3
_WORST = 5
_CONFORMAL = (
    "conformal test of single records: Vovk, Gammerman, Shafer 2005, Algorithmic Learning in a Random World; "
    "Bates, Candes, Lei, Romano, Sesia 2023, Testing for Outliers with Conformal p-values (Ann Stat 51)"
)
_TOO_ALIKE = "that the volumes are too much alike, which counts as plausible"


@dataclass
class Measurable(Metric):
    """Share of synthetic volumes that the measurer accepts.

    The details give the most frequent reasons with the share of volumes that each one stopped, and ``p``, that
    of Fisher's exact test against the reference's own share, one-sided.
    """

    card = Card(
        "Share of synthetic volumes on which body or tissue composition can be measured.",
        "interval: Clopper, Pearson 1934 (Biometrika 26); test: Fisher 1935, The Design of Experiments",
    )
    version = 1
    kind = "plausibility"
    needs = VOLUME
    needs_composition = True
    null = "noise"
    outputs = (
        Output(
            "measurable",
            "Measurable volumes",
            "Share of synthetic volumes on which the measurer finds what it needs to measure anything.",
            "Everything that the measurer does not look at before it measures, and what it then measures.",
            "higher",
            1.0,
            range=(0.0, 1.0),
        ),
    )

    def scores(self, trial: Trial) -> Iterable[Score]:
        sides = [side.composition for side in (trial.reference, trial.synthetic)]
        if any(side is None or side.columns.empty or not len(side) for side in sides):
            return undefined(self.outputs, "a side has no measured quantities")
        measured = [(~side.isna().all(axis=1)).to_numpy() for side in sides if side is not None]
        real, synthetic = ([int(kept.sum()), int((~kept).sum())] for kept in measured)
        p = scipy_stats.fisher_exact([synthetic, real], alternative="less").pvalue
        name = self.outputs[0].name
        return [
            Score.of(name, stats.proportion(synthetic[0], sum(synthetic))),
            Score(name, float(p), item="p"),
            *(Score(name, share, item=text) for text, share in _reasons(trial.synthetic.unmeasurable)),
        ]


@dataclass
class CompositionRange(Metric):
    """Share of synthetic volumes all of whose measured quantities are within the real range.

    The range is a box around the training median. Its shape comes from the training records, its size from the
    reference: 95 % of fresh real subjects lie within it. A volume on which nothing can be measured lies outside.
    The details give the share of volumes within each side of the box, and the p-value ``p`` of a one-sided rank
    test of the synthetic volumes being no stranger than the reference's.
    """

    card = Card("Share of synthetic volumes with compartment sizes as real ones have them.", _CONFORMAL)
    version = 1
    kind = "plausibility"
    needs = VOLUME
    needs_composition = True
    null = "noise"
    outputs = (
        Output(
            "composition-range",
            "Composition within range",
            "Share of synthetic volumes all of whose measured quantities lie in the range of 95 % of real "
            "subjects.",
            f"Combinations of quantities that are usual one by one, what is not measured, and {_TOO_ALIKE}.",
            "higher",
            1 - LEVEL,
            range=(0.0, 1.0),
        ),
    )

    def scores(self, trial: Trial) -> Iterable[Score]:
        sides = (trial.train, trial.reference, trial.synthetic)
        if reason := _too_few(trial):
            return undefined(self.outputs, reason)
        tables = [side.composition for side in sides]
        if any(table is None or table.columns.empty for table in tables):
            return undefined(self.outputs, "a side has no measured quantities")
        names = [str(name) for name in tables[0].columns] if tables[0] is not None else []
        values = [table.reindex(columns=names).to_numpy(float) for table in tables if table is not None]
        if np.isnan(values[0]).all():
            return undefined(self.outputs, "nothing was measured on the training sample")
        return _within_box(self.outputs[0], names, *values)


@dataclass
class Anatomy(Metric):
    """Shares of synthetic volumes that hang together, and whose sides are alike, as those of real subjects.

    The foreground of a volume, on a grid coarse enough for voxel noise to average out, is judged by how much of
    it lies outside its largest piece, by the number of pieces, and by the background that it encloses; its
    symmetry by how unlike its left-right mirror image it and the intensities within are. Each group of
    quantities is compared with that of real subjects as :class:`CompositionRange` compares composition; a volume
    more symmetrical than real ones is as strange as one that is less. Works for any part of the body.
    """

    max_train: int = param(60, "most training volumes that say what is usual", minimum=MIN_TRAIN)
    max_records: int = param(1000, "largest number of volumes of a sample that is used", minimum=50)

    card = Card("Connectedness and left-right symmetry of volumes, against real ones.", _CONFORMAL)
    version = 1
    kind = "plausibility"
    needs = VOLUME
    null = "noise"
    outputs = (
        Output(
            "connectedness",
            "Connectedness",
            "Share of synthetic volumes whose foreground is in one piece, with holes, as that of 95 % of real "
            "subjects.",
            f"What the pieces look like, fragments finer than the coarse grid, and {_TOO_ALIKE}.",
            "higher",
            1 - LEVEL,
            range=(0.0, 1.0),
        ),
        Output(
            "symmetry",
            "Left-right symmetry",
            "Share of synthetic volumes as like their left-right mirror image as those of 95 % of real subjects.",
            "Sides that were exchanged, implausible anatomy that is as symmetrical as a body's, and "
            f"{_TOO_ALIKE}.",
            "higher",
            1 - LEVEL,
            range=(0.0, 1.0),
        ),
    )

    def scores(self, trial: Trial) -> Iterable[Score]:
        if reason := _too_few(trial) or other_grid(trial.reference, trial.synthetic):
            return undefined(self.outputs, reason)
        limits = (self.max_train, self.max_records, self.max_records)
        train, reference, synthetic = (
            shapes(side, capped(len(side), limit, trial.seed))
            for side, limit in zip((trial.train, trial.reference, trial.synthetic), limits, strict=True)
        )
        if np.isnan(train).all():
            return undefined(
                self.outputs, "the training volumes are blank or hold values that are not finite"
            )
        cut = len(CONNECTEDNESS)
        parts = (slice(None, cut), slice(cut, None))
        return [
            score
            for output, names, part in zip(self.outputs, (CONNECTEDNESS, SYMMETRY), parts, strict=True)
            for score in _within_box(output, names, train[:, part], reference[:, part], synthetic[:, part])
        ]


@dataclass
class ImageRange(Metric):
    """Share of synthetic volumes no further out in feature space than 95 % of fresh real subjects.

    A volume is as strange as the factor by which the ball around a training volume that reaches to its fifth
    neighbour must grow to take it in, the smallest over the training volumes, in the whitened space of the image
    features and averaged over the extractor's blocks. Distances alone would not do: in many dimensions noise
    around a mean body is no further from real volumes than these are from each other. The reference says what is
    usual. The details
    name the strangest volumes by their position in the sample, at most five with a conformal p-value below 5 %,
    and give the p-value ``p`` of a one-sided rank test of the synthetic volumes being no stranger.
    """

    dimensions: int = param(32, "most principal components of a block of image features", minimum=1)

    card = Card(
        "Share of synthetic volumes that are no outliers in feature space.",
        f"distance relative to the neighbour's own: Breunig, Kriegel, Ng, Sander 2000, LOF (SIGMOD); {_CONFORMAL}",
    )
    version = 1
    kind = "plausibility"
    needs = VOLUME
    null = "noise"
    outputs = (
        Output(
            "image-range",
            "Image features within range",
            "Share of synthetic volumes that lie as near to real training volumes in feature space, for the density "
            "there, as 95 % of real subjects.",
            f"What the features do not react to, copies of training volumes, and {_TOO_ALIKE}.",
            "higher",
            1 - LEVEL,
            range=(0.0, 1.0),
        ),
    )

    def scores(self, trial: Trial) -> Iterable[Score]:
        sides = (trial.train, trial.reference, trial.synthetic)
        if reason := _too_few(trial):
            return undefined(self.outputs, reason)
        if any(side.features is None for side in sides):
            return undefined(self.outputs, "a side has no image features")
        if not np.isfinite(np.asarray(trial.train.features)).all():
            return undefined(self.outputs, "the image features of the training sample are not finite")
        blocks = image_components(trial, self.dimensions)
        if not blocks:
            return undefined(self.outputs, "nothing varies among the training volumes")
        kept = capped(len(trial.train), _MOST_TRAIN, trial.seed)
        reference, synthetic = (
            np.mean([_remoteness(getattr(block, side), block.train[kept]) for block in blocks], axis=0)
            for side in ("reference", "synthetic")
        )
        output = self.outputs[0].name
        p = p_values(reference, synthetic)
        worst = [int(place) for place in np.argsort(p, kind="stable")[:_WORST] if p[place] <= LEVEL]
        return [
            Score.of(output, share_within(reference, synthetic)),
            Score(output, p_stranger(reference, synthetic), item="p"),
            *(Score(output, float(p[place]), item=f"volume {place + 1}") for place in worst),
        ]


def _too_few(trial: Trial) -> str:
    few = f"the training sample has {len(trial.train)} records; at least {MIN_TRAIN} are needed"
    return too_few(trial) or (few if len(trial.train) < MIN_TRAIN else "")


def _within_box(
    output: Output, names: Sequence[str], train: np.ndarray, reference: np.ndarray, synthetic: np.ndarray
) -> list[Score]:
    """Return the share of records within the real range, the test's p-value, and the share for each quantity."""
    _, real = strangeness(reference, train)
    deviations, strange = strangeness(synthetic, train)
    details = [
        Score(output.name, share_within(real, side).value, item=name)
        for name, side in zip(names, deviations.T, strict=True)
    ]
    p = Score(output.name, p_stranger(real, strange), item="p")
    return [Score.of(output.name, share_within(real, strange)), p, *details]


def _remoteness(points: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Return the smallest growth of a training point's ball that takes in a point; infinite for one that is not finite."""
    reach = nearest(train, train, _NEIGHBOURS, same=True)[0][:, -1]
    remote = np.full(len(points), np.inf)
    finite = np.flatnonzero(np.isfinite(points).all(axis=1))
    for start in range(0, len(finite), _BLOCK):
        rows = finite[start : start + _BLOCK]
        apart = cdist(points[rows], train)
        # Where a ball is a point, of training volumes that are all alike, nothing but that point is in it.
        growth = np.divide(apart, reach, out=np.where(apart > 0, np.inf, 0.0), where=reach > 0)
        remote[rows] = growth.min(axis=1)
    return remote


def _reasons(unmeasurable: pd.Series | None) -> list[tuple[str, float]]:
    """Return the most frequent reasons, numbers in them left out, with the share of volumes of each."""
    if unmeasurable is None:
        return []
    told = unmeasurable[unmeasurable != ""].str.replace(r"\d[\d.]*", "#", regex=True)
    counts = told.value_counts()[:_REASONS]
    return [(str(text), int(count) / len(unmeasurable)) for text, count in counts.items()]
