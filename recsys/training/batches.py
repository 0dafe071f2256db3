"""Mini-batches of positives with their negatives, each distinct user and item named once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from recsys.data.arrays import IntArray, Interactions
from recsys.training.sampling import NegativeSampler


@dataclass(frozen=True, eq=False)
class Batch:
    """B positives and K negatives of each, as positions in the distinct users and items.

    A tower encodes each distinct row once, however often the batch uses it.

    Attributes:
        users: distinct user indices, (Ub,) int64.
        items: distinct item indices, (Ib,) int64.
        user_of: position in ``users`` of each positive's user, (B,) int64.
        positive_of: position in ``items`` of each positive's item, (B,) int64.
        negatives_of: position in ``items`` of each negative, (B, K) int64.
    """

    users: IntArray
    items: IntArray
    user_of: IntArray
    positive_of: IntArray
    negatives_of: IntArray

    def __len__(self) -> int:
        return len(self.user_of)


@dataclass(frozen=True, eq=False)
class Draw:
    """B positives and K negatives of each, as indices.

    Attributes:
        users: of the positives, (B,) int32.
        items: of the positives, (B,) int32.
        negatives: items, (B, K) int64.
    """

    users: IntArray
    items: IntArray
    negatives: IntArray

    def __len__(self) -> int:
        return len(self.users)


class Distinct:
    """Finds the distinct values among indices below n, in time linear in their number and n.

    Args:
        n: indices are 0..n-1.
    """

    def __init__(self, n: int) -> None:
        self._is_used = np.zeros(n, dtype=bool)
        self._position = np.zeros(n, dtype=np.int64)

    def __call__(self, indices: IntArray) -> tuple[IntArray, IntArray]:
        """The distinct values, ascending, and the position of each index among them."""
        self._is_used[indices] = True
        values = np.flatnonzero(self._is_used)
        self._is_used[values] = False
        self._position[values] = np.arange(len(values))
        return values, self._position[indices]


class BatchStream:
    """Train interactions in a new order every epoch, with new negatives.

    Args:
        train: the positives.
        sampler: draws the negatives.
        batch_size: positives in a batch; the last one of an epoch may hold fewer.
        negatives_per_positive: K.
    """

    def __init__(
        self,
        train: Interactions,
        sampler: NegativeSampler,
        *,
        batch_size: int,
        negatives_per_positive: int,
    ) -> None:
        self._train = train
        self._sampler = sampler
        self._batch_size = batch_size
        self._k = negatives_per_positive
        self._distinct_users = Distinct(train.n_users)
        self._distinct_items = Distinct(train.n_items)

    def __len__(self) -> int:
        return math.ceil(len(self._train) / self._batch_size)

    @property
    def n_positives(self) -> int:
        """Positives in an epoch."""
        return len(self._train)

    def epoch(self, rng: np.random.Generator) -> Iterator[Batch]:
        """The batches of one epoch: every train interaction once."""
        return map(self.name_distinct, self.draws(rng))

    def draws(self, rng: np.random.Generator) -> Iterator[Draw]:
        """The same batches, as indices."""
        order = rng.permutation(len(self._train))
        for start in range(0, len(order), self._batch_size):
            rows = order[start : start + self._batch_size]
            users = self._train.users[rows]
            yield Draw(users, self._train.items[rows], self._sampler.sample(users, self._k, rng))

    def name_distinct(self, draw: Draw) -> Batch:
        """A batch in terms of its distinct users and items."""
        users, user_of = self._distinct_users(draw.users)
        items, item_of = self._distinct_items(np.concatenate([draw.items, draw.negatives.ravel()]))
        return Batch(
            users=users,
            items=items,
            user_of=user_of,
            positive_of=item_of[: len(draw)],
            negatives_of=item_of[len(draw) :].reshape(draw.negatives.shape),
        )
