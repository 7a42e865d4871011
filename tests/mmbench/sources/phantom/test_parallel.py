import os

import psutil
import pytest

from mmbench.api import CohortError
from mmbench.sources.phantom.parallel import available_cores, shared_out


def workers():
    """Processes that this one started, without Python's own keepers of shared resources."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]


@pytest.mark.parametrize("processes", [1, 2])
def test_results_keep_the_order_of_the_items(processes):
    with shared_out(abs, iter(range(0, -9, -1)), processes) as results:
        assert list(results) == list(range(9))
    assert workers() == []


def test_items_are_taken_as_needed():
    taken = []

    def items():
        for item in range(1000):
            taken.append(item)
            yield item

    with shared_out(abs, items(), 2) as results:
        assert next(results) == 0
    assert len(taken) < 10
    assert workers() == []


def test_an_error_of_the_work_passes_through():
    with pytest.raises(TypeError), shared_out(abs, [1, "one", 2], 2) as results:
        list(results)
    assert workers() == []


def test_a_process_that_dies_is_an_error_with_advice():
    with (
        pytest.raises(CohortError, match="memory runs out; set workers"),
        shared_out(os._exit, [9] * 4, 2) as results,
    ):
        list(results)
    assert workers() == []


def test_there_is_a_core():
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
