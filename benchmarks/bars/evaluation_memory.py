"""Memory of evaluation: bounded by its setting, whatever the number of users and items."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from benchmarks.sides import Side, alternate_fresh
from benchmarks.sizes import Sizes
from benchmarks.table import Row, Target
from recsys.data.arrays import Bags
from recsys.evaluation.ranking import Vectors, rank

DIM, K = 96, 20
KNOWN_A_USER = 20
LIMITS_MB = (64, 512)
WATCH_SECONDS = 0.001


def measure(sizes: Sizes, device: str) -> list[Row]:
    """Growth of the resident set while ranking, beside the limit that was set."""
    rows = []
    for n_users, n_items in sizes.wide:
        for limit in LIMITS_MB:
            settings = {"n_users": n_users, "n_items": n_items, "limit_mb": limit}
            timing = alternate_fresh({"product": Side(start, settings)}, rounds=1)
            product = timing["product"]
            rows.append(
                Row(
                    f"evaluation memory, {n_users:,} users × {n_items:,} items, limit {limit} MB",
                    product.count("growth_mb"),
                    unit="MB",
                    bar=Target("<=", limit),
                    ours=f"{product.median:.1f} s",
                    against=f"all scores at once {n_users * n_items * 4 / 2**20:,.0f} MB",
                    note="Largest growth of the resident set, sampled every millisecond, less the "
                    "ranking that is returned and the order that breaks ties (12 bytes an item).",
                    timings=timing,
                )
            )
    return rows


def start(n_users: int, n_items: int, limit_mb: int) -> Callable[[], dict[str, float]]:
    """A run ranks everything once and measures memory meanwhile."""
    rng = np.random.default_rng(0)
    vectors = Vectors(
        rng.standard_normal((n_users, DIM), dtype=np.float32),
        rng.standard_normal((n_items, DIM), dtype=np.float32),
    )
    known = Bags(
        np.arange(n_users + 1) * KNOWN_A_USER,
        rng.integers(n_items, size=n_users * KNOWN_A_USER).astype(np.int32),
        n_items,
    )
    small = Vectors(vectors.users[:64], vectors.items[:64])
    rank(small, np.arange(64), masked=[], k=K)  # loads what libraries keep

    def run() -> dict[str, float]:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        with _watched() as peak:
            before = resident_mb()
            ranking = rank(
                vectors, np.arange(n_users), masked=[known], k=K, memory_limit_mb=limit_mb
            )
        returned = (ranking.items.nbytes + ranking.scores.nbytes + 12 * n_items) / 2**20
        return {"growth_mb": max(peak) - before - returned}

    return run


@contextmanager
def _watched() -> Iterator[list[float]]:
    """A list of the resident set's size from time to time while the block runs."""
    seen, done = [resident_mb()], threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen[0] = max(seen[0], resident_mb())
            time.sleep(WATCH_SECONDS)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def resident_mb() -> float:
    """Resident set of this process, MB of 2**20 bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20
