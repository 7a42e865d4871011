"""What CTGAN and TVAE share: sdv's single-table synthesizers behind the contract."""

from __future__ import annotations

import importlib
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd

from mmbench.api import Card, Cohort, Context, Generator, PluginError, Sample, Schema

_TABLE = "cohort"
_MODULES = {"CTGANSynthesizer": "ctgan.synthesizers.ctgan", "TVAESynthesizer": "ctgan.synthesizers.tvae"}


def card(summary: str, reference: str) -> Card:
    """Return the card of an sdv synthesizer."""
    return Card(summary, reference, "BUSL-1.1 (sdv, ctgan: source-available)", ("sdv",))


class SdvGenerator(Generator):
    """A single-table synthesizer of sdv; metadata is made from the schema.

    sdv keeps fitted models by pickle only, so they are not kept: ``persistent`` is false and the harness
    stores the samples.
    """

    modalities = frozenset({"table"})
    persistent = False
    synthesizer_class: str

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Return the keyword arguments of the synthesizer."""

    def fit(self, train: Cohort, context: Context) -> None:
        try:
            sdv = importlib.import_module("sdv.single_table")
            metadata = importlib.import_module("sdv.metadata").Metadata
        except ImportError as error:
            raise PluginError(f"sdv is not installed ({error}): pip install 'mmbench[sdv]'") from error
        self._schema = train.schema
        frame = to_sdv(train.rows, train.schema)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._model = getattr(sdv, self.synthesizer_class)(
                metadata.load_from_dict(_metadata(train.schema)),
                enforce_min_max_values=True,
                enforce_rounding=True,
                **self.options(),
            )
            with _epochs(_MODULES[self.synthesizer_class], context):
                # sdv 2 takes a table by name and refuses a bare frame; sdv 1 the other way round.
                self._model.fit({_TABLE: frame} if _major_version() >= 2 else frame)
        for epoch, losses in self._model.get_loss_values().groupby("Epoch"):
            for name in losses.columns.difference(["Epoch", "Batch"]):
                context.log(
                    name.lower().replace(" ", "_"), float(losses[name].astype(float).mean()), int(epoch)
                )

    def sample(self, n: int, seed: int, given: Mapping[str, Any] | None = None) -> Sample:
        # sdv draws from a fixed seed of its own that goes on from call to call, and has no public way to set it.
        self._model.reset_sampling()
        self._model._set_random_state(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            drawn = self._model.sample(num_rows=n)
        return Sample(from_sdv(drawn[_TABLE] if isinstance(drawn, dict) else drawn, self._schema))


def to_sdv(frame: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """Return a table in the dtypes that sdv expects: text for levels, NaN or None for missing."""
    columns = {}
    for column in schema:
        values = frame[column.name]
        numeric_levels = column.kind == "ordinal" and all(
            isinstance(level, int | float) for level in column.levels
        )
        if not column.discrete or numeric_levels:
            columns[column.name] = values.astype(float).to_numpy()
        else:
            columns[column.name] = values.astype(object).map(str, na_action="ignore").to_numpy(object)
    return pd.DataFrame(columns)


def from_sdv(frame: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """Return sdv's table with numeric ordinals snapped to their nearest level and whole numbers rounded."""
    result = frame.copy()
    for column in schema:
        values = result[column.name]
        if column.kind == "ordinal" and all(isinstance(level, int | float) for level in column.levels):
            levels = np.array([float(level) for level in column.levels])
            numbers = values.to_numpy(float)
            nearest = np.abs(np.nan_to_num(numbers)[:, None] - levels).argmin(axis=1)
            result[column.name] = np.where(np.isnan(numbers), np.nan, levels[nearest])
        elif column.kind == "integer":
            result[column.name] = values.astype(float).round()
    return result


def _metadata(schema: Schema) -> dict[str, Any]:
    columns = {}
    for column in schema:
        numeric_levels = column.kind == "ordinal" and all(
            isinstance(level, int | float) for level in column.levels
        )
        numeric = not column.discrete or numeric_levels
        columns[column.name] = {"sdtype": "numerical" if numeric else "categorical"}
    return {"tables": {_TABLE: {"columns": columns}}, "relationships": [], "METADATA_SPEC_VERSION": "V1"}


def _major_version() -> int:
    return int(importlib.import_module("importlib.metadata").version("sdv").split(".")[0])


@contextmanager
def _epochs(module_name: str, context: Context) -> Iterator[None]:
    """Put the harness's step iterator where ctgan would draw its own progress bar over epochs.

    It is the one place at which ctgan lets go once an epoch, hence progress, time budget and a clean stop.
    """
    module: Any = importlib.import_module(module_name)

    class Epochs:
        def __init__(self, epochs: range, **_: Any) -> None:
            self._epochs = epochs

        def __iter__(self) -> Iterator[int]:
            return context.steps(len(self._epochs), "epochs")

        def set_description(self, text: str) -> None:
            """Take ctgan's description line, which the loss values repeat."""

    original = module.tqdm
    module.tqdm = Epochs
    try:
        yield
    finally:
        module.tqdm = original
