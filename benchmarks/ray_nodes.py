"""A sweep over two nodes of a Ray cluster against two workers of one machine, and a node killed.

Both nodes are on this machine, with a CPU each, so that the cores are the same:
``python -m benchmarks.ray_nodes``, with the extra ``ray``.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.bars.sweep_workers import span_of_trials
from benchmarks.sides import ROOT, THREAD_VARIABLES
from sweeps.record import SweepRecord

NODE = {"num_cpus": 1, "object_store_memory": 200_000_000, "include_dashboard": False}
SAMPLE_SECONDS = 0.05


@dataclass(frozen=True)
class Figures:
    """Of one sweep: its seconds, those from its first trial to its last, CPU seconds of all."""

    seconds: float
    trial_seconds: float
    cpu_seconds: float


class CpuSeconds:
    """Sums what this process's descendants take within the block, those that end included."""

    def __enter__(self) -> CpuSeconds:
        self._last, self._first = self._now(), self._now()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._last |= self._now()
        self.seconds = sum(t - self._first.get(key, 0.0) for key, t in self._last.items())

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            self._last |= self._now()

    @staticmethod
    def _now() -> dict[tuple[int, float], float]:
        times = {}
        for each in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                spent = each.cpu_times()
                times[each.pid, each.create_time()] = spent.user + spent.system
        return times


@contextlib.contextmanager
def ray_cluster() -> Iterator[Any]:
    """Two nodes with a CPU each."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    try:
        cluster.add_node(**NODE)
        yield cluster
    finally:
        cluster.shutdown()


def sweep(folder: Path, name: str, n_trials: int, options: Sequence[str]) -> subprocess.Popen[str]:
    """Begin a sweep of random trials, none pruned, one thread a worker."""
    words = [
        *(sys.executable, "-m", "experiments", "sweep", "--name", name),
        *("--space", str(ROOT / "sweeps/spaces/quick.yaml"), "--sampler", "random"),
        *("--config", str(ROOT / "experiments/configs/quick.yaml"), "--pruner", "none"),
        *("--trials", str(n_trials), "--workers", "2", "--finalists", "0", "--no-final"),
        *("--baseline-trials", "0", *options),
    ]
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, "1") | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        words,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def timed(folder: Path, name: str, n_trials: int, options: Sequence[str]) -> Figures:
    """One sweep to its end."""
    started = time.monotonic()
    with CpuSeconds() as cpu:
        process = sweep(folder, name, n_trials, options)
        output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(output)
    span = span_of_trials(folder / "artifacts/sweeps" / name / "study.json")
    return Figures(time.monotonic() - started, span, cpu.seconds)


def killed(folder: Path, cluster: Any, n_trials: int, options: Sequence[str]) -> SweepRecord:
    """A sweep that loses a node once a third of its trials are complete."""
    directory = folder / "artifacts/sweeps/killed"
    process = sweep(folder, "killed", n_trials, options)
    while (
        not (directory / "study.json").exists()
        or 3 * len(SweepRecord.read(directory).in_state("complete")) < n_trials
    ):
        time.sleep(0.1)
    cluster.remove_node(cluster.list_all_nodes()[1], allow_graceful=False)
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(output)
    return SweepRecord.read(directory)


def in_turn(
    sides: Mapping[str, Sequence[str]],
    rounds: int,
    measure: Callable[[str, Sequence[str]], Any],
) -> None:
    """Measure the sides in turn, and print their figures, a dataclass each, and the medians.

    Args:
        sides: options of each.
        rounds: how often.
        measure: takes a name that no other call has, and options.
    """
    found: dict[str, list[Any]] = {name: [] for name in sides}
    for number, (name, options) in itertools.product(range(rounds), sides.items()):
        figures = measure(f"{name}{number}", options)
        found[name].append(figures)
        print(name, figures, flush=True)
    for name, each in found.items():
        medians = map(statistics.median, zip(*map(astuple, each), strict=True))
        print(name, "medians:", *(f"{value:,.1f}" for value in medians))


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, ray_cluster() as cluster:
        folder = Path(place)
        (folder / "data").symlink_to(ROOT / "data")
        epochs = ("--training.num_epochs", str(given.epochs))
        on_ray = ("--launcher", "ray", "--ray-address", cluster.address)
        sides = {"local": epochs, "ray": (*on_ray, *epochs)}
        in_turn(
            sides,
            given.rounds,
            lambda name, options: timed(folder, name, given.trials, options),
        )
        record = killed(folder, cluster, given.trials, (*on_ray, *epochs))
        drawn = [repr(sorted(trial.params.items())) for trial in record.in_state("complete")]
        print(
            f"a node killed: {len(drawn)} trials complete, {len(set(drawn))} configurations, "
            f"{len(record.in_state('failed'))} lost and run again"
        )


if __name__ == "__main__":
    main()
