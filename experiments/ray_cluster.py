"""A Ray cluster: joined for a while, and given work item by item."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from experiments.launcher import Launcher, thread_variables
from experiments.signals import held
from recsys.errors import ArtifactError, BookendsError, ConfigError
from tracking.store import one_line

CONNECT_SECONDS, POLL_SECONDS = 5.0, 0.05
MOST_RETRIES = 5
"""Of a task whose machine or process is lost; one that cannot live is not to be run for ever."""
QUEUED = 2
"""Tasks for each place, so that a worker finds its next one when it has done one."""
Item = TypeVar("Item")
logger = logging.getLogger(__name__)


@contextmanager
def joined(options: Launcher) -> Iterator[None]:
    """Have this process be a driver of the cluster, until the block ends.

    Raises:
        ConfigError: none answers at the address.
    """
    address = options.ray_address or "auto"
    try:
        _check_reachable(address)
        with held():  # Ray swallows what signals raise, and would end us in the middle of anything
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"a Ray cluster must answer at '{address}' ('ray start --head' begins one), but: "
            f"{one_line(error)}"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def n_cpus(options: Launcher) -> float:
    """What each worker reserves."""
    return 1 if options.cpus_per_worker is None else options.cpus_per_worker


def done_on_cluster(
    name: str, work: Callable[[Item], Any], items: Iterable[Item], options: Launcher
) -> Iterator[tuple[Item, Any]]:
    """Each item and what work gives of it, as it is ready; in no order.

    Items are taken as there is room for them, so that few are in memory at once. What was lost
    with a machine or a process is done again. The name is what Ray shows.

    Raises:
        BookendsError: what work raised.
        ArtifactError: an item was lost again and again.
    """
    task: Any = ray.remote(_do).options(
        name=name,
        num_cpus=n_cpus(options),
        max_retries=MOST_RETRIES,
        runtime_env={"env_vars": thread_variables(n_cpus(options))},
    )
    waiting = iter(items)
    running: dict[Any, Item] = {}
    with held():
        _warn_of_none(options)
    while True:
        with held():
            for item in islice(waiting, max(0, QUEUED * _places(options) - len(running))):
                running[task.remote(work, item)] = item
            ready = ray.wait(list(running), timeout=0)[0] if running else []
            results = [(running.pop(each), _result(each)) for each in ready]
        yield from results
        if not running and not results:
            return
        if not results:
            time.sleep(POLL_SECONDS)


def _do(work: Callable[[Item], Any], item: Item) -> Any:
    return work(item)


def _result(task: Any) -> Any:
    try:
        return ray.get(task)
    except RayTaskError as error:
        if isinstance(error.cause, BookendsError):
            raise error.cause from None
        raise
    except RayError as error:
        raise ArtifactError(f"the Ray cluster lost a worker too often: {one_line(error)}") from None


def _places(options: Launcher) -> int:
    """How many workers there is room for now, at least one; machines come and go."""
    return max(1, int(_cluster_cpus() / (n_cpus(options) or 1)))


def _warn_of_none(options: Launcher) -> None:
    if n_cpus(options) > _cluster_cpus():
        logger.warning(
            "the Ray cluster has %g CPUs, a worker wants %g: it waits for them",
            _cluster_cpus(),
            n_cpus(options),
        )


def _cluster_cpus() -> float:
    return float(ray.cluster_resources().get("CPU", 0))  # type: ignore[no-untyped-call]


def _check_reachable(address: str) -> None:
    """Raise OSError where nothing listens at an address; Ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
