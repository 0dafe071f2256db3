"""Which interactions are kept, and how many were left after each step."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
import pyarrow.compute as pc

from recsys.config import DataConfig
from recsys.data.arrays import BoolArray, FloatArray, IntArray
from recsys.data.columns import ITEM_ID
from recsys.data.tables import Tables
from recsys.errors import DataError

logger = logging.getLogger(__name__)


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
    """

    users: IntArray
    items: IntArray
    ratings: FloatArray | None
    times: IntArray | None
    n_users: int
    n_items: int

    def __len__(self) -> int:
        return len(self.users)

    def select(self, keep: BoolArray) -> Log:
        """The interactions for which ``keep`` is true."""
        return replace(
            self,
            users=self.users[keep],
            items=self.items[keep],
            ratings=None if self.ratings is None else self.ratings[keep],
            times=None if self.times is None else self.times[keep],
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
    with the same book (by time, ties by row; by row where there are no times); those rated
    ``min_rating`` or better; the k-core, a step a round.

    Raises:
        DataError: nothing is left; the message says which setting to lower and what would survive.
    """
    log, read = _of_known_books(tables, config)
    steps = [read, log.step("known books")]
    _require_some(log, f"no item_id of {config.interactions_path} is in {config.books_path}")
    log = _latest_of_pairs(log)
    steps.append(log.step("latest of each pair"))
    if config.min_rating is not None and log.ratings is not None:
        best = float(log.ratings.max())
        log = log.select(log.ratings >= config.min_rating)
        steps.append(log.step("min_rating"))
        _require_some(
            log, f"nothing is left after min_rating={config.min_rating:g}; the highest is {best:g}"
        )
    before = log = replace(log, ratings=None)
    log, rounds = k_core(
        log,
        min_user_interactions=config.min_user_interactions,
        min_item_interactions=config.min_item_interactions,
    )
    steps.extend(rounds)
    if not len(log):
        raise DataError(_nothing_left(before, config))
    for step in steps:
        logger.info(
            "%s: %d interactions of %d users with %d items left",
            step.name,
            step.interactions,
            step.users,
            step.items,
        )
    return log, tuple(steps)


def _require_some(log: Log, message: str) -> None:
    if not len(log):
        raise DataError(message)


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
    log = Log(tables.users, items, tables.ratings, times, n_users, len(tables.books))
    known = items >= 0
    if known.all():
        return log, read
    first = int(np.argmin(known))
    logger.warning(
        "%s: column 'item_id' has %d values missing from %s, first '%s' in row %d; left out",
        config.interactions_path,
        len(items) - int(np.count_nonzero(known)),
        config.books_path,
        tables.item_ids[int(tables.items[first])].as_py(),
        first + 1 if tables.rows is None else tables.rows[first],
    )
    return log.select(known), read


def _latest_of_pairs(log: Log) -> Log:
    """Without all but the latest interaction of each (user, item) pair."""
    pairs = log.users.astype(np.int64) * log.n_items + log.items
    in_order = np.sort(pairs)
    repeated = in_order[1:][in_order[1:] == in_order[:-1]]
    if not len(repeated):
        return log
    nearest = np.minimum(np.searchsorted(repeated, pairs), len(repeated) - 1)
    rows = np.flatnonzero(repeated[nearest] == pairs)
    times = rows if log.times is None else log.times[rows]
    order = np.lexsort((rows, times, pairs[rows]))
    rows = rows[order]
    older = pairs[rows][:-1] == pairs[rows][1:]
    keep = np.ones(len(log), dtype=bool)
    keep[rows[:-1][older]] = False
    logger.warning(
        "%d interactions repeat a user's earlier one with the same item; the latest is kept",
        int(np.count_nonzero(older)),
    )
    return log.select(keep)


def k_core(
    log: Log, *, min_user_interactions: int, min_item_interactions: int
) -> tuple[Log, tuple[FilterStep, ...]]:
    """The largest part in which every user and item has enough interactions.

    Each round leaves out all users and items with too few at once; a round that leaves out nothing
    ends it and is not recorded, unless it is the first. The result does not depend on the order in
    which users and items are left out (Seidman 1983, Network structure and minimum degree).
    """
    steps: list[FilterStep] = []
    while True:
        user_counts = np.bincount(log.users, minlength=log.n_users)
        item_counts = np.bincount(log.items, minlength=log.n_items)
        keep = (user_counts >= min_user_interactions)[log.users]
        keep &= (item_counts >= min_item_interactions)[log.items]
        done = bool(keep.all())
        if not done:
            log = log.select(keep)
        if not done or not steps:
            steps.append(log.step(f"k-core round {len(steps) + 1}"))
        if done:
            return log, tuple(steps)


def _nothing_left(before: Log, config: DataConfig) -> str:
    """Which threshold to lower, and what would then survive."""
    given = {
        "min_user_interactions": config.min_user_interactions,
        "min_item_interactions": config.min_item_interactions,
    }
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
