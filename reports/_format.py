"""Numbers, lists and states as text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

NOTHING = "–"


def number(value: Any, scale: float | None = None) -> str:
    """Return a number with three significant digits, a dash for a missing one.

    Args:
        value: The number.
        scale: Magnitude that sets the decimals, so that an interval's ends match its value.
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    size = abs(scale if scale is not None and math.isfinite(scale) else value)
    if size == 0:
        return "0"
    exponent = math.floor(math.log10(size))
    if (value and exponent < -4) or exponent > 6:
        return f"{value:.2e}".replace("-", "−")
    text = f"{value:.{min(max(2 - exponent, 0), 5)}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def estimate(value: float, low: float, high: float) -> tuple[str, str]:
    """Return a value and its interval ``[low, high]`` with the same decimals; the latter may be empty."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return number(value), ""
    scale = max(abs(value), (high - low) / 2) if math.isfinite(value) else max(abs(low), abs(high))
    return number(value, scale), f"[{number(low, scale)}, {number(high, scale)}]"


def scaled_text(scaled: float) -> str:
    """Return a scaled score with two decimals."""
    return f"{scaled:z.2f}".replace("-", "−") if math.isfinite(scaled) else NOTHING


def p_values(values: Sequence[float]) -> str:
    """Return a p-value, or the range of several."""
    least, most = min(values), max(values)
    if least == most:
        return f"p = {p_value(least)}"
    return f"p from {p_value(least)} to {p_value(most)}"


def p_value(p: float) -> str:
    """Return a p-value with the digits that matter; a smaller one than any test can tell is cut off."""
    if not math.isfinite(p):
        return NOTHING
    return "0.0001 or less" if p < 1e-4 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def duration(seconds: float | None) -> str:
    """Return seconds as text with units."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left:02d} min" if hours else f"{minutes} min {rest:02d} s"


def mebibytes(value: float | None) -> str:
    """Return mebibytes as text with their unit."""
    return NOTHING if value is None or not math.isfinite(value) else f"{value:,.0f} MiB".replace(",", " ")


def enumerated(words: Iterable[str]) -> str:
    """Return ``a, b and c``."""
    items = list(words)
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else "none"


def plural(n: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def status_text(status: str) -> str:
    """Return a status as words."""
    return status.replace("_", " ")
