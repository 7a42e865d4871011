"""Work shared out to other processes, with nothing left running when it ends, however it ends."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

from mmbench.errors import CohortError

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 2
"""Items that are handed out for each process: none of them waits, and few results are held."""


@contextmanager
def shared_out(
    work: Callable[[Item], Result], items: Iterable[Item], processes: int
) -> Iterator[Iterator[Result]]:
    """Give the results of ``work`` in the order of ``items``; leaving the block stops what still runs.

    Args:
        work: What is done; it can be pickled, and so can its results.
        items: What it is done to, taken as needed.
        processes: How many at a time; one works in this very process.

    Raises:
        CohortError: A process died, as happens when memory runs out.
    """
    if processes == 1:
        yield map(work, items)
        return
    from loky import ProcessPoolExecutor

    # The work is elementwise: threads of numerical libraries would only wait for each other.
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    pool = ProcessPoolExecutor(processes, initializer=_end_with, initargs=(os.getpid(),), env=single)

    source = iter(items)
    waiting: deque[Future[Result]] = deque()

    def results() -> Iterator[Result]:
        waiting.extend(pool.submit(work, item) for item in islice(source, AHEAD * processes))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(work, item) for item in islice(source, 1))

    try:
        yield results()
    except BrokenProcessPool as error:
        raise CohortError(
            f"phantom: one of {processes} rendering processes died, which happens when memory runs out; "
            f"set workers to less than {processes}, or make the voxels larger."
        ) from error
    finally:
        # A pool that is killed with work not yet handed on loses track of it: such work is withdrawn first.
        wait([future for future in waiting if future.cancel()])
        pool.shutdown(wait=True, kill_workers=bool(waiting))


def _end_with(parent: int) -> None:
    """Let this process end soon after its parent, which may be killed without a chance to end it."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def available_cores() -> int:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
