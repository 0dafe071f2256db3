"""Cross-entropy over the whole catalogue."""

from __future__ import annotations

from torch import Tensor

from recsys.training.batches import Batch
from recsys.training.ops import Catalogue, Scoring, catalogue_nll


class Softmax:
    """Mean negative log-likelihood of the positives under a softmax over all train items.

    What the user's input holds is left out of the denominator; see
    :func:`recsys.training.ops.catalogue_nll`. Every positive weighs the same.

    Args:
        scoring: how scores are made.
    """

    def __init__(self, scoring: Scoring) -> None:
        self._scoring = scoring

    def __call__(self, users: Tensor, items: Tensor, batch: Batch) -> dict[str, Tensor]:
        """One part, in nats."""
        pairs = Catalogue(
            batch.rows,
            batch.targets,
            batch.masked_rows,
            batch.masked_items,
            self._scoring,
        )
        return {"softmax": catalogue_nll(users, items, pairs)}
