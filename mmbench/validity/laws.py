"""Laws from which validity tests draw records, as arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

CORRELATION = 0.5
"""Of neighbouring columns of the normal law: it gives measures of dependence something to see."""
MODES = 10


class Sides(NamedTuple):
    """What one trial compares, float64 of shape (records, dimensions) each."""

    reference: np.ndarray
    synthetic: np.ndarray
    train: np.ndarray


def normal(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    """Draw a standard normal vector in which columns i and j correlate by 0.5 ** |i - j|, shape (n, d)."""
    draws = rng.standard_normal((n, d))
    fresh = np.sqrt(1 - CORRELATION**2)
    for j in range(1, d):
        draws[:, j] = CORRELATION * draws[:, j - 1] + fresh * draws[:, j]
    return draws


def mixture(
    rng: np.random.Generator, n: int, means: np.ndarray, scale: float, shares: np.ndarray | None = None
) -> np.ndarray:
    """Draw a mixture of round normal laws.

    Args:
        rng: Source of the draws.
        n: Records.
        means: Centres, shape (modes, d).
        scale: Standard deviation of every mode.
        shares: Weight of each mode, by default equal; need not sum to one.
    """
    weights = np.ones(len(means)) if shares is None else np.asarray(shares, float)
    modes = rng.choice(len(means), n, p=weights / weights.sum())
    return means[modes] + scale * rng.standard_normal((n, means.shape[1]))


def diagonal_modes(d: int) -> np.ndarray:
    """Return ten centres on the diagonal from 0 to 10, shape (10, d) (Raisa et al. 2025, mode dropping)."""
    return np.tile(np.linspace(0, 10, MODES)[:, None], d)


def scattered_modes() -> np.ndarray:
    """Return ten centres in the plane, far apart against a scale of 0.25; five of them are the real ones."""
    angles = 2 * np.pi * np.arange(MODES) * 0.381966  # the golden angle: no two lie close
    return (4 + 2 * np.arange(MODES))[:, None] * np.column_stack([np.cos(angles), np.sin(angles)])


def sphere_surface(rng: np.random.Generator, n: int, d: int, radius: float) -> np.ndarray:
    """Draw uniformly from the surface of a ball."""
    draws = rng.standard_normal((n, d))
    return radius * draws / np.linalg.norm(draws, axis=1, keepdims=True)


def ball(rng: np.random.Generator, n: int, d: int, radius: float) -> np.ndarray:
    """Draw uniformly from a ball."""
    return sphere_surface(rng, n, d, radius) * rng.random((n, 1)) ** (1 / d)


def torus(rng: np.random.Generator, n: int) -> np.ndarray:
    """Draw from a solid torus of radii 1 and 0.1 around the z axis, by angle and disc, shape (n, 3)."""
    disc = ball(rng, n, 2, 0.1)
    angle = rng.uniform(0, 2 * np.pi, n)
    reach = 1 + disc[:, 0]
    return np.column_stack([reach * np.cos(angle), reach * np.sin(angle), disc[:, 1]])


def cube(rng: np.random.Generator, n: int, d: int, start: float) -> np.ndarray:
    """Draw uniformly from a unit cube whose corner lies at (start, ..., start)."""
    return start + rng.random((n, d))


def pareto(rng: np.random.Generator, n: int, shape: float = 1.01) -> np.ndarray:
    """Draw from a Pareto law on [1, inf); with the default shape it has hardly a mean."""
    return np.asarray((1 - rng.random(n)) ** (-1 / shape))


def shifts(d: int) -> float:
    """Return the shift of every column at which the normal laws of d independent columns no longer overlap.

    6, 3 and 1 at d = 1, 8 and 64 (Raisa et al. 2025); in between by interpolation of logarithms.
    """
    return float(np.exp(np.interp(np.log(d), np.log([1, 8, 64]), np.log([6, 3, 1]))))
