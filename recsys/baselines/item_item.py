"""Weights between items, which score a user by the items of the history."""

from __future__ import annotations

from dataclasses import dataclass

from recsys.data.arrays import FloatArray
from recsys.data.histories import Histories
from recsys.evaluation.ranking import ItemWeights


@dataclass(frozen=True, eq=False)
class ItemItem:
    """What item neighbours and EASE learn.

    Attributes:
        weights: what item j of a history says for item i, (I, I) float32 at [j, i].
    """

    weights: FloatArray
    takes_recency: bool = True

    def scorer(self, histories: Histories, recency: float | None) -> ItemWeights:
        """The weighted sum over each user's history."""
        return ItemWeights(histories.recent(recency), self.weights)
