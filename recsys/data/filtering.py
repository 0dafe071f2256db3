"""Which interactions are kept, and how many were left after each step."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.config import DataConfig
from recsys.data.arrays import BoolArray, FloatArray, IntArray
from recsys.data.columns import ITEM_ID
from recsys.data.tables import PARTS, Tables
from recsys.data.vocabulary import near_match
from recsys.errors import DataError, shown

logger = logging.getLogger(__name__)

_COMPACT_BELOW = 0.8  # of the rows: what is left is copied, so that rounds look at no more


@dataclass(frozen=True)
class FilterStep:
    """What is left after a step of filtering.

    Attributes:
        name: what the step did.
        users: users with at least one interaction left.
        items: items with at least one interaction left.
        interactions: interactions left.
    """

    name: str
    users: int
    items: int
    interactions: int


@dataclass(frozen=True, eq=False)
class Log:
    """Interactions by code, in file order.

    Attributes:
        users: code of each interaction's user, (N,) int32, below ``n_users``.
        items: row of each interaction's book in the books table, (N,) int32, below ``n_items``.
        ratings: (N,) float32 or None.
        times: (N,) int64, what the order is by, or None where the data has no order.
        n_users: bound of the user codes.
        n_items: bound of the item codes.
        parts: of a ready-made split, as in :class:`recsys.data.tables.Tables`; (N,) int8 or None.
    """

    users: IntArray
    items: IntArray
    ratings: FloatArray | None
    times: IntArray | None
    n_users: int
    n_items: int
    parts: IntArray | None = None

    def __len__(self) -> int:
        return len(self.users)

    def select(self, keep: BoolArray) -> Log:
        """The interactions for which ``keep`` is true."""
        rows = np.flatnonzero(keep)  # found once, which is faster than by each of the arrays
        return replace(
            self,
            users=self.users[rows],
            items=self.items[rows],
            ratings=None if self.ratings is None else self.ratings[rows],
            times=None if self.times is None else self.times[rows],
            parts=None if self.parts is None else self.parts[rows],
        )

    def step(self, name: str) -> FilterStep:
        """The sizes of this log, as what a step called ``name`` left."""
        users = np.bincount(self.users, minlength=self.n_users)
        items = np.bincount(self.items, minlength=self.n_items)
        return FilterStep(
            name, int(np.count_nonzero(users)), int(np.count_nonzero(items)), len(self)
        )


def filter_interactions(tables: Tables, config: DataConfig) -> tuple[Log, tuple[FilterStep, ...]]:
    """The interactions that are kept, and what each step left.

    Steps, in this order: interactions whose book is known; the latest of several of the same user
    with the same book (by time, ties by rating; by row where there are no times); those rated
    ``min_rating`` or better; the k-core, a step a round. A ready-made split ends after the second
    step, and a pair in several of its parts stays in the first of them.

    Raises:
        DataError: nothing is left; the message says which setting to lower and what would survive.
    """
    log, read = _of_known_books(tables, config)
    steps = [read, log.step("known books")]
    log = _latest_of_pairs(log)
    steps.append(log.step("latest of each pair"))
    if log.parts is None:
        log, thinned = _thin_out(log, config)
        steps += thinned
    for step in steps:
        logger.info(
            "%s: %d interactions of %d users with %d items left",
            step.name,
            step.interactions,
            step.users,
            step.items,
        )
    return log, tuple(steps)


def _thin_out(log: Log, config: DataConfig) -> tuple[Log, list[FilterStep]]:
    """The interactions that are rated well enough and in the k-core."""
    steps = []
    if config.min_rating is not None and log.ratings is not None:
        best = float(log.ratings.max())
        log = log.select(log.ratings >= config.min_rating)
        steps.append(log.step("min_rating"))
        if not len(log):
            raise DataError(
                f"nothing is left after min_rating={config.min_rating:g}; the highest is {best:g}"
            )
    before = log
    log, rounds = k_core(log, **_minimums(config))
    steps.extend(rounds)
    if not len(log):
        raise DataError(_nothing_left(before, config))
    return log, steps


def _minimums(config: DataConfig) -> dict[str, int]:
    user, item = config.min_user_interactions, config.min_item_interactions
    assert user is not None and item is not None  # filled in by the settings
    return {"min_user_interactions": user, "min_item_interactions": item}


def _of_known_books(tables: Tables, config: DataConfig) -> tuple[Log, FilterStep]:
    """The interactions whose book is in the books table, and what was read."""
    n_users = len(tables.user_ids)
    # distinct ids may include some that only rows had that were left out
    users_read = np.count_nonzero(np.bincount(tables.users, minlength=n_users))
    items_read = np.count_nonzero(np.bincount(tables.items, minlength=len(tables.item_ids)))
    read = FilterStep("read", int(users_read), int(items_read), len(tables.users))
    found = pc.index_in(tables.item_ids, value_set=tables.books[ITEM_ID])
    book_rows = pc.fill_null(found, -1).to_numpy(zero_copy_only=False)
    items = book_rows[tables.items]
    times = tables.times
    if config.split.order == "rows":
        times = np.arange(1, len(items) + 1) if tables.rows is None else tables.rows
    log = Log(tables.users, items, tables.ratings, times, n_users, len(tables.books), tables.parts)
    known = items >= 0
    if known.all():
        return log, read
    first = int(np.argmin(known))
    unknown = tables.item_ids.take(pa.array(np.unique(tables.items[~known])))
    hint = near_match(unknown, tables.books[ITEM_ID].combine_chunks())
    if not known.any():
        raise DataError(
            f"no item_id of {config.interactions_path} is in {config.books_path}, the first is "
            f"{shown(tables.item_ids[int(tables.items[first])])}{hint}"
        )
    path, row = _place(tables, config, first)
    logger.warning(
        "%s: column 'item_id' has %d values missing from %s, first %s in row %d; left out%s",
        path,
        len(items) - int(np.count_nonzero(known)),
        config.books_path,
        shown(tables.item_ids[int(tables.items[first])]),
        row,
        hint,
    )
    return log.select(known), read


def _place(tables: Tables, config: DataConfig, interaction: int) -> tuple[Path, int]:
    """The file that an interaction is from, and the number of its row there."""
    if tables.parts is None:
        row = interaction + 1 if tables.rows is None else int(tables.rows[interaction])
        return config.interactions_path, row
    part = tables.parts[interaction]
    start = int(np.argmax(tables.parts == part))
    return config.source_paths[PARTS[part]], interaction - start + 1


def _latest_of_pairs(log: Log) -> Log:
    """Without all but the latest interaction of each (user, item) pair.

    Of those at the same time it is the best rated; without times, the one in the last row.

    Of a ready-made split, the latest in the first part that has the pair.
    """
    rows, pairs = _rows_of_repeated_pairs(log)
    if not len(rows):
        return log
    times = rows if log.times is None else log.times[rows]
    ratings = np.zeros(len(rows)) if log.ratings is None else log.ratings[rows]
    parts = np.zeros(len(rows), dtype=np.int8) if log.parts is None else log.parts[rows]
    order = np.lexsort((rows, np.nan_to_num(ratings, nan=-np.inf), times, -parts, pairs))
    rows, pairs = rows[order], pairs[order]
    older = pairs[:-1] == pairs[1:]
    keep = np.ones(len(log), dtype=bool)
    keep[rows[:-1][older]] = False
    logger.warning(
        "%d interactions repeat a user's other one with the same item; the %s is kept",
        int(np.count_nonzero(older)),
        "latest" if log.parts is None else "one of train, else of validation,",
    )
    return log.select(keep)


def _rows_of_repeated_pairs(log: Log) -> tuple[IntArray, IntArray]:
    """(row, pair as a number) of each interaction whose user has another with the same item."""
    in_order = _pair_numbers(log, slice(None))
    in_order.sort()
    repeated = in_order[1:][in_order[1:] == in_order[:-1]]
    del in_order
    # Few users and few items have any: only rows of both are looked up.
    of_user, of_item = np.zeros(log.n_users, dtype=bool), np.zeros(log.n_items, dtype=bool)
    of_user[repeated // log.n_items] = True
    of_item[repeated % log.n_items] = True
    rows = np.flatnonzero(of_user[log.users] & of_item[log.items])
    pairs = _pair_numbers(log, rows)
    nearest = np.minimum(np.searchsorted(repeated, pairs), len(repeated) - 1)
    found = repeated[nearest] == pairs
    return rows[found], pairs[found]


def _pair_numbers(log: Log, rows: IntArray | slice) -> IntArray:
    """The (user, item) pair of each of the rows as one number, int64."""
    pairs: IntArray = log.users[rows].astype(np.int64)
    pairs *= log.n_items
    pairs += log.items[rows]
    return pairs


def k_core(
    log: Log, *, min_user_interactions: int, min_item_interactions: int
) -> tuple[Log, tuple[FilterStep, ...]]:
    """The largest part in which every user and item has enough interactions.

    Each round leaves out all users and items with too few at once; a round that leaves out nothing
    ends it and is not recorded, unless it is the first. The result does not depend on the order in
    which users and items are left out (Seidman 1983, Network structure and minimum degree).
    """
    users = _Counts.of(log.users, log.n_users, min_user_interactions)
    items = _Counts.of(log.items, log.n_items, min_item_interactions)
    is_left, n_left = np.ones(len(log), dtype=bool), len(log)
    steps: list[FilterStep] = []
    while True:
        out = users.too_few(log.users)
        out |= items.too_few(log.items)
        out &= is_left
        rows = np.flatnonzero(out)
        is_left[rows] = False
        n_left -= len(rows)
        users.leave_out(log.users[rows])
        items.leave_out(log.items[rows])
        if len(rows) or not steps:
            name = f"k-core round {len(steps) + 1}"
            steps.append(FilterStep(name, users.n_present, items.n_present, n_left))
        if not len(rows):
            return log if n_left == len(log) else log.select(is_left), tuple(steps)
        if n_left < _COMPACT_BELOW * len(log):  # later rounds leave out little, so seldom
            log, is_left = log.select(is_left), np.ones(n_left, dtype=bool)


@dataclass(frozen=True, eq=False)
class _Counts:
    """How many interactions each user, or each item, has left, (n,), and how many it must have."""

    counts: IntArray
    minimum: int

    @classmethod
    def of(cls, codes: IntArray, n_codes: int, minimum: int) -> _Counts:
        return cls(np.bincount(codes, minlength=n_codes), minimum)

    @property
    def n_present(self) -> int:
        """How many have any."""
        return int(np.count_nonzero(self.counts))

    def too_few(self, codes: IntArray) -> BoolArray:
        """Whether each of the codes has too few, but some."""
        few = self.counts < self.minimum
        few &= self.counts > 0
        marked: BoolArray = few[codes]
        return marked

    def leave_out(self, codes: IntArray) -> None:
        """Count down, in place, by one for each of the codes."""
        self.counts[:] -= np.bincount(codes, minlength=len(self.counts))


def _nothing_left(before: Log, config: DataConfig) -> str:
    """Which threshold to lower, and what would then survive."""
    given = _minimums(config)
    offers = [_offer(before, given, (name,)) for name in sorted(given)]
    if not any(offers):  # neither alone is enough
        offers = [_offer(before, given, tuple(given))]
    settings = ", ".join(f"{name}={value}" for name, value in given.items())
    return f"nothing is left after {settings}; {'; '.join(offer for offer in offers if offer)}"


def _offer(log: Log, given: dict[str, int], names: tuple[str, ...]) -> str:
    """What the highest value of the named thresholds with which something survives would leave.

    Empty where even 1 leaves nothing. What survives shrinks as a threshold grows, so halving the
    range finds the value.
    """
    low, high = 0, max(given[name] for name in names)
    while high - low > 1:
        middle = (low + high) // 2
        if _survivors(log, _lowered(given, names, middle)).interactions:
            low = middle
        else:
            high = middle
    if not low:
        return ""
    lowered = _lowered(given, names, low)
    left = _survivors(log, lowered)
    settings = " and ".join(f"{name}={lowered[name]}" for name in names)
    return (
        f"with {settings} there would be {left.users} users, {left.items} items, "
        f"{left.interactions} interactions"
    )


def _lowered(given: dict[str, int], names: tuple[str, ...], value: int) -> dict[str, int]:
    return given | {name: min(value, given[name]) for name in names}


def _survivors(log: Log, thresholds: dict[str, int]) -> FilterStep:
    return k_core(log, **thresholds)[1][-1]
