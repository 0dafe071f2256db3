"""Which workers a sweep has: processes of this machine, or tasks on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from experiments.launcher import Launcher, ray_imported
from experiments.sweep.local import local_pool
from experiments.sweep.pool import Pool
from experiments.sweep.session import Session
from experiments.sweep.state import Stage

NewPool = Callable[[Session, Stage], Pool]


@contextmanager
def launching(launcher: Launcher) -> Iterator[NewPool]:
    """What makes the pools of a sweep, until the block ends.

    Raises:
        ConfigError: the extra is not installed, or no cluster answers.
    """
    launcher.check()
    if launcher.name == "local":
        yield local_pool
        return
    with ray_imported():
        from experiments.sweep.ray_cluster import connected
    with connected(launcher) as cluster:
        yield cluster.pool
