"""Cosine contrastive loss."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from recsys.training.batches import Batch
from recsys.training.objectives.candidates import score
from recsys.training.ops import Scoring


class CosineContrastive:
    """Mean of (1 - positive) + weight * mean of max(0, negative - margin), of cosines.

    Mao et al., "SimpleX: A Simple and Strong Baseline for Collaborative Filtering", CIKM 2021,
    eq. 1.

    Args:
        margin: negatives with a lower cosine cost nothing.
        weight: of the negatives' mean.
        scoring: how scores are made.
    """

    def __init__(self, margin: float, weight: float, scoring: Scoring) -> None:
        self._margin, self._weight = margin, weight
        self._scoring = scoring

    def __call__(self, users: Tensor, items: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The share of the positives and of the negatives."""
        scored = score(users, items, batch, self._scoring)
        beyond = F.relu(scored.negatives - self._margin)
        return {
            "ccl_positive": (1 - scored.positives).mean(),
            "ccl_negative": self._weight * scored.means(beyond).mean(),
        }
