"""Threads that share out blocks of work, each computing alone.

Dozens of short steps, each shared out among the threads of torch, would spend their time meeting,
above all on a machine that has other work: whoever comes first keeps a core busy with waiting.
Blocks of many steps, one thread each, never wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")


class Workers:
    """The threads of a pool, or the calling thread alone.

    Args:
        pool: of ``n`` threads; None takes the calling one.
        n: number of threads.
    """

    def __init__(self, pool: ThreadPoolExecutor | None = None, n: int = 1) -> None:
        self._pool = pool
        self.n = n

    def run(self, job: Callable[..., Result], arguments: Sequence[tuple[Any, ...]]) -> list[Result]:
        """What the job gives for each tuple of arguments, in their order."""
        return self.run_all([partial(job, *each) for each in arguments])

    def run_all(self, jobs: Sequence[Callable[[], Result]]) -> list[Result]:
        """What each job gives, in their order; the calling thread begins with the first.

        Where one raises, others may still be at work until the pool ends.
        """
        if self._pool is None or len(jobs) == 1:
            return [job() for job in jobs]
        waiting = [self._pool.submit(job) for job in jobs[1:]]
        results = [jobs[0]()]  # this thread would only wait
        taken = {}
        for place in reversed(range(len(waiting))):
            if waiting[place].cancel():  # nobody has begun with it
                taken[place] = jobs[1 + place]()
        for place, future in enumerate(waiting):
            results.append(taken[place] if place in taken else future.result())
        return results


def even_parts(n_rows: int, n_parts: int) -> list[tuple[int, int]]:
    """Start and end of each of so many parts of the rows."""
    return list(pairwise(n_rows * part // n_parts for part in range(n_parts + 1)))


@contextmanager
def worker_pool(n_others: int = 0) -> Iterator[ThreadPoolExecutor]:
    """As many threads as torch is set to use, within each of which torch uses one.

    The caller's torch uses one as well, until the setting is put back at the end.

    Args:
        n_others: so many fewer, which work beside the pool's.
    """
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(
            n_threads - n_others, initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            yield pool
    finally:
        torch.set_num_threads(n_threads)  # the matrix library shares one setting among threads


@contextmanager
def workers() -> Iterator[Workers]:
    """Those of :func:`worker_pool`, the calling thread among them."""
    n = torch.get_num_threads()
    if n == 1:
        yield Workers()
        return
    with worker_pool(n_others=1) as pool:
        yield Workers(pool, n)
