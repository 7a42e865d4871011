from __future__ import annotations

import math

import numpy as np
import pytest

from mmbench.reports import coherence_figures

NAMES = ["fresh real sample", "a $x_1$ <b>", *(f"maker {i}" for i in range(7))]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text put into a plot."""
    from matplotlib.axes import Axes

    texts: list[str] = []
    text = Axes.text

    def keep(self, x, y, s, *rest, **named):
        texts.append(s)
        return text(self, x, y, s, *rest, **named)

    monkeypatch.setattr(Axes, "text", keep)
    return texts


def test_every_difference_is_written_out(written: list[str]):
    left = {name: np.array([[0.25, math.nan], [-3.0, 0.001]]) for name in NAMES[:2]}
    right = {NAMES[0]: np.array([[0.5], [math.nan]])}
    sides = ("association", ["bmi", "sex=M"], left), ("residual", ["lean"], right)
    data = coherence_figures.difference_maps(NAMES[:2], *sides, ["fat", "lean"])
    assert data.startswith(b"\x89PNG")
    assert sorted(written) == sorted(["+0.25", "−3.00", "0"] * 2 + ["+0.50"])


def test_a_single_quantity_has_no_residual_correlation():
    left = ("association", ["bmi"], {"a": np.zeros((1, 1))})
    assert coherence_figures.difference_maps(["a"], left, ("residual", [], {}), ["fat"]).startswith(
        b"\x89PNG"
    )


def test_subgroups_and_ranks_are_drawn_the_same_each_time():
    values = {name: np.array([[0.9, 0.8, 1.0], [math.nan] * 3]) for name in NAMES}
    first, second = (coherence_figures.subgroups(NAMES, values, ["sex=F", "sex=M"], {}) for _ in range(2))
    assert first == second
    shares = {"fat": {name: np.full(10, 0.1) for name in NAMES[:3]}, "lean": {NAMES[0]: np.full(10, 0.1)}}
    first, second = (coherence_figures.rank_histograms(NAMES, shares, 0.02, {}) for _ in range(2))
    assert first == second


def test_what_has_no_ranks_says_so(written: list[str]):
    coherence_figures.rank_histograms(["a", "b"], {"fat": {"a": np.full(10, 0.1)}}, math.nan, {})
    assert written == ["no ranks"]
