"""The embedded cohort: body-MRI phantoms whose composition follows the clinical table."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mmbench.api import Card, Cohort, CohortError, CohortSource, Context, Geometry, Volumes, param
from mmbench.errors import did_you_mean
from mmbench.volume_file import DTYPE, VolumeFile

from . import anatomy
from .artefacts import Artefacts
from .parallel import available_cores, shared_out
from .physics import CHANNELS, PROTOCOLS, TISSUES, Scanner
from .population import PRESETS, Population, draw_population

TRUTH = (
    "body_l",
    "fat_l",
    "lean_l",
    "visceral_fat_l",
    "subcutaneous_fat_l",
    "abdominal_subcutaneous_fat_l",
    "muscle_l",
    "trunk_muscle_l",
    "liver_l",
    "lung_l",
    "waist_cm",
    "liver_fat_fraction",
    "swapped",
)
"""Columns of the phantom's ground truth."""

ADIPOSE = ("subcutaneous", "visceral", "other_fat")

FIELD_OF_VIEW_MM = (448.0, 352.0, 480.0)
"""What is imaged where only the size of the voxels is given."""

SHAPE, SPACING = (80, 64, 16), (5.5, 5.5, 30.0)

WORTH_PROCESSES = 6_000_000
"""Voxels of all subjects, from which on rendering takes longer (about a microsecond each) than starting processes."""


@dataclass(frozen=True)
class Subject:
    """Who is rendered.

    Attributes:
        index: Position in the cohort.
        person: What the anatomy depends on.
        fat_fractions: Fat fractions by tissue.
    """

    index: int
    person: anatomy.Person
    fat_fractions: Mapping[str, float]


@dataclass(frozen=True)
class Studio:
    """Renders and scans one subject at a time, in any process and any order.

    Attributes:
        seed: Seed of the cohort.
        scanner: Makes the images.
        file: Receives the volumes; ``None`` where they are only looked at.
    """

    seed: int
    scanner: Scanner
    file: VolumeFile | None = None

    def store(self, subject: Subject) -> np.ndarray:
        """Write a subject's volume and return its truth: float64 in the order of :data:`TRUTH`."""
        volume, truth = self.scan(subject)
        if self.file is not None:
            self.file.write(subject.index, volume)
        return np.array([truth[name] for name in TRUTH], dtype=float)

    def scan(self, subject: Subject) -> tuple[np.ndarray, dict[str, float]]:
        """Return a subject's volume, float32 of shape (channels, x, y, z), and its truth by name."""
        shape_rng, scan_rng = (
            np.random.default_rng(np.random.SeedSequence([self.seed, subject.index, stream]))
            for stream in (1, 2)
        )
        geometry = self.scanner.geometry
        body = anatomy.render(subject.person, geometry.shape, geometry.spacing, shape_rng)
        fractions = subject.fat_fractions
        volume, swapped = self.scanner.scan(anatomy.TISSUES, body.shares, fractions, scan_rng)
        litres = body.litres
        whole = sum(litres[name] for name in anatomy.TISSUES)
        # Adipose tissue counts whole; of another tissue, the share of its volume that its fat fraction says.
        within = sum(
            litres[name] * fractions.get(name, TISSUES[name].fat_fraction)
            for name in anatomy.TISSUES
            if name not in ADIPOSE
        )
        fat = sum(litres[name] for name in ADIPOSE) + within / TISSUES["subcutaneous"].fat_fraction
        truth = {
            "body_l": whole,
            "fat_l": fat,
            "lean_l": whole - fat - litres["lung"] - litres["gas"],
            "visceral_fat_l": litres["visceral"],
            "subcutaneous_fat_l": litres["subcutaneous"],
            "abdominal_subcutaneous_fat_l": litres["abdominal_subcutaneous"],
            "muscle_l": litres["muscle"],
            "trunk_muscle_l": litres["trunk_muscle"],
            "liver_l": litres["liver"],
            "lung_l": litres["lung"],
            "waist_cm": body.waist_cm,
            "liver_fat_fraction": fractions["liver"],
            "swapped": swapped,
        }
        return volume, truth


def subjects_of(population: Population, arms: bool = False) -> Iterator[Subject]:
    """Yield the subjects of a population, in order."""
    for index in range(len(population.table)):
        row, drawn = population.table.iloc[index], population.composition.iloc[index]
        person = anatomy.Person(
            woman=row.sex == "F",
            height_cm=float(row.height_cm),
            waist_cm=float(row.waist_cm),
            hip_cm=float(row.hip_cm),
            visceral_l=float(drawn.visceral_l),
            abdominal_subcutaneous_l=float(drawn.abdominal_subcutaneous_l),
            trunk_muscle_l=float(drawn.trunk_muscle_l),
            liver_l=float(drawn.liver_l),
            arms=arms,
        )
        fractions = {"liver": float(drawn.liver_fat_fraction), "muscle": float(drawn.muscle_fat_fraction)}
        yield Subject(index, person, fractions)


@dataclass
class PhantomSource(CohortSource):
    """Procedural neck-to-hip Dixon MRI phantoms with a clinical table and known composition.

    Ground truth is what was rendered, in litres within the field of view: artefacts leave it alone. ``fat_l``
    counts adipose tissue and the fat within other tissues as adipose tissue, ``lean_l`` the rest without lungs and
    gas; ``swapped`` is the share of slices in which water and fat are swapped. Signals are relative to
    subcutaneous fat in phase, which is 1. The same parameters give the same bits, whatever the number of workers.
    """

    card = Card(
        summary="Procedural neck-to-hip Dixon MRI phantoms whose body composition follows a clinical table.",
        reference="Population: NAKO (Fischer et al. 2020), NHANES 1999-2018; composition: UK Biobank MRI "
        "(Linge et al. 2018); signal: de Bazelaire et al. 2004, Hamilton et al. 2011.",
    )

    subjects: int = param(600, "Number of subjects.", minimum=1)
    seed: int = param(1, "Seed of the population and of the scans.", minimum=0)
    preset: str = param("nako", "Population that subjects are drawn from.", choices=tuple(PRESETS))
    protocol: str = param(
        "auto", "How they are scanned; auto for the population's own.", choices=("auto", *PROTOCOLS)
    )
    ethnicities: Mapping[str, float] | None = param(
        None, "Share of each ethnic group; the population's own where absent."
    )
    voxel: float | None = param(
        None,
        "Voxel spacing in plane, mm; slices are 1.5 times as thick. Replaces shape and spacing by a field of view of "
        "448 x 352 x 480 mm.",
        minimum=1,
        maximum=20,
    )
    shape: Sequence[int] = param(SHAPE, "Voxels along x (left-right), y (back-front), z (foot-head).")
    spacing: Sequence[float] = param(SPACING, "Voxel spacing along x, y, z in millimetres.")
    channels: Sequence[str] = param(("water", "fat"), f"Images, of {', '.join(CHANNELS)}.")
    arms: bool = param(False, "Whether the arms lie beside the trunk.")
    noise: float = param(
        Artefacts.noise,
        "Rician noise: median over subjects of its standard deviation in an echo, subcutaneous fat being 1.",
        minimum=0,
        maximum=1,
    )
    bias_field: float = param(
        Artefacts.bias_field,
        "Coil shading: relative spread of the gain over the field of view.",
        minimum=0,
        maximum=1,
    )
    slab_steps: float = param(
        Artefacts.slab_steps, "Mean relative step of the gain between slabs.", minimum=0, maximum=0.5
    )
    breathing: float = param(
        Artefacts.breathing, "Mean blur at the diaphragm along z, mm.", minimum=0, maximum=50
    )
    swap: float = param(
        Artefacts.swap, "Probability that water and fat are swapped in a slab or all.", minimum=0, maximum=1
    )
    missing: float = param(0.05, "Mean share of missing values where some may be.", minimum=0, maximum=0.3)
    workers: int = param(0, "Processes that render; 0 for one a core where it is worth it.", minimum=0)

    def load(self, context: Context) -> Cohort:
        geometry = self._geometry()
        size = (self.subjects, *geometry.full_shape)
        _check_space(context, size)
        population = draw_population(self.subjects, self.seed, self.preset, self.ethnicities, self.missing)
        # A name of its own: a cohort made before in the same folder keeps its volumes.
        path = context.folder / f"volumes-{uuid.uuid4().hex[:8]}.npy"
        protocol = ("ukb" if self.preset == "ukb" else "nako") if self.protocol == "auto" else self.protocol
        try:
            file = VolumeFile.create(path, size)
            artefacts = Artefacts(self.noise, self.bias_field, self.slab_steps, self.breathing, self.swap)
            scanner = Scanner(geometry, PROTOCOLS[protocol], artefacts)
            studio = Studio(self.seed, scanner, file)
            people = subjects_of(population, self.arms)
            with shared_out(studio.store, people, self._processes(size)) as rendered:
                truths = [next(rendered) for _ in context.steps(self.subjects, "rendering phantoms")]
                if len(truths) < self.subjects:
                    raise CohortError(
                        f"phantom: the time budget ended after {len(truths)} of {self.subjects} subjects; "
                        "allow more time or ask for fewer subjects."
                    )
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        ids = np.array([f"phantom-{index + 1:05d}" for index in range(self.subjects)])
        return Cohort(
            name="phantom",
            schema=population.schema,
            ids=ids,
            table=population.table,
            volumes=Volumes(file, geometry),
            truth=pd.DataFrame(truths, columns=list(TRUTH), index=pd.Index(ids, name="id")),
            shareable=True,
        )

    def _geometry(self) -> Geometry:
        channels = tuple(self.channels)
        for name in channels:
            if name not in CHANNELS:
                raise CohortError(f"phantom: there is no channel '{name}'. {did_you_mean(name, CHANNELS)}")
        if not channels or len(set(channels)) < len(channels):
            raise CohortError(
                f"phantom: channels is {list(channels)}, expected each name once, at least one."
            )
        if self.voxel is not None:
            if (*self.shape, *self.spacing) != (*SHAPE, *SPACING):
                raise CohortError(
                    f"phantom: voxel is {self.voxel:g}, which says what shape and spacing say: give voxel, or both of them."
                )
            spacing = (self.voxel, self.voxel, 1.5 * self.voxel)
            shape = [round(extent / step) for extent, step in zip(FIELD_OF_VIEW_MM, spacing, strict=True)]
            return Geometry.regular(shape, spacing, channels)
        if len(self.shape) != 3 or min(self.shape) < 4:
            raise CohortError(
                f"phantom: shape is {list(self.shape)}, expected three numbers of at least 4 voxels."
            )
        if len(self.spacing) != 3 or min(self.spacing) <= 0:
            raise CohortError(
                f"phantom: spacing is {list(self.spacing)}, expected three positive numbers of millimetres."
            )
        extent = np.multiply(self.shape, self.spacing)
        if extent[0] < 300 or extent[1] < 200 or extent[2] < 200:
            raise CohortError(
                f"phantom: shape times spacing is {extent.round().tolist()} mm, which cuts the torso; expected at "
                f"least 300 x 200 x 200 mm (the default grid has {np.multiply(SHAPE, SPACING).tolist()} mm)."
            )
        return Geometry.regular(self.shape, self.spacing, channels)

    def _processes(self, size: Sequence[int]) -> int:
        if self.workers == 0 and np.prod([size[0], *size[2:]], dtype=float) < WORTH_PROCESSES:
            return 1
        return min(self.workers or available_cores(), self.subjects)


def _check_space(context: Context, size: Sequence[int]) -> None:
    needed, free = int(np.prod(size, dtype=np.int64)) * DTYPE.itemsize, shutil.disk_usage(context.folder).free
    if needed > free:
        raise CohortError(
            f"phantom: {size[0]} volumes take {needed / 2**30:.1f} GiB and {context.folder} has {free / 2**30:.1f} "
            "GiB left; ask for fewer subjects or larger voxels, or free some space."
        )
