"""LightFM's BPR, by ids alone or with the items' features."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from lightfm import LightFM
from scipy import sparse

from benchmarks.peers.arrays import THREADS, interactions, item_features


def start(path: str, dim: int, with_features: bool) -> Callable[[], dict[str, float]]:
    """A run is one epoch over all train interactions.

    With features, each item keeps an embedding of its own beside them, as LightFM's own
    ``Dataset`` would give it.
    """
    train = interactions(path, "train").tocoo()
    features = None
    if with_features:
        identity = sparse.identity(train.shape[1], dtype=np.float32, format="csr")
        features = sparse.hstack([identity, item_features(path)], format="csr", dtype=np.float32)
    model = LightFM(no_components=dim, loss="bpr", random_state=0)

    def run() -> dict[str, float]:
        model.fit_partial(train, item_features=features, epochs=1, num_threads=THREADS)
        entries = 0 if features is None else features.nnz / features.shape[0]
        return {"positives": train.nnz, "feature_entries_an_item": entries}

    return run
