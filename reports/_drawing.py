"""What all figures share: colours, type, and how a drawing becomes bytes."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#1f2430"
FAINT = "#8a90a0"
GRID = "#e4e6ec"
CEILING = "#1b7f5c"
NULL = "#b5482f"
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "grid.color": GRID,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": "white",
    "legend.frameon": False,
    # Column names are text, not formulas: a dollar sign must not start one.
    "text.parse_math": False,
    "svg.hashsalt": "mmbench",
    "svg.fonttype": "path",
}


def render(width: float, height: float, draw: Callable[[Figure], None], suffix: str, dpi: int = 110) -> bytes:
    """Draw on a figure of ``width`` x ``height`` inches that no global state knows of."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    buffer = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        # Dates and version texts would make the bytes differ from build to build.
        metadata = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}[suffix]
        figure.savefig(buffer, format=suffix, metadata=metadata)
    return buffer.getvalue()


def shorten(text: Any, most: int) -> str:
    """Return a text cut to so many letters."""
    text = str(text)
    return text if len(text) <= most else text[: most - 1] + "…"


def wrap(text: str, width: int) -> str:
    """Break a text into lines, within words too where a word is longer than a line."""
    lines: list[str] = []
    for word in text.split():
        pieces = [word[i : i + width] for i in range(0, len(word), width)]
        for piece in pieces:
            if lines and len(lines[-1]) + 1 + len(piece) <= width:
                lines[-1] += f" {piece}"
            else:
                lines.append(piece)
    return "\n".join(lines)
