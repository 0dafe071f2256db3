"""Workers as processes of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.launcher import THREAD_VARIABLES
from experiments.sweep.pool import Pool
from experiments.sweep.state import STORAGE_VARIABLE, TRACKING_VARIABLE, Stage

if TYPE_CHECKING:
    from experiments.sweep.session import Session


@dataclass
class LocalWorker:
    """A worker in a session of its own: a Ctrl-C reaches it through its parent."""

    process: subprocess.Popen[bytes]
    log: Path
    name: str = ""

    def ended(self) -> str | None:
        """How it ended: empty for well, else in words; None while it runs."""
        code = self.process.poll()
        if not code:
            return None if code is None else ""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"{how}: {lines[-1]}" if lines else how

    def terminate(self) -> None:
        """Ask it to give its trial back and to end."""
        if self.process.poll() is None:
            self.process.terminate()

    def wait(self, timeout: float) -> bool:
        """Wait for its end, at most so many seconds; gives whether it ended."""
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """End it now, and wait until it has."""
        self.process.kill()
        self.process.wait()


def local_pool(session: Session, stage: Stage) -> Pool:
    """The workers of a stage, as processes of this machine."""
    n_workers, tracked = session.settings.workers, session.tracked
    environment = os.environ | worker_environment(n_workers, os.environ)
    # The address goes by the environment: it may hold a password, which a command shows.
    environment |= {STORAGE_VARIABLE: session.storage.url}
    if tracked is not None:
        environment[TRACKING_VARIABLE] = tracked.uri

    def start(index: int) -> LocalWorker:
        path = session.directory.worker_log(stage, index)
        command = [
            *(sys.executable, "-m", "experiments", "sweep", "worker"),
            *("--study", session.directory.name, "--stage", stage),
            *("--index", str(index), "--parent", str(os.getpid())),
        ]
        with open(path, "ab") as log:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return LocalWorker(process, path)

    return Pool(start, n_workers)


def worker_environment(n_workers: int, environ: Mapping[str, str]) -> dict[str, str]:
    """Threads such that the workers share the cores, unless the user set them, and idle ones sleep.

    Threads that spin while they wait take the cores from the other workers.
    """
    has_affinity = hasattr(os, "sched_getaffinity")
    n_cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    n_threads = str(max(1, n_cores // n_workers))
    wanted = dict.fromkeys(THREAD_VARIABLES, n_threads) | {"OMP_WAIT_POLICY": "passive"}
    return {name: value for name, value in wanted.items() if name not in environ}
