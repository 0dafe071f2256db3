"""Threads that share out blocks of work, each computing alone.

Dozens of short steps, each shared out among the threads of torch, would spend their time meeting,
above all on a machine that has other work: whoever comes first keeps a core busy with waiting.
Blocks of many steps, one thread each, never wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch

Map = Callable[[Callable[[Any], None], Iterable[Any]], Iterable[None]]


@contextmanager
def worker_map() -> Iterator[Map]:
    """What works as ``map`` does, by as many threads as torch is set to use, each with one of them.

    The caller's torch uses one as well, until the setting is put back at the end.
    """
    n_threads = torch.get_num_threads()
    if n_threads == 1:
        yield map
        return
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(
            n_threads, initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            yield pool.map
    finally:
        torch.set_num_threads(n_threads)  # the matrix library shares one setting among threads
