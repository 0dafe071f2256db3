"""implicit's BPR, by ids alone."""

from __future__ import annotations

import time
from collections.abc import Callable

from implicit.cpu.bpr import BayesianPersonalizedRanking

from benchmarks.peers.arrays import THREADS, interactions

ITERATIONS = 3


def start(path: str, dim: int) -> Callable[[], dict[str, float]]:
    """A run is three iterations; what ``fit`` does before the first is not counted."""
    train = interactions(path, "train")

    def run() -> dict[str, float]:
        model = BayesianPersonalizedRanking(
            factors=dim - 1,  # it adds a bias
            iterations=ITERATIONS + 1,
            num_threads=THREADS,
            random_state=0,
        )
        marks: list[tuple[float, float]] = []
        model.fit(
            train,
            show_progress=False,
            callback=lambda *_: marks.append((time.perf_counter(), time.process_time())),
        )
        (wall, cpu), (wall_end, cpu_end) = marks[0], marks[-1]
        return {
            "positives": ITERATIONS * train.nnz,
            "seconds": wall_end - wall,
            "cpu_seconds": cpu_end - cpu,
        }

    return run
