"""Processes that do what a command does, without the seconds of a core that importing takes.

On Linux they are forked from one that has imported everything and done nothing. Elsewhere, where
libraries of the system do not stand a fork, each imports for itself.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

if sys.platform == "linux":
    _CONTEXT = multiprocessing.get_context("forkserver")
else:
    _CONTEXT = multiprocessing.get_context("spawn")


def warm_up(environment: Mapping[str, str]) -> None:
    """Start the process that others are forked from, which imports while this one goes on.

    Args:
        environment: variables that libraries read when they are loaded, such as of threads.
    """
    if sys.platform == "linux":
        from multiprocessing.forkserver import ensure_running

        _CONTEXT.set_forkserver_preload(["experiments.preloaded"])
        with _environ(environment):
            ensure_running()


def start(words: Sequence[str], environment: Mapping[str, str], log: Path) -> BaseProcess:
    """Start ``bookends WORDS`` in a session of its own: a Ctrl-C reaches it through its parent.

    Args:
        words: of the command.
        environment: variables that it has besides those of this process.
        log: file that its output is added to.
    """
    process = _CONTEXT.Process(target=_run, args=(list(words), os.environ | environment, log))
    process.start()
    return process


def is_orphan() -> bool:
    """Whether the process that started this one has ended."""
    parent = multiprocessing.parent_process()
    return parent is None or not parent.is_alive()


@contextmanager
def _environ(changes: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _run(words: list[str], environment: dict[str, str], log: Path) -> None:
    os.setsid()
    with log.open("ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.environ.clear()
    os.environ.update(environment)

    import torch

    from experiments.cli import main

    with suppress(KeyError, ValueError):  # once it is loaded, it does not look
        torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    main(words)
