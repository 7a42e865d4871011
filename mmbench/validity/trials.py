"""Trials for validity tests: arrays as tables or image features, and simulated people with volumes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn

import numpy as np
import pandas as pd

from mmbench.api import Cohort, Column, Evidence, Geometry, Schema, Trial, Volumes
from mmbench.validity.laws import Sides

Domain = Literal["table", "features", "people"]
"""What carries the records: table rows, image features, or people with both and with volumes."""

GEOMETRY = Geometry.regular((24, 24, 24), (12.0, 12.0, 12.0), ("water", "fat"))
QUANTITIES = ("visceral_l", "subcutaneous_l", "lean_l")


class VolumesRead(Exception):
    """A metric opened volumes in a trial that has only features: it is not one of features."""


@dataclass(frozen=True)
class _Closed:
    """Stands for volumes that nobody may open."""

    size: int

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int, /) -> NoReturn:
        raise VolumesRead


def trial_of(domain: Domain, sides: Sides, seed: int) -> Trial:
    """Return arrays as a trial of tables with continuous columns, or of image features in one block."""
    make = _as_table if domain == "table" else _as_features
    evidence = {role: make(np.asarray(x, float), role) for role, x in sides._asdict().items()}
    return Trial(evidence["reference"], evidence["synthetic"], evidence["train"], seed)


def arrays_of(trial: Trial) -> Sides:
    """Return a trial's table codes, or its first block of features where it has no table."""

    def array(side: Evidence) -> np.ndarray:
        if side.features is not None and side.cohort.table is None:
            return np.asarray(side.features[:, 0], float)
        return side.cohort.schema.codes(side.cohort.rows)

    return Sides(array(trial.reference), array(trial.synthetic), array(trial.train))


def _as_table(values: np.ndarray, role: str) -> Evidence:
    names = [f"x{j}" for j in range(values.shape[1])]
    schema = Schema(tuple(Column(name, "continuous") for name in names))
    ids = _ids(role, len(values))
    return Evidence(Cohort(role, schema, ids, pd.DataFrame(values, columns=names)))


def _as_features(values: np.ndarray, role: str) -> Evidence:
    volumes = Volumes(_Closed(len(values)), GEOMETRY)
    cohort = Cohort(role, Schema(()), _ids(role, len(values)), None, volumes)
    return Evidence(cohort, None, values[:, None, :].copy())


def _ids(role: str, n: int) -> np.ndarray:
    return np.array([f"{role}-{i}" for i in range(n)])


PEOPLE = Schema(
    (
        Column("age", "continuous", "years"),
        Column("sex", "categorical", levels=("F", "M")),
        Column("height_cm", "continuous", "cm"),
        Column("weight_kg", "continuous", "kg"),
        Column("bmi", "continuous", "kg/m2", formula="weight_kg / (height_cm / 100) ** 2"),
        Column("waist_cm", "continuous", "cm"),
        Column("hba1c", "continuous", "%", missing=True),
        Column("activity", "ordinal", levels=(1.0, 2.0, 3.0)),
        Column("region", "categorical", levels=("a", "b", "c"), missing=True),
        Column("smoker", "boolean"),
    )
)


@dataclass(frozen=True)
class Body:
    """How body composition follows from the table; the defaults are the truth.

    Attributes:
        sex: Factor on the effects of sex.
        slope: Factor on the effects of waist, body mass index and age.
        noise: Factor on the residual standard deviations.
    """

    sex: float = 1.0
    slope: float = 1.0
    noise: float = 1.0

    def composition(self, table: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
        """Draw log quantities of visceral and subcutaneous fat and lean tissue given the table, shape (n, 3)."""
        male = (table["sex"] == "M").to_numpy(float) - 0.5
        bmi = (table["bmi"].to_numpy(float) - 26) / 4
        waist = (table["waist_cm"].to_numpy(float) - 90) / 11
        age = (table["age"].to_numpy(float) - 50) / 15
        residual = rng.standard_normal((len(table), 3)) @ _MIXING.T
        linear = np.column_stack(
            [
                0.35 * waist + 0.15 * age + 0.1 * np.tanh(bmi),
                0.35 * bmi + 0.05 * waist,
                0.10 * bmi - 0.06 * age,
            ]
        )
        by_sex = np.column_stack([0.35 * male, -0.35 * male, 0.30 * male])
        return _LEVEL + self.slope * linear + self.sex * by_sex + self.noise * _SPREAD * residual


_MIXING = np.linalg.cholesky(np.array([[1.0, 0.3, 0.1], [0.3, 1.0, 0.2], [0.1, 0.2, 1.0]]))
_LEVEL, _SPREAD = np.log([3.0, 12.0, 45.0]), np.array([0.25, 0.2, 0.1])


def people(
    rng: np.random.Generator,
    n: int,
    role: str,
    *,
    body: Body | None = None,
    older: float = 0.0,
    heavier: float = 0.0,
    change: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
) -> Evidence:
    """Draw people: table, composition that follows from it, volumes that show the composition, and features.

    Args:
        rng: Source of the draws.
        n: People.
        role: Prefix of their identifiers.
        body: How composition follows from the table.
        older: Shift of age in years; composition given the table stays as it is.
        heavier: Shift of the body mass index.
        change: What is done to each volume after drawing, given a generator.
    """
    male = rng.random(n) < 0.5
    age = np.clip(50 + older + 14 * rng.standard_normal(n), 20, 95)
    bmi = np.clip(26 + heavier + 0.03 * (age - 50) + 4 * rng.standard_normal(n), 16, 60)
    height = 166 + 12 * male + 6 * rng.standard_normal(n)
    waist = 90 + 2.3 * (bmi - 26) + 8 * (male - 0.5) + 4 * rng.standard_normal(n)
    hba1c = 5.2 + 0.04 * (bmi - 26) + 0.01 * (age - 50) + 0.3 * rng.standard_normal(n)
    hba1c[rng.random(n) < 0.1 + 0.1 * male] = np.nan
    region = rng.choice(np.array(["a", "b", "c"], object), n, p=[0.5, 0.3, 0.2])
    region[rng.random(n) < 0.05] = None
    frame = pd.DataFrame(
        {
            "age": age,
            "sex": np.where(male, "M", "F"),
            "height_cm": height,
            "weight_kg": bmi * (height / 100) ** 2,
            "bmi": bmi,
            "waist_cm": waist,
            "hba1c": hba1c,
            "activity": np.clip(np.round(3.6 - 0.06 * bmi + 0.6 * rng.standard_normal(n)), 1, 3),
            "region": region,
            "smoker": rng.random(n) < 0.15 + 0.2 * (region == "b"),
        }
    )
    table = PEOPLE.derive(PEOPLE.coerce(frame))
    logs = (body or Body()).composition(table, rng)
    bodies = Bodies(np.exp(logs), rng.integers(0, 2**63, n), change)
    volumes = Volumes(np.stack([bodies.volume(index) for index in range(n)]), GEOMETRY)
    cohort = Cohort("people", PEOPLE, _ids(role, n), table, volumes)
    composition = pd.DataFrame(np.exp(logs), columns=list(QUANTITIES), index=pd.Index(cohort.ids, name="id"))
    return measured(cohort, composition)


def measured(cohort: Cohort, composition: pd.DataFrame | None = None) -> Evidence:
    """Return a cohort with simple features of its volumes, and what was measured on them.

    Args:
        cohort: Cohort with volumes.
        composition: What was measured; NaN throughout where absent: the volumes show no body.
    """
    index = pd.Index(cohort.ids, name="id")
    if composition is None:
        composition = pd.DataFrame(np.nan, index=index, columns=list(QUANTITIES))
    why = np.where(composition.isna().all(axis=1), "no body is seen", "").astype(object)
    return Evidence(cohort, composition, profiles(cohort.images), pd.Series(why, index=index, dtype=object))


def profiles(volumes: Volumes) -> np.ndarray:
    """Return mean intensities of 6 slabs along each axis and channel and their spread, shape (n, 1, d)."""
    rows = []
    for volume in volumes:
        slabs = [
            part.mean(axis=(1, 2, 3))
            for axis in (1, 2, 3)
            for part in np.array_split(np.asarray(volume, float), 6, axis=axis)
        ]
        rows.append(np.concatenate([*slabs, volume.std(axis=(1, 2, 3), dtype=float)]))
    return np.array(rows)[:, None, :]


@dataclass(frozen=True)
class Bodies:
    """Draws volumes: an elliptic trunk of lean tissue, fat within and fat around it.

    Attributes:
        litres: Visceral fat, subcutaneous fat and lean tissue of each record, shape (n, 3).
        seeds: Seed of shape and noise of each record.
        change: What is done to a volume after drawing, given a generator.
    """

    litres: np.ndarray
    seeds: np.ndarray
    change: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None

    def volume(self, index: int) -> np.ndarray:
        """Return the volume of one record, float32 of shape (channels, x, y, z)."""
        rng = np.random.default_rng(self.seeds[index])
        visceral, subcutaneous, lean = self.litres[index]
        length = 26.0 * rng.uniform(
            0.92, 1.08
        )  # cm of trunk; an elliptic cylinder of area litres * 1000 / length
        flat = rng.uniform(0.68, 0.78)
        radii = [
            np.sqrt(total * 1000 / (np.pi * length * flat)) for total in _nested(visceral, subcutaneous, lean)
        ]
        x, y, z = _GRID - rng.uniform(-0.8, 0.8, 3)[:, None, None, None]
        reach = np.sqrt(x**2 + (y / flat) ** 2)
        inside_z = _edge(length / 2 - np.abs(z))
        inner, muscle, skin = (_edge(radius - reach) * inside_z for radius in radii)
        fat = skin - muscle + inner
        water = muscle - inner
        liver = _edge(4.5 - np.sqrt((x - 3) ** 2 + y**2 + (z - 4) ** 2)) * muscle
        volume = np.stack([0.9 * water + 0.3 * liver + 0.05 * fat, 0.9 * fat + 0.05 * water])
        volume = volume * rng.uniform(0.95, 1.05)
        volume = np.hypot(
            volume + 0.02 * rng.standard_normal(volume.shape), 0.02 * rng.standard_normal(volume.shape)
        )
        if self.change is not None:
            volume = self.change(volume, np.random.default_rng([int(self.seeds[index]), 1]))
        return volume.astype(np.float32)


def _nested(visceral: float, subcutaneous: float, lean: float) -> tuple[float, float, float]:
    trunk = 0.4 * lean  # litres of lean tissue in the trunk
    return visceral, visceral + trunk, visceral + trunk + subcutaneous


_AXES = [
    (np.arange(size) - (size - 1) / 2) * step / 10
    for size, step in zip(GEOMETRY.shape, GEOMETRY.spacing, strict=True)
]
_GRID = np.stack(np.meshgrid(*_AXES, indexing="ij"))


def _edge(depth: np.ndarray) -> np.ndarray:
    """Return how much of a voxel lies inside, from the depth of its centre below the surface in centimetres."""
    return np.asarray(np.clip(depth / 1.2 + 0.5, 0, 1))


def with_table(side: Evidence, table: pd.DataFrame) -> Evidence:
    """Return the same records with another table of the same schema."""
    return dataclasses.replace(side, cohort=dataclasses.replace(side.cohort, table=table))


def mapped(trial: Trial, function: Callable[[Evidence], Evidence]) -> Trial:
    """Return a fresh trial with a function applied to all three sides."""
    return Trial(function(trial.reference), function(trial.synthetic), function(trial.train), trial.seed)


def partly_permuted(rng: np.random.Generator, n: int, share: float) -> np.ndarray:
    """Return positions in which a random share of records trade places among themselves."""
    order = np.arange(n)
    moved = rng.choice(n, round(share * n), replace=False)
    order[moved] = rng.permutation(moved)
    return order


def repaired(side: Evidence, order: Sequence[int] | np.ndarray) -> Evidence:
    """Return the rows of a sample beside the volumes of the records at ``order``."""
    order = np.asarray(order)
    other = side.take(order)
    cohort = dataclasses.replace(side.cohort, volumes=other.cohort.volumes)
    index = pd.Index(cohort.ids, name="id")
    composition = None if other.composition is None else other.composition.set_axis(index)
    why = None if other.unmeasurable is None else other.unmeasurable.set_axis(index)
    return Evidence(cohort, composition, other.features, why)
