import time

from mmbench.context import WorkContext


def test_what_is_left_of_a_budget_shrinks_to_nothing():
    assert WorkContext().remaining() is None
    context = WorkContext(budget=100, started=time.monotonic() - 40)
    assert 55 < context.remaining() <= 60
    assert WorkContext(budget=10, started=time.monotonic() - 40).remaining() == 0


def test_steps_end_with_the_budget():
    spent = WorkContext(budget=1, started=time.monotonic() - 2)
    assert list(spent.steps(5, "work")) == []
    assert list(WorkContext().steps(3, "work")) == [0, 1, 2]
