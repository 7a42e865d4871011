"""V9: the fidelity and diversity checks of Raisa, van Breugel and van der Schaar 2025, on which all metrics failed.

Fifteen checks vary one thing between two simple laws; each demands values at certain points and a shape in
between, in every dimension: 119 criteria of a fidelity and 113 of a diversity score. Position: All Current
Generative Fidelity and Diversity Metrics are Flawed (ICML 2025); laws, tolerances and criteria as in its code
(github.com/vanderschaarlab/position-fidelity-diversity-metrics-flawed, MIT), written anew.

Grids are thinned to eleven points and sizes beyond 2,500 left out, as half of the points are enough for the shapes;
the points at which values are demanded are all there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mmbench.api import Trial
from mmbench.validity import criteria, laws
from mmbench.validity.criteria import Values
from mmbench.validity.instruments import Trait
from mmbench.validity.laws import Sides
from mmbench.validity.model import Curve, Evidences, Profile, Series, Setting, Test, Verdict
from mmbench.validity.trials import Domain, trial_of

POINTS = 11
N = 1000
SIZES = tuple(float(round(n)) for n in np.geomspace(100, 2500, 8))
OVERLAP = 0.2
DIMS = (1, 8, 64)

Criterion = Callable[[Trait, np.ndarray], bool]
"""Takes what the output declares and its curve; whether it holds."""


@dataclass(frozen=True)
class Check:
    """One check at one dimension or in one scenario.

    Attributes:
        name: Its name in the paper's code, with the dimension.
        settings: Points of the curve, in order.
        draw: Draws the real, synthetic and training records of a point.
        criteria: What must hold, by name; where the value for a kind is absent nothing is demanded of it.
    """

    name: str
    settings: tuple[float, ...]
    draw: Callable[[float, np.random.Generator], Sides]
    criteria: dict[str, Criterion | dict[str, Criterion]]

    def held(self, trait: Trait, curve: Values) -> dict[str, bool]:
        """Return which criteria hold, by name; only those that say anything about the output's kind."""
        y = np.asarray(curve, float)
        result = {}
        for name, criterion in self.criteria.items():
            chosen = criterion.get(trait.kind) if isinstance(criterion, dict) else criterion
            if chosen is not None:
                result[name] = bool(np.isfinite(y).all() and chosen(trait, y))
        return result


def at(position: int, *targets: float) -> Criterion:
    """Return the criterion that the value at a position is close to one of some targets."""
    return lambda trait, y: any(criteria.close(y[position], target) for target in targets)


def shape(holds: Callable[[np.ndarray], bool]) -> Criterion:
    """Return the criterion that a curve has a shape."""
    return lambda trait, y: holds(y)


def either(*shapes: Callable[[np.ndarray], bool]) -> Criterion:
    """Return the criterion that a curve has one of two shapes, not both."""
    return lambda trait, y: sum(holds(y) for holds in shapes) == 1


def _settled(y: np.ndarray) -> bool:
    return criteria.flat(y[len(y) // 2 :])


def _bell(y: np.ndarray) -> bool:
    # As published, one of the two ends must lie near the minimum.
    return criteria.bell(y, len(y) // 2)


def _with_drop(position: int) -> Callable[[np.ndarray], bool]:
    return lambda y: criteria.falling(y) and bool(y[0] - y[position] >= criteria.STRAY)


_ENDS: dict[str, Criterion | dict[str, Criterion]] = {
    "identical": at(POINTS // 2, 1),
    "left end": at(0, 0),
    "right end": at(-1, 0),
    "bell": shape(_bell),
}


def checks(n: int = N) -> list[Check]:
    """Return every check.

    Args:
        n: Records of a sample, where the size is not what is varied.
    """
    return [
        *(check for d in DIMS for check in _shifts(n, d)),
        *(_scales(n, d) for d in DIMS),
        *(check for d in DIMS for check in _drops(n, d)),
        _invention(n),
        *(_surface(n, 2 * d) for d in DIMS),
        *(check for d in DIMS for check in _cubes(n, d)),
        *_rings(n),
        *(_two_modes(n, d) for d in DIMS),
        *_columns(n),
        *_discrete(n),
    ]


def _normals(rng: np.random.Generator, n: int, d: int) -> list[np.ndarray]:
    return [rng.standard_normal((n, d)) for _ in range(3)]


def _shifts(n: int, d: int) -> list[Check]:
    settings = tuple(np.linspace(-1, 1, POINTS) * laws.shifts(d))

    def draw_of(outlier: str) -> Callable[[float, np.random.Generator], Sides]:
        def draw(setting: float, rng: np.random.Generator) -> Sides:
            real, synthetic, train = _normals(rng, n, d)
            synthetic += setting
            far = np.full((1, d), settings[-1])
            if outlier == "real":
                real, train = np.concatenate([real, far]), np.concatenate([train, far])
            elif outlier == "synthetic":
                synthetic = np.concatenate([synthetic, far])
            return Sides(real, synthetic, train)

        return draw

    names = {"": "mean", "real": "mean-real-outlier", "synthetic": "mean-synthetic-outlier"}
    return [Check(f"{name}/d={d}", settings, draw_of(key), _ENDS) for key, name in names.items()]


def _scales(n: int, d: int) -> Check:
    reach = float(np.interp(np.log(d), np.log([1, 8, 64]), [3, 1, 0.5]))
    settings = tuple(np.logspace(-reach, reach, POINTS))

    def draw(setting: float, rng: np.random.Generator) -> Sides:
        real, synthetic, train = _normals(rng, n, d)
        return Sides(real, setting * synthetic, train)

    return Check(
        f"scale/d={d}",
        settings,
        draw,
        {
            "identical": at(POINTS // 2, 1),
            "narrow": {"fidelity": at(0, 1), "diversity": at(0, 0)},
            "wide": {"fidelity": at(-1, 0), "diversity": at(-1, 0, 1)},
            "shape": {
                "fidelity": shape(criteria.falling),
                "diversity": either(_bell, criteria.rising),
            },
        },
    )


def _drops(n: int, d: int) -> list[Check]:
    means = laws.diagonal_modes(d)
    scale = float(np.interp(np.log(d), np.log([1, 8, 64]), [1 / 6, 1 / 3, 1]))
    number = np.arange(laws.MODES)

    def draw_of(shares: Callable[[float], np.ndarray]) -> Callable[[float, np.random.Generator], Sides]:
        def draw(setting: float, rng: np.random.Generator) -> Sides:
            real, train = (laws.mixture(rng, n, means, scale) for _ in range(2))
            return Sides(real, laws.mixture(rng, n, means, scale, shares(setting)), train)

        return draw

    def demanded(middle: int) -> dict[str, Criterion | dict[str, Criterion]]:
        return {
            "identical": at(0, 1),
            "all dropped": {"fidelity": at(-1, 1)},
            "shape": {
                "fidelity": shape(criteria.flat),
                "diversity": shape(_with_drop(middle)),
            },
        }

    fractions = (*np.linspace(0, 0.9, POINTS - 2), 0.95, 1.0)
    return [
        Check(
            f"modes-together/d={d}",
            fractions,
            draw_of(lambda lost: np.where(number == 0, 1.0, 1 - lost)),
            demanded(-2),
        ),
        Check(
            f"modes-in-turn/d={d}",
            tuple(map(float, range(laws.MODES))),
            draw_of(lambda lost: (number < laws.MODES - lost).astype(float)),
            # The nearest to the median of 0 to 9.
            demanded(4),
        ),
    ]


def _invention(n: int) -> Check:
    means, known = laws.scattered_modes(), 5

    def draw(setting: float, rng: np.random.Generator) -> Sides:
        real, train = (laws.mixture(rng, n, means[:known], 0.25) for _ in range(2))
        return Sides(real, laws.mixture(rng, n, means[: int(setting)], 0.25), train)

    return Check(
        "modes-invented",
        tuple(map(float, range(1, laws.MODES + 1))),
        draw,
        {
            "identical": at(known - 1, 1),
            "most dropped": {"fidelity": at(0, 1)},
            "most invented": {"diversity": at(-1, 1)},
            "shape": {"fidelity": shape(criteria.falling), "diversity": shape(criteria.rising)},
        },
    )


def _surface(n: int, d: int) -> Check:
    def draw(setting: float, rng: np.random.Generator) -> Sides:
        return Sides(*(laws.sphere_surface(rng, n, d, radius) for radius in (1.0, setting, 1.0)))

    return Check(f"sphere/d={d}", tuple(np.linspace(0.1, 1.9, POINTS)), draw, _ENDS)


def _cubes(n: int, d: int) -> list[Check]:
    start = 1 - OVERLAP ** (1 / d)

    def both(setting: float, rng: np.random.Generator) -> Sides:
        size = int(setting)
        return Sides(*(laws.cube(rng, size, d, corner) for corner in (0.0, start, 0.0)))

    def synthetic(setting: float, rng: np.random.Generator) -> Sides:
        real, train = (laws.cube(rng, n, d, 0.0) for _ in range(2))
        return Sides(real, laws.cube(rng, int(setting), d, start), train)

    demanded: dict[str, Criterion | dict[str, Criterion]] = {
        "settles": shape(_settled),
        "at the largest size": at(-1, OVERLAP),
    }
    return [
        Check(f"cube-size/d={d}", SIZES, both, demanded),
        Check(f"cube-synthetic-size/d={d}", SIZES, synthetic, demanded),
    ]


def _rings(n: int) -> list[Check]:
    def draw_of(inner: bool) -> Callable[[float, np.random.Generator], Sides]:
        def draw(setting: float, rng: np.random.Generator) -> Sides:
            size = int(setting)
            if inner:
                return Sides(laws.ball(rng, n, 3, 0.8), laws.torus(rng, size), laws.ball(rng, n, 3, 0.8))
            return Sides(laws.torus(rng, n), laws.ball(rng, size, 3, 0.8), laws.torus(rng, n))

        return draw

    return [
        Check(f"torus-{name}", SIZES, draw_of(inner), {"settles": shape(_settled), "right end": at(-1, 0)})
        for name, inner in (("real-ball", True), ("real-torus", False))
    ]


def _two_modes(n: int, d: int) -> Check:
    def draw(setting: float, rng: np.random.Generator) -> Sides:
        means = np.array([[-setting / 2] * d, [setting / 2] * d])
        real, train = (laws.mixture(rng, n, means, 1.0) for _ in range(2))
        return Sides(real, np.sqrt(1 + setting**2) * rng.standard_normal((n, d)), train)

    return Check(
        f"one-for-two-modes/d={d}",
        tuple(np.linspace(0, 5, POINTS)),
        draw,
        {
            "shape": {
                "fidelity": shape(criteria.falling),
                "diversity": either(criteria.falling, criteria.flat),
            },
            "identical": at(0, 1),
        },
    )


def _columns(n: int) -> list[Check]:
    def scaled(setting: float, rng: np.random.Generator) -> Sides:
        sides = _normals(rng, n, 2)
        sides[1][:, 0] += 6
        return Sides(*(side * [1, setting] for side in sides))

    def heavy(setting: float, rng: np.random.Generator) -> Sides:
        sides = [np.column_stack([rng.standard_normal(n), laws.pareto(rng, n)]) for _ in range(3)]
        sides[1][:, 0] += setting
        return Sides(*sides)

    def disjoint(setting: float, rng: np.random.Generator) -> Sides:
        sides = _normals(rng, n, int(setting) + 1)
        sides[1][:, 0] += 6
        return Sides(*sides)

    zero: dict[str, Criterion | dict[str, Criterion]] = {
        "flat": shape(criteria.flat),
        "left end": at(0, 0),
        "right end": at(-1, 0),
    }
    others = tuple(np.unique(np.geomspace(1, 1000, POINTS).astype(int)).astype(float))
    return [
        Check("scale-of-one-column", tuple(np.logspace(-3, 3, POINTS)), scaled, zero),
        Check("mean-beside-pareto", tuple(np.linspace(-6, 6, POINTS)), heavy, _ENDS),
        Check("one-disjoint-dimension", others, disjoint, zero),
    ]


def _discrete(n: int) -> list[Check]:
    def draw_of(real_rounded: bool) -> Callable[[float, np.random.Generator], Sides]:
        def draw(setting: float, rng: np.random.Generator) -> Sides:
            real, synthetic, train = (setting * side for side in _normals(rng, n, 1))
            if real_rounded:
                return Sides(np.round(real), synthetic, np.round(train))
            return Sides(real, np.round(synthetic), train)

        return draw

    settings = tuple(np.logspace(0, 3, POINTS))
    narrow: dict[str, Criterion] = {"fidelity": at(0, 0), "diversity": at(0, 0, 1)}
    wide: dict[str, Criterion] = {"fidelity": at(0, 1), "diversity": at(0, 0)}

    def demanded(first: dict[str, Criterion]) -> dict[str, Criterion | dict[str, Criterion]]:
        last = {kind: _last(criterion) for kind, criterion in first.items()}
        return {"flat": shape(criteria.flat), "coarse": dict(first), "fine": last}

    return [
        Check("real-rounded", settings, draw_of(True), demanded(narrow)),
        Check("synthetic-rounded", settings, draw_of(False), demanded(wide)),
    ]


def _last(criterion: Criterion) -> Criterion:
    return lambda trait, y: criterion(trait, y[::-1])


def count(trait: Trait, curves: dict[str, Curve], wanted: Sequence[Check]) -> tuple[int, int, list[str]]:
    """Return how many criteria hold, of how many, and the names of those that do not.

    Args:
        trait: What the output declares.
        curves: Its curves by the name of the check.
        wanted: The checks.
    """
    held = {
        f"{check.name}: {name}": passed
        for check in wanted
        for name, passed in check.held(trait, curves[check.name].means).items()
    }
    return sum(held.values()), len(held), [name for name, passed in held.items() if not passed]


def _series(profile: Profile, domain: Domain) -> list[Series]:
    def make_of(check: Check) -> Callable[[Setting, np.random.Generator, int], Trial]:
        return lambda setting, rng, seed: trial_of(domain, check.draw(float(setting), rng), seed)

    return [
        Series(f"V9/{domain}/{check.name}", check.settings, 1, make_of(check))
        for check in (checks() if profile.name == "full" else ())
    ]


def _judge(found: Evidences) -> Verdict:
    passed = total = 0
    failed: list[str] = []
    for domain in ("table", "features"):
        prefix = f"V9/{domain}/"
        curves = {name.removeprefix(prefix): curve for name, curve in found.under(prefix).items()}
        if curves:
            held, asked, missed = count(found.trait, curves, checks())
            passed, total, failed = passed + held, total + asked, failed + missed
    if not total:
        return Verdict(None, "speaks of something that these trials do not have")
    return Verdict(
        not failed, f"{passed} of {total} criteria hold" + (f"; not {', '.join(failed)}" if failed else "")
    )


TESTS = (
    Test(
        "V9",
        "checks of Raisa et al. 2025",
        "All criteria of the fifteen checks hold; no published metric passes.",
        lambda trait: trait.share,
        _series,
        _judge,
    ),
)
