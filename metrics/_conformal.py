"""Whether records lie within the range of real ones: conformal tests with real records as calibration."""

from __future__ import annotations

import numpy as np
from scipy import stats as scipy_stats

from mmbench.api import stats

LEVEL = 0.05
"""Share of fresh real records that lies outside the range."""
_USUAL = 0.9  # of the deviations to one side, which makes a unit of deviation
_LACKING = 0.01  # of the training records; a quantity that more of them lack may be lacking
_METHOD = "Jeffreys interval of the rate and order statistics of the calibration, by MOVER"


def p_values(reference: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    """Return each synthetic record's conformal p-value: the rank of its strangeness among the real ones'.

    It is the expectation of the smoothed p-value (Vovk, Gammerman, Shafer 2005, Algorithmic Learning in a Random
    World, equation 2.20), (#larger + (#equal + 1) / 2) / (m + 1) for m real records.

    Args:
        reference: Strangeness of real records, shape (m,); infinite for the strangest.
        synthetic: Strangeness of synthetic records, shape (n,).
    """
    larger, equal = _ranks(reference, synthetic)
    return np.asarray((larger + (equal + 1) / 2) / (len(reference) + 1))


def share_within(reference: np.ndarray, synthetic: np.ndarray) -> stats.Estimate:
    """Return the share of synthetic records whose smoothed conformal p-value is above 5 %, with its interval.

    The smoothed p-value of a record that is exchangeable with the real ones is uniform, so that the share is
    0.95 in expectation for real records, at any number of them and with any ties. Where the smoothing decides,
    a record counts by its probability.

    The interval combines two sources by the method of variance estimates recovery (Zou, Donner 2008, Statistics
    in Medicine 27): the synthetic records at the threshold as it is (Jeffreys' interval of a rate), and the
    threshold itself, an order statistic of m real records: levels between the 2.5 % and 97.5 % quantiles of the
    share that lies beyond it, which has a beta distribution.

    Args:
        reference: Strangeness of real records, shape (m,); infinite for the strangest.
        synthetic: Strangeness of synthetic records, shape (n,).
    """
    m, n = len(reference), len(synthetic)
    larger, equal = _ranks(reference, synthetic)

    def outside(level: float) -> float:
        return float(np.clip((level * (m + 1) - larger) / (equal + 1), 0, 1).mean())

    share = outside(LEVEL)
    rates = scipy_stats.beta.ppf([0.025, 0.975], share * n + 0.5, (1 - share) * n + 0.5)
    beyond = scipy_stats.beta.ppf([0.025, 0.975], LEVEL * (m + 1), (1 - LEVEL) * (m + 1))
    levels = [outside(float(level)) for level in beyond]
    low = share - np.hypot(share - min(rates[0], share), share - levels[0])
    high = share + np.hypot(max(rates[1], share) - share, levels[1] - share)
    return stats.Estimate(1 - share, 1 - min(float(high), 1.0), 1 - max(float(low), 0.0), _METHOD)


def p_stranger(reference: np.ndarray, synthetic: np.ndarray) -> float:
    """Return the p-value of a one-sided rank test of synthetic records being no stranger than real ones.

    Mann and Whitney 1947 (Annals of Mathematical Statistics 18), with the correction for ties.

    Args:
        reference: Strangeness of real records, shape (m,).
        synthetic: Strangeness of synthetic records, shape (n,).
    """
    if len(np.unique(np.concatenate([reference, synthetic]))) == 1:
        return 1.0
    return float(scipy_stats.mannwhitneyu(synthetic, reference, alternative="greater").pvalue)


def _ranks(reference: np.ndarray, synthetic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each synthetic record, how many real ones are stranger and how many are as strange."""
    ordered = np.sort(reference)
    not_larger = np.searchsorted(ordered, synthetic, side="right")
    return len(ordered) - not_larger, not_larger - np.searchsorted(ordered, synthetic, side="left")


def strangeness(values: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how far outside the common range each quantity of each record lies, and the most of a record.

    A quantity's deviation from the training median is in units of what nine in ten deviations to the same side
    stay within. A record is as strange as its strangest quantity: the records no stranger than a limit fill a box
    around the median. A quantity that does not vary makes every other value infinitely strange, and so does one
    that a record lacks, unless training records lack it too, more than one in a hundred.

    Args:
        values: Quantities of shape (n, q), NaN where a record lacks one.
        train: Those of the training records, shape (k, q).

    Returns:
        Deviations of shape (n, q), and their largest, shape (n,).
    """
    deviations = np.zeros(np.shape(values))
    for j, (column, known) in enumerate(zip(np.transpose(values), np.transpose(train), strict=True)):
        lacking = float(np.isnan(known).mean()) if len(known) else 1.0
        present = known[np.isfinite(known)]
        if len(present):
            gaps = column - np.median(present)
            usual = [_usual(sign * (present - np.median(present))) for sign in (-1, 1)]
            unit = np.where(gaps > 0, usual[1], usual[0])
            with np.errstate(divide="ignore", invalid="ignore"):
                deviations[:, j] = np.where(gaps == 0, 0.0, np.abs(gaps) / unit)
        absent = ~np.isfinite(column)
        deviations[absent, j] = 0.0 if lacking > _LACKING else np.inf
    return deviations, deviations.max(axis=1, initial=0)


def _usual(gaps: np.ndarray) -> float:
    beyond = gaps[gaps > 0]
    return float(np.quantile(beyond, _USUAL)) if len(beyond) else 0.0
