"""The contract: all that a plug-in imports, and all that the harness knows about one.

A plug-in is a dataclass that derives from :class:`CohortSource`, :class:`Generator`, :class:`Measurer`,
:class:`Extractor`, :class:`Metric` or :class:`Report`. Its fields, declared with :func:`param`, are its
parameters; what it can do is declared in class attributes, never discovered by failure.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
import pandas as pd

from mmbench import persist, stats
from mmbench.cohort import Cohort, Geometry, Volumes
from mmbench.errors import CohortError, Interrupted, NotMeasurable, PluginError, SampleError
from mmbench.evidence import Evidence
from mmbench.schema import Column, Schema, as_numbers
from mmbench.store import Run
from mmbench.validity import failures as validity_failures

__all__ = [
    "BOTH",
    "TABLE",
    "VOLUME",
    "Card",
    "Cohort",
    "CohortError",
    "CohortSource",
    "Column",
    "Context",
    "Evidence",
    "Extractor",
    "Generator",
    "Geometry",
    "Interrupted",
    "Kind",
    "Measurer",
    "Metric",
    "NotMeasurable",
    "Output",
    "PluginError",
    "Quantity",
    "Report",
    "Response",
    "Run",
    "Sample",
    "SampleError",
    "Schema",
    "Score",
    "Trial",
    "Volumes",
    "as_numbers",
    "param",
    "stats",
    "validity_failures",
]

Kind = Literal["fidelity", "diversity", "plausibility", "coherence", "utility", "privacy"]
"""What a score speaks of; reports group by it."""

_T = TypeVar("_T")

TABLE = frozenset({"table"})
VOLUME = frozenset({"volume"})
BOTH = TABLE | VOLUME


def param(
    default: Any = dataclasses.MISSING,
    doc: str = "",
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: Sequence[str] | None = None,
) -> Any:
    """Declare a parameter of a plug-in: its default, what it does, and the values that it takes.

    The harness checks type, bounds and choices before anything runs, and ``mmbench show`` prints them.
    """
    metadata = {"doc": doc, "minimum": minimum, "maximum": maximum, "choices": choices}
    if isinstance(default, list | dict | set):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Card:
    """What a reader should know about a plug-in.

    Attributes:
        summary: One sentence.
        reference: Paper or document that defines it, with authors and year.
        licence: Licence of the code behind it.
        requires: Distributions that must be installed beside mmbench's own dependencies.
    """

    summary: str
    reference: str = ""
    licence: str = "Apache-2.0"
    requires: tuple[str, ...] = ()


class Context(Protocol):
    """What the harness gives a fit."""

    device: str
    """torch device name, ``cpu`` or ``cuda``."""
    seed: int
    """Seed of the fit; the global generators of numpy, random and torch are seeded with it already."""
    folder: Path
    """Scratch folder for checkpoints; it survives an interrupted fit."""

    def steps(self, total: int, label: str) -> Iterator[int]:
        """Yield 0, 1, ... up to ``total - 1``, showing progress.

        Ends early, without an error, when the fit's time budget is spent.

        Raises:
            Interrupted: The user asked to stop.
        """
        ...

    def remaining(self) -> float | None:
        """Return the seconds that are left of the fit's time budget; ``None`` without one."""
        ...

    def log(self, name: str, value: float, step: int) -> None:
        """Record one point of a training curve."""
        ...


class Sample(NamedTuple):
    """What a generator returns; the harness checks it and makes a cohort of it.

    Attributes:
        table: Rows with the columns of the training cohort's schema; ``None`` from a generator of volumes.
        volumes: For each row one volume of shape (channels, x, y, z); may be a Python generator, so that
            large volumes stream. ``None`` from a generator of rows.
    """

    table: pd.DataFrame | None = None
    volumes: Iterable[np.ndarray] | None = None


class CohortSource(ABC):
    """Reads or makes a real cohort (or a phantom one that stands for it)."""

    card: ClassVar[Card]

    @abstractmethod
    def load(self, context: Context) -> Cohort:
        """Return the cohort.

        Raises:
            CohortError: It cannot be used; every problem found is listed.
        """


class Generator(ABC):
    """Learns from a training cohort and draws synthetic records."""

    card: ClassVar[Card]
    modalities: ClassVar[frozenset[str]] = BOTH
    """What it samples: ``TABLE``, ``VOLUME`` or ``BOTH``."""
    needs: ClassVar[frozenset[str] | None] = None
    """What the training cohort must have; ``None`` for all that it samples."""
    conditional: ClassVar[bool] = False
    """Whether :meth:`sample` takes ``given``: every row then has the given values, and all else follows them."""
    handles_missing: ClassVar[bool] = True
    """Whether it copes with missing values in the training table."""
    copies_training_data: ClassVar[bool] = False
    """Whether its samples hold training records as they are; reports then treat them like real ones."""
    persistent: ClassVar[bool] = True
    """Whether a fitted model can be saved; otherwise the harness keeps its samples only."""
    max_voxels: ClassVar[int | None] = None
    """Largest volume (voxels times channels) that it takes; ``None`` for any."""

    @abstractmethod
    def fit(self, train: Cohort, context: Context) -> None:
        """Learn from ``train``. What was learned goes into attributes that end in an underscore."""

    @abstractmethod
    def sample(self, n: int, seed: int, given: Mapping[str, Any] | None = None) -> Sample:
        """Draw ``n`` records; the same seed gives the same records.

        Args:
            n: Number of records.
            seed: Seed of every random draw.
            given: Column values that every record must have, each a number or a level of the schema; only where
                ``conditional``.
        """

    def save(self, folder: Path) -> None:
        """Write the fitted attributes (arrays, tables, cohorts and JSON-able values) into ``folder``."""
        persist.save_fitted(self, folder)

    def load(self, folder: Path) -> None:
        """Read what :meth:`save` wrote."""
        persist.load_fitted(self, folder)


@dataclass(frozen=True)
class Quantity:
    """A named quantity that a measurer reads off a volume."""

    name: str
    unit: str
    meaning: str


class Measurer(ABC):
    """Reads named quantities off a volume."""

    card: ClassVar[Card]
    version: ClassVar[int] = 1
    """Raised whenever the same volume gives other numbers."""
    channels: tuple[str, ...]
    """Channels that a volume must have; the first measurer whose channels are there is chosen."""
    automatic: ClassVar[bool] = True
    """Whether it may be chosen so; otherwise the configuration must name it."""
    quantities: tuple[Quantity, ...]
    """What it measures. Like the channels, it may follow from the parameters of an instance."""

    def check(self) -> None:  # noqa: B027 most tools need nothing
        """Make sure that it can work on this machine; asked once, before anything is fitted.

        Raises:
            PluginError: Something is absent; the message says what to install.
        """

    @abstractmethod
    def measure(self, volume: np.ndarray, geometry: Geometry) -> dict[str, float]:
        """Return every quantity of one volume of shape (channels, x, y, z); NaN for one that it does not show.

        Raises:
            NotMeasurable: The volume shows nothing that can be measured; the message says why.
        """


class Extractor(ABC):
    """Turns volumes into feature vectors."""

    card: ClassVar[Card]
    version: ClassVar[int] = 1
    """Raised whenever the same volumes give other features."""
    learns: ClassVar[bool] = False
    """Whether :meth:`fit` learns something; it then brings no weights, and its digest is known after the fit."""
    uses_composition: ClassVar[bool] = False
    """Whether it reads measured quantities where there are any."""

    def check(self, geometry: Geometry) -> None:  # noqa: B027 most extractors take any volume
        """Make sure that it can work on this machine and on such volumes; asked once, before anything is fitted.

        Raises:
            PluginError: Something is absent or does not fit; the message says what to do.
        """

    def fit(self, train: Volumes, composition: pd.DataFrame | None, context: Context) -> None:  # noqa: B027
        """Learn from the real training volumes; called once in a run, and only where ``learns``.

        What was learned goes into attributes that end in an underscore.

        Args:
            train: Volumes of the training subjects.
            composition: Quantities measured on them, a row a volume; ``None`` without a measurer.
            context: Progress, seed and device.
        """

    @abstractmethod
    def extract(self, volumes: Volumes, composition: pd.DataFrame | None = None) -> np.ndarray:
        """Return float64 features of shape (n, blocks, d): ``blocks`` independent feature spaces.

        Args:
            volumes: The volumes.
            composition: Quantities measured on them, a row a volume; ``None`` without a measurer.
        """

    @abstractmethod
    def digest(self, geometry: Geometry) -> str:
        """Return the sha256 of the weights, or of what was learned, as hexadecimal text.

        Args:
            geometry: Grid and channels of the volumes; weights may depend on them.
        """

    def save(self, folder: Path) -> None:
        """Write the fitted attributes (arrays, tables and JSON-able values) into ``folder``."""
        persist.save_fitted(self, folder)

    def load(self, folder: Path) -> None:
        """Read what :meth:`save` wrote."""
        persist.load_fitted(self, folder)


@dataclass(frozen=True)
class Output:
    """One number that a metric promises.

    Attributes:
        name: Name of the score, unique among all metrics.
        title: Name for readers.
        meaning: One sentence: what it says.
        blind: One sentence: what it cannot see.
        direction: ``higher`` or ``lower`` is better.
        ideal: Value of a perfect generator with unlimited samples.
        unit: Unit, empty for a plain number.
        kind: What it speaks of, where that is not the metric's own kind.
        range: Least and largest value that it can take, whatever the samples.
    """

    name: str
    title: str
    meaning: str
    blind: str
    direction: Literal["higher", "lower"]
    ideal: float
    unit: str = ""
    kind: Kind | None = None
    range: tuple[float, float] = (float("-inf"), float("inf"))


@dataclass(frozen=True)
class Score:
    """One computed number.

    Attributes:
        output: Name of the metric's output.
        value: The number; NaN with a reason where the input gives none.
        item: Column, pair of columns or quantity that a detail speaks of; empty for the headline.
        low: Lower end of the 95 % interval, NaN where there is no valid one.
        high: Upper end.
        method: How the interval was made.
        reason: Why the value is NaN.
        verdict: What the score amounts to in a word or two, where the metric decides that.
        note: What a reader should know beside it, such as why the verdict is what it is.
    """

    output: str
    value: float
    item: str = ""
    low: float = float("nan")
    high: float = float("nan")
    method: str = ""
    reason: str = ""
    verdict: str = ""
    note: str = ""

    @classmethod
    def of(cls, output: str, estimate: stats.Estimate, item: str = "") -> Score:
        """Make a score of an estimate with its interval."""
        return cls(output, estimate.value, item, estimate.low, estimate.high, estimate.method)


@dataclass(frozen=True)
class Response:
    """Records drawn with one column given.

    Attributes:
        column: The column.
        value: What it was given: a number or a level.
        evidence: The records, whose rows have that value, with measured quantities but no features. Among real people
            those nearest to a number; a record of several responses has one identifier in all of them.
    """

    column: str
    value: Any
    evidence: Evidence


@dataclass(frozen=True)
class Trial:
    """What a metric compares.

    Attributes:
        reference: Real subjects that no generator saw.
        synthetic: Samples under test, as many as ``reference`` has.
        train: Real subjects that the generators learned from.
        seed: Seed of every random draw in the metric.
        responses: Synthetic records at given values of swept columns, in the order of the sweep; empty where the
            generator takes no conditions, nothing is swept, or this is not its first draw.
    """

    reference: Evidence
    synthetic: Evidence
    train: Evidence
    seed: int
    responses: tuple[Response, ...] = ()
    _memo: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def schema(self) -> Schema:
        """Schema of all three."""
        return self.reference.cohort.schema

    def once(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """Return what ``make`` gives; made once for all metrics that score this trial and ask by the same key.

        For what several metrics need and no metric changes: points of the records in a common space, their
        nearest neighbours. It is kept as long as the trial is, so it must not grow with the square of the
        records.

        Args:
            key: Names the thing and every parameter that it depends on beside the trial.
            make: Makes it.
        """
        if key not in self._memo:
            self._memo[key] = make()
        return self._memo[key]


class Metric(ABC):
    """Compares synthetic records with real ones."""

    card: ClassVar[Card]
    version: ClassVar[int] = 1
    """Raised whenever the same input gives another number."""
    kind: ClassVar[Kind]
    needs: ClassVar[frozenset[str]]
    """Modalities that both sides must have."""
    needs_composition: ClassVar[bool] = False
    """Whether measured quantities are needed."""
    needs_responses: ClassVar[bool] = False
    """Whether records at given values are needed: :attr:`Trial.responses`."""
    null: ClassVar[Literal["pairs", "columns", "uniform", "noise", "copies"]]
    """Destroyed reference that marks the bad end: volumes permuted against rows; columns permuted; columns
    drawn uniformly; voxels drawn independently, and measured anew; training records copied."""
    null_draws: ClassVar[int] = 5
    """How many destroyed references are drawn; the null is their mean, its interval their range."""
    outputs: ClassVar[tuple[Output, ...]]

    @abstractmethod
    def scores(self, trial: Trial) -> Iterable[Score]:
        """Return one headline score for each output, and details with an ``item`` where useful."""


class Report(ABC):
    """Turns finished runs into files. It reads the runs' folders and nothing else."""

    card: ClassVar[Card]

    @abstractmethod
    def write(self, runs: Sequence[Run], folder: Path) -> Path:
        """Write the report into ``folder`` and return its main file."""
