"""The second use of a prepared data set: how fast, and whether processes share its memory."""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.sides import Side, alternate_fresh, run_once
from benchmarks.sizes import Sizes
from benchmarks.table import Row, Target, number
from benchmarks.worlds import raw_world
from recsys.config import DataConfig
from recsys.data.dataset import Prepared, prepare_cached


def measure(sizes: Sizes, device: str) -> list[Row]:
    """Seconds until a fresh process holds the data set, and what it keeps for itself."""
    folder = raw_world(sizes.folder / "second_use", sizes.second_use)
    side = Side(start, {"folder": str(folder)})
    run_once(side)  # the first use
    timings = alternate_fresh({"product": side}, rounds=max(sizes.rounds, 5))
    ours = timings["product"]
    what = f"second use, {sizes.second_use.interactions:,} interactions"
    counted = {name: ours.count(name) for name in ("array_mb", "private_mb", "touch_seconds")}
    return [
        Row(
            what,
            ours.median,
            unit="s",
            bar=Target("<=", 1.0),
            ours=f"{number(ours.median)} s",
            note="Fresh process, imports done; both files are hashed again to be sure they are "
            "the same. private_mb is what the process then holds for itself beyond what it held "
            "before, every array having been read: the arrays are the page cache's, shared by all.",
            counted=counted,
            timings=timings,
        ),
        Row(
            f"{what}, memory-mapped",
            ours.count("mapped_mb") / ours.count("array_mb"),
            unit="of the arrays",
            bar=Target(">=", 1.0),
            ours=f"{number(ours.count('mapped_mb'))} MB",
            against=f"of {number(ours.count('array_mb'))} MB",
        ),
    ]


def start(folder: str) -> Callable[[], dict[str, float]]:
    """A run loads the prepared data set; then every array is read and private memory measured."""
    path = Path(folder)
    config = DataConfig(
        books_path=path / "books.csv",
        interactions_path=path / "users.csv",
        cache_dir=path / "cache",
    )

    def run() -> dict[str, float]:
        before = private_mb()
        cpu, started = time.process_time(), time.perf_counter()
        prepared = prepare_cached(config, 0)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        started = time.perf_counter()
        found = list(arrays(prepared))
        for array in found:
            array.max(initial=0)
        return {
            "seconds": seconds,
            "cpu_seconds": cpu,
            "touch_seconds": time.perf_counter() - started,
            "array_mb": sum(array.nbytes for array in found) / 2**20,
            "mapped_mb": sum(array.nbytes for array in found if is_mapped(array)) / 2**20,
            "private_mb": private_mb() - before,
        }

    return run


def arrays(prepared: Prepared) -> Iterator[np.ndarray]:
    """Every array of interactions and features."""
    for interactions in (prepared.train, prepared.validation, prepared.test):
        yield from (interactions.users, interactions.items)
        if interactions.times is not None:
            yield interactions.times
        if interactions.ratings is not None:
            yield interactions.ratings
    for features in (prepared.user_features, prepared.item_features):
        yield features.dense
        for bags in features.bags.values():
            yield from (bags.offsets, bags.indices)
            if bags.weights is not None:
                yield bags.weights


def is_mapped(array: np.ndarray) -> bool:
    """Whether the array lies in a file that is mapped; an empty one needs none."""
    owner: object = array
    while isinstance(owner, np.ndarray) and owner.base is not None:
        owner = owner.base
    return not len(array) or isinstance(owner, mmap.mmap)


def private_mb() -> float:
    """Memory of this process that no other can share, MB of 2**20 bytes."""
    with open("/proc/self/smaps_rollup") as file:
        fields = dict(line.split(":", 1) for line in list(file)[1:])
    return int(fields["Private_Dirty"].split()[0]) / 1024
