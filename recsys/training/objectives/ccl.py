"""Cosine contrastive loss."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from recsys.config import QueryScore
from recsys.training.batches import Batch
from recsys.training.objectives.candidates import score


class CosineContrastive:
    """Mean of (1 - positive) + weight * mean of max(0, negative - margin), of cosines.

    Mao et al., "SimpleX: A Simple and Strong Baseline for Collaborative Filtering", CIKM 2021,
    eq. 1.

    Args:
        margin: negatives with a lower cosine cost nothing.
        weight: of the negatives' mean.
        combine: how the scores of a user's K vectors become one.
    """

    def __init__(self, margin: float, weight: float, combine: QueryScore) -> None:
        self._margin, self._weight = margin, weight
        self._combine = combine

    def __call__(self, users: Tensor, items: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The share of the positives and of the negatives."""
        scored = score(users, items, batch, self._combine)
        beyond = F.relu(scored.negatives - self._margin)
        return {
            "ccl_positive": (1 - scored.positives).mean(),
            "ccl_negative": self._weight * scored.means(beyond).mean(),
        }
