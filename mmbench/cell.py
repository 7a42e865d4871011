"""The work of one cell: fit, sample, measure, score; each step is kept and never repeated."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmbench import measuring, plugins, scoring, store
from mmbench.api import Evidence, Extractor, Generator, Response, Sample, Trial
from mmbench.cohort import Cohort, Geometry, Volumes, load_cohort, write_cohort
from mmbench.context import WorkContext, derive_seed, seed_everything
from mmbench.errors import CohortError, SampleError
from mmbench.evidence import save_composition, save_features
from mmbench.files import read_json
from mmbench.model import write_card
from mmbench.plan import (
    Cell,
    Plan,
    Planned,
    composition_key,
    extractor_key,
    features_key,
    fit_key,
    metrics_key,
)
from mmbench.schema import Level, Schema
from mmbench.store import EXTRACTOR, MODEL, REAL, Run
from mmbench.sweep import Given, departure

ANCHORS = "anchors"
"""Pseudo-cell that computes ceilings and nulls."""
REAL_ROLES = ("train", "reference", "floor")
_Draw = tuple[str, Callable[[Path], Mapping[str, Any]]]
"""Key of a draw and the function that makes it."""


@dataclass
class CellWork:
    """One cell's work in a run.

    Attributes:
        run: The run, for reading and for the cell's own folder.
        context: Progress, seeds' home and stop flag; its folder is the cell's.
        threads: Threads that the cell was given; part of the key, since sums depend on their order.
        budget: Seconds that a fit may train, ``None`` for no limit.
        enter: Called with the name of each phase as it begins.
    """

    run: Run
    context: WorkContext
    threads: int
    budget: float | None
    enter: Callable[[str], None]

    def __post_init__(self) -> None:
        self.plan = Plan.from_dict(self.run.info["plan"])
        self.seconds: dict[str, float] = {}
        self._extractor: Extractor | None = None
        self._digest = ""

    def do(self, cell_id: str) -> None:
        """Do all steps of a cell that are not done yet."""
        if cell_id == REAL:
            self._measure_real()
            return
        if self.plan.extractor is not None:
            self._use_extractor(self.plan.extractor.build("measurers"))
        if cell_id == ANCHORS:
            self._score_anchors()
        else:
            cell = next(cell for cell in self.plan.cells if cell.id == cell_id)
            self._do_generator(cell)

    def _measure_real(self) -> None:
        if self.plan.extractor is not None:
            self._make_extractor(self.plan.extractor)
        self.enter("measure")
        for role in REAL_ROLES:
            cohort = self.run.cohort.take(getattr(self.run.roles, role))
            self._measured(self._real_folder(role), cohort, self._role_key(role))

    def _make_extractor(self, planned: Planned) -> None:
        """Fit the extractor on the real training volumes if it learns; keep what it learned for all cells."""
        extractor: Extractor = planned.build("measurers")
        train = self.run.cohort.take(self.run.roles.train)
        volumes, train_key = train.images, self._role_key("train")
        composition = None
        if extractor.learns and extractor.uses_composition:
            self.enter("measure")
            composition = self._composed(self._real_folder("train"), train, train_key).composition
            train_key = composition_key(train_key, self.plan.measurer)
        device, threads = self.context.device, self.threads

        def make(folder: Path) -> Mapping[str, Any]:
            seed = derive_seed("extractor", planned.name)
            if extractor.learns:
                self.enter("fit")
                self._fit_with_seed(lambda context: extractor.fit(volumes, composition, context), seed)
            extractor.save(folder)
            return {"digest": extractor.digest(volumes.geometry), "seed": seed}

        key = extractor_key(planned, volumes.geometry, train_key, device, threads)
        self._step("fit", self.run.cell_folder(REAL) / EXTRACTOR, key, make)
        self._use_extractor(planned.build("measurers"))

    def _use_extractor(self, extractor: Extractor) -> None:
        folder = self.run.cell_folder(REAL) / EXTRACTOR
        extractor.load(folder)
        self._extractor, self._digest = extractor, read_json(folder / store.STEP)["digest"]

    def _score_anchors(self) -> None:
        self.enter("score")
        seed = derive_seed("anchors", self.run.info["cohort"]["fingerprint"])

        def make(folder: Path) -> None:
            roles = {role: self.run.real(role) for role in REAL_ROLES}
            found = scoring.anchor_rows(
                self.plan, roles, self._extractor, seed, self.context, self.run.cohort.name
            )
            found.to_parquet(folder / "scores.parquet")

        keys = [self._measured_key(self._role_key(role)) for role in REAL_ROLES]
        swept = {"sweep": [dataclasses.asdict(given) for given in self.plan.sweep]} if self.plan.sweep else {}
        key = store.key(metrics=metrics_key(self.plan.metrics), real=keys, seed=seed, **swept)
        self._step("score", self.run.cell_folder(REAL) / "scores", key, make)

    def _do_generator(self, cell: Cell) -> None:
        step_of = self._sampling(cell)
        for sample_seed in self.plan.sample_seeds:
            draw = self.run.cell_folder(cell.id) / "draws" / str(sample_seed)
            sample_key, make = step_of(sample_seed)
            self._step("sample", draw / "sample", sample_key, make)
            self.enter("measure")
            synthetic = self._measured(draw / "measured", load_cohort(draw / "sample"), sample_key)
            key = self._measured_key(sample_key)
            responses: tuple[Response, ...] = ()
            if self.plan.sweep and cell.conditional and sample_seed == self.plan.sample_seeds[0]:
                keys, responses = self._responses(draw / "given", partial(step_of, sample_seed))
                key = store.key(draw=key, given=keys)
            self.enter("score")
            self._score(cell, sample_seed, synthetic, responses, key)

    def _responses(
        self, folder: Path, step_of: Callable[[Given], _Draw]
    ) -> tuple[list[str], tuple[Response, ...]]:
        """Draw records at every value of the sweep and measure them; return their keys and them.

        Each value is a step of its own, so that one more repeats none of the others.
        """
        keys, found = [], []
        for place, given in enumerate(self.plan.sweep):
            here = folder / str(place)
            sample_key, make = step_of(given)
            self._step("sample", here / "sample", sample_key, make)
            self.enter("measure")
            # Nothing asks for features of these, and they cost as much as those of a whole draw.
            evidence = self._composed(here / "measured", load_cohort(here / "sample"), sample_key)
            keys.append(composition_key(sample_key, self.plan.measurer))
            found.append(Response(given.column, given.value, evidence))
        return keys, tuple(found)

    def _sampling(self, cell: Cell) -> Callable[..., _Draw]:
        """Return the function that gives the key of a draw, by its seed, and the function that makes it.

        That of a generator takes what it is given as a second argument.
        """
        if cell.recorded:
            return partial(self._recorded_step, cell)
        return _Fitted(self, cell).sample_step if cell.plugin else partial(self._pair_step, cell)

    def _recorded_step(self, cell: Cell, sample_seed: int) -> _Draw:
        seed, n = derive_seed("recorded", cell.generator, sample_seed), len(self.run.roles.reference)

        def make(folder: Path) -> Mapping[str, Any]:
            self.enter("sample")
            records = self.run.recorded(cell.generator)
            order = np.random.default_rng(seed).permutation(len(records))[:n]
            write_cohort(records.take(order), folder, fingerprint=False)
            return {"seed": seed}

        return store.key(step="sample", records=self.run.recorded_key(cell.generator), n=n, seed=seed), make

    def _pair_step(self, cell: Cell, sample_seed: int) -> _Draw:
        seed = derive_seed("pair", cell.id, sample_seed)
        drawn = [
            self.run.cell_folder(part) / "draws" / str(sample_seed) / "sample" for part in cell.components
        ]

        def make(folder: Path) -> Mapping[str, Any]:
            self.enter("sample")
            rows, images = (load_cohort(path) for path in drawn)
            # Also where both components share a generator: its rows must not meet their own volumes.
            order = np.random.default_rng(seed).permutation(len(images))
            cohort = dataclasses.replace(
                rows, name=cell.generator, volumes=images.images.take(order), subjects=None, truth=None
            )
            write_cohort(cohort, folder, fingerprint=False)
            return {"seed": seed}

        keys = [read_json(path / store.STEP)["key"] for path in drawn]
        return store.key(step="pair", components=keys, seed=seed), make

    def _score(
        self,
        cell: Cell,
        sample_seed: int,
        synthetic: Evidence,
        responses: tuple[Response, ...],
        measured_key: str,
    ) -> None:
        seed = derive_seed("score", cell.generator, cell.fit_seed, sample_seed)

        def make(folder: Path) -> Mapping[str, Any]:
            trial = Trial(self.run.real("reference"), synthetic, self.run.real("train"), seed, responses)
            common = {
                "cohort": self.run.cohort.name,
                "generator": cell.generator,
                "fit_seed": cell.fit_seed,
                "sample_seed": sample_seed,
            }
            found, seconds = scoring.score(self.plan, trial, self.context, common)
            found.to_parquet(folder / "scores.parquet")
            return {"metric_seconds": seconds, "seed": seed}

        real = [self._measured_key(self._role_key(role)) for role in ("reference", "train")]
        key = store.key(metrics=metrics_key(self.plan.metrics), synthetic=measured_key, real=real, seed=seed)
        self._step("score", self.run.cell_folder(cell.id) / "draws" / str(sample_seed) / "scores", key, make)

    def _measured(self, folder: Path, cohort: Cohort, data_key: str) -> Evidence:
        composed = self._composed(folder, cohort, data_key)

        def make(temporary: Path) -> None:
            found = measuring.features(cohort, self._extractor, composed.composition, self.context)
            save_features(Evidence(cohort, features=found), temporary)

        self._step("measure", folder / "features", self._features_key(data_key), make)
        return store.load_measured(cohort, folder)

    def _composed(self, folder: Path, cohort: Cohort, data_key: str) -> Evidence:
        def make(temporary: Path) -> None:
            composition, unmeasurable = measuring.compose(cohort, self.plan.measurer, self.context)
            save_composition(Evidence(cohort, composition, unmeasurable=unmeasurable), temporary)

        # A step of its own: another extractor measures no quantity anew, which may take hours.
        self._step("measure", folder / "composition", composition_key(data_key, self.plan.measurer), make)
        return store.load_measured(cohort, folder)

    def _step(
        self, phase: str, folder: Path, key: str, make: Callable[[Path], Mapping[str, Any] | None]
    ) -> None:
        record = store.step(folder, key, make)
        self.seconds[phase] = self.seconds.get(phase, 0.0) + record["seconds"]

    def _role_key(self, role: str) -> str:
        return store.key(data=self.run.info["cohort"]["fingerprint"], role=getattr(self.run.roles, role))

    def _real_folder(self, role: str) -> Path:
        return self.run.cell_folder(REAL) / "measured" / role

    def _features_key(self, data_key: str) -> str:
        composition = composition_key(data_key, self.plan.measurer)
        return features_key(data_key, self.plan.extractor, self._digest, composition)

    def _measured_key(self, data_key: str) -> str:
        return store.key(
            composition=composition_key(data_key, self.plan.measurer), features=self._features_key(data_key)
        )

    def _fit_with_seed(
        self, fit: Callable[[WorkContext], None], seed: int, budget: float | None = None
    ) -> None:
        """Call ``fit`` with a context of its own, an empty scratch folder, and every global generator seeded."""
        context = dataclasses.replace(self.context, seed=seed, budget=budget, started=time.monotonic())
        if context.curves is not None:
            context.curves.unlink(missing_ok=True)
        context.folder.mkdir(parents=True, exist_ok=True)
        seed_everything(seed)
        fit(context)
        shutil.rmtree(context.folder, ignore_errors=True)


class _Fitted:
    """A cell's generator, fitted or loaded when the first sample needs it."""

    def __init__(self, work: CellWork, cell: Cell) -> None:
        self._work, self._cell = work, cell
        self._generator: Generator | None = None
        self._train = work.run.cohort.take(work.run.roles.train)
        self._key = fit_key(cell, work._role_key("train"), work.context.device, work.threads, work.budget)

    def sample_step(self, sample_seed: int, given: Given | None = None) -> _Draw:
        """Return the key of a draw and the function that makes it."""
        n = len(self._work.run.roles.reference) if given is None else given.records
        condition = {} if given is None else {given.column: given.value}
        seed = draw_seed(self._cell, sample_seed, condition)

        def make(folder: Path) -> Mapping[str, Any]:
            generator = self._fitted()
            self._work.enter("sample")
            seed_everything(seed)
            drawn = generator.sample(n, seed, condition) if condition else generator.sample(n, seed)
            geometry = self._train.volumes.geometry if self._train.volumes is not None else None
            cohort = synthetic_cohort(drawn, n, self._cell, self._train.schema, geometry, given)
            write_cohort(cohort, folder, fingerprint=False)
            return {"seed": seed, "fit": self._key, "given": condition}

        # A key of plain draws that names no condition is that of runs made before there were any.
        named = {"given": condition} if condition else {}
        return store.key(step="sample", fit=self._key, n=n, seed=seed, **named), make

    def _fitted(self) -> Generator:
        if self._generator is not None:
            return self._generator
        self._work.enter("fit")
        generator: Generator = plugins.build("generators", self._cell.plugin, self._cell.params)
        folder = self._work.run.cell_folder(self._cell.id) / MODEL
        if not generator.persistent:
            # No file form, so no step of its own: fit and draws are repeated together or not at all.
            start = time.monotonic()
            self._fit(generator)
            self._work.seconds["fit"] = time.monotonic() - start
        else:

            def make(temporary: Path) -> Mapping[str, Any]:
                seed = self._fit(generator)
                generator.save(temporary)
                write_card(temporary, self._cell, self._train)
                return {"seed": seed}

            record_was_there = (folder / store.STEP).exists()
            self._work._step("fit", folder, self._key, make)
            if record_was_there:
                generator.load(folder)
        self._generator = generator
        return generator

    def _fit(self, generator: Generator) -> int:
        seed = derive_seed("fit", self._cell.generator, self._cell.fit_seed)
        modal = dataclasses.replace(
            self._train,
            table=self._train.table if "table" in generator.modalities else None,
            volumes=self._train.volumes if "volume" in generator.modalities else None,
            truth=None,
        )
        self._work._fit_with_seed(lambda context: generator.fit(modal, context), seed, self._work.budget)
        return seed


def draw_seed(cell: Cell, sample_seed: int, given: Mapping[str, Level]) -> int:
    """Return the seed that a cell's generator is given for a draw."""
    parts = ["sample", cell.generator, cell.fit_seed, sample_seed]
    return derive_seed(*parts, *(part for pair in given.items() for part in pair))


def synthetic_cohort(
    drawn: Sample,
    n: int,
    cell: Cell,
    schema: Schema,
    geometry: Geometry | None,
    given: Given | None = None,
) -> Cohort:
    """Check what a generator returned and make a cohort of it.

    Raises:
        SampleError: Columns, levels, number of records, or volumes are not as promised, or a row has not the given value.
    """
    table = None
    if "table" in cell.modalities:
        if drawn.table is None or len(drawn.table) != n:
            found = "no table" if drawn.table is None else f"{len(drawn.table)} rows"
            raise SampleError(f"{cell.generator}: returned {found}, expected {n} rows.")
        # Which value is missing where is the generator's business to learn; metrics judge it.
        tolerant = Schema(tuple(dataclasses.replace(column, missing=True) for column in schema))
        try:
            table = tolerant.coerce(drawn.table.reset_index(drop=True), f"{cell.generator}, synthetic table")
        except CohortError as error:
            raise SampleError(str(error)) from error
        if given is not None and (wrong := departure(given, tolerant, table)):
            raise SampleError(f"{cell.generator}: {wrong}.")
    volumes = None
    if "volume" in cell.modalities:
        if drawn.volumes is None or geometry is None:
            raise SampleError(f"{cell.generator}: returned no volumes.")
        volumes = Volumes(_Stream(drawn.volumes, n, geometry, cell.generator), geometry)
    # Records at different values are different ones, and their identifiers say so.
    prefix = "syn" if given is None else f"{given.column}={given.value}"
    ids = np.array([f"{prefix}-{i:05d}" for i in range(1, n + 1)])
    return Cohort(cell.generator, schema, ids, table, volumes)


class _Stream:
    """Hands a generator's volumes on, one after the other, and checks each."""

    def __init__(self, volumes: Iterable[np.ndarray], n: int, geometry: Geometry, name: str) -> None:
        self._iterator: Iterator[np.ndarray] = iter(volumes)
        self._n, self._shape, self._name, self._next = n, geometry.full_shape, name, 0

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, index: int) -> np.ndarray:
        if index != self._next:
            raise IndexError(f"volumes come in order; asked for {index}, next is {self._next}")
        volume = next(self._iterator, None)
        if volume is None:
            raise SampleError(f"{self._name}: returned {index} volumes, expected {self._n}.")
        volume = np.asarray(volume)
        if volume.shape != self._shape:
            raise SampleError(
                f"{self._name}: volume {index + 1} has shape {volume.shape}, expected {self._shape}."
            )
        if not np.isfinite(volume).all():
            raise SampleError(f"{self._name}: volume {index + 1} has voxels that are NaN or infinite.")
        self._next += 1
        if self._next == self._n and next(self._iterator, None) is not None:
            raise SampleError(f"{self._name}: returned more than {self._n} volumes.")
        return volume
