"""From two files to a cached data set: the product against a straightforward pandas pipeline."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.plain_pipeline import run_plain_pipeline
from benchmarks.sides import Side, alternate_fresh
from benchmarks.sizes import Log, Sizes
from benchmarks.table import Row, Target, number
from benchmarks.worlds import raw_world
from recsys.config import DataConfig
from recsys.data.dataset import prepare_cached

MIN_USER, MIN_ITEM = 5, 10
Run = Callable[[], dict[str, float]]
GIGABYTE = 1024


def measure(sizes: Sizes, device: str) -> list[Row]:
    """Time and peak memory of a fresh process, files in the page cache."""
    folder = raw_world(sizes.folder / "data_path", sizes.data_path)
    settings = {"folder": str(folder)}
    timings = alternate_fresh(
        {
            "product": Side(start_product, settings),
            "pandas": Side(start_plain, settings),
        },
        rounds=sizes.rounds,
        warm_up=1,
    )
    ours, plain = timings["product"], timings["pandas"]
    what = f"load to cache, {_shown(sizes.data_path)}"
    left = {
        f"{name} left": ours.count(name) for name in ("users", "items", "train", "user_entries")
    } | {f"{name}, pandas": plain.count(name) for name in ("users", "items", "train")}
    rows = [
        Row(
            what,
            plain.median / ours.median,
            bar=Target(">=", 4.0),
            ours=f"{number(ours.median)} s",
            against=f"pandas {number(plain.median)} s",
            note="The product also checks every row, hashes both files and sorts the vocabularies.",
            counted={"ratio of CPU seconds": plain.median_cpu / ours.median_cpu, **left},
            timings=timings,
        ),
        Row(
            f"{what}, peak memory",
            ours.peak / GIGABYTE,
            unit="GB",
            bar=Target("<=", 2.0),
            ours=f"{number(ours.peak / GIGABYTE)} GB",
            against=f"pandas {number(plain.peak / GIGABYTE)} GB",
        ),
    ]
    if sizes.large_data_path is not None:
        rows.append(_large(sizes, sizes.large_data_path))
    return rows


def _large(sizes: Sizes, log: Log) -> Row:
    folder = raw_world(sizes.folder / "large_data_path", log)
    side = Side(start_product, {"folder": str(folder)})
    timings = alternate_fresh({"product": side}, rounds=1)
    ours = timings["product"]
    return Row(
        f"load to cache, {_shown(log)}, peak memory",
        ours.peak / GIGABYTE,
        unit="GB",
        beyond=Target("<=", 6.0),
        ours=f"{number(ours.median)} s",
        note="Run once: memory does not swing as time does.",
        timings=timings,
    )


def _shown(log: Log) -> str:
    return f"{log.interactions:,} interactions, {log.users:,} users, {log.items:,} books"


def start_product(folder: str) -> Run:
    """A run prepares the data set into an empty cache."""

    def prepare(cache: Path) -> dict[str, float]:
        config = DataConfig(
            books_path=Path(folder) / "books.csv",
            interactions_path=Path(folder) / "users.csv",
            cache_dir=cache,
            min_user_interactions=MIN_USER,
            min_item_interactions=MIN_ITEM,
        )
        prepared = prepare_cached(config, 0)
        entries = sum(len(bag.indices) for bag in prepared.user_features.bags.values())
        return {
            "users": len(prepared.users),
            "items": len(prepared.items),
            "train": len(prepared.train),
            "user_entries": entries,
        }

    return partial(_with_empty_cache, folder, prepare)


def start_plain(folder: str) -> Run:
    """A run does the same with pandas."""
    numeric = DataConfig().feature_params.numeric_columns

    def prepare(cache: Path) -> dict[str, float]:
        return run_plain_pipeline(
            Path(folder), cache, min_user=MIN_USER, min_item=MIN_ITEM, numeric_columns=numeric
        )

    return partial(_with_empty_cache, folder, prepare)


def _with_empty_cache(folder: str, prepare: Callable[[Path], dict[str, float]]) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=folder, prefix="cache-") as cache:
        return prepare(Path(cache))
