"""The table as networks see it: one normal score, one one-hot vector and one missingness bit at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from mmbench.api import CohortError, Column, Schema


@dataclass(frozen=True)
class Field:
    """How one column of the table is coded.

    Attributes:
        column: The column.
        values: Sorted training values of a number or ordinal rank, float64; empty for other columns.
        has_missing: Whether some training values are missing, so that a bit says which.
    """

    column: Column
    values: np.ndarray
    has_missing: bool

    @property
    def ordered(self) -> bool:
        """Whether the column is coded as a normal score; otherwise one-hot."""
        return self.column.ordered

    @property
    def width(self) -> int:
        """Numbers that hold a value, without the missingness bit."""
        return 1 if self.ordered else len(self.column.levels)

    @property
    def low(self) -> float:
        """Smallest value that may come out: of training and schema the narrower."""
        smallest = float(self.values[0])
        return smallest if self.column.minimum is None else max(smallest, self.column.minimum)

    @property
    def high(self) -> float:
        """Largest value that may come out."""
        largest = float(self.values[-1])
        return largest if self.column.maximum is None else min(largest, self.column.maximum)

    def score(self, values: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """Return normal scores of values, float64.

        Equal training values share a range of ranks, and ``uniform`` in [0, 1) chooses among a value's own
        (the distributional transform, Rueschendorf 2009, J. Stat. Plan. Inference 139): rounding and heaped values leave
        no steps, and :meth:`value` still gives the value back exactly.
        """
        n = len(self.values)
        left = np.searchsorted(self.values, values, side="left")
        right = np.searchsorted(self.values, values, side="right")
        # A value between training values lies between their ranks.
        first = np.minimum(left, right - 1) + 0.5
        last = np.maximum(left, right - 1) + 0.5
        ranks = first + (last - first) * uniform
        return ndtri(np.clip(ranks / n, 0.5 / n, 1 - 0.5 / n))

    def value(self, scores: np.ndarray) -> np.ndarray:
        """Return the values of normal scores, rounded and within range."""
        n = len(self.values)
        raw = np.interp(ndtr(scores) * n - 0.5, np.arange(n), self.values)
        if self.column.kind == "continuous":
            rounded = raw if self.column.decimals is None else np.round(raw, self.column.decimals)
        else:
            rounded = np.round(raw)
        return np.clip(rounded, self.low, self.high)


@dataclass(frozen=True)
class TableCodec:
    """Table rows to numbers and back.

    A derived column is coded like any other, so that a model can be told its value; what is decoded is
    computed anew from its formula.

    Attributes:
        schema: Schema of the table.
        fields: How each column is coded, in the schema's order.
    """

    schema: Schema
    fields: tuple[Field, ...]

    @classmethod
    def fit(cls, table: pd.DataFrame, schema: Schema) -> TableCodec:
        """Learn the distribution of each column.

        Raises:
            CohortError: A column has no value at all.
        """
        codes = dict(zip(schema.names, schema.codes(table).T, strict=True))
        fields = []
        for column in schema:
            present = codes[column.name][~np.isnan(codes[column.name])]
            if not len(present):
                raise CohortError(
                    f"column '{column.name}': every training value is missing; drop the column."
                )
            values = np.sort(present) if column.ordered else np.empty(0)
            fields.append(Field(column, values, len(present) < len(table)))
        return cls(schema, tuple(fields))

    def encode(self, table: pd.DataFrame, uniform: np.ndarray) -> list[np.ndarray]:
        """Return each field of a table as float32 of shape (n, width + 1).

        The last number is 1 where the value is missing; the others are then 0.

        Args:
            table: Rows with the schema's columns.
            uniform: Chooses ranks among equal values: numbers in [0, 1) of shape (n, fields).
        """
        codes = self.schema.codes(table)
        encoded = []
        for place, field in enumerate(self.fields):
            values = codes[:, place]
            missing = np.isnan(values)
            array = np.zeros((len(table), field.width + 1), dtype=np.float32)
            array[:, -1] = missing
            if field.ordered:
                array[~missing, 0] = field.score(values[~missing], uniform[~missing, place])
            else:
                array[np.flatnonzero(~missing), values[~missing].astype(int)] = 1
            encoded.append(array)
        return encoded

    def decode(
        self, decoded: Sequence[np.ndarray], uniform: np.ndarray, present: np.ndarray | None = None
    ) -> pd.DataFrame:
        """Return the table that decoder outputs stand for.

        Args:
            decoded: For each field shape (n, width + 1): normal scores or logits of the levels, then the logit of
                missingness.
            uniform: Chooses levels and what is missing: numbers in [0, 1) of shape (n, fields, 2).
            present: True where a value must be there, shape (n, fields); ``None`` for nowhere.
        """
        columns: dict[str, Any] = {}
        for place, (field, output) in enumerate(zip(self.fields, decoded, strict=True)):
            if field.column.formula is not None:
                continue
            array = output.astype(float)
            if field.ordered:
                codes = field.value(array[:, 0])
            else:
                logits = array[:, :-1] - array[:, :-1].max(axis=1, keepdims=True)
                cumulative = np.cumsum(np.exp(logits), axis=1)
                codes = (uniform[:, place, :1] * cumulative[:, -1:] > cumulative).sum(axis=1).astype(float)
            missing = (uniform[:, place, 1] < 1 / (1 + np.exp(-array[:, -1]))) & field.has_missing
            if present is not None:
                missing &= ~present[:, place]
            column = field.column
            if column.discrete:
                columns[column.name] = pd.Categorical.from_codes(
                    np.where(missing, -1, codes).astype(int),
                    categories=pd.Index(list(column.levels)),
                    ordered=column.kind == "ordinal",
                )
            else:
                columns[column.name] = np.where(missing, np.nan, codes)
        return self.schema.derive(pd.DataFrame(columns, index=pd.RangeIndex(len(uniform))))

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Return for each column of numbers the training range, half as wide again."""
        return {
            field.column.name: (
                1.25 * field.values[0] - 0.25 * field.values[-1],
                1.25 * field.values[-1] - 0.25 * field.values[0],
            )
            for field in self.fields
            if not field.column.discrete
        }

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able form."""
        return {
            "schema": self.schema.to_dict(),
            "fields": [
                {"column": f.column.name, "values": f.values.tolist(), "has_missing": f.has_missing}
                for f in self.fields
            ],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TableCodec:
        """Read what :meth:`to_dict` returned."""
        schema = Schema.from_dict(data["schema"])
        fields = tuple(
            Field(schema[entry["column"]], np.array(entry["values"], dtype=float), entry["has_missing"])
            for entry in data["fields"]
        )
        return cls(schema, fields)
