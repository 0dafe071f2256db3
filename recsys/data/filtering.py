"""Which interactions are kept, and how many were left after each step."""

from __future__ import annotations

import logging
from bisect import bisect
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.config import DataConfig
from recsys.data.arrays import IntArray, Interactions
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

    @classmethod
    def of(cls, name: str, left: Interactions) -> FilterStep:
        """The sizes of what a step left."""
        users, items = np.count_nonzero(left.user_counts), np.count_nonzero(left.item_counts)
        return cls(name, int(users), int(items), len(left))


def filter_interactions(
    tables: Tables, config: DataConfig
) -> tuple[Interactions, tuple[FilterStep, ...]]:
    """The interactions that are kept, and what each step left.

    Steps, in this order: interactions whose item is known; the latest of several of the same user
    with the same item (by time, ties by rating; by row where there are no times); those rated
    ``min_rating`` or better; the k-core, a step a round. A ready-made split ends after the second
    step, and a pair in several of its parts stays in the first of them.

    Returns:
        Interactions with users as in ``tables`` and items as rows of ``tables.books``, in file
        order, their times what the order is by, and the steps.

    Raises:
        DataError: nothing is left; the message says which setting to lower and what would survive.
    """
    steps = [FilterStep.of("read", tables.interactions)]
    log = _of_known_items(tables, config)
    steps.append(FilterStep.of("known items", log))
    log = _latest_of_pairs(log)
    steps.append(FilterStep.of("latest of each pair", log))
    if log.parts is None:
        log, further = _well_rated_core(log, config)
        steps += further
    for step in steps:
        logger.info(
            "%s: %d interactions of %d users with %d items left",
            step.name,
            step.interactions,
            step.users,
            step.items,
        )
    return log, tuple(steps)


def _well_rated_core(
    log: Interactions, config: DataConfig
) -> tuple[Interactions, list[FilterStep]]:
    """The interactions that are rated well enough and in the k-core."""
    steps = []
    if config.min_rating is not None and log.ratings is not None:
        best = float(log.ratings.max())
        log = log.select(log.ratings >= config.min_rating)
        steps.append(FilterStep.of("min_rating", log))
        if not len(log):
            raise DataError(
                f"nothing is left after min_rating={config.min_rating:g}; the highest is {best:g}"
            )
    minimums = {
        "min_user_interactions": config.min_user_interactions or 1,
        "min_item_interactions": config.min_item_interactions or 1,
    }
    core, rounds = k_core(log, **minimums)
    if not len(core):
        raise DataError(_nothing_left(log, minimums))
    return core, [*steps, *rounds]


def _of_known_items(tables: Tables, config: DataConfig) -> Interactions:
    """The interactions whose item is in the books table."""
    found = pc.index_in(tables.item_ids, value_set=tables.books[ITEM_ID])
    items = pc.fill_null(found, -1).to_numpy(zero_copy_only=False)[tables.interactions.items]
    log = replace(tables.interactions, items=items, n_items=len(tables.books))
    if config.split.order == "rows":
        rows = np.arange(1, len(items) + 1) if tables.rows is None else tables.rows
        log = replace(log, times=rows)
    known = items >= 0
    if known.all():
        return log
    raw = tables.interactions.items
    unknown = tables.item_ids.take(pa.array(np.unique(raw[~known])))
    hint = near_match(unknown, tables.books[ITEM_ID].combine_chunks())
    first = int(np.argmin(known))
    first_id = shown(tables.item_ids[int(raw[first])])
    if not known.any():
        raise DataError(
            f"no item_id of {config.interactions_path} is in {config.books_path}, the first is "
            f"{first_id}{hint}"
        )
    path, row = _place(tables, config, first)
    logger.warning(
        "%s: column 'item_id' has %d values missing from %s, first %s in row %d; left out%s",
        path,
        len(items) - int(np.count_nonzero(known)),
        config.books_path,
        first_id,
        row,
        hint,
    )
    return log.select(known)


def _place(tables: Tables, config: DataConfig, interaction: int) -> tuple[Path, int]:
    """The file that an interaction is from, and the number of its row there."""
    parts = tables.interactions.parts
    if parts is None:
        row = interaction + 1 if tables.rows is None else int(tables.rows[interaction])
        return config.source_paths["interactions"], row
    part = parts[interaction]
    return config.source_paths[PARTS[part]], interaction - int(np.argmax(parts == part)) + 1


def _latest_of_pairs(log: Interactions) -> Interactions:
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


def _rows_of_repeated_pairs(log: Interactions) -> tuple[IntArray, IntArray]:
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


def _pair_numbers(log: Interactions, rows: IntArray | slice) -> IntArray:
    """The (user, item) pair of each of the rows as one number, int64."""
    pairs: IntArray = log.users[rows].astype(np.int64)
    pairs *= log.n_items
    pairs += log.items[rows]
    return pairs


def k_core(
    log: Interactions, *, min_user_interactions: int, min_item_interactions: int
) -> tuple[Interactions, tuple[FilterStep, ...]]:
    """The largest part in which every user and item has enough interactions.

    Each round leaves out all users and items with too few at once; a round that leaves out nothing
    ends it and is not recorded, unless it is the first. The result does not depend on the order in
    which users and items are left out (Seidman 1983, Network structure and minimum degree).
    """
    user_counts = np.bincount(log.users, minlength=log.n_users)
    item_counts = np.bincount(log.items, minlength=log.n_items)
    is_left, n_left = np.ones(len(log), dtype=bool), len(log)
    steps: list[FilterStep] = []
    while True:
        out = (user_counts < min_user_interactions)[log.users]
        out |= (item_counts < min_item_interactions)[log.items]
        out &= is_left
        rows = np.flatnonzero(out)
        is_left[rows] = False
        n_left -= len(rows)
        user_counts -= np.bincount(log.users[rows], minlength=log.n_users)
        item_counts -= np.bincount(log.items[rows], minlength=log.n_items)
        if len(rows) or not steps:
            n_users, n_items = (int(np.count_nonzero(n)) for n in (user_counts, item_counts))
            steps.append(FilterStep(f"k-core round {len(steps) + 1}", n_users, n_items, n_left))
        if not len(rows):
            return log if n_left == len(log) else log.select(is_left), tuple(steps)
        if n_left < _COMPACT_BELOW * len(log):  # later rounds leave out little, so seldom
            log, is_left = log.select(is_left), np.ones(n_left, dtype=bool)


def _nothing_left(log: Interactions, minimums: dict[str, int]) -> str:
    """Which minimum to lower, and what would then survive."""
    offers = [_offer(log, minimums, (name,)) for name in sorted(minimums)]
    if not any(offers):  # neither alone is enough
        offers = [_offer(log, minimums, tuple(minimums))]
    settings = ", ".join(f"{name}={value}" for name, value in minimums.items())
    return f"nothing is left after {settings}; {'; '.join(offer for offer in offers if offer)}"


def _offer(log: Interactions, minimums: dict[str, int], names: tuple[str, ...]) -> str:
    """What the highest value of the named minimums with which something survives would leave.

    Empty where even 1 leaves nothing.
    """

    def lowered(value: int) -> dict[str, int]:
        return minimums | {name: min(value, minimums[name]) for name in names}

    def leaves_nothing(value: int) -> bool:  # as does all that is higher
        return not len(k_core(log, **lowered(value))[0])

    values = range(1, max(minimums[name] for name in names))
    highest = bisect(values, False, key=leaves_nothing)
    if not highest:
        return ""
    left = k_core(log, **lowered(highest))[1][-1]
    settings = " and ".join(f"{name}={lowered(highest)[name]}" for name in names)
    return (
        f"with {settings} there would be {left.users} users, {left.items} items, "
        f"{left.interactions} interactions"
    )
