"""Workers as tasks on a Ray cluster."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ray
from ray.exceptions import RayError, RayTaskError, TaskCancelledError

from experiments.launcher import Launcher, thread_variables
from experiments.ray_cluster import POLL_SECONDS, joined, n_cpus
from experiments.signals import held
from experiments.sweep.pool import Pool
from experiments.sweep.remote import Remote, served, whole_paths, work
from experiments.sweep.session import Session
from experiments.sweep.shipping import ShippedFile, ship
from experiments.sweep.state import Assignment
from recsys.data.dataset import cache_path
from recsys.errors import ConfigError
from sweeps.study import Stage
from tracking.processes import Owner
from tracking.store import one_line

KILL_SECONDS = 10.0


@contextmanager
def connected(options: Launcher) -> Iterator[Cluster]:
    """The cluster, until the block ends.

    Raises:
        ConfigError: none answers at the address, or this machine has not that to listen at.
    """
    listen = options.ray_listen
    if listen is not None and (listen == "0.0.0.0" or not _is_ours(listen)):
        raise ConfigError(f"'--ray-listen' must be one address of this machine, got '{listen}'")
    with joined(options), ExitStack() as stack:
        yield Cluster(options, stack)


@dataclass
class RayWorker:
    """A worker as a task."""

    name: str
    task: Any
    log: Path
    node: Callable[[], str | None]
    """Where it runs, once that is known."""

    def ended(self) -> str | None:
        """How it ended: empty for well, else in words; None while it runs."""
        words = self._words()
        if not words:
            return words
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"{words}\n")
        return words

    def terminate(self) -> None:
        """Ask it to give its trial back and to end; one that begins has none, and is ended."""
        begins = self.node() is None  # it may be importing, where the SIGINT would be lost
        ray.cancel(self.task, force=begins)  # else a SIGINT where it runs

    def wait(self, timeout: float) -> bool:
        """Wait for its end, at most so many seconds; gives whether it ended."""
        deadline = time.monotonic() + timeout
        while True:  # Ray, which would wait itself, swallows what signals raise
            with held():
                is_done = self._is_done()
            if is_done:
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)

    def kill(self) -> None:
        """End it now, and wait until it has."""
        ray.cancel(self.task, force=True)
        self.wait(KILL_SECONDS)

    def _words(self) -> str | None:
        if not self._is_done():
            node = self.node()
            if node is None or node in {each["NodeID"] for each in _nodes()}:
                return None
            # Ray itself awaits what a machine without a network was doing
            return f"its node, {node}, is gone"
        try:
            ray.get(self.task)
        except TaskCancelledError:
            return ""
        except RayTaskError as error:
            return one_line(error.cause)
        except RayError as error:  # its process or its machine died
            return one_line(error)
        return ""

    def _is_done(self) -> bool:
        return bool(ray.wait([self.task], timeout=0)[0])


@dataclass
class Cluster:
    """A cluster that a sweep runs on; made by :func:`connected`."""

    options: Launcher
    stack: ExitStack
    """Ends what is served."""
    _address: str | None = None
    _nodes: dict[str, str] = field(default_factory=dict)
    """Where each start of a worker runs."""
    _data: tuple[ShippedFile, ...] | None = None

    def pool(self, session: Session, stage: Stage) -> Pool:
        """The workers of a stage, as tasks on the cluster."""
        options, storage, n_workers = self.options, session.storage, session.settings.workers
        self._warn_of_few(session)
        address = self._served(session)
        url = storage.url if storage.lock_path is None else ""  # a file goes by the proxy
        function = ray.remote(_work)
        here = {"TZ": zone(time.localtime().tm_gmtoff)}
        environment = thread_variables(n_cpus(options)) | here

        def start(index: int) -> RayWorker:
            assignment = Assignment(session.directory.name, url, stage, index)
            remote = self._remote(session, address)
            task = function.options(
                name=f"{assignment.study} {stage} worker {index}",
                num_cpus=n_cpus(options),
                num_gpus=options.gpus_per_worker,
                max_retries=0,  # the study must learn first what was lost
                runtime_env={"env_vars": environment},
            )
            log = session.directory.worker_log(stage, index)
            where = partial(self._nodes.get, remote.launch)
            return RayWorker(remote.launch, task.remote(assignment, remote), log, where)

        return Pool(start, n_workers)

    def _warn_of_few(self, session: Session) -> None:
        """Say where some workers have to wait for a place."""
        n_workers, found = session.settings.workers, ray.cluster_resources()  # type: ignore[no-untyped-call]
        wanted = {"CPU": n_cpus(self.options), "GPU": self.options.gpus_per_worker or 0}
        for kind, each in wanted.items():
            if each * n_workers > found.get(kind, 0):
                session.console.say(
                    f"the Ray cluster has {found.get(kind, 0):g} {kind}s, {n_workers} workers "
                    f"want {each * n_workers:g}: those without a place wait for one"
                )

    def _served(self, session: Session) -> str:
        """The address at which this process serves its study; it does from the first call on."""
        if self._address is None:
            others = _other_hosts()
            own = _address_towards(others[0]) if others else "127.0.0.1"
            host = self.options.ray_listen or own
            files, n_workers = session.directory.finalists_dir, session.settings.workers
            serving = served(session.storage.backend, files, host, n_workers, self._nodes)
            port = self.stack.enter_context(serving)
            self._address = f"{host}:{port}"
        return self._address

    def _remote(self, session: Session, address: str) -> Remote:
        """What a worker is given beside its assignment."""
        config, asked, others = session.base.data, self.options.ray_cache_dir, _other_hosts()
        if self._data is None and (asked is not None or others):
            self._data = ship(cache_path(config, session.prepared.fingerprint), ray.put)
        uri = None if session.tracked is None else session.tracked.uri
        is_reached = uri is not None and (not others or urlsplit(uri).hostname is not None)
        return Remote(
            launch=uuid.uuid4().hex,
            parent=Owner.current(),
            address=address,
            data=self._data,
            changes={"data": whole_paths(config, asked)},
            tracking_uri=uri if is_reached else None,  # a file of ours: sent from here at the end
        )


def _work(assignment: Assignment, remote: Remote) -> None:
    work(assignment, remote, ray.get, ray.get_runtime_context().get_node_id())


def zone(seconds: int) -> str:
    """A value of ``TZ`` for so many seconds east of Greenwich; POSIX counts westwards.

    Optuna's proxy gives times without their zone.
    """
    minutes = abs(seconds) // 60
    return f"<parent>{'-' if seconds >= 0 else '+'}{minutes // 60:02}:{minutes % 60:02}"


def _other_hosts() -> list[str]:
    """Addresses of the cluster's machines that are not this one."""
    addresses = {node["NodeManagerAddress"] for node in _nodes()}
    return sorted(address for address in addresses if not _is_ours(address))


def _nodes() -> list[dict[str, Any]]:
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in nodes if node["Alive"]]


def _is_ours(address: str) -> bool:
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def _address_towards(host: str) -> str:
    """The address of this machine from which it reaches a host; nothing is sent."""
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))
        return str(probe.getsockname()[0])
