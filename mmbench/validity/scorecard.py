"""The scorecard: what the tests say of every metric, as JSON and as Markdown, and what failed without notice."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from mmbench.errors import UsageError
from mmbench.validity.model import Test
from mmbench.validity.run import Result

if TYPE_CHECKING:
    from rich.table import Table

MARKS = {True: "+", False: "✗", None: "·"}


@dataclass(frozen=True)
class Surprise:
    """A result that is not as :func:`known` says.

    Attributes:
        result: The result.
        failed: Whether it is a failure that nobody declared; otherwise a declared failure that passed.
    """

    result: Result
    failed: bool

    @property
    def sentence(self) -> str:
        """What is surprising, for readers."""
        what = "fails" if self.failed else "is declared to fail and passes"
        return f"{self.result.output} {what} {self.result.test}: {self.result.detail}"


def known() -> dict[tuple[str, str], str]:
    """Return why an output fails a test, by output and test, for the failures that are declared."""
    data = yaml.safe_load((files("mmbench.validity") / "known.yaml").read_text(encoding="utf-8")) or {}
    return {(output, test): reason for output, row in data.items() for test, reason in row.items()}


def surprises(
    results: Iterable[Result], declared: Mapping[tuple[str, str], str] | None = None
) -> list[Surprise]:
    """Return results that differ from what is declared: new failures first, then unexpected passes.

    Args:
        results: Results of our own metrics.
        declared: Reasons of failures by output and test; :func:`known` by default.
    """
    found, declared = [], known() if declared is None else declared
    for result in results:
        expected = (result.output, result.test) in declared
        if result.passed is not None and result.passed == expected:
            found.append(Surprise(result, failed=not result.passed))
    return sorted(found, key=lambda surprise: not surprise.failed)


def write(results: Sequence[Result], tests: Sequence[Test], folder: Path) -> Path:
    """Write ``scorecard.json`` and ``scorecard.md`` into a folder and return the latter.

    Raises:
        UsageError: The folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "scorecard.json").write_text(as_json(results), encoding="utf-8")
        page = folder / "scorecard.md"
        page.write_text(as_markdown(results, tests), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written: {error}.") from None
    return page


def as_table(results: Sequence[Result], tests: Sequence[Test]) -> Table:
    """Return a table of outputs by tests for the terminal."""
    from rich.table import Table

    table = Table(box=None)
    for heading in ("score", *(test.id for test in tests)):
        table.add_column(heading)
    for (_, output), row in _marks(results).items():
        table.add_row(output, *(row.get(test.id, MARKS[None]) for test in tests))
    return table


def _marks(results: Iterable[Result]) -> dict[tuple[str, str], dict[str, str]]:
    marks: dict[tuple[str, str], dict[str, str]] = {}
    for result in results:
        marks.setdefault((result.metric, result.output), {})[result.test] = MARKS[result.passed]
    return marks


def as_json(results: Iterable[Result]) -> str:
    """Return results that apply as a JSON list, one result a line."""
    rows = [json.dumps(dataclasses.asdict(result)) for result in results if result.passed is not None]
    return "[\n" + ",\n".join(rows) + "\n]\n"


def as_markdown(results: Sequence[Result], tests: Sequence[Test], *, failures: bool = True) -> str:
    """Return a table of outputs by tests.

    Args:
        results: Results of the tests.
        tests: Columns of the table.
        failures: Whether to list what each failure showed.
    """
    ids = [test.id for test in tests]
    lines = [
        "| metric | score | " + " | ".join(ids) + " | passed |",
        "|---|---|" + ":-:|" * len(ids) + "--:|",
    ]
    for (metric, output), row in _marks(results).items():
        applicable = [mark for mark in row.values() if mark != MARKS[None]]
        count = f"{applicable.count(MARKS[True])}/{len(applicable)}"
        cells = " | ".join(row.get(one, MARKS[None]) for one in ids)
        lines.append(f"| {metric} | {output} | {cells} | {count} |")
    lines += ["", f"{MARKS[True]} passed, {MARKS[False]} failed, {MARKS[None]} does not apply.", ""]
    if failures:
        declared = known()
        lines += ["### Failures", ""]
        for result in results:
            if result.passed is False:
                reason = declared.get((result.output, result.test))
                why = f" Why: {reason}" if reason else ""
                lines.append(f"- **{result.output}, {result.test}**: {result.detail}.{why}")
    return "\n".join(lines) + "\n"
