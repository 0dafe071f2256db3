"""implicit's evaluation of given factors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from implicit.evaluation import ranking_metrics_at_k

from benchmarks.peers.arrays import THREADS, interactions


def start(path: str, factors: str, k: int) -> Callable[[], dict[str, float]]:
    """A run ranks all items for every test user, train items left out, and computes its metrics."""
    train, test = interactions(path, "train"), interactions(path, "test")
    model = AlternatingLeastSquares(factors=1, num_threads=THREADS)
    with np.load(factors) as arrays:
        model.user_factors, model.item_factors = arrays["users"], arrays["items"]

    def run() -> dict[str, float]:
        found = ranking_metrics_at_k(
            model, train, test, K=k, show_progress=False, num_threads=THREADS
        )
        return {"users": int((np.diff(test.indptr) > 0).sum()), "recall": found["precision"]}

    return run
