"""The workers of one stage of a sweep: started, missed and ended, wherever they run."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from experiments import children
from experiments.launcher import local_threads
from experiments.signals import held
from experiments.sweep.state import STORAGE_VARIABLE, TRACKING_VARIABLE
from sweeps.study import Stage
from tracking.processes import Life, Owner

if TYPE_CHECKING:
    from experiments.sweep.session import Session

MOST_REPLACEMENTS = 5
"""Per worker: one that cannot live is not to be started for ever."""
ENDING_SECONDS = 30.0
LAUNCH = "launch"
"""Of a trial's first note: which start of a worker runs it, where that is known by a name."""
logger = logging.getLogger(__name__)


class StartedWorker(Protocol):
    """A worker that was started."""

    name: str
    """Of this one start; empty where processes tell themselves apart."""

    def ended(self) -> str | None:
        """How it ended: empty for well, else in words; None while it runs."""

    def terminate(self) -> None:
        """Ask it to give its trial back and to end."""

    def wait(self, timeout: float) -> bool:
        """Wait for its end, at most so many seconds; gives whether it ended."""

    def kill(self) -> None:
        """End it now, and wait until it has."""


@dataclass
class Pool:
    """The workers of one stage; leaving its context ends them."""

    start_worker: Callable[[int], StartedWorker]
    n_workers: int
    _running: dict[int, StartedWorker] = field(default_factory=dict)
    _replaced: int = 0

    def __enter__(self) -> Self:
        return self

    def start(self, wanted: int) -> None:
        """Start workers that do not run, at most so many in all."""
        for index in range(min(wanted, self.n_workers)):
            if index not in self._running:
                with held():  # none may be started and forgotten
                    self._running[index] = self.start_worker(index)

    def collect(self) -> bool:
        """Forget the workers that ended; gives whether any of them died."""
        before = self._replaced
        for index, worker in list(self._running.items()):
            with held():  # Ray swallows what signals raise
                how = worker.ended()
            if how is None:
                continue
            del self._running[index]
            if how:
                self._replaced += 1
                logger.warning("worker %d ended with %s", index, how)
        return self._replaced > before

    @property
    def n_running(self) -> int:
        """Workers that were alive when last looked at."""
        return len(self._running)

    @property
    def names(self) -> frozenset[str]:
        """Of the starts of those workers."""
        return frozenset(worker.name for worker in self._running.values())

    @property
    def is_exhausted(self) -> bool:
        """Whether so many workers died that no more are to be started."""
        return self._replaced > MOST_REPLACEMENTS * self.n_workers

    def __exit__(self, *_: object) -> None:
        """Ask all workers to end and wait until they have."""
        with held():
            for worker in self._running.values():
                worker.terminate()
        deadline = time.monotonic() + ENDING_SECONDS
        for worker in self._running.values():
            if not worker.wait(max(0.0, deadline - time.monotonic())):
                worker.kill()
        self._running.clear()


def life_of(note: Mapping[str, Any], running: Iterable[str] = ()) -> Life | None:
    """Whether the worker lives that wrote a trial's first note; None where it wrote none.

    Its process can be looked at on its own machine only. One that is known by the name of its start
    lives as long as its parent, which knows whether it runs.

    Args:
        note: of the trial.
        running: names of the starts of the workers that run for this process.
    """
    launch = note.get(LAUNCH)
    if launch is not None:
        parent = Owner(**launch["parent"])
        if parent == Owner.current():
            return "alive" if launch["name"] in running else "dead"
        return parent.life()
    return Owner(**note["owner"]).life() if note.get("owner") else None


@dataclass
class LocalWorker:
    """A worker in a process of this machine."""

    process: BaseProcess
    log: Path
    name: str = ""

    def ended(self) -> str | None:
        """How it ended: empty for well, else in words; None while it runs."""
        code = self.process.exitcode
        if not code:
            return None if code is None else ""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"{how}: {lines[-1]}" if lines else how

    def terminate(self) -> None:
        """Ask it to give its trial back and to end."""
        self.process.terminate()

    def wait(self, timeout: float) -> bool:
        """Wait for its end, at most so many seconds; gives whether it ended."""
        self.process.join(timeout)
        return self.process.exitcode is not None

    def kill(self) -> None:
        """End it now, and wait until it has."""
        self.process.kill()
        self.process.join()


def local_pool(session: Session, stage: Stage) -> Pool:
    """The workers of a stage, as processes of this machine."""
    n_workers, tracked = session.settings.workers, session.tracked
    # The address goes by the environment: it may hold a password, which a command shows.
    environment = local_threads(n_workers) | {STORAGE_VARIABLE: session.storage.url}
    if tracked is not None:
        environment[TRACKING_VARIABLE] = tracked.uri

    def start(index: int) -> LocalWorker:
        path = session.directory.worker_log(stage, index)
        words = ["--study", session.directory.name, "--stage", stage, "--index", str(index)]
        command = ["sweep", "worker", *words, "--with-parent"]
        return LocalWorker(children.start(command, environment, path), path)

    return Pool(start, n_workers)
