"""Several processes that answer at one address: begun, replaced and ended together.

Each listens on a socket of its own at the same port, and the system shares connections out among
them (SO_REUSEPORT). They are forked from a process that has imported everything and begun no
thread, so that what is imported is in memory once; a bundle's arrays are mapped, so they are, too.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import NoReturn

from prometheus_client import multiprocess

from experiments.serve.meters import is_shared
from experiments.serve.model import LOG
from experiments.signals import Interrupted
from recsys.errors import BookendsError

RETRY_SECONDS = 1.0
"""Before a worker that could not begin in the place of another is started once more."""
ENDING_SECONDS = 35.0
"""What a worker is given to answer what is in work: more than it gives itself."""
_FORK = multiprocessing.get_context("fork")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
Work = Callable[[Callable[[], None]], None]
"""What a worker does until a signal ends it; it calls what it is given once it answers."""


@dataclass(frozen=True, eq=False)
class _Worker:
    """A worker, and where it says that it answers (None) or why it cannot (a line)."""

    process: BaseProcess
    said: Connection


def run_workers(n_workers: int, work: Work, on_ready: Callable[[], None]) -> None:
    """Keep so many workers at work until a signal comes.

    Args:
        n_workers: how many.
        work: of each.
        on_ready: called when all of them answer for the first time.

    Raises:
        BookendsError: one of them could not begin, or died before it answered.
        Interrupted: the signal came before all answered.
    """
    assert threading.active_count() == 1, "a fork has none but the thread that forks"
    gc.collect()
    gc.freeze()  # a collection writes into all that it looks at, and what is written is copied
    with _lifeline() as lifeline, _ended(workers := {}):
        for index in range(n_workers):
            workers[index] = _start(index, work, lifeline)
        for index in range(n_workers):
            _await(workers[index])
        on_ready()
        try:
            _replace_dead(workers, work, lifeline)
        except Interrupted:
            LOG.info("ended")


def _start(index: int, work: Work, lifeline: tuple[int, int]) -> _Worker:
    said, says = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=_run, args=(work, says, lifeline), name=f"worker-{index}")
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # the worker takes them when it is ready to
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    says.close()
    return _Worker(process, said)


def _await(worker: _Worker) -> None:
    """Wait until a worker answers."""
    try:
        line = worker.said.recv()
    except EOFError:
        worker.process.join()
        how = f"exit code {worker.process.exitcode}"
        raise BookendsError(f"{worker.process.name} must answer, but ended ({how})") from None
    if line is not None:
        raise BookendsError(line)


def _replace_dead(workers: dict[int, _Worker], work: Work, lifeline: tuple[int, int]) -> NoReturn:
    """Start workers anew that died, one after the other.

    One that cannot load the model any more is tried again and again: the others go on answering.
    """
    while True:
        wait([worker.process.sentinel for worker in workers.values()])
        for index, worker in workers.items():
            if worker.process.is_alive():
                continue
            worker.process.join()
            LOG.error(
                "%s ended with exit code %s and is replaced",
                worker.process.name,
                worker.process.exitcode,
            )
            _forget(worker)
            workers[index] = _start(index, work, lifeline)
            try:
                _await(workers[index])
            except BookendsError as error:
                LOG.error("%s", error)
                time.sleep(RETRY_SECONDS)


def _forget(worker: _Worker) -> None:
    """Have a worker that is gone count no more as one that answers."""
    worker.said.close()
    if is_shared() and worker.process.pid is not None:
        multiprocess.mark_process_dead(worker.process.pid)  # type: ignore[no-untyped-call]


@contextmanager
def _ended(workers: dict[int, _Worker]) -> Iterator[None]:
    """Ask all workers to end when the block is left, and wait until they have."""
    try:
        yield
    finally:
        for worker in workers.values():
            worker.process.terminate()
        for worker in workers.values():
            worker.process.join(ENDING_SECONDS)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            _forget(worker)


@contextmanager
def _lifeline() -> Iterator[tuple[int, int]]:
    """A pipe whose writing end only we hold: it closes when we are gone, however that came."""
    reading, writing = os.pipe()
    try:
        yield reading, writing
    finally:
        os.close(reading)
        os.close(writing)


def _run(work: Work, says: Connection, lifeline: tuple[int, int]) -> None:
    """What a worker does, from its first line to its last."""
    os.setpgid(0, 0)  # a Ctrl-C reaches it through us
    reading, writing = lifeline
    os.close(writing)
    threading.Thread(target=_end_with_parent, args=(reading,), daemon=True).start()
    with suppress(Interrupted):  # which may come while we say why we cannot begin
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        try:
            work(lambda: says.send(None))
        except BookendsError as error:
            says.send(str(error))
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # there is nothing left to end


def _end_with_parent(reading: int) -> None:
    os.read(reading, 1)  # nobody writes: this returns when the other end closes
    os.kill(os.getpid(), signal.SIGTERM)
