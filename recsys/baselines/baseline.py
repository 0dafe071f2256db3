"""What a baseline is: a function that learns from the histories of users and gives their scores.

Fitting and scoring know different histories. On validation both know train. On test a user's
history holds what was known by then, train and validation items; what was fitted knows train, or
both where the run refits.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import sparse

from recsys.data.arrays import FloatArray
from recsys.data.histories import Histories
from recsys.evaluation.ranking import ItemWeights, Scorer

Fitted = Callable[[Histories, float | None], Scorer]
"""A baseline that has learned: the scores of all users, from their histories as known at the time
of scoring and the scale of :meth:`Histories.recent`, None where recency is not taken."""


SMALL_BYTES = 2**25
"""Weights that take no more as a plain array are one, whose rows are added without a search."""


def item_weights(weights: FloatArray | sparse.csr_matrix) -> Fitted:
    """Scores a user by the weighted sum over the items of the history.

    Args:
        weights: what item j of a history says for item i, (I, I) float32 at [j, i].
    """
    if not isinstance(weights, np.ndarray) and np.prod(weights.shape) * 4 <= SMALL_BYTES:
        weights = weights.toarray()
    return lambda known, recency: ItemWeights(known.recent(recency), weights)
