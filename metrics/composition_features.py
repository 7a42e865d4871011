"""Features that a reader can name: measured quantities and first-order statistics of the intensities."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mmbench.api import Card, Context, Extractor, Geometry, Volumes

from ._foreground import foreground

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
STATISTICS = ("mean", "sd", "skewness", "kurtosis", "entropy", *(f"q{q:g}" for q in QUANTILES), "background")
UNMEASURED = 5.0
"""Training standard deviations below the training median at which a quantity counts that could not be measured."""
BINS = 64  # of the histogram behind the entropy, as in radiomics (IBSI, fixed bin number)
TAIL = 0.001  # share of a volume's foreground at either end that may lie outside the histogram


@dataclass
class CompositionFeatures(Extractor):
    """Quantities that the run's measurer reads, and first-order statistics of each channel.

    The statistics are taken over the foreground, which Otsu's threshold separates: mean, standard deviation,
    skewness, excess kurtosis, entropy (bits, of 64 bins over the range of the training volumes) and five quantiles;
    further the mean of the background, where ghosts and noise show, and the share of voxels in the foreground. All is
    one block of about 30 features, few enough for a Frechet distance of a hundred subjects, and each has a name.

    A quantity that could not be measured is put where no body is, five training standard deviations below the
    training median. At the median with an indicator beside it, a sample that cannot be measured would look
    average wherever every training volume can be: an indicator that never varies among the real records says nothing
    to a metric that standardises. Without a measurer the statistics stand alone.
    """

    card = Card(
        "Measured quantities and first-order intensity statistics: about 30 features that have names.",
        "Konz et al. 2024, arXiv:2412.01496, Frechet radiomic distance, for the idea; Zwanenburg et al. 2020, Image "
        "Biomarker Standardisation Initiative, Radiology 295, for the statistics",
    )
    version = 1
    learns = True
    uses_composition = True

    def fit(self, train: Volumes, composition: pd.DataFrame | None, context: Context) -> None:
        lowest, highest = [], []
        for index in context.steps(len(train), "intensity range"):
            low, high = np.quantile(_inside(train[index]), (TAIL, 1 - TAIL), axis=1)
            lowest.append(low)
            highest.append(high)
        self.low_, self.high_ = np.min(lowest, axis=0), np.max(highest, axis=0)
        self.quantities_: list[str] = []
        self.unmeasured_ = np.empty(0)
        if composition is not None:
            known = composition.loc[:, composition.notna().sum() > 1]
            self.quantities_ = known.columns.tolist()
            self.unmeasured_ = (known.median() - UNMEASURED * known.std()).to_numpy(float)

    def extract(self, volumes: Volumes, composition: pd.DataFrame | None = None) -> np.ndarray:
        channels = len(volumes.geometry.channels)
        width = len(self.quantities_) + channels * len(STATISTICS) + 1
        result = np.empty((len(volumes), 1, width))
        for index, volume in enumerate(volumes):
            result[index, 0, len(self.quantities_) :] = self._statistics(volume)
        if self.quantities_:
            if composition is None:
                raise ValueError(f"quantities {self.quantities_} were fitted on; there are none now")
            found = composition[self.quantities_].to_numpy(float)
            result[:, 0, : len(self.quantities_)] = np.where(np.isfinite(found), found, self.unmeasured_)
        return result

    def digest(self, geometry: Geometry) -> str:
        digest = hashlib.sha256(",".join(self.quantities_).encode())
        for learned in (self.low_, self.high_, self.unmeasured_):
            digest.update(np.ascontiguousarray(learned, dtype="<f8").tobytes())
        return digest.hexdigest()

    def _statistics(self, volume: np.ndarray) -> np.ndarray:
        if not np.isfinite(volume).all():
            return np.full(len(volume) * len(STATISTICS) + 1, np.nan)
        inside = foreground(volume)
        found = [
            _first_order(channel[inside].astype(float), channel[~inside], low, high)
            for channel, low, high in zip(volume, self.low_, self.high_, strict=True)
        ]
        return np.concatenate([*found, [inside.mean()]])


def _inside(volume: np.ndarray) -> np.ndarray:
    return volume[:, foreground(volume)].astype(float)


def _first_order(inside: np.ndarray, outside: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return :data:`STATISTICS` of one channel.

    Args:
        inside: Its values in the foreground.
        outside: Its values in the background.
        low: Lower end of the histogram.
        high: Its upper end.
    """
    mean, sd = inside.mean(), inside.std()
    # Of one value throughout, shape is not defined; none is what it shows.
    z = (inside - mean) / sd if sd > 0 else np.zeros_like(inside)
    shares = np.histogram(np.clip(inside, low, high), BINS, (low, high if high > low else low + 1))[0] / len(
        inside
    )
    filled = shares[shares > 0]
    entropy = -(filled * np.log2(filled)).sum()
    background = outside.mean(dtype=float) if outside.size else 0.0
    return np.array(
        [mean, sd, (z**3).mean(), (z**4).mean() - 3, entropy, *np.quantile(inside, QUANTILES), background]
    )
