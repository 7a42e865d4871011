"""A fitted generator on disk, which can be sampled long after its run.

A run keeps one in ``cells/<cell>/model``. Beside what the generator saved lies a card (``mmbench.json``) that says what
generator it is, with which parameters, and what its records look like, so that the folder alone is enough: it may be
copied elsewhere and needs neither the run nor the cohort that it was fitted on.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmbench import plugins, store
from mmbench.api import Generator
from mmbench.cohort import Cohort
from mmbench.errors import ConfigError, MmbenchError, UsageError, did_you_mean
from mmbench.files import read_json, write_json
from mmbench.plan import Cell, Plan
from mmbench.schema import Schema
from mmbench.store import MODEL, Run
from mmbench.volumes import Geometry

CARD = "mmbench.json"
FORMAT = 1


@dataclass(frozen=True)
class FittedModel:
    """A fitted generator that is not loaded yet.

    Attributes:
        folder: Its folder.
        cell: The fit: label, plug-in, parameters, seed, what is sampled.
        schema: Columns of the table that it was fitted on.
        geometry: Grid and channels of the volumes that it was fitted on, ``None`` without volumes.
        sha256: The sha256 over the files that the generator saved, as hexadecimal text.
    """

    folder: Path
    cell: Cell
    schema: Schema
    geometry: Geometry | None
    sha256: str

    @property
    def plugin(self) -> type[Generator]:
        """Class of the generator.

        Raises:
            UsageError: It is not installed, or cannot be imported.
        """
        name = self.cell.plugin
        if name not in plugins.names("generators"):
            raise UsageError(
                f"{self.folder}: needs the generator '{name}', which is not installed; give its --plugin file."
            )
        found: type[Generator] = plugins.load("generators", name)
        return found

    def load(self) -> Generator:
        """Return the fitted generator.

        Raises:
            UsageError: It cannot be built or loaded.
        """
        plugin = self.plugin
        generator = plugin(
            **plugins.checked(plugin, self.cell.params, f"{self.folder}: generator '{self.cell.plugin}'")
        )
        try:
            generator.load(self.folder)
        except Exception as error:  # whatever a plug-in, safetensors or a file raises
            detail = str(error) if isinstance(error, MmbenchError) else f"{type(error).__name__}: {error}"
            raise UsageError(
                f"{self.folder}: the model cannot be loaded ({detail}); it is damaged, or '{self.cell.plugin}' has "
                "changed since it was fitted: fit it anew."
            ) from error
        return generator


def write_card(folder: Path, cell: Cell, train: Cohort) -> None:
    """Write the card of a model beside what its generator saved.

    Args:
        folder: Folder of the model, complete but for the card.
        cell: The fit.
        train: What it was fitted on; the card has its columns and its grid, no record.
    """
    geometry = None if train.volumes is None else train.volumes.geometry.to_dict()
    card = {
        "format": FORMAT,
        "cell": dataclasses.asdict(cell),
        "schema": train.schema.to_dict(),
        "geometry": geometry,
        "sha256": _digest(folder),
    }
    write_json(folder / CARD, card)


def open_model(path: Path, generator: str | None = None, fit_seed: int | None = None) -> FittedModel:
    """Return the model at ``path``.

    Args:
        path: A run, the folder of one of its cells, or the folder of a model.
        generator: Label of the generator, in a run; not needed where only one has a model.
        fit_seed: Seed of the fit, in a run; by default the first whose model is kept.

    Raises:
        UsageError: There is no such model, or it is damaged.
    """
    if not path.exists():
        raise UsageError(
            f"{path}: no such folder; expected a run, or the folder of a model: RUN/cells/CELL/model."
        )
    if (path / "run.json").exists():
        run = Run.open(path)
        return _of_run(run, _chosen(run, generator, fit_seed))
    if generator is not None or fit_seed is not None:
        raise UsageError(f"{path}: no run; --generator and --fit-seed choose among the models of a run.")
    folder = path / MODEL if (path / MODEL).is_dir() else path
    if (folder / CARD).exists():
        return _described(folder)
    raise UsageError(
        f"{path}: no fitted model here ({CARD} is absent); expected a run, or the folder of a model: "
        "RUN/cells/CELL/model."
    )


def _chosen(run: Run, generator: str | None, fit_seed: int | None) -> Cell:
    cells = Plan.from_dict(run.info["plan"]).cells
    kept = [cell for cell in cells if _folder(run, cell).is_dir()]
    if generator is None:
        labels = list(dict.fromkeys(cell.generator for cell in kept))
        if not labels:
            raise UsageError(
                f"{run.folder}: keeps no fitted model; " + "; ".join(_why_none(run, c) for c in cells)
            )
        if len(labels) > 1:
            raise UsageError(
                f"{run.folder}: keeps models of {len(labels)} generators; choose one with --generator: "
                f"{', '.join(labels)}."
            )
        [generator] = labels
    of_label = {cell.fit_seed: cell for cell in cells if cell.generator == generator}
    if not of_label:
        known = did_you_mean(generator, {cell.generator for cell in cells})
        raise UsageError(f"{run.folder}: no generator '{generator}' in this run. {known}")
    if fit_seed is None:
        first = next(iter(of_label.values()))
        return next((cell for cell in kept if cell.generator == generator), first)
    if fit_seed not in of_label:
        seeds = ", ".join(map(str, of_label))
        raise UsageError(
            f"{run.folder}: '{generator}' was not fitted with seed {fit_seed}; fit seeds: {seeds}."
        )
    return of_label[fit_seed]


def _of_run(run: Run, cell: Cell) -> FittedModel:
    folder = _folder(run, cell)
    if not folder.is_dir():
        raise UsageError(f"{run.folder}: {_why_none(run, cell)}.")
    return _described(folder)


def _folder(run: Run, cell: Cell) -> Path:
    return run.cell_folder(cell.id) / MODEL


def _why_none(run: Run, cell: Cell) -> str:
    """Return why a cell has no model, as a sentence without its end."""
    if cell.components:
        return f"'{cell.generator}' is a pair and has no model of its own; sample its generators one by one"
    if cell.recorded:
        return f"'{cell.generator}' is samples that existed before the run; no model made them here"
    what = f"'{cell.generator}', fit seed {cell.fit_seed}, has no model"
    if cell.not_applicable:
        return f"{what}: {cell.not_applicable}"
    if not plugins.load("generators", cell.plugin).persistent:
        return f"{what}: {cell.plugin} cannot save one, so that only its samples are kept"
    record = run.status(cell.id)
    reason = f": {record['reason']}" if record["reason"] else ""
    return f"{what} ({record['status']}{reason}); go on with mmbench run --resume {run.folder}"


def _described(folder: Path) -> FittedModel:
    """Return the model of a folder that has a card.

    Raises:
        UsageError: The card cannot be read, or the files are not those that it speaks of.
    """
    path = folder / CARD
    try:
        card: dict[str, Any] = read_json(path)
        if card["format"] != FORMAT:
            raise UsageError(f"{path}: a model of format {card['format']}, expected {FORMAT}; fit it anew.")
        cell = card["cell"]
        cell = Cell(
            **{**cell, "components": tuple(cell["components"]), "modalities": tuple(cell["modalities"])}
        )
        geometry = None if card["geometry"] is None else Geometry.from_dict(card["geometry"])
        model = FittedModel(folder, cell, Schema.from_dict(card["schema"]), geometry, str(card["sha256"]))
    except (OSError, KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        raise UsageError(f"{path}: cannot be read ({error!r}); the model is damaged: fit it anew.") from None
    if (found := _digest(folder)) != model.sha256:
        raise UsageError(
            f"{folder}: the files have the sha256 {found[:12]}, but {CARD} records {model.sha256[:12]}: one is damaged, "
            "absent or changed; copy the model again, or fit it anew."
        )
    return model


def _digest(folder: Path) -> str:
    """Return the sha256 over names and content of the files that a generator saved."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if name not in (CARD, store.STEP):
            with path.open("rb") as file:
                digest.update(f"{name}\n{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()
