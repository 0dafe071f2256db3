"""Content neighbours: items whose metadata are alike, whoever has them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from scipy import sparse

from recsys.baselines.baseline import Fitted, item_weights
from recsys.data.arrays import FloatArray, IntArray
from recsys.data.features import Features
from recsys.data.histories import Histories

MOST_NEIGHBOURS = 200
_CELLS_AT_ONCE = 2**24


@dataclass(frozen=True)
class ContentKNN:
    """The cosine of the text features of two items, among near neighbours only.

    The score of an item sums the cosines of its ``neighbours`` nearest items that the user has.
    An item that nobody has is scored as well: what a tower is to be held against on cold items.

    Attributes:
        neighbours: how many items count for an item, 200 at most.
        items: what is known of them; their bags are compared side by side, as the towers see them.
    """

    neighbours: int
    items: Features = field(repr=False)

    @property
    def settings(self) -> str:
        """The settings in words."""
        return f"{self.neighbours} neighbours"

    def fit(self, histories: Histories) -> Fitted:
        """The cosines, 0 outside the neighbours; the histories teach nothing."""
        nearest, cosines = _nearest(self.items)
        n_items, kept = len(nearest), slice(self.neighbours)
        weights = np.zeros((n_items, n_items), dtype=np.float32)
        weights[nearest[:, kept], np.arange(n_items)[:, None]] = cosines[:, kept]
        return item_weights(weights)


@lru_cache(maxsize=1)
def _nearest(items: Features) -> tuple[IntArray, FloatArray]:
    """The nearest items of each, nearest first, and their cosines, (I, N) each.

    Of equally near ones at the end any may be kept.
    """
    content = sparse.hstack([bags.to_scipy() for bags in items.bags.values()], dtype=np.float32)
    lengths = sparse.linalg.norm(content, axis=1)
    content = (sparse.diags_array(1 / np.where(lengths > 0, lengths, 1)) @ content).tocsr()
    n_items = len(items)
    most = min(MOST_NEIGHBOURS, n_items)
    nearest = np.empty((n_items, most), dtype=np.int64)
    values = np.empty((n_items, most), dtype=np.float32)
    block = max(1, _CELLS_AT_ONCE // max(1, n_items))
    for start in range(0, n_items, block):
        rows = slice(start, min(start + block, n_items))
        cosines = (content[rows] @ content.T).toarray()
        cosines[np.arange(len(cosines)), np.arange(rows.start, rows.stop)] = 0  # itself
        kept = np.argpartition(cosines, n_items - most, axis=1)[:, n_items - most :]
        found = np.take_along_axis(cosines, kept, axis=1)
        order = np.argsort(-found, axis=1, kind="stable")
        nearest[rows] = np.take_along_axis(kept, order, axis=1)
        values[rows] = np.take_along_axis(found, order, axis=1)
    return nearest, values
