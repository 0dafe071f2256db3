"""A world whose readers choose by a known rule, so that the best attainable ranking is known.

At every moment a reader picks the next book among those not yet read, with the probability of a
softmax over utilities; the utility is a dot product of the reader's factors at that moment and the
book's. All factors are whole numbers (1/32), so utilities are exact in float32 and in any order of
summation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from recsys.config import TIMED_SPLITS
from recsys.data.arrays import BoolArray, FloatArray, IntArray, Interactions
from recsys.data.draws import NAT, exponential_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from recsys.data.dataset import Prepared

SCALE = 32
"""Whole-number units that make 1 in a factor; SCALE * SCALE == NAT."""
UNRELEASED = -1000 * NAT
"""Utility of a book before it is released: nobody can choose it."""
_CHUNK = 512


@dataclass(frozen=True, eq=False)
class Calendar:
    """Time in equal slots: tastes and releases change from one slot to the next.

    Attributes:
        start: seconds since 1970 at which the first slot begins.
        slot_seconds: length of a slot.
        n_slots: how many there are.
    """

    start: int
    slot_seconds: int
    n_slots: int

    @property
    def end(self) -> int:
        """Seconds since 1970 at which the last slot ends."""
        return self.start + self.n_slots * self.slot_seconds

    def slots(self, times: IntArray) -> IntArray:
        """The slot of each time in seconds; what lies outside counts to the first or last slot."""
        slots: IntArray = np.clip((times - self.start) // self.slot_seconds, 0, self.n_slots - 1)
        return slots


@dataclass(frozen=True, eq=False)
class World:
    """Readers, books and what draws the ones to the others.

    Attributes:
        user_ids: raw ids of the readers, (U,).
        item_ids: raw ids of the books, (I,).
        calendar: the slots of time.
        first_tastes: factors of each reader in the first slot, (U, F) int64, in 1/SCALE.
        last_tastes: the same in the last slot; tastes move evenly from one to the other.
        item_factors: factors of each book, (I, F) int64, in 1/SCALE.
        season: what is added to a book's utility in each slot, (S, I) int64, in 1/NAT nat: the
            attraction of what is new, ``UNRELEASED`` before the book is out.
        history: what was read, by row of ``user_ids`` and ``item_ids``; times in seconds.
    """

    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    calendar: Calendar
    first_tastes: IntArray
    last_tastes: IntArray
    item_factors: IntArray
    season: IntArray
    history: Interactions

    def tastes(self, users: IntArray, slots: IntArray) -> IntArray:
        """Factors of the given readers in the given slots, (n, F) int64, in 1/SCALE."""
        last = max(self.calendar.n_slots - 1, 1)
        late = slots[:, None]
        first, final = self.first_tastes[users], self.last_tastes[users]
        moved: IntArray = (first * (last - late) + final * late) // last
        return moved

    def utilities(self, users: IntArray, slots: IntArray) -> IntArray:
        """Utility of every book to the given readers in the given slots, (n, I), in 1/NAT nat."""
        # Whole numbers far below 2**53: float64 products and sums are exact in whatever order BLAS
        # takes them, so this cannot differ between machines.
        products = self.tastes(users, slots).astype(np.float64) @ self._item_factors_float
        return products.astype(np.int64) + self.season[slots]

    @cached_property
    def _item_factors_float(self) -> FloatArray:
        return self.item_factors.T.astype(np.float64)

    def choice_weights(self, users: IntArray, slots: IntArray, excluded: BoolArray) -> IntArray:
        """Whole-number weights in proportion to the probability of each book to be read next.

        Args:
            users: rows of the readers, (n,).
            slots: when each chooses, (n,).
            excluded: books that cannot be chosen, (n, I); each reader must be left one.

        Returns:
            (n, I) int64, 0 where excluded or not released.
        """
        utilities = np.where(excluded, 4 * UNRELEASED, self.utilities(users, slots))
        weights = exponential_weights(utilities)
        weights[excluded] = 0
        return weights

    def oracle(
        self, prepared: Prepared, split: Literal["validation", "test"] = "test"
    ) -> tuple[FloatArray, FloatArray]:
        """Vectors whose dot products are the true utilities at the moment that is predicted.

        The moment is that of the reader's (first) held-out interaction; for a reader without one,
        that of the latest known interaction.

        Args:
            prepared: prepared from this world's files.
            split: which held-out interactions.

        Returns:
            Readers (U, D) and books (I, D) float32, aligned to the prepared indices.
        """
        rows, items = self._rows(prepared)
        slots = self._moments(prepared, split, rows, items)
        now = np.eye(self.calendar.n_slots, dtype=np.float32)[slots]
        users = np.hstack([self.tastes(rows, slots) / SCALE, now]).astype(np.float32)
        factors = np.hstack([self.item_factors[items] / SCALE, self.season[:, items].T / NAT])
        return users, factors.astype(np.float32)

    def expected_ndcg(
        self,
        prepared: Prepared,
        ks: Sequence[int],
        split: Literal["validation", "test"] = "test",
    ) -> dict[str, float]:
        """The NDCG that the oracle attains in expectation: no model can expect more.

        The mean over the readers with exactly one held-out interaction of ``sum over ranks r <= k
        of p(r) / log2(r + 1)``, where p(r) is the true probability of the book that the oracle
        ranks r-th, among the books of the prepared catalogue that are not masked (for test: not in
        train or validation).

        Args:
            prepared: prepared from this world's files.
            ks: list lengths.
            split: which held-out interactions.

        Returns:
            ``{"expected_ndcg@10": ...}``; empty where the held-out book is not the reader's next
            choice (a random split), where ``min_rating`` left choices out (the rule says what is
            read, not what is liked), or where nobody has exactly one held-out interaction.
        """
        held_out: Interactions = getattr(prepared, split)
        users = np.flatnonzero(held_out.user_counts == 1)
        rows, items = self._rows(prepared)
        if (
            prepared.split.strategy not in TIMED_SPLITS
            or not len(users)
            or not self._holds_all_choices(prepared, rows, items)
        ):
            return {}
        slots = self._moments(prepared, split, rows, items)
        known = ("train",) if split == "validation" else ("train", "validation")
        best = np.zeros((len(users), max(ks)))
        for begin in range(0, len(users), _CHUNK):
            part = users[begin : begin + _CHUNK]
            excluded = self._masked(prepared, known, part, items)
            weights = self.choice_weights(rows[part], slots[part], excluded)
            chances = _best_probabilities(weights, max(ks))
            best[begin : begin + _CHUNK, : chances.shape[1]] = chances
        gains = np.cumsum(best / np.log2(np.arange(max(ks)) + 2), axis=1).mean(axis=0)
        return {f"expected_ndcg@{k}": float(gains[k - 1]) for k in ks}

    def _masked(
        self, prepared: Prepared, known: Sequence[str], users: IntArray, items: IntArray
    ) -> BoolArray:
        """Books of this world that are no candidates of the prepared users, (n, I)."""
        excluded = np.ones((len(users), len(self.item_ids)), dtype=bool)
        excluded[:, items] = False
        for name in known:
            owners, columns = getattr(prepared, name).by_user.entries(users)
            excluded[owners, items[columns]] = True
        return excluded

    def _holds_all_choices(self, prepared: Prepared, rows: IntArray, items: IntArray) -> bool:
        """Whether the prepared readers' choices among the prepared books are all there.

        Those after the last prepared one may be missing (``interactions_limit``). Others are
        missing where a ``min_rating`` is set: what is left are then no longer draws from the rule.
        """
        assert self.history.times is not None
        parts = (prepared.train, prepared.validation, prepared.test)
        latest = max(
            self._times(rows[part.users], items[part.items]).max(initial=0) for part in parts
        )
        expected = (
            np.isin(self.history.users, rows)
            & np.isin(self.history.items, items)
            & (self.history.times <= latest)
        )
        return sum(len(part) for part in parts) == int(np.count_nonzero(expected))

    def _rows(self, prepared: Prepared) -> tuple[IntArray, IntArray]:
        """Rows of this world for every prepared user and item, (U,) and (I,)."""
        users = {user_id: row for row, user_id in enumerate(self.user_ids)}
        items = {item_id: row for row, item_id in enumerate(self.item_ids)}
        return (
            np.array([users[user_id] for user_id in prepared.users.ids.to_pylist()], np.int64),
            np.array([items[item_id] for item_id in prepared.items.ids.to_pylist()], np.int64),
        )

    def _moments(self, prepared: Prepared, split: str, rows: IntArray, items: IntArray) -> IntArray:
        """The slot in which each prepared user's held-out book was chosen, (U,)."""
        earliest = np.iinfo(np.int64).max
        held_out = np.full(len(rows), earliest)
        known = np.full(len(rows), self.calendar.start)
        for name in ("train", "validation", "test"):
            part: Interactions = getattr(prepared, name)
            times = self._times(rows[part.users], items[part.items])
            if name == split:
                np.minimum.at(held_out, part.users, times)
            else:
                np.maximum.at(known, part.users, times)
        return self.calendar.slots(np.where(held_out == earliest, known, held_out))

    def _times(self, users: IntArray, items: IntArray) -> IntArray:
        """When each (reader, book) pair was read: the prepared order may be that of rows."""
        keys, times = self._timetable
        found = np.searchsorted(keys, users * len(self.item_ids) + items)
        looked_up: IntArray = times[found]
        return looked_up

    @cached_property
    def _timetable(self) -> tuple[IntArray, IntArray]:
        assert self.history.times is not None
        keys = self.history.users.astype(np.int64) * len(self.item_ids) + self.history.items
        order = np.argsort(keys)
        return keys[order], self.history.times[order]


def _best_probabilities(weights: IntArray, k: int) -> FloatArray:
    """The k greatest probabilities of each row, best first, (n, min(k, m)) float64."""
    k = min(k, weights.shape[1])
    best = -np.sort(-weights, axis=1)[:, :k]
    probabilities: FloatArray = best / weights.sum(axis=1, keepdims=True)
    return probabilities
