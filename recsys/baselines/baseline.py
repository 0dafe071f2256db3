"""What a baseline is: settings that fit the histories of users and then score.

Fitting and scoring know different histories. On validation both know train. On test a user's
history holds what was known by then, train and validation items; what was fitted knows train, or
both where the run refits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from scipy import sparse

from recsys.data.arrays import FloatArray
from recsys.data.histories import Histories
from recsys.evaluation.ranking import ItemWeights, Scorer


@dataclass(frozen=True, eq=False)
class Fitted:
    """A baseline that has learned.

    Attributes:
        scorer: gives the scores of all users, from their histories as known at the time of scoring
            and the scale of :meth:`Histories.recent`, None where recency is not taken.
        takes_recency: whether items of a history can weigh by how recent they are.
    """

    scorer: Callable[[Histories, float | None], Scorer]
    takes_recency: bool = False


class Baseline(Protocol):
    """Settings of one kind of baseline."""

    @property
    def settings(self) -> str:
        """The settings in words, for tables."""

    def fit(self, histories: Histories) -> Fitted:
        """Learn from the histories of users."""


def item_weights(weights: FloatArray | sparse.csr_matrix) -> Fitted:
    """Scores a user by the weighted sum over the items of the history.

    Args:
        weights: what item j of a history says for item i, (I, I) float32 at [j, i].
    """
    return Fitted(lambda known, recency: ItemWeights(known.recent(recency), weights), True)
