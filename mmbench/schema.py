"""The schema of a clinical table: what each column holds, and the one place that makes a table obey it."""

from __future__ import annotations

import ast
import dataclasses
import graphlib
import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from mmbench.errors import CohortError, ConfigError, did_you_mean

Kind = Literal["continuous", "integer", "ordinal", "categorical", "boolean"]
Level = str | float | bool

MAX_ORDINAL_LEVELS = 10
MAX_CATEGORICAL_LEVELS = 50
MAX_DECIMALS = 6
MAX_NUMBER = 1e300


@dataclass(frozen=True)
class Column:
    """One column of a clinical table.

    Attributes:
        name: Column name.
        kind: ``continuous``, ``integer`` (whole numbers), ``ordinal`` (ordered levels), ``categorical``
            (unordered levels) or ``boolean``.
        unit: Unit of the values, ``None`` where there is none.
        minimum: Smallest allowed value; continuous and integer columns only.
        maximum: Largest allowed value; continuous and integer columns only.
        levels: Allowed levels, in order for an ordinal column.
        decimals: Recorded decimals of a continuous column.
        missing: Whether values may be missing.
        formula: Arithmetic expression over other columns, for a derived column such as
            ``weight_kg / (height_cm / 100) ** 2``.
        description: What the column holds.
    """

    name: str
    kind: Kind
    unit: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    levels: tuple[Level, ...] = ()
    decimals: int | None = None
    missing: bool = False
    formula: str | None = None
    description: str = ""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ConfigError(
                f"column '{self.name}': unknown kind '{self.kind}'. {did_you_mean(self.kind, get_args(Kind))}"
            )
        if self.kind == "boolean" and not self.levels:
            object.__setattr__(self, "levels", (False, True))
        if self.discrete and not self.levels:
            raise ConfigError(f"column '{self.name}': a column of kind {self.kind} needs its levels.")
        if len(set(self.levels)) != len(self.levels):
            raise ConfigError(f"column '{self.name}': levels are repeated: {list(self.levels)}.")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ConfigError(
                f"column '{self.name}': minimum ({self.minimum}) must be <= maximum ({self.maximum})."
            )

    @property
    def discrete(self) -> bool:
        """Whether the column has levels (ordinal, categorical, boolean) and not numbers."""
        return self.kind in ("ordinal", "categorical", "boolean")

    @property
    def ordered(self) -> bool:
        """Whether values have an order: numbers and ordinal levels."""
        return self.kind in ("continuous", "integer", "ordinal")

    @property
    def label(self) -> str:
        """Name with unit, for axes and tables."""
        return f"{self.name} [{self.unit}]" if self.unit else self.name


@dataclass(frozen=True)
class Schema:
    """The columns of a clinical table, in order."""

    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        names = self.names
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ConfigError(f"schema: column names are repeated: {', '.join(repeated)}.")
        for column in self.derived:
            _check_formula(column, self.columns)
        try:
            self._derivation()
        except graphlib.CycleError as error:
            raise ConfigError(
                f"schema: formulas go round in a circle: {' -> '.join(error.args[1])}."
            ) from None

    def __iter__(self) -> Iterator[Column]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    def __getitem__(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    @property
    def names(self) -> list[str]:
        """Column names in order."""
        return [column.name for column in self.columns]

    @property
    def derived(self) -> list[Column]:
        """Columns that follow from others by a formula."""
        return [column for column in self.columns if column.formula is not None]

    def coerce(self, frame: pd.DataFrame, where: str = "table") -> pd.DataFrame:
        """Return ``frame`` with the schema's columns, order and dtypes.

        Continuous and integer columns become float64, the others ``pandas.Categorical`` over the schema's
        levels. The index is kept.

        Args:
            frame: Table with at least the schema's columns; strings are parsed.
            where: What the table is, for messages.

        Raises:
            CohortError: A column is absent, or a value is no number, no whole number, not among the levels,
                or missing where it may not be. All problems are listed.
        """
        problems = [f"{where}: column '{c.name}' is absent." for c in self.columns if c.name not in frame]
        result = {}
        for column in self.columns:
            if column.name in frame:
                values, complaints = _coerce_column(frame[column.name], column)
                result[column.name] = values
                problems += [f"{where}: column '{column.name}', {text}" for text in complaints]
        if problems:
            raise CohortError(problems)
        return pd.DataFrame(result, index=frame.index, columns=self.names)

    def derive(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return ``frame`` with every derived column computed anew from its formula."""
        result = frame.copy()
        for column in self._derivation():
            with np.errstate(all="ignore"):
                values = np.broadcast_to(_evaluate(_parse(column.formula or ""), result), len(result)).copy()
            # Where the formula has no value, as in a division by zero, there is none.
            values[~np.isfinite(values)] = np.nan
            decimals = 0 if column.kind == "integer" else column.decimals
            result[column.name] = values if decimals is None else np.round(values, decimals)
        return result[self.names]

    def _derivation(self) -> list[Column]:
        """Return the derived columns in an order in which each follows those that it is made of."""
        parts = {column.name: _names_in(_parse(column.formula or "")) for column in self.derived}
        return [self[name] for name in graphlib.TopologicalSorter(parts).static_order() if name in parts]

    def codes(self, frame: pd.DataFrame) -> np.ndarray:
        """Return a table as numbers, float64 of shape (n, columns).

        Numbers stay as they are, levels become their position in the schema, missing values NaN.
        """
        arrays = []
        for column in self.columns:
            if column.discrete:
                codes = pd.Categorical(frame[column.name], categories=list(column.levels)).codes
                arrays.append(np.where(codes < 0, np.nan, codes.astype(float)))
            else:
                arrays.append(frame[column.name].to_numpy(float))
        return np.column_stack(arrays) if arrays else np.empty((len(frame), 0))

    def to_dict(self) -> list[dict[str, Any]]:
        """Return a JSON-able form; default values are left out."""
        defaults = {f.name: f.default for f in dataclasses.fields(Column)}
        rows = []
        for column in self.columns:
            row = dataclasses.asdict(column)
            row["levels"] = list(column.levels)
            rows.append({key: value for key, value in row.items() if value not in (defaults[key], [])})
        return rows

    @classmethod
    def from_dict(cls, rows: list[Mapping[str, Any]]) -> Schema:
        """Read what :meth:`to_dict` returned.

        Raises:
            ConfigError: A row is no column description.
        """
        return cls(
            tuple(_column_from(row, str(row.get("name", f"number {i}"))) for i, row in enumerate(rows))
        )

    @classmethod
    def infer(cls, frame: pd.DataFrame, corrections: Mapping[str, Mapping[str, Any]] | None = None) -> Schema:
        """Guess a schema from a table, then apply corrections.

        Text columns become categorical, two-valued truth columns boolean, numbers with at most
        ten distinct values ordinal, other whole numbers integer, the rest continuous with the decimals that
        the values show. Ranges are those seen.

        Args:
            frame: Table; strings that are all numbers count as numbers.
            corrections: For each column name, the attributes of :class:`Column` to set.

        Raises:
            CohortError: A column is empty, constant, or text with more than fifty distinct values or (beyond
            ten rows) a different one in every row.
            ConfigError: A correction names an unknown column or attribute.
        """
        corrections = corrections or {}
        for name in corrections:
            if name not in frame:
                known = [str(column) for column in frame.columns]
                raise ConfigError(f"schema: there is no column '{name}'. {did_you_mean(name, known)}")
        columns, problems = [], []
        for name in frame.columns:
            try:
                columns.append(_infer_column(frame[name], str(name), dict(corrections.get(name, {}))))
            except CohortError as error:
                problems += error.problems
        if problems:
            raise CohortError(problems)
        return cls(tuple(columns))


def as_numbers(series: pd.Series) -> pd.Series | None:
    """Return a column as float64 where every present value is a number, otherwise ``None``."""
    numbers = pd.to_numeric(series, errors="coerce").astype(float)
    return None if (numbers.isna() & series.notna()).any() else numbers


def _column_from(row: Mapping[str, Any], name: str) -> Column:
    known = [f.name for f in dataclasses.fields(Column)]
    for key in row:
        if key not in known:
            raise ConfigError(f"schema: column '{name}': unknown key '{key}'. {did_you_mean(key, known)}")
    if "kind" not in row:
        raise ConfigError(f"schema: column '{name}': 'kind' is absent.")
    return Column(**{**row, "name": name, "levels": tuple(row.get("levels", ()))})


def _infer_column(series: pd.Series, name: str, correction: dict[str, Any]) -> Column:
    present = series.dropna()
    if present.empty:
        raise CohortError(f"column '{name}': every value is missing; leave it out with 'drop'.")
    if present.nunique() == 1:
        raise CohortError(
            f"column '{name}': every value is {_shown(present.iloc[0])}; a column with one value carries nothing: "
            "leave it out with 'drop'."
        )
    guess: dict[str, Any] = {"missing": bool(series.isna().any())}
    numbers = as_numbers(series)
    if numbers is not None and np.isinf(numbers).any():
        bad = series[np.isinf(numbers)]
        raise CohortError(
            f"column '{name}', row {bad.index[0]}: {_shown(bad.iloc[0])} is no finite number; mark it n/a."
        )
    kind = correction.get("kind") or _infer_kind(present, numbers, name)
    guess["kind"] = kind
    if kind in ("continuous", "integer"):
        if numbers is None:
            bad = present[pd.to_numeric(present, errors="coerce").isna()]
            raise CohortError(
                f"column '{name}', row {bad.index[0]}: {_shown(bad.iloc[0])} is no number; correct it or mark it n/a."
            )
        guess |= {"minimum": float(numbers.min()), "maximum": float(numbers.max())}
        if kind == "continuous":
            guess["decimals"] = _decimals(numbers.dropna().to_numpy())
    elif isinstance(series.dtype, pd.CategoricalDtype):
        guess["levels"] = tuple(series.dtype.categories.tolist())
    elif kind != "boolean" and "levels" not in correction:
        found = present.map(str) if numbers is None else numbers.dropna().map(_plain)
        guess["levels"] = tuple(sorted(set(found)))
    return _column_from(guess | correction, name)


def _infer_kind(present: pd.Series, numbers: pd.Series | None, name: str) -> Kind:
    texts = {str(value).lower() for value in present.unique()}
    if pd.api.types.is_bool_dtype(present) or texts <= {"true", "false"}:
        return "boolean"
    distinct = present.nunique()
    if isinstance(present.dtype, pd.CategoricalDtype):
        return "ordinal" if present.dtype.ordered else "categorical"
    if numbers is None:
        unique = distinct == len(present) > MAX_ORDINAL_LEVELS
        if distinct > MAX_CATEGORICAL_LEVELS or unique:
            raise CohortError(
                f"column '{name}': text with {distinct} distinct values in {len(present)} rows is no category; "
                "leave it out with 'drop', or give its kind in the schema."
            )
        return "categorical"
    if distinct <= MAX_ORDINAL_LEVELS:
        return "ordinal"
    values = numbers.dropna().to_numpy()
    return "integer" if np.all(values == np.round(values)) else "continuous"


def _shown(value: Any) -> str:
    """Return a value as Python writes it, without numpy's type around it."""
    return repr(value.item() if isinstance(value, np.generic) else value)


def _plain(number: float) -> float:
    """Return a whole number as an int, so that it prints without a decimal point."""
    return int(number) if number == round(number) else float(number)


def _decimals(values: np.ndarray) -> int:
    for decimals in range(MAX_DECIMALS):
        if np.allclose(values, np.round(values, decimals), rtol=0, atol=0.5 * 10.0 ** -(MAX_DECIMALS + 1)):
            return decimals
    return MAX_DECIMALS


def _coerce_column(series: pd.Series, column: Column) -> tuple[pd.Series | pd.Categorical, list[str]]:
    complaints = []
    if series.isna().any() and not column.missing:
        complaints.append(f"row {series.index[series.isna()][0]}: a value is missing where none may be.")
    if not column.discrete:
        numbers = pd.to_numeric(series, errors="coerce").astype(float)
        bad = series.notna() & (numbers.isna() | ~np.isfinite(numbers.fillna(0.0)))
        if bad.any():
            complaints.append(
                f"row {series.index[bad][0]}: {_shown(series[bad].iloc[0])} is no finite number."
            )
        elif column.kind == "integer" and (odd := numbers.notna() & (numbers != numbers.round())).any():
            complaints.append(
                f"row {series.index[odd][0]}: {_shown(series[odd].iloc[0])} is no whole number."
            )
        return numbers, complaints
    lookup: dict[Any, Level] = {str(level): level for level in column.levels}
    # "1", 1 and 1.0 are one level: the text form depends on how the file was read.
    lookup |= {float(level): level for level in column.levels if _is_number(level)}
    if column.kind == "boolean" and all(isinstance(level, bool) for level in column.levels):
        lookup |= {"false": False, "true": True, "FALSE": False, "TRUE": True, 0.0: False, 1.0: True}
    gaps = series.isna().to_numpy()
    values = [None if missing else _find(value, lookup) for value, missing in zip(series, gaps, strict=True)]
    bad_rows = [i for i, value in enumerate(values) if value is None and not gaps[i]]
    if bad_rows:
        i = bad_rows[0]
        complaints.append(
            f"row {series.index[i]}: {_shown(series.iloc[i])} is not among the levels {list(column.levels)}."
        )
    categorical = pd.Categorical(values, categories=list(column.levels), ordered=column.kind == "ordinal")
    return categorical, complaints


def _is_number(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _find(value: Any, lookup: dict[Any, Level]) -> Level | None:
    found = lookup.get(str(value))
    if found is None and (_is_number(value) or isinstance(value, bool)):
        found = lookup.get(float(value))
    return found


_OPERATORS: dict[type[ast.AST], Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


def _parse(formula: str) -> ast.expr:
    return ast.parse(re.sub(r"\^", "**", formula), mode="eval").body


def _names_in(tree: ast.expr) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _check_formula(column: Column, columns: Sequence[Column]) -> None:
    if column.discrete:
        raise ConfigError(
            f"column '{column.name}': a formula gives numbers, but the column is {column.kind}."
        )
    names = [other.name for other in columns if not other.discrete]
    try:
        tree = _parse(column.formula or "")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ConfigError(f"column '{column.name}': formula '{column.formula}' is no expression.") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            if node.id not in names or node.id == column.name:
                raise ConfigError(
                    f"column '{column.name}': formula '{column.formula}': '{node.id}' is no other column of "
                    f"numbers. "
                    f"{did_you_mean(node.id, set(names) - {column.name})}"
                )
        elif isinstance(node, ast.Constant):
            number = node.value
            if isinstance(number, bool) or not isinstance(number, int | float) or abs(number) > MAX_NUMBER:
                raise ConfigError(
                    f"column '{column.name}': formula '{column.formula}': only numbers may stand in it."
                )
        elif not isinstance(node, (ast.BinOp, ast.UnaryOp, ast.Load, *_OPERATORS)):
            raise ConfigError(
                f"column '{column.name}': formula '{column.formula}' may hold only column names, numbers, "
                "+ - * / ** and brackets."
            )


def _evaluate(node: ast.expr, frame: pd.DataFrame) -> Any:
    match node:
        case ast.Name(id=name):
            return frame[name].to_numpy(float)
        case ast.Constant(value=int() | float() as value):
            # In Python's whole numbers 9**9**9 would be computed digit by digit.
            return np.float64(value)
        case ast.UnaryOp(op=op, operand=operand):
            return _OPERATORS[type(op)](_evaluate(operand, frame))
        case ast.BinOp(left=left, op=op, right=right):
            return _OPERATORS[type(op)](_evaluate(left, frame), _evaluate(right, frame))
    raise TypeError(f"not an arithmetic expression: {ast.dump(node)}")
