"""Each user's items in the order in which the user had them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
from scipy import sparse

from recsys.data.arrays import Bags, BoolArray, FloatArray, IntArray, Interactions, offsets_of
from recsys.data.splitting import order_by_user_and_time


@dataclass(frozen=True, eq=False)
class Histories:
    """Ragged rows of items, one row a user, oldest first.

    Attributes:
        offsets: where each user begins, and the end; (U + 1,) int64.
        items: (N,) int32.
        times: seconds since 1970 or row numbers, (N,) int64, not decreasing within a user; None
            where the data has no order.
        ratings: (N,) float32, or None where the data has none.
        n_items: how many items there are, those in no history included.
    """

    offsets: IntArray
    items: IntArray
    times: IntArray | None
    ratings: FloatArray | None
    n_items: int

    @classmethod
    def of(cls, *parts: Interactions) -> Self:
        """The interactions of all parts, of the same users and items, merged in time.

        Ties in time are in the order of the parts, then in the order stored; without times all
        are. Times and ratings are there where every part has them.
        """
        first = parts[0]
        users = np.concatenate([part.users for part in parts])
        items = np.concatenate([part.items for part in parts]).astype(np.int32, copy=False)
        times = _joined([part.times for part in parts])
        ratings = _joined([part.ratings for part in parts])
        offsets = offsets_of(np.bincount(users, minlength=first.n_users))
        merged = cls(offsets, items, times, ratings, first.n_items)
        return merged._at(order_by_user_and_time(users, times), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def has_order(self) -> bool:
        """Whether a later place in a row means later in time."""
        return self.times is not None

    @property
    def lengths(self) -> IntArray:
        """Items of each user, (U,)."""
        return np.diff(self.offsets)

    @cached_property
    def bags(self) -> Bags:
        """The items alone, (U, I)."""
        return Bags(self.offsets, self.items, self.n_items)

    @cached_property
    def matrix(self) -> sparse.csr_matrix:
        """1 where a user has an item, (U, I) float32."""
        return self.bags.to_scipy()

    @cached_property
    def counts(self) -> IntArray:
        """How many users have each item, (I,)."""
        return np.bincount(self.items, minlength=self.n_items)

    @cached_property
    def together(self) -> sparse.csr_matrix:
        """How many users have both of two items, on the diagonal one; (I, I) float32."""
        return (self.matrix.T @ self.matrix).tocsr()

    def recent(self, scale: float | None) -> Bags:
        """The items, one at position p from the latest (0) weighing exp(-p / scale).

        Args:
            scale: in positions; None weighs all alike.
        """
        if scale is None:
            return self.bags
        positions = np.repeat(self.offsets[1:], self.lengths) - 1 - np.arange(len(self.items))
        return replace(self.bags, weights=np.exp(-positions / scale).astype(np.float32))

    def row(self, user: int) -> IntArray:
        """The items of one user."""
        return self.bags.row(user)

    def take(self, users: IntArray) -> Self:
        """The histories of the given users, in the given order; a user may be there twice."""
        return self._at(*self.bags.positions(users))

    def without(self, users: BoolArray) -> Self:
        """The same users, those for whom ``users`` (U,) is true with no items."""
        kept = np.flatnonzero(np.repeat(~users, self.lengths))
        return self._at(kept, offsets_of(np.where(users, 0, self.lengths)))

    def _at(self, positions: IntArray, offsets: IntArray) -> Self:
        """What is at the given positions, as rows with the given offsets."""
        return replace(
            self,
            offsets=offsets,
            items=self.items[positions],
            times=None if self.times is None else self.times[positions],
            ratings=None if self.ratings is None else self.ratings[positions],
        )


def _joined(arrays: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """The arrays one after the other, or None where one is missing."""
    present = [array for array in arrays if array is not None]
    return np.concatenate(present) if len(present) == len(arrays) else None
