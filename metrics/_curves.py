"""Response curves: what measured quantities are given one column, in real people and at values that a generator was given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_KNOTS = (0.05, 0.35, 0.65, 0.95)
"""Quantiles of the knots of a curve (Harrell 2001, Regression Modeling Strategies, table 2.3)."""
_CLEAR = 2.0
"""Standard errors that real dependence must measure for a slope on it: below, no interval of a ratio is bounded (Fieller
1954, J R Stat Soc B 16)."""


@dataclass(frozen=True)
class Curve:
    """The real expectation of quantities given one column alone; the other columns follow it as they do in people.

    Attributes:
        explained: Share of each quantity's variance that the column explains in records left out, shape (q,).
    """

    explained: np.ndarray
    _levels: np.ndarray | None
    _knots: np.ndarray
    _coefficients: np.ndarray  # shape (p, q)
    _smoother: np.ndarray  # shape (p, N): what each real record adds to the coefficients
    _residuals: np.ndarray  # shape (N, q), of records left out

    @classmethod
    def fit(cls, codes: np.ndarray, quantities: np.ndarray, discrete: bool) -> Curve:
        """Learn it by least squares: a mean a level, or a natural cubic spline of a number.

        Args:
            codes: The column as numbers, shape (N,); records with a missing value say nothing.
            quantities: Shape (N, q), none missing.
            discrete: Whether the column has levels.
        """
        present = np.isfinite(codes)
        seen = codes[present]
        levels = np.unique(seen) if discrete else None
        knots = np.unique(np.quantile(seen, _KNOTS))
        x = _basis(seen, levels, knots)
        inverse = np.linalg.pinv(x)
        y = quantities[present]
        coefficients = inverse @ y
        leverage = np.einsum("np,pn->n", x, inverse)
        # Residuals of records left out make the variances those of HC3 (MacKinnon, White 1985, J Econometrics 29).
        left_out = (y - x @ coefficients) / np.maximum(1 - leverage, 0.05)[:, None]
        variance = np.maximum(y.var(axis=0), 1e-12)
        smoother = np.zeros((len(inverse), len(codes)))
        smoother[:, present] = inverse
        residuals = np.zeros_like(quantities)
        residuals[present] = left_out
        return cls(
            1 - (left_out**2).mean(axis=0) / variance, levels, knots, coefficients, smoother, residuals
        )

    def expected(self, codes: np.ndarray) -> np.ndarray:
        """Return the mean expectation of records with these values of the column, shape (q,)."""
        return np.asarray(self._mean_basis(codes) @ self._coefficients)

    def influence(self, codes: np.ndarray) -> np.ndarray:
        """Return what each real record adds to the error of :meth:`expected`, shape (N, q)."""
        return np.asarray((self._mean_basis(codes) @ self._smoother)[:, None] * self._residuals)

    def _mean_basis(self, codes: np.ndarray) -> np.ndarray:
        return np.asarray(_basis(codes, self._levels, self._knots).mean(axis=0))


def _basis(codes: np.ndarray, levels: np.ndarray | None, knots: np.ndarray) -> np.ndarray:
    """Return indicators of levels, or a natural cubic spline (Harrell 2001, equation 2.25), shape (n, p)."""
    if levels is not None:
        return np.asarray(codes[:, None] == levels, dtype=float)
    spread = max(knots[-1] - knots[0], 1e-12)
    columns = [np.ones(len(codes)), (codes - knots[0]) / spread]
    if len(knots) > 2:
        before, last = knots[-2], knots[-1]

        def cube(knot: float) -> np.ndarray:
            return np.asarray(np.maximum((codes - knot) / spread, 0) ** 3)

        columns += [
            cube(knot)
            - cube(before) * (last - knot) / (last - before)
            + cube(last) * (before - knot) / (last - before)
            for knot in knots[:-2]
        ]
    return np.column_stack(columns)


@dataclass(frozen=True)
class Group:
    """Records at one value of a column.

    Attributes:
        codes: The column of each as a number, shape (n,); all the same but for real records near the value.
        quantities: Shape (n, q), none missing.
        ids: Who each is, shape (n,); a record may stand in several groups.
    """

    codes: np.ndarray
    quantities: np.ndarray
    ids: np.ndarray


@dataclass(frozen=True)
class Slope:
    """Slope of means at given values on what real people of these values have.

    Attributes:
        value: 1 where means move as in real people, 0 where they do not move; NaN where real people's do not
            clearly move either.
        error: Standard error, of the records at the values and of the real expectation together.
    """

    value: float
    error: float


def slope(columns: Sequence[tuple[Curve, Sequence[Group]]]) -> Slope:
    r"""Return the slope of mean quantities on real expectations over all values of some columns.

    With :math:`d` a real expectation less its mean over a column's values and :math:`y` the mean of the records at
    a value, the slope is :math:`\sum d y / \sum d^2` over columns, values and quantities. Errors of :math:`d` add to
    :math:`\sum d^2` in expectation and would flatten the slope; their variance is taken off (Fuller 1987, Measurement
    Error Models, section 1.2). The standard error is that of the first-order influences of records: a record of
    several groups, and a real record in the curves of several columns, counts as one.

    Args:
        columns: For each column its real curve, all learned from the same records, and the records at its values.
    """
    moved = size = 0.0
    of_moved = of_size = 0.0  # influence of each real record
    parts: list[tuple[np.ndarray, Group]] = []
    for curve, groups in columns:
        real = np.array([curve.expected(group.codes) for group in groups])
        means = np.array([group.quantities.mean(axis=0) for group in groups])
        d, y = real - real.mean(axis=0), means - means.mean(axis=0)
        errors = np.array([curve.influence(group.codes) for group in groups])
        errors -= errors.mean(axis=0)
        moved += float((d * y).sum())
        size += float((d**2).sum() - (errors**2).sum())
        of_moved = of_moved + np.einsum("vq,vnq->n", y, errors)
        of_size = of_size + 2 * np.einsum("vq,vnq->n", d, errors)
        parts += zip(d, groups, strict=True)
    if not size > _CLEAR * math.sqrt(np.sum(of_size**2)):
        return Slope(math.nan, math.nan)
    value = moved / size
    theirs: dict[str, float] = {}
    for weights, group in parts:
        n = len(group.quantities)
        scores = (group.quantities - group.quantities.mean(axis=0)) @ weights / math.sqrt(n * (n - 1))
        for who, score in zip(group.ids, scores, strict=True):
            theirs[who] = theirs.get(who, 0.0) + float(score)
    variance = np.sum((of_moved - value * of_size) ** 2) + sum(score**2 for score in theirs.values())
    # A ratio is biased to second order where its denominator is uncertain (Cochran 1977, Sampling Techniques, 6.8).
    bias = np.sum((value * of_size - of_moved) * of_size) / size**2
    return Slope(float(value - bias), float(np.sqrt(variance)) / size)
