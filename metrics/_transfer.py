"""How far the real regression of quantities on the row holds among synthetic records: shift, slope and scatter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Moments:
    """Statistics of one sample with the influence of each record on them.

    Attributes:
        names: What each is, such as ``("slope", 0)`` for the slope of the first quantity.
        values: Shape (k,).
        influence: Shape (n, k).
    """

    values: np.ndarray
    influence: np.ndarray


def calibration(expected: np.ndarray, quantities: np.ndarray) -> tuple[Moments, Moments, Moments]:
    """Return shift, slope and scatter of quantities about what real people with such rows would have.

    Shift is the mean residual; slope that of the regression on the expected value; scatter the logarithm of the
    mean absolute residual about that regression. Influences are first-order.

    Args:
        expected: Expected quantities given the row, shape (n, q).
        quantities: Those measured, shape (n, q).

    Returns:
        One :class:`Moments` of q values for each of the three.
    """
    residual = quantities - expected
    shift = residual.mean(axis=0)
    m = expected - expected.mean(axis=0)
    y = quantities - quantities.mean(axis=0)
    variance = np.maximum((m**2).mean(axis=0), 1e-12)
    slope = (m * y).mean(axis=0) / variance
    left = y - slope * m
    # Mean absolute residuals: squares of heavy tails would vary too much.
    size = np.maximum(np.abs(left).mean(axis=0), 1e-12)
    return (
        Moments(shift, residual - shift),
        Moments(slope, m * left / variance),
        Moments(np.log(size), np.abs(left) / size - 1),
    )


def partial_slopes(effects: np.ndarray, residual: np.ndarray) -> Moments:
    """Return the partial slopes of residual quantities on every effect.

    All zero in expectation where the real regression holds; their differences between two samples are the
    differences in partial association, free of what merely another mix of people changes.

    Args:
        effects: Standardised effects, shape (n, e).
        residual: Quantities less their expectation given the row, in residual standard deviations, shape (n, q).

    Returns:
        e x q values, effect by effect. Slopes are per standard deviation of what is left of an effect given the
        others, so that for small ones they are partial correlations.
    """
    n, e = effects.shape
    x = effects - effects.mean(axis=0)
    gram = x.T @ x / n + 1e-3 * np.eye(e)
    inverse = np.linalg.inv(gram)
    y = residual - residual.mean(axis=0)
    beta = inverse @ (x.T @ y) / n
    left = y - x @ beta
    own = x @ inverse
    # What is left of an effect given the others has the variance 1 / (inverse gram)_kk.
    scale = 1 / np.sqrt(np.diag(inverse))
    # HC3-like inflation keeps the size where there are many effects for few records.
    leverage = np.minimum((own * x).sum(axis=1) / n + 1 / n, 0.9)
    influence = own[:, :, None] * (left / (1 - leverage)[:, None])[:, None, :]
    values = (beta * scale[:, None]).ravel()
    return Moments(values, (influence * scale[None, :, None]).reshape(n, -1))
