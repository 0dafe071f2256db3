"""What every baseline is: settings that fit the histories of users and then score.

Fitting and scoring know different histories. On validation both know train. On test a user's
history holds what was known by then, train and validation items; what was fitted knows train, or
both where the run refits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from scipy import sparse

from recsys.data.arrays import Bags, FloatArray, IntArray, Interactions
from recsys.evaluation.ranking import Scorer


@dataclass(frozen=True, eq=False)
class Histories:
    """The items of every user, and what is counted from them.

    Attributes:
        bags: each user's items, each once, oldest first where there is an order; (U, I).
        has_order: whether the order of a bag is that in time.
    """

    bags: Bags
    has_order: bool

    @classmethod
    def of(cls, *parts: Interactions) -> Histories:
        """The histories that one or several parts of the interactions hold together."""
        first = parts[0]
        times = [part.times for part in parts if part.times is not None]
        together = Interactions(
            users=np.concatenate([part.users for part in parts]),
            items=np.concatenate([part.items for part in parts]),
            times=np.concatenate(times) if len(times) == len(parts) else None,
            n_users=first.n_users,
            n_items=first.n_items,
        )
        return cls(together.by_user, together.times is not None)

    @cached_property
    def matrix(self) -> sparse.csr_matrix:
        """1 where a user has an item, (U, I) float32."""
        return self.bags.to_scipy()

    @cached_property
    def counts(self) -> IntArray:
        """How many users have each item, (I,)."""
        return np.bincount(self.bags.indices, minlength=self.bags.n_columns)

    @cached_property
    def together(self) -> sparse.csr_matrix:
        """How many users have both of two items, on the diagonal one; (I, I) float32."""
        return (self.matrix.T @ self.matrix).tocsr()

    def recent(self, scale: float | None) -> Bags:
        """The histories, an item at position p from the latest (0) weighing exp(-p / scale).

        Args:
            scale: in positions; None weighs all alike.
        """
        if scale is None:
            return self.bags
        lengths = self.bags.lengths
        positions = np.repeat(self.bags.offsets[1:], lengths) - 1 - np.arange(lengths.sum())
        weights: FloatArray = np.exp(-positions / scale).astype(np.float32)
        return Bags(self.bags.offsets, self.bags.indices, self.bags.n_columns, weights)


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
