"""Work of which JAX leaves the interpreter alone, in as many threads as there are cores."""

import collections
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from typing import TypeVar

from scripts.shell import stopping

Job = TypeVar("Job")
Result = TypeVar("Result")


def on_all_cores(
    work: Callable[[Job], Result], jobs: Iterable[Job], stop: stopping.Stop
) -> Iterator[Result]:
    """Yields the results of jobs in order, until the stop; the first is done alone: it compiles."""
    jobs = iter(jobs)
    for first in jobs:
        if stop:
            return
        yield work(first)
        break
    num_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    num_threads = num_threads or os.cpu_count() or 1
    with futures.ThreadPoolExecutor(num_threads) as pool:
        pending: collections.deque = collections.deque()
        while not stop:
            for job in jobs:
                pending.append(pool.submit(work, job))
                if len(pending) > 2 * num_threads:
                    break
            if not pending:
                return
            yield pending.popleft().result()
        for future in pending:
            future.cancel()
