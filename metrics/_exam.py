"""How well targets were predicted, by models of synthetic rows and by models of real ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from mmbench.api import Score, stats

MIN_SHARE = 0.5
"""With fewer targets than this share of all the mean would be one over the convenient ones."""

_WORST = -1.0  # skill at which a target is cut, so that none outweighs the others


@dataclass(frozen=True)
class Errors:
    """Squared errors of the predictions of one target, shape (n,) each; 0 where a row lacks the target."""

    model: np.ndarray
    mean: np.ndarray

    def skill(self, weights: np.ndarray) -> np.ndarray:
        """Return the skill over rows that count ``weights`` times, of shape (k, n) for k ways of counting."""
        beaten = weights @ self.mean
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(beaten > 0, np.maximum(_WORST, 1 - (weights @ self.model) / beaten), np.nan)


@dataclass(frozen=True)
class Target:
    """How one target was predicted.

    Attributes:
        synthetic: For the reference rows, by models of the synthetic rows.
        by: The same by each learner alone.
        real: For the reference rows, by models of as many training rows.
        realism: For the synthetic rows, by models of as many training rows.
        left_out: Skills for the reference rows of ridge regressions that were not taught one of 20 groups of
            synthetic rows each.
        real_left_out: The same for training rows.
    """

    synthetic: Errors
    by: dict[str, Errors]
    real: Errors
    realism: Errors
    left_out: np.ndarray
    real_left_out: np.ndarray


@dataclass(frozen=True)
class Exam:
    """Tests of the targets that could be judged, and why others could not.

    Attributes:
        tests: By target. One that the synthetic rows do not teach is predicted as the mean of the training rows.
        unlearned: Why the synthetic rows teach nothing, by target.
        unjudged: Why the reference rows tell nothing, by target.
        size: Number of reference rows.
    """

    tests: dict[str, Target]
    unlearned: dict[str, str]
    unjudged: dict[str, str]
    size: int

    def scores(self, output: str, seed: int, resamples: int, margin: float) -> list[Score]:
        """Return the mean over targets with its interval, each target, and what real rows teach.

        Args:
            output: Name of the scores.
            seed: Seed of the resamples.
            resamples: Bootstrap resamples of the reference rows.
            margin: Loss against real rows that is none to speak of.
        """
        lost = self.unlearned | self.unjudged
        targets = len(self.tests) + len(self.unjudged)
        learned = len(self.tests) - len(self.unlearned)
        details = self._details(output)
        if learned < max(1, MIN_SHARE * targets):
            name, reason = next(iter(lost.items()), ("", "there is none"))
            head = Score(
                output,
                float("nan"),
                reason=f"only {learned} of {targets} targets could be learned and judged; "
                f"at least {MIN_SHARE:.0%} are needed ({name}: {reason})",
            )
            return [head, *details]
        rng = np.random.default_rng(seed)
        weights = np.ones((1 + resamples, self.size))
        for row in weights[1:]:
            row[:] = np.bincount(rng.integers(0, self.size, self.size), minlength=self.size)
        return [*self._means(output, weights, margin), *details]

    def _means(self, output: str, weights: np.ndarray, margin: float) -> list[Score]:
        tests = self.tests.values()
        synthetic = _mean([test.synthetic.skill(weights) for test in tests])
        real = _mean([test.real.skill(weights) for test in tests])
        gap = real - synthetic
        taught, taught_real = (
            _jackknife_variance(np.mean([getattr(test, name) for test in tests], axis=0))
            for name in ("left_out", "real_left_out")
        )
        realism = _mean([test.realism.skill(np.ones((1, len(test.realism.mean)))) for test in tests])
        by = {
            name: _mean([test.by.get(name, test.synthetic).skill(weights[:1]) for test in tests])[0]
            for name in sorted({name for test in tests for name in test.by})
        }
        lost = _interval(gap, taught + taught_real, (-2.0, 2.0))
        spread = (lost.high - lost.low) / (2 * stats.Z95)
        inferior = (
            float(norm.sf((margin - lost.value) / spread)) if spread > 0 else float(lost.value >= margin)
        )
        found = [
            Score.of(output, _interval(synthetic, taught)),
            Score.of(output, _interval(real, taught_real), "(trained on real)"),
            Score.of(output, lost, "(lost against real)"),
            Score(output, inferior, f"(p of losing {margin:g} or more)"),
            *(Score(output, float(skill), f"(by {name})") for name, skill in by.items()),
        ]
        if np.isfinite(realism[0]):
            found.append(Score(output, float(realism[0]), "(trained on real, tested on synthetic)"))
        return found

    def _details(self, output: str) -> list[Score]:
        everyone = np.ones((1, self.size))
        lost = self.unlearned | self.unjudged
        return [
            *(
                Score(output, float(test.synthetic.skill(everyone)[0]), item=name)
                for name, test in self.tests.items()
                if name not in lost
            ),
            *(Score(output, float("nan"), item=name, reason=reason) for name, reason in lost.items()),
        ]


def _mean(skills: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean over targets that a resample can judge."""
    found = np.array(skills)
    known = np.isfinite(found)
    count = known.sum(axis=0)
    return np.divide(
        np.where(known, found, 0).sum(axis=0), count, out=np.full(count.shape, np.nan), where=count > 0
    )


def _jackknife_variance(left_out: np.ndarray) -> float:
    """Return the variance of a statistic from its values without one group of records each (Tukey 1958)."""
    groups = len(left_out)
    return float((groups - 1) / groups * ((left_out - left_out.mean()) ** 2).sum())


def _interval(
    draws: np.ndarray, taught: float, bounds: tuple[float, float] = (_WORST, 1.0)
) -> stats.Estimate:
    """Return the first of ``draws`` with an interval over test subjects and taught records.

    Args:
        draws: The value, and the values of resamples of the test subjects.
        taught: Variance over other records that the models might have been taught.
        bounds: Least and largest possible value.
    """
    value, spread = float(draws[0]), stats.Z95 * float(np.sqrt(np.nanvar(draws[1:], ddof=1) + taught))
    low, high = max(value - spread, bounds[0]), min(value + spread, bounds[1])
    method = f"bootstrap of test subjects, {len(draws) - 1} resamples, and jackknife of taught records"
    return stats.Estimate(value, low, high, method)
