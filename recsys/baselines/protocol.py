"""What every baseline is: settings that fit the histories of users and then score.

Fitting and scoring know different histories. On validation both know train. On test a user's
history holds what was known by then, train and validation items; what was fitted knows train, or
both where the run refits.
"""

from __future__ import annotations

from typing import Protocol

from recsys.data.histories import Histories
from recsys.evaluation.ranking import Scorer


class Fitted(Protocol):
    """A baseline that has learned."""

    @property
    def takes_recency(self) -> bool:
        """Whether items of a history can weigh by how recent they are."""

    def scorer(self, histories: Histories, recency: float | None) -> Scorer:
        """Scores of users with the given histories.

        Args:
            histories: of every user, what is known at the time of scoring.
            recency: scale of :meth:`Histories.recent`; None where it is not taken.
        """


class Baseline(Protocol):
    """Settings of one kind of baseline."""

    @property
    def settings(self) -> str:
        """The settings in words, for tables."""

    def fit(self, histories: Histories) -> Fitted:
        """Learn from the histories of users."""
