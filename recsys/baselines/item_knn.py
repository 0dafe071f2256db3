"""Item neighbours: items that the same users have (Sarwar et al. 2001)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.baselines.baseline import Fitted, item_weights
from recsys.data.histories import Histories

_CELLS_AT_ONCE = 2**24


@dataclass(frozen=True)
class ItemKNN:
    """The cosine of two items, ``n_ij / (sqrt(n_i n_j) + shrinkage)``, among near neighbours only.

    ``n_ij`` users have both items. The score of an item sums the cosines of its ``neighbours``
    nearest items that the user has.

    Attributes:
        neighbours: how many items count for an item.
        shrinkage: draws cosines that rest on few users to 0.
    """

    neighbours: int
    shrinkage: float

    @property
    def settings(self) -> str:
        """The settings in words."""
        return f"{self.neighbours} neighbours, shrinkage {self.shrinkage:.4g}"

    def fit(self, histories: Histories) -> Fitted:
        """The cosines, 0 outside the neighbours; of equal ones any may be kept."""
        together, n_items = histories.together, histories.bags.n_columns
        counts = histories.counts.astype(np.float32)
        weights = np.zeros((n_items, n_items), dtype=np.float32)
        block = max(1, _CELLS_AT_ONCE // max(1, n_items))
        for start in range(0, n_items, block):
            rows = slice(start, min(start + block, n_items))
            cosines = together[rows].toarray()
            scale = np.sqrt(counts[rows, None] * counts) + np.float32(self.shrinkage)
            np.divide(cosines, scale, out=cosines, where=scale > 0)
            cosines[np.arange(len(cosines)), np.arange(rows.start, rows.stop)] = 0
            if self.neighbours < n_items:
                cut = n_items - self.neighbours
                kept = np.argpartition(cosines, cut, axis=1)[:, cut:]
                row = np.arange(len(cosines))[:, None]
                weights[kept, start + row] = cosines[row, kept]
            else:
                weights[:, rows] = cosines.T
        return item_weights(weights)
