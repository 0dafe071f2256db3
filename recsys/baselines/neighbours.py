"""The nearest items of each item, without holding how near every two of them are."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from scipy import sparse

CELLS_AT_ONCE = 2**24
MOST_PRODUCTS = 10**10
"""Comparing items takes a product for each two entries that share a user or a word; of so many a
minute or two."""


def nearest_bytes(n_items: int, most: int) -> int:
    """Memory of the nearest of so many items: row by row, and column by column."""
    return 2 * 8 * n_items * most


def nearest(
    cosines: Callable[[slice], sparse.csr_matrix], n_items: int, most: int
) -> sparse.csr_matrix:
    """The largest cosines of each item with others, those above 0.

    Args:
        cosines: of a range of items with all, (n, I); called for one range after the other.
        n_items: I.
        most: so many of an item are kept; of equal ones at the end any may be.

    Returns:
        (I, I) float32; row i has the nearest of item i, itself left out.
    """
    at_once = max(1, CELLS_AT_ONCE // max(1, n_items))
    blocks = [sparse.csr_matrix((0, n_items), dtype=np.float32)]
    for start in range(0, n_items, at_once):
        block = cosines(slice(start, min(start + at_once, n_items)))
        rows = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
        values = np.where(block.indices == start + rows, np.float32(0), block.data)
        kept = values > 0
        for begin, end in pairwise(block.indptr.tolist()):
            if end - begin > most:
                smaller = np.argpartition(values[begin:end], end - begin - most)[:-most]
                kept[begin + smaller] = False
        found = (values[kept], (rows[kept], block.indices[kept]))
        blocks.append(sparse.csr_matrix(found, shape=block.shape, dtype=np.float32))
    return sparse.vstack(blocks, format="csr")
