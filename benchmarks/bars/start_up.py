"""How long ``bookends --help`` takes, and that it imports nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.sides import Side, alternate, run_process
from benchmarks.sizes import Sizes
from benchmarks.table import Row, Target, number

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
        "bookends --help": Side(start),
        "python -c pass": Side(start_python),
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
    return partial(run_process, [str(Path(sys.executable).with_name("bookends")), "--help"])


def start_python() -> Callable[[], dict[str, float]]:
    """A run is one process of the bare interpreter."""
    return partial(run_process, [sys.executable, "-c", "pass"])
