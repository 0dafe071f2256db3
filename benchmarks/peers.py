"""Sides that run in the peers' own environment; nothing here may import the product."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np
from scipy import sparse

THREADS = int(os.environ.get("OMP_NUM_THREADS", "1"))
ITERATIONS = 3
Run = Callable[[], dict[str, float]]


def interactions(path: str, part: str) -> sparse.csr_matrix:
    """(U, I) ones of "train" or "test"."""
    with np.load(path) as arrays:
        users, items = arrays[f"{part}_users"], arrays[f"{part}_items"]
        shape = tuple(int(n) for n in arrays["shape"])
    return sparse.csr_matrix((np.ones(len(users), np.float32), (users, items)), shape=shape)


def item_features(path: str) -> sparse.csr_matrix:
    """(I, F): dense columns first, then one column for each category and author."""
    with np.load(path) as arrays:
        parts = (arrays["feature_data"], arrays["feature_indices"], arrays["feature_offsets"])
        shape = (int(arrays["shape"][1]), int(arrays["n_features"]))
    return sparse.csr_matrix(parts, shape=shape)


def start_implicit_bpr(path: str, dim: int) -> Run:
    """A run is three iterations of implicit's BPR; what ``fit`` does before is not counted."""
    from implicit.cpu.bpr import BayesianPersonalizedRanking

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


def start_implicit_ranking(path: str, factors: str, k: int) -> Run:
    """A run ranks all items for every test user, train items left out, and computes its metrics."""
    from implicit.cpu.als import AlternatingLeastSquares
    from implicit.evaluation import ranking_metrics_at_k

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


def start_lightfm_bpr(path: str, dim: int, with_features: bool) -> Run:
    """A run is one epoch of LightFM's BPR over all train interactions.

    With features, each item keeps an embedding of its own beside them, as LightFM's own
    ``Dataset`` would give it.
    """
    from lightfm import LightFM

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


def start_lightfm_epochs(path: str, out: str, loss: str, dim: int, learning_rate: float) -> Run:
    """A run is one more epoch of LightFM with the items' text features; only training is timed.

    Args:
        path: arrays of the data.
        out: where vectors are written after each epoch; a bias is one more coordinate.
        loss: "warp" or "bpr".
        dim: of the vectors.
        learning_rate: of LightFM's Adagrad.
    """
    from lightfm import LightFM

    train = interactions(path, "train").tocoo()
    identity = sparse.identity(train.shape[1], dtype=np.float32, format="csr")
    with np.load(path) as arrays:
        n_dense = int(arrays["n_dense"])
    # As LightFM's own Dataset does it: the weights of an item's features sum to 1. Standardised
    # numbers, which may be negative, have no place in such a sum.
    features = sparse.hstack([identity, item_features(path)[:, n_dense:]], format="csr")
    features = sparse.diags(1 / np.asarray(features.sum(axis=1)).ravel()) @ features
    features = features.tocsr().astype(np.float32)
    model = LightFM(no_components=dim, loss=loss, learning_rate=learning_rate, random_state=0)

    def run() -> dict[str, float]:
        started, cpu = time.perf_counter(), time.process_time()
        model.fit_partial(train, item_features=features, epochs=1, num_threads=THREADS)
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
        _, users = model.get_user_representations()
        biases, items = model.get_item_representations(features)
        np.savez(
            out,
            users=np.column_stack([users, np.ones(len(users), np.float32)]),
            items=np.column_stack([items, biases]).astype(np.float32),
        )
        return {"seconds": seconds, "cpu_seconds": cpu_seconds}

    return run
