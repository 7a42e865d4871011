"""Limits that no real person crosses: parts within wholes, and what is measured against what the row states."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from mmbench.api import Schema

_WIDER = 1.25
"""Real deviations of the training records, widened so much, are allowed to others."""


def broken_limits(
    schema: Schema,
    names: Sequence[str],
    train: tuple[pd.DataFrame, np.ndarray],
    side: tuple[pd.DataFrame, np.ndarray],
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name of each limit and which records of a side cross it.

    Limits are learned from the training records: a quantity that is never larger than another one there (a part of it)
    must not be; and a quantity that the table has a column of the same name for, such as the waist, must not deviate
    from it by more than it does there.

    Args:
        schema: Columns of the table.
        names: Names of the quantities.
        train: Training rows and their quantities of shape (n, q).
        side: Rows and quantities of the records that are judged, shape (m, q).

    Yields:
        Name, and whether each record crosses the limit, boolean of shape (m,).
    """
    real, found = train[1], side[1]
    crossed = np.zeros(len(found), bool)
    for i in range(len(names)):
        for j in range(len(names)):
            if i != j and (real[:, i] <= real[:, j]).all():
                crossed |= found[:, i] > found[:, j]
    if len(names) > 1:
        yield "a part larger than the whole", crossed
    for j, name in enumerate(names):
        if name in schema.names and schema[name].ordered and not schema[name].discrete:
            ours, theirs = (values[:, j] - rows[name].to_numpy(float) for rows, values in (train, side))
            low, middle, high = np.nanquantile(ours, [0.005, 0.5, 0.995])
            reach = _WIDER * np.array([low - middle, high - middle])
            off = theirs - middle
            yield f"{name} measured against stated", (off < reach[0]) | (off > reach[1])
