"""Lists for many users by one process against two nodes of a Ray cluster with a CPU each.

All is on this machine, one thread a process, over a generated bundle:
``python -m benchmarks.ray_lists``, with the extra ``ray``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.ray_nodes import CpuSeconds, in_turn, ray_cluster
from benchmarks.serving_bundle import build_recommender
from benchmarks.sides import ROOT, THREAD_VARIABLES


@dataclass(frozen=True)
class Figures:
    """Of one command."""

    seconds: float
    users_a_second: float
    """Once two parts are there: without starting and without loading the model."""
    cpu_seconds: float


def recommend(folder: Path, out: str, shard_size: int, options: Sequence[str]) -> Figures:
    """One command to its end."""
    words = [sys.executable, "-m", "experiments", "recommend", "--model", "model", "--all-users"]
    words += ["--out", out, "--shard-size", str(shard_size), *options]
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, "1") | {"PYTHONPATH": str(ROOT)}
    started = time.monotonic()
    with CpuSeconds() as cpu:
        done = subprocess.run(
            words, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
    seconds = time.monotonic() - started
    if done.returncode:
        raise SystemExit(done.stderr)
    _, second, *others = sorted(part.stat().st_mtime for part in (folder / out).glob("part-*"))
    return Figures(seconds, len(others) * shard_size / (others[-1] - second), cpu.seconds)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--shards", type=int, default=20)
    parser.add_argument("--shard-size", type=int, default=2_500)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    os.environ |= {"RAY_worker_niceness": "0"}  # its 15 would have one side yield to others
    with tempfile.TemporaryDirectory() as place, ray_cluster() as cluster:
        folder = Path(place)
        bundle = build_recommender(given.items, given.shards * given.shard_size, 96)
        bundle.save(folder / "model")
        sides = {"one": (), "ray": ("--launcher", "ray", "--ray-address", cluster.address)}
        in_turn(
            sides,
            given.rounds,
            lambda name, options: recommend(folder, name, given.shard_size, options),
        )


if __name__ == "__main__":
    main()
