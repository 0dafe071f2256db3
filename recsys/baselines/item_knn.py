"""Item neighbours: items that the same users have (Sarwar et al. 2001)."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from recsys.baselines.baseline import Fitted, item_weights
from recsys.baselines.neighbours import nearest
from recsys.data.histories import Histories

MOST_NEIGHBOURS = 1000


def fit_item_knn(histories: Histories, *, neighbours: int, shrinkage: float) -> Fitted:
    """The cosine of two items, ``n_ij / (sqrt(n_i n_j) + shrinkage)``, among near neighbours only.

    ``n_ij`` users have both items. The score of an item sums the cosines of its ``neighbours``
    nearest items that the user has; of equal ones any may be kept.

    Args:
        histories: of users.
        neighbours: how many items count for an item; runs and sweeps try up to 1000.
        shrinkage: draws cosines that rest on few users to 0.
    """
    of_items, counts = histories.matrix.T.tocsr(), histories.counts.astype(np.float32)

    def cosines(items: slice) -> sparse.csr_matrix:
        together = of_items[items] @ histories.matrix
        own = np.repeat(counts[items], np.diff(together.indptr))
        together.data /= np.sqrt(own * counts[together.indices]) + np.float32(shrinkage)
        return together

    return item_weights(nearest(cosines, len(counts), neighbours).T.tocsr())
