"""Cosine contrastive loss."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from recsys.training.batches import Batch
from recsys.training.objectives.candidates import score
from recsys.training.ops import Scoring


def ccl(
    users: Tensor, items: Tensor, batch: Batch, *, margin: float, weight: float, scoring: Scoring
) -> dict[str, Tensor]:
    """Mean of (1 - positive) + weight * mean of max(0, negative - margin), of cosines.

    Mao et al., "SimpleX: A Simple and Strong Baseline for Collaborative Filtering", CIKM 2021,
    eq. 1. Negatives with a cosine lower than the margin cost nothing.

    Returns:
        The share of the positives and of the negatives.
    """
    scored = score(users, items, batch, scoring)
    beyond = F.relu(scored.negatives - margin)
    return {
        "ccl_positive": (1 - scored.positives).mean(),
        "ccl_negative": weight * scored.means(beyond).mean(),
    }
