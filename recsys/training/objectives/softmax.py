"""Cross-entropy over the whole catalogue."""

from __future__ import annotations

from torch import Tensor

from recsys.training.batches import Batch
from recsys.training.ops import Catalogue, Scoring, catalogue_nll


def softmax(users: Tensor, items: Tensor, batch: Batch, *, scoring: Scoring) -> dict[str, Tensor]:
    """Mean negative log-likelihood of the positives under a softmax over all train items.

    What the user's input holds is left out of the denominator; see
    :func:`recsys.training.ops.catalogue_nll`. Every positive weighs the same. One part, in nats.
    """
    pairs = Catalogue(batch.rows, batch.targets, batch.masked_rows, batch.masked_items, scoring)
    return {"softmax": catalogue_nll(users, items, pairs)}
