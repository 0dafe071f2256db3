"""Two sides of a comparison, run in turn as children of one process."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[1]
PEER_PYTHON = ROOT / ".bench/venv/bin/python"
THREADS = len(os.sched_getaffinity(0))
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class SideError(Exception):
    """A side could not be started, or died."""


@dataclass(frozen=True)
class Side:
    """What one side runs.

    Attributes:
        start: a function of a module, see :mod:`benchmarks.serve`; of the peers as
            ``module:function``, since their module cannot be imported here.
        settings: keyword arguments of that function; what JSON can hold.
        is_peer: runs in the peers' environment.
        environment: variables beside the thread counts, which all sides share.
    """

    start: str | Callable[..., Callable[[], dict[str, float]]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    is_peer: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Timing:
    """Runs of one side: wall seconds, CPU seconds of all its threads, and what it counted."""

    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)
    counted: list[dict[str, float]] = field(default_factory=list)

    def add(self, answer: Mapping[str, Any]) -> None:
        """Take in the figures of one run."""
        self.seconds.append(answer["seconds"])
        self.cpu_seconds.append(answer["cpu_seconds"])
        self.peak_mb.append(answer["peak_mb"])
        self.counted.append(answer["counted"])

    @property
    def median(self) -> float:
        """Median wall seconds."""
        return statistics.median(self.seconds)

    @property
    def median_cpu(self) -> float:
        """Median CPU seconds."""
        return statistics.median(self.cpu_seconds)

    @property
    def peak(self) -> float:
        """Largest resident set of any run, MB of 2**20 bytes."""
        return max(self.peak_mb)

    def count(self, name: str) -> float:
        """Median of what was counted under that name."""
        return statistics.median(counted[name] for counted in self.counted)

    def rate(self, name: str) -> float:
        """Counted a second of wall time, by medians."""
        return self.count(name) / self.median


class RunningSide:
    """A side's process, set up and waiting."""

    def __init__(self, side: Side) -> None:
        start = side.start
        if not isinstance(start, str):
            start = f"{start.__module__}:{start.__qualname__}"
        python = str(PEER_PYTHON) if side.is_peer else sys.executable
        if not Path(python).exists():
            raise SideError("the peers' environment is not there; 'make bench' builds it")
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the process)
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.serve", start, json.dumps(dict(side.settings))],
            cwd=ROOT,
            env=os.environ | dict.fromkeys(THREAD_VARIABLES, str(THREADS)) | dict(side.environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._answer()

    def run(self) -> dict[str, Any]:
        """One run's figures."""
        assert self._process.stdin is not None
        self._process.stdin.write("run\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.close()
            self._errors.seek(0)
            lines = self._errors.read().strip().splitlines()[-15:]
            code = self._process.returncode  # negative: the signal that ended it
            raise SideError("\n".join([*lines, f"the side ended with exit code {code}"]))
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        if not self._process.stdin.closed:
            self._process.stdin.close()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def alternate(sides: Mapping[str, Side], *, rounds: int, warm_up: int = 1) -> dict[str, Timing]:
    """Run all sides in turn, ``rounds`` times, after runs that are not counted.

    Each side is one process from first to last, so that memory once touched stays touched. Only
    one side works at a time; the others wait for input.
    """
    with ExitStack() as stack:
        running = {name: stack.enter_context(RunningSide(side)) for name, side in sides.items()}
        runs = {name: side.run for name, side in running.items()}
        return _in_turn(runs, rounds, warm_up)


def alternate_fresh(
    sides: Mapping[str, Side], *, rounds: int, warm_up: int = 0
) -> dict[str, Timing]:
    """The same with a new process for each run: for peak memory, and for what is done once."""
    return _in_turn(
        {name: partial(_run_fresh, side) for name, side in sides.items()}, rounds, warm_up
    )


def _in_turn(
    runs: Mapping[str, Callable[[], dict[str, Any]]], rounds: int, warm_up: int
) -> dict[str, Timing]:
    timings = {name: Timing() for name in runs}
    for turn in range(-warm_up, rounds):
        for name, run in runs.items():
            answer = run()
            if turn >= 0:
                timings[name].add(answer)
    return timings


def _run_fresh(side: Side) -> dict[str, Any]:
    with RunningSide(side) as running:
        return running.run()


def run_once(side: Side) -> dict[str, Any]:
    """Start a side, run it once and give what it counted: to make files, or to measure memory."""
    counted: dict[str, Any] = _run_fresh(side)["counted"]
    return counted


def run_process(command: list[str], **options: Any) -> dict[str, float]:
    """Run a command to its end: its wall seconds, and the CPU seconds of all its processes."""
    before, started = os.times(), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **options)
    seconds, after = time.perf_counter() - started, os.times()
    user = after.children_user - before.children_user
    system = after.children_system - before.children_system
    return {"seconds": seconds, "cpu_seconds": user + system}
