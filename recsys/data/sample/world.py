"""A world whose users choose by a known rule, so that the best attainable ranking is known.

At every moment a user picks the next item among those not yet had, with the probability of a
softmax over utilities; the utility is a dot product of the user's factors at that moment and the
item's. All factors are whole numbers (1/32), so utilities are exact in float32 and in any order of
summation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from scipy import sparse

from recsys.config import TIMED_SPLITS
from recsys.data.arrays import BoolArray, FloatArray, IntArray, Interactions
from recsys.data.sample.draws import NAT, exponential_weights
from recsys.data.vocabulary import Vocabulary

if TYPE_CHECKING:
    from recsys.data.dataset import Prepared

SCALE = 32
"""Whole-number units that make 1 in a factor; SCALE * SCALE == NAT."""
UNRELEASED = -1000 * NAT
"""Utility of an item before it is released: nobody can choose it."""
START = 1_640_995_200
"""1 January 2022, in seconds since 1970, when the first slot of time begins."""
SLOT_SECONDS = 14 * 86_400
"""Tastes and releases change from one fortnight to the next."""
N_SLOTS = 52
END = START + N_SLOTS * SLOT_SECONDS
_CHUNK = 512


def slots_of(times: IntArray) -> IntArray:
    """The slot of each time in seconds; what lies outside counts to the first or last slot."""
    slots: IntArray = np.clip((times - START) // SLOT_SECONDS, 0, N_SLOTS - 1)
    return slots


@dataclass(frozen=True, eq=False)
class World:
    """Users, items and what draws the ones to the others.

    Attributes:
        user_ids: raw ids of the users, (U,).
        item_ids: raw ids of the items, (I,).
        first_tastes: factors of each user in the first slot, (U, F) int64, in 1/SCALE.
        last_tastes: the same in the last slot; tastes move evenly from one to the other.
        item_factors: factors of each item, (I, F) int64, in 1/SCALE.
        season: what is added to an item's utility in each slot, (S, I) int64, in 1/NAT nat: the
            attraction of what is new, ``UNRELEASED`` before the item is out.
        history: what was chosen, by row of ``user_ids`` and ``item_ids``; times in seconds.
    """

    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    first_tastes: IntArray
    last_tastes: IntArray
    item_factors: IntArray
    season: IntArray
    history: Interactions

    def tastes(self, users: IntArray, slots: IntArray) -> IntArray:
        """Factors of the given users in the given slots, (n, F) int64, in 1/SCALE."""
        last, late = N_SLOTS - 1, slots[:, None]
        first, final = self.first_tastes[users], self.last_tastes[users]
        moved: IntArray = (first * (last - late) + final * late) // last
        return moved

    def utilities(self, users: IntArray, slots: IntArray) -> IntArray:
        """Utility of every item to the given users in the given slots, (n, I), in 1/NAT nat."""
        # Whole numbers far below 2**53: float64 products and sums are exact in whatever order BLAS
        # takes them, so this cannot differ between machines.
        products = self.tastes(users, slots).astype(np.float64) @ self._item_factors_float
        return products.astype(np.int64) + self.season[slots]

    @cached_property
    def _item_factors_float(self) -> FloatArray:
        return self.item_factors.T.astype(np.float64)

    def choice_weights(self, users: IntArray, slots: IntArray, excluded: BoolArray) -> IntArray:
        """Whole-number weights in proportion to the probability of each item to be chosen next.

        Args:
            users: rows of the users, (n,).
            slots: when each chooses, (n,).
            excluded: items that cannot be chosen, (n, I); each user must be left one.

        Returns:
            (n, I) int64, 0 where excluded or not released.
        """
        utilities = np.where(excluded, 4 * UNRELEASED, self.utilities(users, slots))
        weights = exponential_weights(utilities)
        weights[excluded] = 0
        return weights

    def oracle(self, prepared: Prepared) -> tuple[FloatArray, FloatArray]:
        """Vectors whose dot products are the true utilities at the moment that is predicted.

        The moment is that of the user's (first) test interaction; for a user without one, that of
        the latest other interaction.

        Args:
            prepared: prepared from this world's files.

        Returns:
            Users (U, D) and items (I, D) float32, aligned to the prepared indices.
        """
        rows, items = self._rows(prepared)
        slots = self._moments(prepared, rows, items)
        now = np.eye(N_SLOTS, dtype=np.float32)[slots]
        users = np.hstack([self.tastes(rows, slots) / SCALE, now]).astype(np.float32)
        factors = np.hstack([self.item_factors[items] / SCALE, self.season[:, items].T / NAT])
        return users, factors.astype(np.float32)

    def expected_ndcg(self, prepared: Prepared, ks: Sequence[int]) -> dict[str, float]:
        """The NDCG on test that the oracle attains in expectation: no model can expect more.

        The mean over the users with exactly one test interaction of ``sum over ranks r <= k of p(r)
        / log2(r + 1)``, where p(r) is the true probability of the item that the oracle ranks r-th,
        among the items of the prepared catalogue that are not in train or validation.

        Args:
            prepared: prepared from this world's files.
            ks: list lengths.

        Returns:
            ``{"expected_ndcg@10": ...}``; empty where the test item is not the user's next choice
            (a random split), where ``min_rating`` left choices out (the rule says what is chosen,
            not what is liked), or where nobody has exactly one test interaction.
        """
        users = np.flatnonzero(prepared.test.user_counts == 1)
        rows, items = self._rows(prepared)
        timed = prepared.split.strategy in TIMED_SPLITS
        if not timed or not len(users) or not self._holds_all_choices(prepared, rows, items):
            return {}
        slots = self._moments(prepared, rows, items)
        k = min(max(ks), len(self.item_ids))
        chances = np.zeros((len(users), max(ks)))  # of the k most probable, best first
        for start in range(0, len(users), _CHUNK):
            some = users[start : start + _CHUNK]
            excluded = np.ones((len(some), len(self.item_ids)), dtype=bool)
            excluded[:, items] = False
            for part in (prepared.train, prepared.validation):
                owners, columns = part.by_user.entries(some)
                excluded[owners, items[columns]] = True
            weights = self.choice_weights(rows[some], slots[some], excluded)
            best = -np.sort(-weights, axis=1)[:, :k] / weights.sum(axis=1, keepdims=True)
            chances[start : start + _CHUNK, :k] = best
        gains = np.cumsum(chances / np.log2(np.arange(max(ks)) + 2), axis=1).mean(axis=0)
        return {f"expected_ndcg@{k}": float(gains[k - 1]) for k in ks}

    def _holds_all_choices(self, prepared: Prepared, rows: IntArray, items: IntArray) -> bool:
        """Whether the prepared users' choices among the prepared items are all there.

        Those after the last prepared one may be missing (``interactions_limit``). Others are
        missing where a ``min_rating`` is set: what is left are then no longer draws from the rule.
        """
        assert self.history.times is not None
        parts = (prepared.train, prepared.validation, prepared.test)
        latest = max(self._times(part, rows, items).max(initial=0) for part in parts)
        expected = (
            np.isin(self.history.users, rows)
            & np.isin(self.history.items, items)
            & (self.history.times <= latest)
        )
        return sum(len(part) for part in parts) == int(np.count_nonzero(expected))

    def _rows(self, prepared: Prepared) -> tuple[IntArray, IntArray]:
        """Rows of this world for every prepared user and item, (U,) and (I,)."""
        known = (Vocabulary(pa.array(ids)) for ids in (self.user_ids, self.item_ids))
        asked = (prepared.users.ids, prepared.items.ids)
        users, items = (own.index_of(ids) for own, ids in zip(known, asked, strict=True))
        return users, items

    def _moments(self, prepared: Prepared, rows: IntArray, items: IntArray) -> IntArray:
        """The slot in which each prepared user's test item was chosen, (U,)."""
        never = np.iinfo(np.int64).max
        tested, known = np.full(len(rows), never), np.full(len(rows), START)
        np.minimum.at(tested, prepared.test.users, self._times(prepared.test, rows, items))
        for part in (prepared.train, prepared.validation):
            np.maximum.at(known, part.users, self._times(part, rows, items))
        return slots_of(np.where(tested == never, known, tested))

    def _times(self, part: Interactions, rows: IntArray, items: IntArray) -> IntArray:
        """When each of the interactions was: the prepared order may be that of rows, (n,)."""
        if not len(part):
            return np.zeros(0, dtype=np.int64)
        return np.asarray(self._timetable[rows[part.users], items[part.items]]).ravel()

    @cached_property
    def _timetable(self) -> sparse.csr_matrix:
        """The time of each choice, (U, I)."""
        history = self.history
        shape = (len(self.user_ids), len(self.item_ids))
        return sparse.csr_matrix((history.times, (history.users, history.items)), shape=shape)
