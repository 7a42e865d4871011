"""The embedded cohort: body-MRI phantoms, water and fat, whose composition follows the clinical table."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mmbench.api import Card, Cohort, CohortError, CohortSource, Context, Geometry, Volumes, param

from . import anatomy
from . import physics as signal
from .population import SCHEMA, draw_population

TRUTH = (
    "body_l",
    "fat_l",
    "lean_l",
    "visceral_fat_l",
    "subcutaneous_fat_l",
    "muscle_l",
    "liver_l",
    "lung_l",
    "liver_fat_fraction",
)
"""Columns of the phantom's ground truth."""


@dataclass
class PhantomSource(CohortSource):
    """Procedural body-MRI phantoms with a clinical table and known composition.

    Volumes have the channels ``water`` and ``fat``; ground truth is in litres within the field of view.
    ``fat_l`` counts adipose tissue and the fat within other tissues as adipose tissue, ``lean_l`` the rest
    without the lungs. The same parameters give the same bits, whatever the number of workers.
    """

    card = Card(
        summary="Procedural neck-to-hip Dixon MRI phantoms whose body composition follows a clinical table.",
        reference="Population: NAKO (Fischer et al. 2020), NHANES 1999-2018; composition: UK Biobank MRI "
        "(Linge et al. 2018); signal: de Bazelaire et al. 2004, Hamilton et al. 2011.",
    )

    subjects: int = param(600, "Number of subjects.", minimum=1)
    seed: int = param(1, "Seed of the population and of the scans.", minimum=0)
    shape: Sequence[int] = param((80, 64, 16), "Voxels along x (left-right), y (back-front), z (foot-head).")
    spacing: Sequence[float] = param((5.5, 5.5, 32.0), "Voxel spacing along x, y, z in millimetres.")
    noise: float = param(
        0.03, "Rician noise, relative to the signal of subcutaneous fat.", minimum=0, maximum=1
    )
    bias_field: float = param(0.15, "Coil shading: relative spread of the gain.", minimum=0, maximum=1)
    missing: float = param(0.05, "Mean share of missing values where some may be.", minimum=0, maximum=0.3)
    workers: int = param(0, "Threads that render; 0 for one a core.", minimum=0)

    def load(self, context: Context) -> Cohort:
        geometry = self._geometry()
        table, composition = draw_population(self.subjects, self.seed, self.missing)
        # A nameless file: memory stays flat however many subjects there are, and nothing is left behind.
        with tempfile.TemporaryFile(dir=context.folder) as file:
            store = np.memmap(file, np.float32, "w+", shape=(self.subjects, *geometry.full_shape))

        def render(index: int) -> np.ndarray:
            volume, truth = self._render(index, table.iloc[index], composition.iloc[index], geometry)
            store[index] = volume
            return truth

        # Threads, not processes: nearly all the time is spent in numpy, which lets go of the interpreter.
        pool = ThreadPoolExecutor(self.workers or os.cpu_count() or 1)
        try:
            jobs = [pool.submit(render, index) for index in range(self.subjects)]
            truths = [jobs[index].result() for index in context.steps(self.subjects, "rendering phantoms")]
        finally:
            pool.shutdown(cancel_futures=True)
        if len(truths) < self.subjects:
            raise CohortError(
                f"phantom: the time budget ended after {len(truths)} of {self.subjects} subjects; "
                "allow more time or ask for fewer subjects."
            )
        ids = np.array([f"phantom-{index + 1:05d}" for index in range(self.subjects)])
        return Cohort(
            name="phantom",
            schema=SCHEMA,
            ids=ids,
            table=table,
            volumes=Volumes(store, geometry),
            truth=pd.DataFrame(truths, columns=list(TRUTH), index=pd.Index(ids, name="id")),
            shareable=True,
        )

    def _geometry(self) -> Geometry:
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
                "least 300 x 200 x 200 mm (the default grid has 440 x 352 x 512 mm)."
            )
        return Geometry.regular(self.shape, self.spacing, ("water", "fat"))

    def _render(
        self, index: int, row: pd.Series, drawn: pd.Series, geometry: Geometry
    ) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, index, 1]))
        person = anatomy.Person(
            woman=row.sex == "F",
            height_cm=float(row.height_cm),
            waist_cm=float(row.waist_cm),
            hip_cm=float(drawn.hip_cm),
            visceral_l=float(drawn.visceral_l),
            abdominal_subcutaneous_l=float(drawn.abdominal_subcutaneous_l),
            muscle_kg=float(drawn.muscle_kg),
            liver_l=float(drawn.liver_l),
        )
        shares = anatomy.render(person, geometry.shape, geometry.spacing, rng)
        signals = signal.tissue_signals(anatomy.TISSUES, drawn.liver_fat_fraction, drawn.muscle_fat_fraction)
        litres = dict(
            zip(anatomy.TISSUES, shares.sum(axis=(1, 2, 3), dtype=float) * geometry.voxel_litres, strict=True)
        )
        within = (
            litres["liver"] * drawn.liver_fat_fraction
            + litres["muscle"] * drawn.muscle_fat_fraction
            + litres["marrow"] * signal.MARROW_FAT_FRACTION
        )
        body = sum(litres.values())
        fat = litres["subcutaneous"] + litres["visceral"] + within / signal.ADIPOSE_FAT_FRACTION
        truth = np.array(
            [
                body,
                fat,
                body - fat - litres["lung"],
                litres["visceral"],
                litres["subcutaneous"],
                litres["muscle"],
                litres["liver"],
                litres["lung"],
                drawn.liver_fat_fraction,
            ]
        )
        return signal.scan(shares, signals, self.noise, self.bias_field, rng), truth
