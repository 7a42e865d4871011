import math

import numpy as np
import pytest

from mmbench.validity import criteria, position
from mmbench.validity.instruments import Trait


def test_shapes():
    assert criteria.falling([1, 0.6, 0.1])
    assert not criteria.falling([0.8, 1, 0.1])
    assert criteria.rising([0.1, 0.6, 1])
    assert criteria.bell([0, 0.5, 1, 0.4, 0.05], 2)
    assert not criteria.bell([0, 0.5, 0.8, 1, 0], 2)
    assert criteria.flat([0.5, 0.55])
    assert not criteria.flat([0.5, 0.56])
    assert criteria.lowest_at([0.3, -0.1, 0.2], 1)
    assert not criteria.lowest_at([-0.2, -0.1, 0.2], 1)
    assert criteria.linear([1.0, 0.52, 0.0], [0, 0.5, 1])
    assert not criteria.linear([1.0, 0.7, 0.0], [0, 0.5, 1])


@pytest.mark.parametrize("holds", [criteria.falling, criteria.rising, criteria.flat, criteria.ordered])
def test_no_criterion_holds_of_nan(holds):
    assert not holds([1.0, math.nan, 0.0])
    assert not criteria.bell([0, math.nan, 0], 1)
    assert not criteria.lowest_at([1, 0, math.nan], 1)
    assert not criteria.linear([1.0, math.nan], [0, 1])


def test_one_swap_of_five_is_still_in_order():
    assert criteria.ordered([1, 2, 4, 3, 5])
    assert not criteria.ordered([1, 3, 2, 5, 4])


def test_unbiased_allows_noise_but_not_any_amount():
    assert criteria.unbiased([0.04, 0.05, 0.03])
    assert criteria.unbiased([0.0, 0.12])
    assert not criteria.unbiased([0.1, 0.1])
    assert not criteria.unbiased([-1.0, 1.3])


def test_visible_asks_for_one_side_and_more_than_noise():
    assert criteria.visible([0.0, 0.1, 0.05], [0.5, 0.55, 0.6])
    assert not criteria.visible([0.0, 0.1, 0.05], [0.1, 0.0, 0.06])
    assert not criteria.visible([0.2, 0.2], [0.2, 0.2])


def test_same_is_relative_and_takes_nan_for_nan():
    assert criteria.same(1e6, 1e6 * (1 + 1e-12))
    assert criteria.same(math.nan, math.nan)
    assert not criteria.same(math.nan, 1.0)
    assert not criteria.same(1.0, 1.0 + 1e-9)


def trait(kind):
    return Trait("value", kind, "higher", 1.0, (0.0, 1.0), frozenset({"table"}), False, "columns")


@pytest.mark.parametrize(("kind", "published"), [("fidelity", 119), ("diversity", 113)])
def test_as_many_criteria_as_were_published(kind, published):
    asked = [len(check.held(trait(kind), np.zeros(len(check.settings)))) for check in position.checks()]
    assert sum(asked) == published


def test_a_constant_does_not_get_far():
    held = [check.held(trait("fidelity"), np.ones(len(check.settings))) for check in position.checks()]
    assert sum(sum(one.values()) for one in held) < 119 / 2
