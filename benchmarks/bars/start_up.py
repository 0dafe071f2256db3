"""How long ``bookends --help`` takes, and that it imports nothing heavy."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.sides import Side, alternate
from benchmarks.sizes import Sizes
from benchmarks.table import Row, Target, number

RUNS_ON_CUDA = False
HERE = "benchmarks.bars.start_up"
HEAVY = ("torch", "mlflow", "optuna", "pandas", "matplotlib")
LOOK = """
import sys
from experiments.cli import main
try:
    main(["--help"])
except SystemExit:
    print(*(name for name in {heavy!r} if name in sys.modules), file=sys.stderr)
"""


def measure(sizes: Sizes, device: str) -> list[Row]:
    """Wall time of the command, a process each."""
    sides = {
        "bookends --help": Side(f"{HERE}:start"),
        "python -c pass": Side(f"{HERE}:start_python"),
    }
    timings = alternate(sides, rounds=max(3 * sizes.rounds, 9), warm_up=2)
    ours, python = timings.values()
    found = imported()
    return [
        Row(
            "start-up, bookends --help",
            ours.median,
            unit="s",
            bar=Target("<=", 0.3),
            ours=f"{number(ours.median)} s",
            against=f"python -c pass {number(python.median)} s",
            note=f"Of {', '.join(HEAVY)} it imports: {', '.join(found) or 'none'}.",
            timings=timings,
        )
    ]


def imported() -> list[str]:
    """Which heavy packages the command imports."""
    done = subprocess.run(
        [sys.executable, "-c", LOOK.format(heavy=HEAVY)], capture_output=True, text=True, check=True
    )
    return done.stderr.split()


def start() -> Callable[[], dict[str, float]]:
    """A run is one process of the installed command."""
    return _process([str(Path(sys.executable).with_name("bookends")), "--help"])


def start_python() -> Callable[[], dict[str, float]]:
    """A run is one process of the bare interpreter."""
    return _process([sys.executable, "-c", "pass"])


def _process(command: list[str]) -> Callable[[], dict[str, float]]:
    def run() -> dict[str, float]:
        before, started = os.times(), time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds, after = time.perf_counter() - started, os.times()
        user = after.children_user - before.children_user
        system = after.children_system - before.children_system
        return {"seconds": seconds, "cpu_seconds": user + system}

    return run
