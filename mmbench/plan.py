"""Turns a configuration and what it reads into cells: what will be fitted, sampled and scored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from types import MappingProxyType
from typing import Any

from mmbench import plugins, store
from mmbench.api import BOTH, Extractor, Generator, Measurer
from mmbench.cohort import Cohort, Geometry, Roles
from mmbench.config import Config
from mmbench.errors import ConfigError, PluginError, did_you_mean
from mmbench.inputs import Samples
from mmbench.sweep import Given, make_sweep

_PAIR = re.compile(r"^pair\(\s*(?P<table>[^(),]+?)\s*,\s*(?P<volume>[^(),]+?)\s*\)$")
USE = "use"
"""Key by which a generator of another label names its plug-in."""


@dataclass(frozen=True)
class Cell:
    """One fit with its samples, samples that exist already, or a pair of two other cells' samples.

    Attributes:
        id: Folder name.
        generator: Label in the configuration and in reports.
        plugin: Name of the generator plug-in, empty for a pair and for samples that exist already.
        params: Its parameters.
        fit_seed: Seed of the fit.
        components: Cells that give a pair its rows and its volumes.
        modalities: What it samples, sorted.
        copies: Whether its samples hold training records as they are.
        not_applicable: Why it cannot run on this cohort, empty if it can.
        recorded: Whether its samples exist already; ``generator`` is their name.
        conditional: Whether it draws records at given values of columns, rows with their volumes.
    """

    id: str
    generator: str
    plugin: str
    params: dict[str, Any]
    fit_seed: int
    components: tuple[str, ...]
    modalities: tuple[str, ...]
    copies: bool
    not_applicable: str = ""
    recorded: bool = False
    conditional: bool = False


@dataclass(frozen=True)
class Planned:
    """A metric, measurer or extractor with its parameters."""

    name: str
    params: dict[str, Any]

    def build(self, kind: str) -> Any:
        """Return the plug-in of a kind; see :func:`mmbench.plugins.build`."""
        return plugins.build(kind, self.name, self.params)


@dataclass(frozen=True)
class Plan:
    """Everything that a run will do.

    Attributes:
        cells: Fits, samples that exist already, and pairs.
        metrics: What is computed.
        sample_seeds: Draws from each fit.
        measurer: Reads quantities off volumes.
        extractor: Makes feature vectors of volumes.
        sweep: What conditional cells are given; empty where none is conditional or nothing asks for it.
    """

    cells: tuple[Cell, ...]
    metrics: tuple[Planned, ...]
    sample_seeds: tuple[int, ...]
    measurer: Planned | None
    extractor: Planned | None
    sweep: tuple[Given, ...] = ()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        """Read what ``dataclasses.asdict`` made and JSON kept."""
        cells = [
            Cell(**{**cell, "components": tuple(cell["components"]), "modalities": tuple(cell["modalities"])})
            for cell in data["cells"]
        ]
        metrics = [Planned(**metric) for metric in data["metrics"]]
        seeds = tuple(data["sample_seeds"])
        measurer, extractor = (data[role] and Planned(**data[role]) for role in ("measurer", "extractor"))
        sweep = tuple(Given(**given) for given in data.get("sweep", ()))
        return cls(tuple(cells), tuple(metrics), seeds, measurer, extractor, sweep)


def make_plan(
    config: Config,
    cohort: Cohort,
    samples: Mapping[str, Samples] = MappingProxyType({}),
    roles: Roles | None = None,
) -> Plan:
    """Return the plan of a run on a cohort.

    Args:
        config: The configuration.
        cohort: The real cohort.
        samples: Samples that exist already, by name.
        roles: Who of the cohort does what; where it is not known yet, everybody does everything.

    Raises:
        PluginError: A plug-in is unknown or a parameter does not fit.
        ConfigError: A pair is malformed, the sweep does not fit the table, or nothing is left to do.
    """
    if not config.generators and not samples:
        raise ConfigError("generators: name at least one; `mmbench list generators` shows them.")
    recorded = {name: _recorded_cell(name, records, config) for name, records in samples.items()}
    cells = {cell.id: cell for cell in recorded.values()}
    for seed in config.fit_seeds:
        for label, params in config.generators.items():
            _add(cells, label, params, seed, config.generators, recorded, cohort)
    chosen = {name: {} for name in plugins.names("metrics")} if config.metrics is None else config.metrics
    metrics = tuple(Planned(name, dict(params)) for name, params in chosen.items())
    for metric in metrics:
        metric.build("metrics")
    measurer = choose_measurer(config.measurer, cohort)
    extractor = choose_extractor(config.extractor, cohort)
    train, reference = (
        (cohort, len(cohort)) if roles is None else (cohort.take(roles.train), len(roles.reference))
    )
    sweep = make_sweep(config.sweep, train, reference)
    asked = any(plugins.load("metrics", metric.name).needs_responses for metric in metrics)
    if not asked or measurer is None or not any(cell.conditional for cell in cells.values()):
        sweep = ()
    return Plan(tuple(cells.values()), metrics, config.sample_seeds, measurer, extractor, sweep)


def _recorded_cell(name: str, samples: Samples, config: Config) -> Cell:
    # Whatever fits there were made these records: they are one fit's, however often the generators are fitted.
    seed = config.fit_seeds[0]
    modalities = tuple(sorted(samples.cohort.modalities))
    return Cell(_cell_id(name, seed), name, "", {}, seed, (), modalities, samples.copies, recorded=True)


def _cell_id(label: str, seed: int) -> str:
    return f"{re.sub(r'[^A-Za-z0-9._+-]+', '_', label).strip('_')}.fit{seed}"


def choose_measurer(wanted: str | Mapping[str, Mapping[str, Any]] | None, cohort: Cohort) -> Planned | None:
    """Return the measurer for a cohort: the one wanted, or the first whose channels the volumes have.

    Args:
        wanted: ``auto``, a name, a name with parameters, or ``None``.
        cohort: The cohort.

    Raises:
        ConfigError: More than one is wanted.
        PluginError: The wanted one is unknown, needs other channels, or cannot work on this machine.
    """
    if cohort.volumes is None or wanted is None:
        return None
    channels = cohort.volumes.geometry.channels
    if wanted == "auto":
        for name in plugins.names("measurers"):
            plugin = plugins.load("measurers", name)
            if issubclass(plugin, Measurer) and plugin.automatic and set(plugin.channels) <= set(channels):
                return Planned(name, {})
        return None
    chosen = _one_of("measurer", wanted)
    measurer = chosen.build("measurers")
    if not isinstance(measurer, Measurer):
        raise PluginError(f"measurer: '{chosen.name}' extracts features; it measures no quantities.")
    if not set(measurer.channels) <= set(channels):
        raise PluginError(
            f"measurer '{chosen.name}' needs the channels {measurer.channels}; the cohort has {channels}."
        )
    measurer.check()
    return chosen


def choose_extractor(wanted: str | Mapping[str, Mapping[str, Any]] | None, cohort: Cohort) -> Planned | None:
    """Return the extractor of a cohort's image features; ``None`` where there are no volumes or none is wanted.

    Args:
        wanted: A name, a name with parameters, or ``None``.
        cohort: The cohort.

    Raises:
        ConfigError: More than one is wanted.
        PluginError: The wanted one is unknown, gives no features, or cannot work on this machine or such volumes.
    """
    if cohort.volumes is None or wanted is None:
        return None
    chosen = _one_of("extractor", wanted)
    extractor = chosen.build("measurers")
    if not isinstance(extractor, Extractor):
        raise PluginError(f"extractor: '{chosen.name}' measures quantities; it gives no feature vectors.")
    extractor.check(cohort.volumes.geometry)
    return chosen


def _one_of(role: str, wanted: str | Mapping[str, Mapping[str, Any]]) -> Planned:
    named = {wanted: {}} if isinstance(wanted, str) else wanted
    if len(named) != 1:
        raise ConfigError(f"{role}: {', '.join(named) or 'none'} given; name one, or null for none.")
    [(name, params)] = named.items()
    return Planned(name, dict(params))


def _add(
    cells: dict[str, Cell],
    label: str,
    params: Mapping[str, Any],
    seed: int,
    generators: Mapping[str, Mapping[str, Any]],
    recorded: Mapping[str, Cell],
    cohort: Cohort,
) -> Cell:
    if label in recorded:
        return recorded[label]
    cell_id = _cell_id(label, seed)
    if cell_id in cells:
        return cells[cell_id]
    if label.startswith("pair("):
        cells[cell_id] = cell = _pair_cell(cells, label, cell_id, params, seed, generators, recorded, cohort)
        return cell
    plugin_name = str(params.get(USE, label))
    values = {name: value for name, value in params.items() if name != USE}
    try:
        plugin = plugins.load("generators", plugin_name)
    except PluginError as error:
        if label.startswith("pair"):
            raise ConfigError(f"generators: '{label}' must read pair(TABULAR, VOLUME).") from None
        raise PluginError(f"generators: {error}") from None
    generator: Generator = plugin(**plugins.checked(plugin, values, f"generators.{label}"))
    modalities = generator.modalities & cohort.modalities
    cells[cell_id] = cell = Cell(
        cell_id,
        label,
        plugin_name,
        values,
        seed,
        (),
        tuple(sorted(modalities)),
        generator.copies_training_data,
        _why_not(generator, cohort),
        conditional=generator.conditional and modalities == BOTH,
    )
    return cell


def _pair_cell(
    cells: dict[str, Cell],
    label: str,
    cell_id: str,
    params: Mapping[str, Any],
    seed: int,
    generators: Mapping[str, Mapping[str, Any]],
    recorded: Mapping[str, Cell],
    cohort: Cohort,
) -> Cell:
    match = _PAIR.match(label)
    if not match:
        raise ConfigError(f"generators: '{label}' must read pair(TABULAR, VOLUME).")
    if params:
        raise ConfigError(f"generators.{label}: a pair takes no parameters; give them to its two generators.")
    parts = []
    for modality, name in match.groupdict().items():
        known = {*generators, *recorded, *plugins.names("generators")}
        if name not in known:
            raise ConfigError(f"generators: '{label}': no generator '{name}'. {did_you_mean(name, known)}")
        part = _add(cells, name, generators.get(name, {}), seed, generators, recorded, cohort)
        if modality not in part.modalities and not part.not_applicable:
            raise ConfigError(
                f"generators: '{label}': '{name}' samples no {modality}; it cannot stand there."
            )
        parts.append(part)
    return Cell(
        cell_id,
        label,
        "",
        {},
        seed,
        tuple(part.id for part in parts),
        ("table", "volume"),
        any(part.copies for part in parts),
        next((part.not_applicable for part in parts if part.not_applicable), ""),
    )


def _why_not(generator: Generator, cohort: Cohort) -> str:
    needs = generator.modalities if generator.needs is None else generator.needs
    if absent := needs - cohort.modalities:
        return f"needs {' and '.join(sorted(needs))}; the cohort has no {' and '.join(sorted(absent))}"
    if not generator.handles_missing and cohort.table is not None and cohort.table.isna().any(axis=None):
        return "does not cope with missing values"
    if "volume" in generator.modalities and cohort.volumes is not None and generator.max_voxels is not None:
        voxels = 1
        for size in cohort.volumes.geometry.full_shape:
            voxels *= size
        if voxels > generator.max_voxels:
            return f"takes volumes of at most {generator.max_voxels} voxels; these have {voxels}"
    return ""


def fit_key(cell: Cell, data_key: str, device: str, threads: int, budget: float | None) -> str:
    """Return the key of a cell's fit."""
    plugin = plugins.load("generators", cell.plugin)
    return store.key(
        step="fit",
        data=data_key,
        plugin=cell.plugin,
        params=cell.params,
        code=plugins.code_digest(plugin),
        requires={name: version(name) for name in ("mmbench", "numpy", "torch")},
        seed=cell.fit_seed,
        device=device,
        threads=threads,
        budget=budget,
    )


def composition_key(data_key: str, measurer: Planned | None) -> str:
    """Return the key of measuring quantities on some records."""
    return store.key(step="composition", data=data_key, measurer=_identity("measurers", measurer))


def extractor_key(extractor: Planned, geometry: Geometry, train_key: str, device: str, threads: int) -> str:
    """Return the key of making an extractor ready, known before anything is fitted.

    Args:
        extractor: The extractor; weights that it brings are part of the key.
        geometry: Grid and channels of the volumes.
        train_key: Key of the real training volumes and of what was measured on them.
        device: Device of the fit.
        threads: Threads of the fit; sums depend on their order.

    Raises:
        PluginError: Its weights cannot be read.
    """
    built: Extractor = extractor.build("measurers")
    known = [train_key, device, threads] if built.learns else [built.digest(geometry)]
    return store.key(step="extractor", extractor=_identity("measurers", extractor), known=known)


def features_key(data_key: str, extractor: Planned | None, digest: str, composition: str) -> str:
    """Return the key of extracting features of some records.

    Args:
        data_key: Key of the records.
        extractor: The extractor.
        digest: The sha256 of its weights, fitted or brought.
        composition: Key of the quantities measured on the records.
    """
    uses = extractor is not None and plugins.load("measurers", extractor.name).uses_composition
    return store.key(
        step="features",
        data=data_key,
        extractor=_identity("measurers", extractor),
        digest=digest,
        composition=composition if uses else "",
    )


def _identity(kind: str, planned: Planned | None) -> list[Any]:
    if planned is None:
        return []
    plugin = plugins.load(kind, planned.name)
    return [planned.name, planned.params, plugin.version, plugins.code_digest(plugin)]


def metrics_key(metrics: tuple[Planned, ...]) -> str:
    """Return the key of a set of metrics."""
    return store.key(step="metrics", metrics=[_identity("metrics", metric) for metric in metrics])
