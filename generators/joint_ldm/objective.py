"""How latents become noise and back: flow matching, EDM or DDPM; their losses and their samplers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from .latents import Known, Latents, Levels, draw_known

Network = Callable[[Latents, Levels], Latents]
"""Predicts the velocities of noisy latents."""

SHIFT = 4.0
"""How much denser the sampler's steps are at the noisy end than in even spacing.

What many numbers have in common, such as the size of a body, is decided at levels near 1; even steps pass over
these and lose its spread (Esser et al. 2024, arXiv:2403.03206, section 5.3.2, equation 23).
"""


class Scales(NamedTuple):
    """Scales of signal and noise at a level, x_t = signal * x + noise * e, and their rates of change.

    The velocity is signal_rate * x + noise_rate * e, and every path here is such that
    signal * noise_rate - noise * signal_rate = 1: clean latents and noise follow from state and velocity.
    """

    signal: Tensor
    noise: Tensor
    signal_rate: Tensor
    noise_rate: Tensor

    def clean(self, state: Tensor, velocity: Tensor) -> Tensor:
        """Return the clean latents that state and velocity speak of."""
        return self.noise_rate * state - self.noise * velocity

    def pure(self, state: Tensor, velocity: Tensor) -> Tensor:
        """Return the noise that state and velocity speak of."""
        return self.signal * velocity - self.signal_rate * state


class Objective(ABC):
    """One way from data to noise, with the levels that it learns at and the steps that it samples with."""

    @abstractmethod
    def scales(self, level: Tensor) -> Scales:
        """Return the scales at noise levels from 0 to 1."""

    @abstractmethod
    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw noise levels for training, shape (n,)."""

    @abstractmethod
    def grid(self, steps: int) -> list[float]:
        """Return the levels that the sampler visits, from noise to 0."""

    def correct(self, euler: Tensor, here: Scales, there: Scales, first: _Drift, second: _Drift) -> Tensor:
        """Return the state at ``there`` from the drifts at both ends; here the first alone decides.

        Args:
            euler: State at ``there`` by the first drift.
            here: Scales at the beginning of the step.
            there: Scales at its end, not yet at level 0.
            first: Drift at ``here``.
            second: Drift at ``there``.
        """
        return euler

    second_order = True
    """Whether :meth:`correct` needs the second drift."""


class _Drift(NamedTuple):
    velocity: Tensor
    noise: Tensor


class FlowMatching(Objective):
    """Straight lines (Lipman et al. 2023, arXiv:2210.02747, equation 23), solved by Heun's method."""

    def scales(self, level: Tensor) -> Scales:
        one = torch.ones_like(level)
        return Scales(1 - level, level, -one, one)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        # Logit-normal: the middle is hard and the ends are easy (Esser et al. 2024, section 3.1); the mean leans to
        # the noisy end as the sampler's steps do.
        return torch.sigmoid(0.7 + 1.2 * torch.randn(n, generator=generator))

    def grid(self, steps: int) -> list[float]:
        even = [1 - i / steps for i in range(steps + 1)]
        return [SHIFT * t / (1 + (SHIFT - 1) * t) for t in even]

    def correct(self, euler: Tensor, here: Scales, there: Scales, first: _Drift, second: _Drift) -> Tensor:
        return euler + (there.noise - here.noise) / 2 * (second.velocity - first.velocity)


class _Circle(Objective):
    """Signal and noise of constant total variance: cosine and sine of an angle that is the level."""

    def scales(self, level: Tensor) -> Scales:
        angle = level * (math.pi / 2)
        return Scales(angle.cos(), angle.sin(), -angle.sin(), angle.cos())


class EDM(_Circle):
    """EDM (Karras et al. 2022, arXiv:2206.00364) for data of unit variance.

    With that variance its preconditioned network F predicts minus the velocity of this path, and its weighted loss is
    the plain squared error of F (table 1, last column). Solved by Heun's method along sigma, the ratio of
    noise to signal (algorithm 1), on the grid of equation 5.
    """

    SIGMA = (0.005, 80.0)
    RHO = 7.0

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        # The paper's mean of ln sigma, -1.2, is for data of standard deviation 0.5.
        return (1.3 * torch.randn(n, generator=generator)).exp().atan() * (2 / math.pi)

    def grid(self, steps: int) -> list[float]:
        least, most = (sigma ** (1 / self.RHO) for sigma in self.SIGMA)
        sigmas = [(most + i / max(1, steps - 1) * (least - most)) ** self.RHO for i in range(steps)]
        return [math.atan(sigma) * 2 / math.pi for sigma in sigmas] + [0.0]

    def correct(self, euler: Tensor, here: Scales, there: Scales, first: _Drift, second: _Drift) -> Tensor:
        step = there.noise / there.signal - here.noise / here.signal
        return euler + there.signal * step / 2 * (second.noise - first.noise)


class DDPM(_Circle):
    """DDPM with the cosine schedule in continuous time, sampled by DDIM.

    Ho et al. 2020, arXiv:2006.11239; Nichol and Dhariwal 2021, arXiv:2102.09672, equation 17; the velocity as target:
    Salimans and Ho 2022, arXiv:2202.00512, appendix D; DDIM: Song et al. 2021, arXiv:2010.02502, equation 12
    with sigma 0.
    """

    second_order = False

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.rand(n, generator=generator).clamp(1e-3, 1 - 1e-3)

    def grid(self, steps: int) -> list[float]:
        return [1 - i / steps for i in range(steps + 1)]


OBJECTIVES: dict[str, Objective] = {"flow": FlowMatching(), "edm": EDM(), "ddpm": DDPM()}


def draw_levels(
    n: int, fields: int, objective: Objective, generator: torch.Generator, shared: bool = False
) -> tuple[Levels, Tensor]:
    """Draw noise levels for training, and which columns are known.

    Of the records 45 % have one level for both parts, as joint sampling needs, and 15 % independent ones; 20 % know
    some columns and have one level for the rest, or in a quarter of them know these columns' absence, as
    guidance needs; 15 % have one part clean (conditional sampling), where an image is clean half of them with some
    columns known; 5 % have one part of pure noise (marginal sampling), as in UniDiffuser
    (Bao et al. 2023, arXiv:2303.06555).

    Args:
        n: Number of records.
        fields: Number of columns.
        objective: Draws the levels between.
        generator: On the CPU.
        shared: Whether columns are never drawn themselves: they are known or pure noise.

    Returns:
        Levels, and True where a column is known, shape (n, fields).
    """
    image, apart = objective.draw(n, generator), objective.draw(n, generator)
    kind, half = torch.rand(2, n, generator=generator)
    some = draw_known(n, fields, generator)
    table = torch.where(kind < 0.45, image, apart)
    table = torch.where((kind >= 0.60) & (kind < 0.80), image, table)
    table = torch.where((kind >= 0.95) & (kind < 0.975), 1.0, table)
    image = torch.where((kind >= 0.88) & (kind < 0.95), 0.0, image)
    image = torch.where(kind >= 0.975, 1.0, image)
    partial = ((kind >= 0.60) & (kind < 0.80)) | ((kind >= 0.88) & (kind < 0.95) & (half < 0.5))
    absent = (kind >= 0.60) & (kind < 0.80) & (half < 0.25)
    whole = (kind >= 0.80) & (kind < 0.88)
    columns = table[:, None].expand(n, fields)
    if shared:
        columns = torch.ones_like(columns)
    known = (partial & ~absent)[:, None] & some | whole[:, None]
    columns = torch.where((absent[:, None] & some), 1.0, columns)
    return Levels(image, torch.where(known, 0.0, columns)), known


def loss(
    network: Network, objective: Objective, clean: Latents, levels: Levels, noise: Latents, importance: Tensor
) -> Tensor:
    """Return the mean squared error of the predicted velocities.

    What is clean or pure noise is there to be read and left out of the loss.

    Args:
        network: Predicts velocities.
        objective: Path between data and noise.
        clean: Latents of unit variance.
        levels: Noise levels.
        noise: Standard normal, of the latents' shapes.
        importance: Weight of each number of the image part, shape (t, image_width), mean 1.
    """
    tall = Levels(levels.image[:, None, None], levels.table[:, :, None])
    scales = [objective.scales(level) for level in tall]
    noisy = Latents(*(s.signal * x + s.noise * e for x, e, s in zip(clean, noise, scales, strict=True)))
    velocity = network(noisy, levels)
    total = clean.image.new_zeros(())
    weights = (importance, torch.ones((), device=importance.device))
    for guess, x, e, s, level, weight in zip(velocity, clean, noise, scales, tall, weights, strict=True):
        learned = ((level > 0) & (level < 1)).float()[..., 0]
        error = ((guess.float() - s.signal_rate * x - s.noise_rate * e).square() * weight).mean(dim=2)
        learned = learned.expand(error.shape)
        total = total + (error * learned).sum() / learned.sum().clamp(min=1)
    return total


@torch.no_grad()
def solve(
    network: Network,
    objective: Objective,
    noise: Latents,
    known: Known,
    steps: int,
    guidance: float = 0.0,
    shared: bool = False,
    absent: str = "",
) -> Latents:
    """Return samples: the solution from pure noise to data, with what is known held clean.

    Args:
        network: Predicts velocities.
        objective: Path and solver.
        noise: Standard normal latents, the state at level 1.
        known: What is given.
        steps: Steps, each of two network evaluations in solvers of second order but the last, which has one.
        guidance: How far to exaggerate what is known: velocities move by this much of their difference from those
            without (Ho and Salimans 2022, arXiv:2207.12598, equation 6).
        shared: Whether columns are never drawn: those not known stay pure noise.
        absent: ``image`` or ``table`` for a part that stays pure noise, so that the other is drawn alone.
    """
    unmoved = shared or absent == "table"
    held = Latents(
        torch.tensor(known.image is not None or absent == "image", device=noise.image.device),
        torch.ones_like(known.columns)[:, :, None] if unmoved else known.columns[:, :, None],
    )
    clean = Latents(noise.image if known.image is None else known.image, known.table)
    state = Latents(clean.image, torch.where(known.columns[:, :, None], clean.table, noise.table))
    guided = guidance > 0 and bool(known.columns.any() or known.image is not None)

    def levels(level: float, given: bool) -> Levels:
        rest = 1.0 if unmoved else level
        at = known.columns.new_full(known.columns.shape, rest, dtype=torch.float32)
        table = at.masked_fill(known.columns, 0.0 if given else 1.0)
        image = level if known.image is None else 0.0 if given else 1.0
        if absent == "image":
            image = 1.0
        return Levels(table.new_full((1,), image), table)

    def drift(state: Latents, level: float) -> Latents:
        velocity = network(state, levels(level, True))
        if not guided:
            return velocity
        unknown = Latents(
            state.image if known.image is None else noise.image,
            torch.where(known.columns[:, :, None], noise.table, state.table),
        )
        without = network(unknown, levels(level, False))
        return Latents(*(v + guidance * (v - w) for v, w in zip(velocity, without, strict=True)))

    def both(state: Latents, velocity: Latents, at: Scales) -> list[_Drift]:
        return [_Drift(v, at.pure(x, v)) for x, v in zip(state, velocity, strict=True)]

    def keep(moved: list[Tensor]) -> Latents:
        parts = zip(held, state, moved, strict=True)
        return Latents(*(torch.where(fixed, old, new) for fixed, old, new in parts))

    for start, end in pairwise(objective.grid(steps)):
        here, there = (
            objective.scales(torch.tensor(level, device=noise.image.device)) for level in (start, end)
        )
        velocity = drift(state, start)
        first = both(state, velocity, here)
        euler = [
            there.signal * here.clean(x, d.velocity) + there.noise * d.noise
            for x, d in zip(state, first, strict=True)
        ]
        if end > 0 and objective.second_order:
            predicted = keep(euler)
            second = both(predicted, drift(predicted, end), there)
            euler = [
                objective.correct(x, here, there, one, two)
                for x, one, two in zip(predicted, first, second, strict=True)
            ]
        state = keep(euler)
    return state
