"""What serving a bundle takes: bytes on disk, and the time to answer one reader."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recsys.evaluation.gate import ServingCost
from recsys.recommender import Recommender

_WARM_UP = 20
_CALLS = 300
_SECONDS = 10.0
_SEED = 0


def measure(bundle: Path) -> ServingCost:
    """Load a bundle and ask it for one reader after another, as a server would.

    The first answers are not counted: they pay for what is loaded once. Readers are drawn with a
    fixed seed. The time is this machine's, in this process, with nothing around the model.

    Args:
        bundle: directory that ``Recommender.save`` wrote.

    Raises:
        ArtifactError: the bundle is missing or damaged.
    """
    recommender = Recommender.load(bundle)
    drawn = np.random.default_rng(_SEED).integers(len(recommender.users), size=_WARM_UP + _CALLS)
    readers = [str(reader) for reader in recommender.users.id_of(drawn)]
    k = min(10, len(recommender.items))
    times = _answer_times(recommender, readers, k)
    n_bytes = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
    return ServingCost(n_bytes, float(np.percentile(times, 95)) * 1000)


def _answer_times(recommender: Recommender, readers: Sequence[str], k: int) -> list[float]:
    """Seconds of each counted answer; a slow model gets fewer, but always some."""
    for reader in readers[:_WARM_UP]:
        recommender.recommend([reader], k=k)
    times: list[float] = []
    end = time.perf_counter() + _SECONDS
    for reader in readers[_WARM_UP:]:
        begun = time.perf_counter()
        recommender.recommend([reader], k=k)
        times.append(time.perf_counter() - begun)
        if begun > end:
            break
    return times
