"""Examples: each interaction, or each user's items split into input and targets."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from recsys.config import HistorySplitConfig
from recsys.data.arrays import BoolArray, IntArray, offsets_of
from recsys.data.histories import Histories
from recsys.errors import DataError
from recsys.models.history import HistoryRows
from recsys.training.batches import Batch, Negatives


class PairExamples:
    """Each train interaction once an epoch, with the user's history without it.

    A row of the user tower is a distinct user where there are no histories, else a positive.

    Args:
        histories: the train items of every user; all warm.
        n_items: items with train interactions.
        negatives: what is drawn.
        batch_size: positives in a batch; the last one of an epoch may hold fewer.
        max_history: most items of a history; None leaves histories out.
    """

    def __init__(
        self,
        histories: Histories,
        n_items: int,
        negatives: Negatives,
        *,
        batch_size: int,
        max_history: int | None,
    ) -> None:
        self._histories = histories
        self._users = histories.bags.owners
        self._n_items = n_items
        self._batch_size = batch_size
        self._max_history = max_history
        self._negatives = negatives

    @property
    def n_positives(self) -> int:
        """Positives in an epoch."""
        return len(self._users)

    def __len__(self) -> int:
        return math.ceil(self.n_positives / self._batch_size)

    def epoch(self, rng: np.random.Generator) -> Iterator[Batch]:
        """The batches of one epoch: every train interaction once."""
        order = rng.permutation(self.n_positives)
        for start in range(0, len(order), self._batch_size):
            yield self._negatives.draw(self._rows(order[start : start + self._batch_size]), rng)

    def _rows(self, interactions: IntArray) -> Batch:
        users, history = self._users[interactions], None
        if self._max_history is None:
            users, rows = np.unique(users, return_inverse=True)
            by_row = np.argsort(rows, kind="stable")
            rows, targets = rows[by_row], self._histories.items[interactions[by_row]]
        else:
            rows, targets = np.arange(len(users)), self._histories.items[interactions]
            history = without(self._histories, interactions, users, self._max_history)
        masked = self._masked(users, rows, targets)
        return Batch.of(self._n_items, users, rows, targets, masked, history)

    def _masked(
        self, users: IntArray, rows: IntArray, targets: IntArray
    ) -> tuple[IntArray, IntArray]:
        """Pairs of a row and an item that is no negative of it."""
        if self._negatives.per_positive is not None:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        known = self._histories.bags
        owners, items = known.entries(users)
        if self._negatives.sampler is not None:
            return owners, items
        # Over the whole catalogue a positive stays in its own denominator, the others do not.
        is_target = np.isin(
            owners.astype(np.int64) * known.n_columns + items,
            rows.astype(np.int64) * known.n_columns + targets,
        )
        return owners[~is_target], items[~is_target]


def without(
    histories: Histories, interactions: IntArray, users: IntArray, most: int
) -> HistoryRows:
    """The histories of the interactions' users, each without that interaction.

    What is left closes up: positions and ages are counted as if it had never been there.

    Args:
        histories: of all users.
        interactions: places in ``histories.items``, (P,).
        users: their users, (P,).
        most: items of each to keep, the most recent.
    """
    starts, ends = histories.offsets[users], histories.offsets[users + 1]
    lengths = np.minimum(ends - starts, most + 1)
    starts = ends - lengths
    rows = np.repeat(np.arange(len(users)), lengths)
    places = np.arange(len(rows)) + (starts - offsets_of(lengths)[:-1])[rows]
    from_end = ends[rows] - 1 - places
    from_end -= places < interactions[rows]  # items before the gap move up by one
    kept = (places != interactions[rows]) & (from_end < most)
    rows, places = rows[kept], places[kept]
    offsets = offsets_of(np.bincount(rows, minlength=len(users)))
    newest = places[offsets[1:][rows] - 1]
    return HistoryRows.of(histories, places, offsets, positions=from_end[kept], beside=newest)


@dataclass(frozen=True, eq=False)
class _Chosen:
    """What becomes of each item of some histories, (m,) each.

    Attributes:
        is_target: whether it is to be found.
        is_input: whether it is known.
        positions: its distance from the end of the input.
        beside: place in its history of the item that its age is counted from.
    """

    is_target: BoolArray
    is_input: BoolArray
    positions: IntArray
    beside: IntArray


class HistoryExamples:
    """Each user's train items, split into input and targets anew every epoch and repeat.

    Args:
        histories: the train items of every user; all warm.
        n_items: items with train interactions.
        negatives: what is drawn.
        split: how items are told apart.
        batch_size: users in a batch.
        max_history: most items of an input.

    Raises:
        DataError: no user has two items, so that there is nothing to split.
    """

    def __init__(
        self,
        histories: Histories,
        n_items: int,
        negatives: Negatives,
        *,
        split: HistorySplitConfig,
        batch_size: int,
        max_history: int,
    ) -> None:
        self._histories = histories
        self._users = np.flatnonzero(histories.lengths >= 2)
        if not len(self._users):
            raise DataError(
                "'training.examples: histories' needs users with at least 2 train items, but none "
                "has more than 1; 'pairs' takes any"
            )
        self._n_items = n_items
        self._split = split
        self._n_rows = len(self._users) * split.repeats
        self._batch_size = batch_size
        self._max_history = max_history
        self._negatives = negatives

    @property
    def n_positives(self) -> int:
        """Targets in an epoch on average."""
        lengths = self._histories.lengths[self._users]
        if self._split.targets == "next":
            assert self._split.window is not None
            return self._split.repeats * int(np.minimum(lengths - 1, self._split.window).sum())
        assert self._split.input_share is not None
        target_share = 1 - sum(self._split.input_share) / 2
        return self._split.repeats * round(float(lengths.sum()) * target_share)

    def __len__(self) -> int:
        return math.ceil(self._n_rows / self._batch_size)

    def epoch(self, rng: np.random.Generator) -> Iterator[Batch]:
        """The batches of one epoch: every user with two items or more once, or each repeat."""
        order = np.concatenate([rng.permutation(self._users) for _ in range(self._split.repeats)])
        for start in range(0, len(order), self._batch_size):
            users = np.sort(order[start : start + self._batch_size])
            yield self._negatives.draw(self._rows(users, rng), rng)

    def _rows(self, users: IntArray, rng: np.random.Generator) -> Batch:
        histories = self._histories
        places, offsets = histories.bags.positions(users)
        lengths = np.diff(offsets)
        rows = np.repeat(np.arange(len(users)), lengths)
        local = np.arange(len(places)) - np.repeat(offsets[:-1], lengths)  # place in the history
        choose = self._at_random if self._split.targets == "random" else self._next
        chosen = choose(lengths, rows, local, rng)
        is_input = chosen.is_input & (chosen.positions < self._max_history)
        history = HistoryRows.of(
            histories,
            places[is_input],
            offsets_of(np.bincount(rows[is_input], minlength=len(users))),
            positions=chosen.positions[is_input],
            beside=(places - local + chosen.beside)[is_input],
        )
        items, is_target = histories.items[places], chosen.is_target
        masked = ~is_target if self._negatives.sampler is None else np.ones(len(rows), dtype=bool)
        return Batch.of(
            self._n_items,
            users,
            rows[is_target],
            items[is_target],
            (rows[masked], items[masked]),
            history,
        )

    def _at_random(
        self, lengths: IntArray, rows: IntArray, local: IntArray, rng: np.random.Generator
    ) -> _Chosen:
        """A random share of each user's items is the input."""
        assert self._split.input_share is not None
        share = rng.uniform(*self._split.input_share, size=len(lengths))
        n_input = np.clip(np.rint(lengths * share).astype(np.int64), 1, lengths - 1)
        shuffled = np.lexsort((rng.random(len(rows)), rows))
        is_input = np.empty(len(rows), dtype=bool)
        is_input[shuffled] = local < n_input[rows]
        seen = np.cumsum(is_input)
        total = seen[np.cumsum(lengths) - 1]  # of the rows up to and with each
        newest = np.zeros(len(lengths), dtype=np.int64)
        np.maximum.at(newest, rows[is_input], local[is_input])
        return _Chosen(~is_input, is_input, total[rows] - seen, newest[rows])

    def _next(
        self, lengths: IntArray, rows: IntArray, local: IntArray, rng: np.random.Generator
    ) -> _Chosen:
        """A window of items that follow one another are the targets."""
        window = np.minimum(self._split.window or 1, lengths - 1)
        # At least one item comes before the window.
        first = 1 + np.floor(rng.random(len(lengths)) * (lengths - window)).astype(np.int64)
        last = first + window - 1
        before, after = (first[rows] - 1) - local, local - (last + 1)[rows]
        is_input = before >= 0
        if self._split.after:
            is_input |= after >= 0
        beside = np.where(before >= 0, first[rows] - 1, np.minimum(last + 1, lengths - 1)[rows])
        is_target = (before < 0) & (after < 0)
        return _Chosen(is_target, is_input, np.maximum(before, after), beside)
