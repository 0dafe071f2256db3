"""Worker processes on this machine: started, watched, replaced when they die, ended."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from experiments.sweep.directory import SweepDirectory
from experiments.sweep.state import STORAGE_VARIABLE, TRACKING_VARIABLE, Assignment

MOST_REPLACEMENTS = 5
"""Per worker: one that cannot live is not to be started for ever."""
ENDING_SECONDS = 30.0
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
logger = logging.getLogger(__name__)


@dataclass
class WorkerPool:
    """The workers of one stage, in a session of their own: a Ctrl-C reaches them through us.

    Attributes:
        assignment: what they work on.
        directory: of the sweep.
        tracking_uri: the tracker's; None for none.
        n_workers: how many.
    """

    assignment: Assignment
    directory: SweepDirectory
    tracking_uri: str | None
    n_workers: int
    _running: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    _replaced: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, wanted: int) -> None:
        """Start workers that do not run, at most so many in all."""
        for index in range(min(wanted, self.n_workers)):
            if index not in self._running:
                self._running[index] = self._start(index)

    def collect(self) -> bool:
        """Forget the workers that ended; gives whether any of them died."""
        before = self._replaced
        for index, process in list(self._running.items()):
            code = process.poll()
            if code is None:
                continue
            del self._running[index]
            if code != 0:
                self._replaced += 1
                how = f"signal {-code}" if code < 0 else f"exit code {code}"
                logger.warning("worker %d ended with %s%s", index, how, self._last_words(index))
        return self._replaced > before

    @property
    def n_running(self) -> int:
        """Workers that were alive when last looked at."""
        return len(self._running)

    @property
    def is_exhausted(self) -> bool:
        """Whether so many workers died that no more are to be started."""
        return self._replaced > MOST_REPLACEMENTS * self.n_workers

    def stop(self) -> None:
        """Ask all workers to end and wait until they have."""
        for process in self._running.values():
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + ENDING_SECONDS
        for process in self._running.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()

    def _start(self, index: int) -> subprocess.Popen[bytes]:
        stage = self.assignment.stage or "search"
        command = [
            *(sys.executable, "-m", "experiments", "sweep", "worker"),
            *("--study", self.assignment.study, "--stage", stage),
            *("--index", str(index), "--parent", str(os.getpid())),
        ]
        # The address goes by the environment: it may hold a password, which a command shows.
        environment = os.environ | worker_environment(self.n_workers, os.environ)
        environment[STORAGE_VARIABLE] = self.assignment.storage
        if self.tracking_uri is not None:
            environment[TRACKING_VARIABLE] = self.tracking_uri
        with open(self.directory.worker_log(stage, index), "ab") as log:
            return subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _last_words(self, index: int) -> str:
        path = self.directory.worker_log(self.assignment.stage or "search", index)
        lines = path.read_text(errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""


def worker_environment(n_workers: int, environ: Mapping[str, str]) -> dict[str, str]:
    """Threads such that the workers share the cores, unless the user set them, and idle ones sleep.

    Threads that spin while they wait take the cores from the other workers.
    """
    has_affinity = hasattr(os, "sched_getaffinity")
    n_cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    n_threads = str(max(1, n_cores // n_workers))
    wanted = dict.fromkeys(_THREAD_VARIABLES, n_threads) | {"OMP_WAIT_POLICY": "passive"}
    return {name: value for name, value in wanted.items() if name not in environ}
