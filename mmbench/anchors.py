"""Destroyed references: what a metric must call bad."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from mmbench.api import Evidence, Response
from mmbench.cohort import Cohort, Volumes
from mmbench.sweep import Given


def destroyed(
    how: str, train: Evidence, floor: Evidence, seed: int, measure: Callable[[Cohort], Evidence]
) -> Evidence:
    """Return records, as many as ``floor`` has, that are real but for what is destroyed.

    Args:
        how: What is destroyed, one of the choices of ``Metric.null``.
        train: Real training subjects.
        floor: Real subjects that are destroyed.
        seed: Seed of the destruction.
        measure: Reads quantities and features off destroyed voxels.
    """
    rng = np.random.default_rng(seed)
    n = len(floor)
    match how:
        case "pairs":
            return _permuted_pairs(floor, rng.permutation(n))
        case "columns":
            table = floor.cohort.rows
            columns = {name: table[name].to_numpy()[rng.permutation(n)] for name in table}
            frame = pd.DataFrame(columns, index=table.index)
            return _with_table(floor, floor.cohort.schema.coerce(frame))
        case "uniform":
            return _with_table(floor, _uniform_table(floor.cohort, rng))
        case "noise":
            return measure(_noise(train.cohort, floor.cohort, rng))
        case "copies":
            return train.take(rng.integers(0, len(train), n))
    raise ValueError(f"unknown kind of destroyed reference: {how}")


NEAREST, FEWEST_NEAREST = 0.2, 5
"""Share of real people who stand for a number, and their least number: fewer say little, more blur the curve."""


def responses(side: Evidence, sweep: Sequence[Given]) -> tuple[Response, ...]:
    """Return what real people have at the values of a sweep, in place of records that were drawn there.

    Args:
        side: Real subjects, destroyed or not.
        sweep: The values. At a level stand all who have it, at a number the fifth (at least five) of those with a value
            that is nearest to it by rank, and all as near as the last of these; a value that nobody has is left out.
    """
    found = []
    for given in sweep:
        values = side.cohort.rows[given.column]
        if side.cohort.schema[given.column].discrete:
            rows = np.flatnonzero(values == given.value)
        else:
            rows = _nearest(values.to_numpy(float), float(given.value))
        if len(rows):
            found.append(Response(given.column, given.value, side.take(rows)))
    return tuple(found)


def _nearest(values: np.ndarray, value: float) -> np.ndarray:
    known = np.flatnonzero(np.isfinite(values))
    ordered = np.sort(values[known])

    def rank(of: np.ndarray) -> np.ndarray:
        return np.asarray(np.searchsorted(ordered, of, "left") + np.searchsorted(ordered, of, "right"))

    distance = np.abs(rank(values[known]) - rank(np.array([value])))
    count = min(max(int(np.ceil(NEAREST * len(known))), FEWEST_NEAREST), len(known))
    # All who are as near as the last: the order of the records must not choose among them.
    return known[distance <= np.sort(distance)[count - 1]] if count else known


def _permuted_pairs(floor: Evidence, order: np.ndarray) -> Evidence:
    cohort = dataclasses.replace(floor.cohort, volumes=floor.cohort.images.take(order))
    moved = floor.take(order)
    composition = moved.composition
    if composition is not None:
        composition = composition.set_axis(floor.cohort.rows.index)
    return Evidence(cohort, composition, moved.features, moved.unmeasurable)


def _with_table(floor: Evidence, table: pd.DataFrame) -> Evidence:
    return dataclasses.replace(floor, cohort=dataclasses.replace(floor.cohort, table=table))


def _uniform_table(cohort: Cohort, rng: np.random.Generator) -> pd.DataFrame:
    columns = {}
    for column in cohort.schema:
        real = cohort.rows[column.name]
        if column.discrete:
            columns[column.name] = rng.choice(np.array(column.levels, dtype=object), len(real))
        else:
            columns[column.name] = rng.uniform(real.min(), real.max(), len(real))
            if column.kind == "integer":
                columns[column.name] = columns[column.name].round()
    return cohort.schema.coerce(pd.DataFrame(columns, index=cohort.rows.index))


def _noise(train: Cohort, floor: Cohort, rng: np.random.Generator) -> Cohort:
    """Voxels drawn independently with each voxel's own real mean and standard deviation."""
    geometry = train.images.geometry
    total = np.zeros(geometry.full_shape)
    square = np.zeros(geometry.full_shape)
    for volume in train.images:
        total += volume
        square += np.square(volume, dtype=float)
    mean = total / len(train)
    spread = np.sqrt(np.maximum(square / len(train) - mean**2, 0))
    seeds = rng.integers(0, 2**63, len(floor))
    return dataclasses.replace(floor, volumes=Volumes(_Noise(mean, spread, seeds), geometry))


@dataclasses.dataclass(frozen=True)
class _Noise:
    """Draws a volume when it is asked for, so that the whole set never stands in memory."""

    mean: np.ndarray
    spread: np.ndarray
    seeds: np.ndarray

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, index: int) -> np.ndarray:
        draw = np.random.default_rng(self.seeds[index]).standard_normal(self.mean.shape)
        return (self.mean + self.spread * draw).astype(np.float32)
