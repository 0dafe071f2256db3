"""Threads that share out blocks of work, each computing alone.

Dozens of short steps, each shared out among the threads of torch, would spend their time meeting,
above all on a machine that has other work: whoever comes first keeps a core busy with waiting.
Blocks of many steps, one thread each, never wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch


@contextmanager
def worker_pool() -> Iterator[ThreadPoolExecutor]:
    """As many threads as torch is set to use, within each of which torch uses one.

    The caller's torch uses one as well, until the setting is put back at the end.
    """
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(
            n_threads, initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            yield pool
    finally:
        torch.set_num_threads(n_threads)  # the matrix library shares one setting among threads
