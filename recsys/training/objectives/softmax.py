"""Cross-entropy over the whole catalogue."""

from __future__ import annotations

from torch import Tensor

from recsys.config import QueryScore
from recsys.training.batches import Batch
from recsys.training.ops import Catalogue, catalogue_nll


class Softmax:
    """Mean negative log-likelihood of the positives under a softmax over all train items.

    What the user's input holds is left out of the denominator; see
    :func:`recsys.training.ops.catalogue_nll`. Every positive weighs the same.

    Args:
        combine: how the scores of a user's K vectors become one.
        bfloat16: multiply in bfloat16.
    """

    def __init__(self, combine: QueryScore, *, bfloat16: bool = False) -> None:
        self._combine = combine
        self._bfloat16 = bfloat16

    def __call__(self, users: Tensor, items: Tensor, batch: Batch) -> dict[str, Tensor]:
        """One part, in nats."""
        pairs = Catalogue(
            batch.rows,
            batch.targets,
            batch.masked_rows,
            batch.masked_items,
            self._combine,
            self._bfloat16,
        )
        return {"softmax": catalogue_nll(users, items, pairs)}
