"""The configuration of a run: read from YAML, checked, with the line of every mistake."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import pydantic
import yaml

from mmbench.errors import ConfigError, did_you_mean

MAX_BYTES = 1_000_000
SAMPLES_NAME = r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"
"""What samples may be called: their folder has the same name."""


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Split(_Strict):
    """How the real cohort is divided by subject."""

    train: float = 0.6
    reference: float = 0.2
    floor: float = 0.2
    seed: int = 0
    stratify: tuple[str, ...] = ()


class Execution(_Strict):
    """What the cells may use."""

    jobs: int | None = pydantic.Field(default=None, ge=1)
    """Cells at a time; by default one for every two cores up to the number of cores, at most 2."""
    threads: int | None = pydantic.Field(default=None, ge=1)
    """Threads of a cell; by default the cores divided by ``jobs``."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    budget: float | None = pydantic.Field(default=None, gt=0)
    """Seconds that a fit may train; it then goes on with what it has learned."""
    timeout: float | None = pydantic.Field(default=None, gt=0)
    """Seconds after which a cell is stopped and recorded as ``timeout``."""
    memory_gib: float | None = pydantic.Field(default=None, gt=0)
    """Resident memory of a cell's processes above which it is stopped as ``out_of_memory``."""


class Reporting(_Strict):
    """What is written at the end."""

    formats: tuple[str, ...] = ("html", "markdown")
    include_real: bool = False
    """Whether volumes and rows of real subjects may appear in the report."""


class Config(_Strict):
    """A run's configuration. Plug-in parameters are checked against the plug-ins, not here."""

    name: str = pydantic.Field(default="run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    cohort: dict[str, Any]
    training: dict[str, Any] | None = None
    """Records that the generators learn from, described like ``cohort``; where absent, a share of the cohort."""
    split: Split = Split()
    generators: dict[str, dict[str, Any]] = {}
    samples: dict[Annotated[str, pydantic.Field(pattern=SAMPLES_NAME)], dict[str, Any]] = {}
    """Synthetic records that exist already: for each name where they are, described like ``cohort``."""
    fit_seeds: tuple[int, ...] = pydantic.Field(default=(0,), min_length=1)
    sample_seeds: tuple[int, ...] = pydantic.Field(default=(0,), min_length=1)
    metrics: dict[str, dict[str, Any]] | None = None
    """Metrics with parameters that differ from their defaults; all installed metrics where absent."""
    measurer: str | dict[str, dict[str, Any]] | None = "auto"
    """The measurer, with parameters if it takes some; by default the first whose channels are there."""
    extractor: str | dict[str, dict[str, Any]] | None = "random-cnn"
    """The extractor of image features, with parameters if it takes some."""
    sweep: str | dict[str, tuple[bool | int | float | str, ...]] | None = "auto"
    """What conditional generators are given: ``auto``, the values of each column, or nothing."""
    execution: Execution = Execution()
    report: Reporting = Reporting()


def read_config(text: str, where: str, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration.

    Args:
        text: YAML 1.2 core schema without anchors.
        where: File name, for messages.
        overrides: ``path.to.key=value`` settings that win over the text; values are YAML.

    Raises:
        ConfigError: The text is no YAML, a key is unknown or repeated, or a value is unfit. The message
            names file, line and the nearest valid name.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{where}: {len(text)} characters are no configuration (at most {MAX_BYTES}).")
    data, lines = parse_yaml(text, where)
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: expected keys and values, found {type(data).__name__}.")
    for override in overrides:
        apply_override(data, override)
    for name in ("generators", "metrics", "measurer", "extractor"):
        if isinstance(data.get(name), list):
            data[name] = {entry: {} for entry in data[name]}
        if isinstance(data.get(name), dict):
            data[name] = {key: {} if value is None else value for key, value in data[name].items()}
    try:
        return Config.model_validate(data)
    except pydantic.ValidationError as error:
        raise ConfigError("\n".join(_explain(e, where, lines) for e in error.errors())) from None


def _explain(error: Any, where: str, lines: dict[tuple[str, ...], int]) -> str:
    path = tuple(str(part) for part in error["loc"])
    known = path
    while known and known not in lines:
        known = known[:-1]
    place = f"{where}, line {lines[known]}" if known else where
    if error["type"] == "extra_forbidden":
        model: Any = Config
        for part in path[:-1]:
            model = model.model_fields[part].annotation
        return f"{place}: unknown key '{'.'.join(path)}'. {did_you_mean(path[-1], model.model_fields)}"
    if error["type"] == "missing":
        return f"{place}: '{'.'.join(path)}' is required."
    return f"{place}: {'.'.join(path)} = {error['input']!r}: {error['msg']}."


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set ``path.to.key=value`` in nested ``data``; the value is YAML. Raises ConfigError."""
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise ConfigError(f"--set {override}: expected path.to.key=value.")
    value, _ = parse_yaml(text, f"--set {override}")
    target = data
    *parents, last = path.split(".")
    for part in parents:
        if isinstance(target.get(part), list):
            target[part] = {entry: {} for entry in target[part]}
        if target.get(part) is None:
            target[part] = {}
        target = target[part]
        if not isinstance(target, dict):
            raise ConfigError(f"--set {override}: '{part}' holds no keys.")
    target[last] = value


class _Loader(yaml.SafeLoader):
    """YAML 1.2 core scalars: ``1e-4`` is a number, ``NO`` and ``12:30`` are text."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}


_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|)$"), ["~", "n", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$"),
    list("-+0123456789."),
)
# PyYAML's own constructor wants a dot in a float and reads a leading zero as octal.
_Loader.add_constructor("tag:yaml.org,2002:float", lambda loader, node: float(node.value))
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))


def parse_yaml(text: str, where: str) -> tuple[Any, dict[tuple[str, ...], int]]:
    """Return the data and the line of every key path."""
    loader = _Loader(text)
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                line = getattr(event.start_mark, "line", 0) + 1
                raise ConfigError(
                    f"{where}, line {line}: anchors and aliases are not taken; repeat the value."
                )
        node = loader.get_single_node()
        lines: dict[tuple[str, ...], int] = {}
        if node is None:
            return {}, lines
        _walk(node, (), lines, where)
        return loader.construct_document(node), lines
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        place = where if line is None else f"{where}, line {line + 1}"
        raise ConfigError(f"{place}: {getattr(error, 'problem', None) or error}.") from None
    finally:
        loader.dispose()


def _walk(node: yaml.Node, path: tuple[str, ...], lines: dict[tuple[str, ...], int], where: str) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, str(key.value))
            if here in lines:
                raise ConfigError(
                    f"{where}, line {key.start_mark.line + 1}: '{key.value}' stands here a second time "
                    f"(first in line {lines[here]})."
                )
            lines[here] = key.start_mark.line + 1
            _walk(value, here, lines, where)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*path, str(index))] = value.start_mark.line + 1
            _walk(value, (*path, str(index)), lines, where)
