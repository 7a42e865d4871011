"""The configuration of a run that fits nothing and scores samples that exist already."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmbench.config import SAMPLES_NAME, Config, parse_yaml, read_config
from mmbench.errors import UsageError
from mmbench.inputs import section_of

UNKNOWN_TRAINING = (
    "without --train a share of the real records stands for those that the generators learned from; they may never "
    "have seen them, so that privacy scores say little about who they did see."
)


def evaluation_config(
    real: Path,
    synthetic: Sequence[str],
    train: Path | None = None,
    text: str = "",
    where: str = "configuration",
    overrides: Sequence[str] = (),
) -> Config:
    """Return the configuration of a run that scores samples against real records.

    Args:
        real: The real records, in any form that :func:`mmbench.inputs.section_of` knows.
        synthetic: ``PATH`` or ``NAME=PATH`` of samples; the name is by default that of the file or folder.
        train: The records that the generators learned from, ``None`` for a share of the real ones.
        text: YAML for everything else; its generators and samples are left aside.
        where: File name of ``text``, for messages.
        overrides: ``path.to.key=value`` settings that win over all the others.

    Raises:
        UsageError: A path leads to nothing that can be read, or two samples have one name.
        ConfigError: Text or overrides cannot be used.
    """
    data, _ = parse_yaml(text, where)
    base: Mapping[str, Any] = data if isinstance(data, dict) else {}
    sections = {"cohort": _section(real, "cohort", base, overrides)}
    if train is not None:
        sections["training"] = _section(train, "training", base, overrides)
    samples: dict[str, Any] = {}
    for given in synthetic:
        name, path = _named(given)
        if name in samples:
            raise UsageError(
                f"--synthetic {given}: '{name}' is the name of {samples[name]['path']} already; name it otherwise with "
                "--synthetic NAME=PATH."
            )
        samples[name] = _section(path, f"samples.{name}", {}, overrides)
    # JSON is YAML; whole sections, because a name may have dots.
    fixed = [] if "name" in base else ["name=evaluation"]
    fixed += [
        f"{role}.{key}={json.dumps(value)}"
        for role, section in sections.items()
        for key, value in section.items()
    ]
    fixed += ["generators={}", f"samples={json.dumps(samples)}"]
    return read_config(text, where, [*fixed, *overrides])


def _section(path: Path, role: str, base: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return ``source`` and ``path``; the source is left out where the user names one."""
    given = base.get(role)
    named = isinstance(given, dict) and "source" in given
    if named or any(override.startswith(f"{role}.source=") for override in overrides):
        return {"path": str(path)}
    return section_of(path)


def _named(given: str) -> tuple[str, Path]:
    name, equals, rest = given.partition("=")
    if not equals or Path(given).exists():
        path = Path(given)
        stem = path.stem if path.is_file() else path.resolve().name
        name = re.sub(r"[^A-Za-z0-9._+-]+", "-", stem).lstrip("._+-") or "samples"
    else:
        path = Path(rest)
    if not re.match(SAMPLES_NAME, name):
        raise UsageError(
            f"--synthetic {given}: '{name}' is no name; expected letters, digits and . _ + - in NAME=PATH."
        )
    return name, path
