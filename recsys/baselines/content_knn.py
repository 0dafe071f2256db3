"""Content neighbours: items whose metadata are alike, whoever has them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import sparse

from recsys.baselines.baseline import Fitted, item_weights
from recsys.baselines.neighbours import nearest
from recsys.data.arrays import IntArray
from recsys.data.features import Features

MOST_NEIGHBOURS = 200


def fit_content_knn(items: Features, *, neighbours: int) -> Fitted:
    """The cosine of the text features of two items, among near neighbours only.

    The score of an item sums the cosines of its ``neighbours`` nearest items that the user has.
    An item that nobody has is scored as well: what a tower is to be held against on cold items.
    Histories teach nothing.

    Args:
        items: what is known of them; their bags are compared side by side, as the towers see them.
        neighbours: how many items count for an item, 200 at most.
    """
    known = _nearest(items)
    kept = nearest(lambda part: known[part], len(items), neighbours)
    return item_weights(kept.T.tocsr())


@lru_cache(maxsize=1)
def _nearest(items: Features) -> sparse.csr_matrix:
    """As :func:`nearest`, as many as any may ask for."""
    content = sparse.hstack([bags.to_scipy() for bags in items.bags.values()], format="csr")
    lengths = np.sqrt(np.bincount(_rows(content), content.data**2, minlength=len(items)))
    lengths[lengths == 0] = 1  # of what all items have, which weighs nothing
    content.data /= lengths.astype(np.float32)[_rows(content)]
    return nearest(lambda part: content[part] @ content.T, len(items), MOST_NEIGHBOURS)


def _rows(matrix: sparse.csr_matrix) -> IntArray:
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
