"""Two sides of a comparison, run in turn as children of one process."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
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
        start: ``module:function``, see :mod:`benchmarks.serve`.
        settings: keyword arguments of that function; what JSON can hold.
        is_peer: runs in the peers' environment.
        environment: variables beside the thread counts, which all sides share.
    """

    start: str
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

    def to_json(self) -> dict[str, Any]:
        """Everything, so that a reader can take other statistics."""
        return {
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "peak_mb": self.peak_mb,
            "counted": self.counted,
        }


class RunningSide:
    """A side's process, set up and waiting."""

    def __init__(self, side: Side) -> None:
        python = str(PEER_PYTHON) if side.is_peer else sys.executable
        if not Path(python).exists():
            raise SideError("the peers' environment is not there; 'make bench' builds it")
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the process)
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.serve", side.start, json.dumps(dict(side.settings))],
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
    timings = {name: Timing() for name in sides}
    with ExitStack() as stack:
        running = {name: stack.enter_context(RunningSide(side)) for name, side in sides.items()}
        for turn in range(-warm_up, rounds):
            for name, side in running.items():
                answer = side.run()
                if turn >= 0:
                    timings[name].add(answer)
    return timings


def alternate_fresh(
    sides: Mapping[str, Side], *, rounds: int, warm_up: int = 0
) -> dict[str, Timing]:
    """The same with a new process for each run: for peak memory, and for what is done once."""
    timings = {name: Timing() for name in sides}
    for turn in range(-warm_up, rounds):
        for name, side in sides.items():
            with RunningSide(side) as running:
                answer = running.run()
            if turn >= 0:
                timings[name].add(answer)
    return timings


def run_once(side: Side) -> dict[str, Any]:
    """Start a side, run it once and give what it counted: to make files, or to measure memory."""
    with RunningSide(side) as running:
        counted: dict[str, Any] = running.run()["counted"]
    return counted
