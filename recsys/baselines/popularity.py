"""Popularity: the same list for everyone, by the number of users that have an item."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.data.arrays import IntArray
from recsys.data.histories import Histories
from recsys.evaluation.ranking import Vectors


@dataclass(frozen=True, eq=False)
class Counts:
    """How many users have each item, (I,)."""

    counts: IntArray
    takes_recency: bool = False

    def scorer(self, histories: Histories, recency: float | None) -> Vectors:
        """Every user's score of an item is its count."""
        return Vectors(
            users=np.ones((histories.bags.n_rows, 1), dtype=np.float32),
            items=self.counts[:, None].astype(np.float32),
        )


@dataclass(frozen=True)
class Popularity:
    """Popularity has no settings."""

    settings: str = ""

    def fit(self, histories: Histories) -> Counts:
        """Count users."""
        return Counts(histories.counts)
