"""Threads that share out blocks of work, each computing alone.

Dozens of short steps, each shared out among the threads of torch, would spend their time meeting,
above all on a machine that has other work. Blocks of many steps, one thread each, never wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch


@contextmanager
def worker_pool() -> Iterator[ThreadPoolExecutor]:
    """As many threads as torch is set to use, within each of which torch uses one.

    The setting is put back at the end. Until then the caller should leave torch to the workers.
    """
    n_threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(
            n_threads, initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            yield pool
    finally:
        torch.set_num_threads(n_threads)  # the matrix library shares one setting among threads
