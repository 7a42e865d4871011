"""Finds plug-ins by entry point or in a user's file, describes their parameters, and builds them."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import inspect
import re
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pydantic

from mmbench import api
from mmbench.errors import PluginError, did_you_mean

KINDS: dict[str, tuple[type, ...]] = {
    "cohorts": (api.CohortSource,),
    "generators": (api.Generator,),
    "measurers": (api.Measurer, api.Extractor),
    "metrics": (api.Metric,),
    "reports": (api.Report,),
}

_from_files: dict[str, dict[str, type]] = {kind: {} for kind in KINDS}


@dataclass(frozen=True)
class Parameter:
    """A parameter of a plug-in, as ``mmbench show`` prints it."""

    name: str
    type: str
    default: str
    doc: str


def names(kind: str) -> list[str]:
    """Return the names of all plug-ins of a kind, sorted."""
    return sorted({*_entry_points(kind), *_from_files[kind]})


def load(kind: str, name: str) -> Any:
    """Return the class of a plug-in.

    Raises:
        PluginError: It is unknown, two distributions claim the name, it fails to import, or it is no plug-in
            of this kind.
    """
    if name in _from_files[kind]:
        return _from_files[kind][name]
    found = _entry_points(kind).get(name)
    if found is None:
        raise PluginError(f"there is no {kind[:-1]} '{name}'. {did_you_mean(name, names(kind))}")
    try:
        plugin = found.load()
    except Exception as error:
        raise PluginError(
            f"{kind[:-1]} '{name}' ({found.value}, from {_origin(found)}) cannot be imported: {error}"
        ) from error
    if not (isinstance(plugin, type) and issubclass(plugin, KINDS[kind])):
        raise PluginError(
            f"{kind[:-1]} '{name}' ({found.value}) is no {' or '.join(base.__name__ for base in KINDS[kind])}."
        )
    return plugin


def role(kind: str, plugin: type) -> str:
    """Return what a plug-in is, in the singular: measurers and extractors share a kind."""
    return "extractor" if issubclass(plugin, api.Extractor) else kind[:-1]


def origin(kind: str, name: str) -> str:
    """Return where a plug-in comes from: a distribution with version, or a file."""
    if name in _from_files[kind]:
        return inspect.getfile(_from_files[kind][name])
    return _origin(_entry_points(kind)[name])


def add_file(path: Path) -> list[str]:
    """Import a user's file and take every plug-in class that it defines.

    A class ``MyModel`` becomes ``my-model``. The file is run, so it must be one that the user named.

    Returns:
        Names of the plug-ins found.

    Raises:
        PluginError: The file is absent, fails to import, defines no plug-in, or takes a name that is in use.
    """
    path = path.resolve()
    if not path.is_file():
        raise PluginError(f"{path}: no such plug-in file.")
    module_name = f"mmbench_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    module_spec = importlib.util.spec_from_file_location(module_name, path)
    if module_spec is None or module_spec.loader is None:
        raise PluginError(f"{path}: a plug-in file must be a Python file (.py).")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_name] = module
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        raise PluginError(f"{path}: cannot be imported: {type(error).__name__}: {error}") from error
    added = []
    for kind, bases in KINDS.items():
        for value in vars(module).values():
            own = isinstance(value, type) and value.__module__ == module_name
            if not own or not issubclass(value, bases) or inspect.isabstract(value):
                continue
            name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", value.__name__).lower()
            if name in _entry_points(kind):
                raise PluginError(f"{path}: '{name}' is the name of a {kind[:-1]} already; rename the class.")
            _from_files[kind][name] = value
            added.append(name)
    if not added:
        raise PluginError(
            f"{path}: defines no plug-in; derive a class from mmbench.api.Generator (or Metric, Measurer, ...)."
        )
    return added


def parameters(plugin: type) -> list[Parameter]:
    """Return the parameters of a plug-in class."""
    hints = typing.get_type_hints(plugin)
    result = []
    for item in dataclasses.fields(plugin) if dataclasses.is_dataclass(plugin) else ():
        if item.default is not dataclasses.MISSING:
            default = repr(item.default)
        elif item.default_factory is not dataclasses.MISSING:
            default = repr(item.default_factory())
        else:
            default = "required"
        hint = hints[item.name]
        text = hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
        doc = item.metadata.get("doc", "")
        bounds = [f">= {item.metadata['minimum']}" if item.metadata.get("minimum") is not None else ""]
        bounds += [f"<= {item.metadata['maximum']}" if item.metadata.get("maximum") is not None else ""]
        bounds += [f"one of {', '.join(item.metadata['choices'])}" if item.metadata.get("choices") else ""]
        note = ", ".join(bound for bound in bounds if bound)
        result.append(
            Parameter(item.name, text.replace("typing.", ""), default, f"{doc} ({note})" if note else doc)
        )
    return result


def build(kind: str, name: str, values: Mapping[str, Any], where: str = "") -> Any:
    """Return a plug-in with the given parameters.

    Args:
        kind: One of :data:`KINDS`.
        name: Name of the plug-in.
        values: Parameters by name; the others keep their defaults.
        where: Place of the values in the configuration, for messages.

    Raises:
        PluginError: A parameter is unknown, absent, of another type, or out of bounds.
    """
    plugin = load(kind, name)
    return plugin(**checked(plugin, values, where or f"{kind[:-1]} '{name}'"))


def checked(plugin: type, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return parameter values converted to the declared types; see :func:`build` for what it raises."""
    fields = {f.name: f for f in dataclasses.fields(plugin)} if dataclasses.is_dataclass(plugin) else {}
    hints = typing.get_type_hints(plugin)
    result = {}
    for key, value in values.items():
        if key not in fields:
            raise PluginError(f"{where}: unknown parameter '{key}'. {did_you_mean(key, fields)}")
        try:
            result[key] = pydantic.TypeAdapter(hints[key]).validate_python(value)
        except pydantic.ValidationError as error:
            detail = error.errors()[0]["msg"]
            raise PluginError(f"{where}: {key}={value!r}: {detail}.") from error
        limits = fields[key].metadata
        low, high, choices = limits.get("minimum"), limits.get("maximum"), limits.get("choices")
        if result[key] is not None:
            if (low is not None and result[key] < low) or (high is not None and result[key] > high):
                raise PluginError(f"{where}: {key}={value!r} must lie between {low} and {high}.")
            if choices and result[key] not in choices:
                raise PluginError(f"{where}: {key}={value!r}. {did_you_mean(str(value), choices)}")
    for key, item in fields.items():
        required = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        if required and key not in values:
            raise PluginError(f"{where}: parameter '{key}' is required ({item.metadata.get('doc', '')}).")
    return result


def code_digest(plugin: type) -> str:
    """Return the sha256 of the source of a plug-in: its file and the helpers that it may import relatively.

    A package that offers the plug-in under its own name is the plug-in's own: all of it counts.
    """
    file = Path(inspect.getfile(plugin))
    package = sys.modules.get(plugin.__module__.rpartition(".")[0])
    own = getattr(package, plugin.__name__, None) is plugin
    in_package = (file.parent / "__init__.py").exists()
    folders = [file.parent, file.parent.parent] if own else [file.parent]
    helpers = [path for folder in folders for path in folder.glob("_*.py")] if in_package else []
    files = sorted({file, *helpers, *(file.parent.rglob("*.py") if own else ())})
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


@cache
def _entry_points(kind: str) -> types.MappingProxyType[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=f"mmbench.{kind}"):
        if point.name in found and found[point.name].value != point.value:
            raise PluginError(
                f"two distributions offer the {kind[:-1]} '{point.name}': {_origin(found[point.name])} "
                f"({found[point.name].value}) and {_origin(point)} ({point.value}). Uninstall one of them."
            )
        found[point.name] = point
    return types.MappingProxyType(found)


def _origin(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown distribution"
