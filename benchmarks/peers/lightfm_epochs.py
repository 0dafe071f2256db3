"""LightFM, epoch by epoch: trains one for each line read and says where its vectors lie."""

from __future__ import annotations

import json
import sys
import time

import numpy as np
from lightfm import LightFM
from scipy import sparse

from benchmarks.peers.arrays import THREADS, interactions, item_features


def main(path: str, out: str, loss: str, dim: int, learning_rate: float) -> None:
    """Answer each line of standard input with an epoch.

    Args:
        path: arrays of the data.
        out: where vectors are written after each epoch; a bias is one more coordinate.
        loss: "warp" or "bpr".
        dim: of the vectors.
        learning_rate: of LightFM's Adagrad.
    """
    train = interactions(path, "train").tocoo()
    identity = sparse.identity(train.shape[1], dtype=np.float32, format="csr")
    features = sparse.hstack([identity, item_features(path)], format="csr", dtype=np.float32)
    # As LightFM's own Dataset does it: the weights of an item's features sum to 1.
    features = sparse.diags(1 / np.asarray(features.sum(axis=1)).ravel()) @ features
    features = features.tocsr().astype(np.float32)
    model = LightFM(no_components=dim, loss=loss, learning_rate=learning_rate, random_state=0)
    for _ in sys.stdin:
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
        print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5]))
