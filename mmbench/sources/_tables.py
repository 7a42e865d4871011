"""Clinical tables from text files: read strictly, typed by a schema, every problem named by file and row."""

from __future__ import annotations

import csv
import io
import json
import math
import typing
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pydantic

from mmbench.api import CohortError, Column, Schema, as_numbers
from mmbench.bids_writer import OWN
from mmbench.config import parse_yaml
from mmbench.errors import ConfigError, did_you_mean
from mmbench.schema import MAX_ORDINAL_LEVELS
from mmbench.sources._checks import NAMED, gathered, listed

Corrections = Path | dict[str, dict[str, Any]] | list[dict[str, Any]] | None
"""A schema file, the same as a mapping, or nothing; a list is a whole schema, see :func:`type_table`."""

FORMULA_TOLERANCE = 0.02
"""Relative deviation of a derived value that rounding of its parts explains: a height in whole centimetres and
a weight in whole kilograms leave a body mass index uncertain by about 1.5 %."""


def read_text_table(
    path: Path, delimiter: str, missing: Collection[str], problems: list[str]
) -> pd.DataFrame:
    """Read a delimited text file into a table of text, whose index counts the lines of the file.

    Args:
        path: The file; UTF-8, the first line names the columns.
        delimiter: Character between fields.
        missing: Texts that stand for a missing value; all others are taken as they are.
        problems: Receives what is wrong with the file where the rest of it can be looked at all the same: another
            encoding, repeated columns, lines with more or fewer fields than the header.

    Raises:
        CohortError: The file is absent, no text, or has no rows.
    """
    lines = _fields(path, delimiter, problems)
    if len(lines) < 2:
        raise CohortError(f"{path}: no rows; expected a line of column names and a line for each subject.")
    (_, header), *body = lines
    problems += _header_problems(path, header, delimiter)
    problems += [
        f"{path}, line {number}: {len(fields)} fields, expected {len(header)} as in the first line; "
        "check the separators of this line."
        for number, fields in body
        if len(fields) != len(header)
    ]
    rows = [
        [None if field in missing else field for field in (fields + [""] * len(header))[: len(header)]]
        for _, fields in body
    ]
    frame = pd.DataFrame(rows, columns=header, index=[number for number, _ in body], dtype=object)
    return frame.loc[:, ~frame.columns.duplicated() & (frame.columns != "")]


def _fields(path: Path, delimiter: str, problems: list[str]) -> list[tuple[int, list[str]]]:
    """Return the number and the fields of each line that is not empty."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise CohortError(f"{path}: no such file; expected a table with a row for each subject.") from None
    except OSError as error:
        raise CohortError(f"{path}: cannot be read ({error}); save it as UTF-8 text.") from None
    try:
        # utf-8-sig drops the byte-order mark that spreadsheet programs write before the first column's name.
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problems.append(f"{path}, line {line}: no UTF-8 ({error.reason}); save the table as UTF-8 text.")
        # Any byte is a Latin-1 character, so that the other lines can be looked at.
        text = content.decode("latin-1")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        return [(reader.line_num, [field.strip() for field in fields]) for fields in reader if fields]
    except csv.Error as error:
        raise CohortError(f"{path}: cannot be read ({error}); save it as UTF-8 text.") from None


def _header_problems(path: Path, header: list[str], delimiter: str) -> list[str]:
    problems = []
    repeated = sorted({name for name in header if header.count(name) > 1 and name})
    if repeated:
        problems.append(f"{path}: column names are repeated: {', '.join(repeated)}; rename or remove them.")
    if "" in header:
        problems.append(f"{path}: column {header.index('') + 1} has no name; name or remove it.")
    others = [other for other in ",;\t" if other != delimiter and other in header[0]]
    if len(header) == 1 and others:
        raise CohortError(
            f"{path}: the first line is separated by {others[0]!r}, expected {delimiter!r}; save the table so."
        )
    return problems


def corrections_of(schema: Path | dict[str, dict[str, Any]] | None) -> tuple[dict[str, dict[str, Any]], str]:
    """Return what a schema parameter sets for each column, and the name of its place for messages.

    Raises:
        ConfigError: The file cannot be read, or holds something that is no attribute of a column.
    """
    where, entries = "schema", schema or {}
    if isinstance(schema, Path):
        where = str(schema)
        try:
            entries = parse_yaml(schema.read_text(encoding="utf-8"), where)[0] or {}
        except FileNotFoundError:
            raise ConfigError(f"{schema}: no such schema file.") from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{schema}: cannot be read ({error}).") from None
    if not isinstance(entries, dict):
        raise ConfigError(
            f"{where}: expected a mapping from column names to their attributes, e.g. 'age: {{unit: years}}'."
        )
    types = typing.get_type_hints(Column)
    del types["name"]
    result: dict[str, dict[str, Any]] = {}
    for name, entry in entries.items():
        if not isinstance(entry, Mapping):
            raise ConfigError(
                f"{where}: column '{name}': expected attributes such as 'kind: ordinal', got {entry!r}."
            )
        for key, value in entry.items():
            if key not in types:
                raise ConfigError(
                    f"{where}: column '{name}': unknown key '{key}'. {did_you_mean(str(key), types)}"
                )
            try:
                checked = pydantic.TypeAdapter(types[key]).validate_python(value)
                # As they were written: pydantic would turn the level 1 into 1.0.
                checked = tuple(value) if key == "levels" else checked
            except pydantic.ValidationError as error:
                raise ConfigError(
                    f"{where}: column '{name}': {key}: {value!r}: {error.errors()[0]['msg']}."
                ) from None
            result.setdefault(str(name), {})[key] = checked
    return result, where


def sidecar_corrections(path: Path, frame: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return what a BIDS sidecar (``participants.json``) says of the columns of ``frame``.

    ``Units``, ``Description`` and ``Levels`` are taken. Levels count where the column has levels and not
    numbers: text, or at most ten distinct numbers.

    Raises:
        CohortError: The file is there but is no JSON object of objects.
    """
    entries = _sidecar_entries(path)
    result: dict[str, dict[str, Any]] = {}
    for name in frame.columns.intersection(list(entries)):
        entry, found = entries[name], result.setdefault(name, {})
        for key, attribute in (("Units", "unit"), ("Description", "description")):
            if entry.get(key):
                found[attribute] = str(entry[key])
        if entry.get("Levels"):
            found |= _sidecar_levels(frame[name], list(entry["Levels"]))
    return result


def _sidecar_entries(path: Path) -> dict[str, dict[str, Any]]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CohortError(f"{path}: cannot be read as JSON ({error}); correct or remove it.") from None
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise CohortError(f"{path}: expected an object with an object for each column; correct or remove it.")
    return entries


def _written_schema(
    sidecars: Sequence[Path], names: Sequence[str], own: Mapping[str, Mapping[str, Any]]
) -> Schema | None:
    """Return the schema that mmbench wrote into a sidecar, corrected; ``None`` where a column has none.

    Nothing needs to be guessed there: a column of samples may well show one value only, if that was asked for.
    """
    entries: dict[str, Any] = {}
    for path in sidecars:
        with gathered([]):  # reported by whoever reads the rest of the sidecar
            entries |= _sidecar_entries(path)
    rows = {name: entries.get(name, {}).get(OWN) for name in names}
    if not all(isinstance(row, dict) for row in rows.values()):
        return None
    try:
        return Schema.from_dict([{**row, **own.get(name, {}), "name": name} for name, row in rows.items()])
    except (ConfigError, TypeError) as error:
        raise ConfigError(f"{sidecars[0]}: {error}") from None


def _sidecar_levels(series: pd.Series, levels: list[Any]) -> dict[str, Any]:
    numbers = as_numbers(series)
    if numbers is None:
        return {"levels": tuple(map(str, levels))}
    as_levels = as_numbers(pd.Series(levels, dtype=object))
    if as_levels is None or numbers.nunique() > MAX_ORDINAL_LEVELS:
        return {}
    return {"levels": tuple(as_levels)}


def type_table(
    frame: pd.DataFrame,
    where: Path,
    schema: Corrections,
    drop: Sequence[str] = (),
    sidecars: Sequence[Path] = (),
) -> tuple[Schema, pd.DataFrame]:
    """Infer a table's schema, correct it, and return it with the table that obeys it.

    Args:
        frame: Table whose index names the rows.
        where: File of the table, for messages.
        schema: The user's corrections; they go before the sidecars'. A list is the whole schema, a column an entry:
            it is obeyed as it stands, nothing is inferred, and columns that it does not name are left out.
        drop: Columns to leave out.
        sidecars: BIDS descriptions of the columns; a whole schema that mmbench wrote there is obeyed.

    Raises:
        CohortError: A column cannot be used, a value is of another type, outside the range or not among the
            levels, or does not follow from its column's formula. All problems are listed.
        ConfigError: ``drop`` or ``schema`` names an unknown column, or ``schema`` an unknown attribute.
    """
    if isinstance(schema, list):
        whole = Schema.from_dict(list(schema))
        return whole, obeying(whole, frame, str(where))
    for name in drop:
        if name not in frame:
            raise ConfigError(f"drop: {where} has no column '{name}'. {did_you_mean(name, frame.columns)}")
    frame = frame.drop(columns=list(drop))
    if not len(frame.columns):
        raise CohortError(f"{where}: no columns beside the identifiers; expected clinical columns.")
    own, place = corrections_of(schema)
    for name in own:
        if name not in frame:
            raise ConfigError(f"{place}: {where} has no column '{name}'. {did_you_mean(name, frame.columns)}")
    if (written := _written_schema(sidecars, [str(name) for name in frame], own)) is not None:
        return written, written.coerce(frame, str(where))
    problems: list[str] = []
    described: dict[str, dict[str, Any]] = {}
    for sidecar in sidecars:
        with gathered(problems):
            for name, entry in sidecar_corrections(sidecar, frame).items():
                described[name] = described.get(name, {}) | entry
    corrections = {name: described.get(name, {}) | own.get(name, {}) for name in {*described, *own}}
    misfits = {str(name): _misfits(frame[name], corrections.get(str(name), {})) for name in frame}
    problems += [f"{where}: column '{name}', {text}" for name, texts in misfits.items() for text in texts]
    if any(misfits.values()):
        # The other columns are still looked at, without formulas, which may name the columns left aside.
        frame = frame[[name for name in frame.columns if not misfits[name]]]
        corrections = {
            name: {key: value for key, value in entry.items() if key != "formula"}
            for name, entry in corrections.items()
            if name in frame
        }
    try:
        inferred = Schema.infer(frame, corrections)
        with gathered(problems):
            table = inferred.coerce(frame, str(where))
            problems += [f"{where}: {text}" for text in _formula_problems(inferred, table)]
    except CohortError as error:
        problems += [f"{where}: {text}" for text in error.problems]
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None
    if problems:
        raise CohortError(problems)
    return inferred, table


def obeying(schema: Schema, frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """Return a table typed by a schema that was not made of it; see :meth:`Schema.coerce` for what it raises."""
    try:
        return schema.coerce(frame, where)
    except CohortError as error:
        # A level that the real table happens not to show is a gap in the schema as often as a wrong value.
        advice = "Correct it, or the schema of the real cohort (cohort.schema)."
        raise CohortError([f"{line} {advice}" for line in error.problems]) from None


def _misfits(series: pd.Series, correction: Mapping[str, Any]) -> list[str]:
    """Return a line for each value that its declared range, kind or levels do not allow, up to some number."""
    low, high = correction.get("minimum"), correction.get("maximum")
    numbers = pd.to_numeric(series, errors="coerce").astype(float)
    lines = [
        f"row {row}: {_value(series[row])} lies outside the range, expected {word} {limit:g}; correct the value or "
        "the schema."
        for limit, outside, word in (
            (low, numbers < (-math.inf if low is None else low), "at least"),
            (high, numbers > (math.inf if high is None else high), "at most"),
        )
        for row in series.index[outside]
    ]
    text = series.notna() & numbers.isna()
    kind = correction.get("kind")
    if kind in ("continuous", "integer"):
        advice = "expected a number; correct it or mark it n/a."
    elif kind is None and "levels" not in correction and (~text & series.notna()).sum() > text.sum():
        # A few words among numbers would turn the whole column into categories without anybody noticing.
        advice = (
            "expected a number as in most rows; correct it, mark it n/a, or declare 'kind: categorical' in the "
            "schema."
        )
    else:
        advice = ""
    if advice:
        lines += [f"row {row}: {_value(series[row])}, {advice}" for row in series.index[text]]
    if (levels := correction.get("levels")) and kind != "boolean":
        names = pd.Series(list(map(str, levels)))
        as_levels = pd.to_numeric(names, errors="coerce").dropna()
        known = series.map(str).isin(names) | numbers.isin(as_levels)
        lines += [
            f"row {row}: {_value(series[row])} is not among the levels {list(levels)}; correct it or the schema."
            for row in series.index[series.notna() & ~known]
        ]
    if len(lines) > NAMED:
        lines[NAMED:] = [f"{len(lines) - NAMED} more values of this kind."]
    return lines


def _formula_problems(schema: Schema, table: pd.DataFrame) -> list[str]:
    """Return a line for each derived column whose recorded values do not follow from its formula."""
    problems = []
    derived = schema.derive(table)
    for column in schema.derived:
        recorded, computed = table[column.name], derived[column.name]
        rounding = 0.5 * 10.0 ** -(column.decimals or 0)
        off = (recorded - computed).abs() > FORMULA_TOLERANCE * computed.abs() + rounding
        if off.any():
            rows = [f"{row}: {recorded[row]:g} for {computed[row]:g}" for row in table.index[off]]
            problems.append(
                f"column '{column.name}': {len(rows)} of {len(table)} rows do not follow from the formula "
                f"'{column.formula}' (row {listed(rows)}); correct the values, the formula or its units."
            )
    return problems


def _value(value: Any) -> str:
    return repr(value) if isinstance(value, str) else f"{value}"
