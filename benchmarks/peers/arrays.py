"""The arrays that the product's side left for the peers."""

from __future__ import annotations

import os

import numpy as np
from scipy import sparse

THREADS = int(os.environ.get("OMP_NUM_THREADS", "1"))


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
