"""Trials an hour of a sweep with one worker and with two."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.shop import FEATURE_PARAMS
from benchmarks.sides import THREAD_VARIABLES, Side, Timing, alternate, run_process
from benchmarks.sizes import Sizes
from benchmarks.table import Row, Target, number
from benchmarks.worlds import CLASSIC, distinct_world

TRIALS = {"full": 12, "quick": 4}
EPOCHS = 3
SPACE = "training.learning_rate: {float: [0.0005, 0.005], log: true}\n"


def measure(sizes: Sizes, device: str) -> list[Row]:
    """The same trials, drawn at random from one seed, none stopped early.

    One worker is timed with one thread, as each of the two has on two cores, and with all cores.
    """
    folder = sizes.folder / "sweep_workers"
    settings = {
        "folder": str(folder),
        "data": str(distinct_world(sizes.folder / "growth", sizes.growth)),
        "n_trials": TRIALS[sizes.name],
    }
    one, two = {**settings, "n_workers": 1}, {**settings, "n_workers": 2}
    sides = {
        "two workers": Side(start, {**two, "n_threads": 1}),
        "one worker, one thread": Side(start, {**one, "n_threads": 1}),
        "one worker, all cores": Side(start, {**one, "n_threads": None}),
    }
    what = "sweep, trials an hour, two workers"
    try:
        timings = alternate(sides, rounds=sizes.rounds, warm_up=0)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return rows_of(what, timings)


def rows_of(what: str, timings: dict[str, Timing]) -> list[Row]:
    """Two workers against one of one thread, and against one that has all cores."""
    two = timings.pop("two workers")
    rows = []
    for name, one in timings.items():
        of_trials = [
            3600 * side.count("trials") / side.count("trial_seconds") for side in (two, one)
        ]
        of_command = [3600 * side.rate("trials") for side in (two, one)]
        counted: dict[str, Any] = {
            "ratio of CPU seconds": two.median_cpu / one.median_cpu,
            "whole command, with start-up, baseline and report": f"{number(of_command[0])} against "
            f"{number(of_command[1])} trials an hour, {of_command[0] / of_command[1]:.2f}x",
        }
        rows.append(
            Row(
                f"{what}: {name}",
                of_trials[0] / of_trials[1],
                bar=Target(">=", 1.7) if "one thread" in name else None,
                ours=f"{number(of_trials[0])} trials an hour",
                against=number(of_trials[1]),
                note="From the start of the first trial to the end of the last. What a sweep does "
                "before and after does not grow with its trials, and would drown these short ones.",
                counted=counted,
                timings={"two workers": two, name: one},
            )
        )
    return rows


def start(
    folder: str, data: str, n_trials: int, n_workers: int, n_threads: int | None
) -> Callable[[], dict[str, float]]:
    """A run is one sweep under a new name."""
    root = Path(folder) / f"{n_workers}-{n_threads}"
    root.mkdir(parents=True, exist_ok=True)
    space = root / "space.yaml"
    space.write_text(SPACE)
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MLFLOW_") and name not in THREAD_VARIABLES
    }
    if n_threads is not None:
        environment |= dict.fromkeys(THREAD_VARIABLES, str(n_threads))
    environment["MLFLOW_DISABLE_TELEMETRY"] = "true"
    numbers = iter(range(10**6))

    def run() -> dict[str, float]:
        name = f"sweep{next(numbers)}"
        words = command(Path(data), space, name, n_trials, n_workers)
        spent = run_process(words, cwd=root, env=environment)
        trial_seconds = span_of_trials(root / "sweeps" / name / "study.json")
        return {"trials": n_trials, "trial_seconds": trial_seconds} | spent

    return run


def span_of_trials(record: Path) -> float:
    """Seconds from the start of a sweep's first trial to the end of its last."""
    trials = json.loads(record.read_text())["trials"]
    started = min(datetime.fromisoformat(trial["started"]) for trial in trials)
    return (
        max(datetime.fromisoformat(trial["ended"]) for trial in trials) - started
    ).total_seconds()


def command(data: Path, space: Path, name: str, n_trials: int, n_workers: int) -> list[str]:
    """The sweep's command line: random trials of three epochs, no pruning, no finalists."""
    settings = {
        "data.books_path": data / "books.csv",
        "data.interactions_path": data / "users.csv",
        "data.cache_dir": data / "cache",
        **{f"data.feature_params.{name}": json.dumps(v) for name, v in FEATURE_PARAMS.items()},
        "training.num_epochs": EPOCHS,
        "training.batch_size": 8192,
        "evaluation.validation_users": 2000,
    }
    options = {
        "space": space,
        "config": CLASSIC,
        "name": name,
        "trials": n_trials,
        "workers": n_workers,
        "sampler": "random",
        "pruner": "none",
        "finalists": 0,
        "sweeps-dir": "sweeps",
    }
    words = [str(Path(sys.executable).with_name("bookends")), "sweep", "start", "--no-final"]
    for option, value in {**options, **settings}.items():
        words += [f"--{option}", str(value)]
    return words
