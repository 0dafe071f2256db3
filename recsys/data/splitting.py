"""Train, validation and test."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import assert_never

import numpy as np

from recsys.config import TIMED_SPLITS, Order, SplitConfig, SplitStrategy
from recsys.data.arrays import IntArray, Interactions
from recsys.errors import DataError

logger = logging.getLogger(__name__)

TRAIN, VALIDATION, TEST = 0, 1, 2
LEAVE_OUT_MINIMUM = 3  # test, validation, and one left to learn from
_TIE_SEED = 20_231_117


@dataclass(frozen=True)
class SplitSummary:
    """How the interactions were split.

    Attributes:
        strategy: as set.
        order: as set.
        skipped: why nothing was held out, or None.
        train: number of train interactions.
        validation: number of validation interactions.
        test: number of test interactions.
        note: what else there is to say, or None.
    """

    strategy: SplitStrategy
    order: Order
    skipped: str | None
    train: int
    validation: int
    test: int
    note: str | None = None


def in_order(log: Interactions, ticks: int) -> tuple[Interactions, int]:
    """Sorted by user, then time, ties at random, with times in seconds; and how many are tied.

    Args:
        log: times in units of which ``ticks`` make a second.
        ticks: 1 or more.
    """
    order = order_by_user_and_time(log.users, log.times)
    order, n_tied = break_ties(order, log.users, log.times, log.items)
    log = log.select(order)
    if log.times is None:
        return log, 0  # nothing says that they are tied
    if n_tied:
        logger.warning(
            "%d interactions have the same time as another of their user; their order is random",
            n_tied,
        )
    return replace(log, times=log.times // ticks if ticks > 1 else log.times), n_tied


def order_by_user_and_time(users: IntArray, times: IntArray | None) -> IntArray:
    """Rows sorted by user, then time, then row: ties in time are broken by the row order, (N,)."""
    rows = None
    if times is not None and len(times) and np.any(times[1:] < times[:-1]):
        rows = _stable_order(times)
        users = users[rows]
    by_user = _stable_order(users)
    return by_user if rows is None else rows[by_user]


def break_ties(
    order: IntArray, users: IntArray, times: IntArray | None, items: IntArray
) -> tuple[IntArray, int]:
    """The order with ties of user and time at random, always the same way whatever the rows' order.

    Args:
        order: rows sorted by user, then time, (N,).
        users: of each row, (N,).
        times: (N,), or None where all of a user's interactions are tied.
        items: (N,), each once a user.

    Returns:
        The rows in their new order, (N,), and how many of them are tied.
    """
    ordered = users[order]
    same = ordered[1:] == ordered[:-1]
    if times is not None:
        ordered = times[order]
        same &= ordered[1:] == ordered[:-1]
    if not same.any():
        return order, 0
    tied = np.append(same, False) | np.append(False, same)
    ties = np.cumsum(np.append(True, ~same))[tied]  # the number of its tie, of each tied row
    rows = order[tied]
    rows = rows[np.lexsort((items[rows], ties))]
    drawn = np.random.RandomState(_TIE_SEED).random_sample(len(rows))  # the same in every numpy
    broken = order.copy()
    broken[tied] = rows[np.lexsort((drawn, ties))]
    return broken, len(rows)


def _stable_order(keys: IntArray) -> IntArray:
    """The stable ``argsort`` of integers.

    Where key and row fit into 63 bits together, the pairs are sorted as one number each, which
    numpy does several times faster than a stable ``argsort``.
    """
    if not len(keys):
        return np.zeros(0, dtype=np.int64)
    low, n_keys = int(keys.min()), len(keys)
    if (int(keys.max()) - low + 1) * n_keys >= 2**63:
        return np.argsort(keys, kind="stable")
    pairs = keys.astype(np.int64)
    pairs -= low
    pairs *= n_keys
    pairs += np.arange(n_keys)
    pairs.sort()
    pairs %= n_keys
    return pairs


def split_interactions(
    interactions: Interactions, config: SplitConfig, rng: np.random.Generator, *, n_tied: int = 0
) -> tuple[IntArray, SplitSummary]:
    """What is held out of interactions that are sorted by user, then time, then row.

    Args:
        interactions: where they have no times, ``leave_latest_out`` and ``global_time`` hold out
            nothing and say so; where the split is ready-made, they have ``parts``.
        config: the strategy and its shares.
        rng: draws for the strategies that are drawn; the others draw nothing.
        n_tied: interactions at the same time as another of their user, for the summary.

    Returns:
        The part of each, ``TRAIN``, ``VALIDATION`` or ``TEST``, (N,) int8; and the summary.

    Raises:
        DataError: nothing is left for train.
    """
    if config.strategy in TIMED_SPLITS and interactions.times is None:
        why = (
            f"'{config.strategy}' needs to know which interaction came first: there is no "
            "timestamp column, or one that holds the same in every row, and 'data.split.order: "
            "rows' is not set"
        )
        logger.warning("nothing is held out for validation and test: %s", why)
        parts = np.zeros(len(interactions), dtype=np.int8)
        return parts, _summary(parts, config, why, n_tied)
    parts = _parts(interactions, config, rng).astype(np.int8)
    if parts.all():
        raise DataError(
            f"the split '{config.strategy}' must leave something to train on, "
            f"all {len(interactions)} interactions are held out"
        )
    return parts, _summary(parts, config, None, n_tied)


def _summary(
    parts: IntArray, config: SplitConfig, skipped: str | None, n_tied: int
) -> SplitSummary:
    assert config.strategy is not None
    notes = []
    if config.strategy == "given" and config.validation_fraction is not None:
        share = f"{100 * config.validation_fraction:g}%"
        notes.append(f"validation is cut at random from train, {share} of each user's interactions")
    if n_tied:
        notes.append(
            f"{n_tied} of {len(parts)} interactions have the same time as another of their user; "
            "these are in a random order that does not depend on the order of the rows"
        )
    train, validation, test = np.bincount(parts, minlength=3).tolist()
    note = "; ".join(notes) or None
    return SplitSummary(config.strategy, config.order, skipped, train, validation, test, note)


def _parts(interactions: Interactions, config: SplitConfig, rng: np.random.Generator) -> IntArray:
    users, times, strategy = interactions.users, interactions.times, config.strategy
    assert strategy is not None
    match strategy:
        case "leave_latest_out":
            return _last_two(users, np.arange(len(users)))
        case "global_time":
            assert times is not None
            return _cut_in_time(times, *_shares(config))
        case "random":
            return _draw(users, *_shares(config), rng)
        case "leave_random_out":
            return _last_two(users, np.lexsort((rng.random(len(users)), users)))
        case "cold_items":
            return _hold_out_items(interactions, config, rng)
        case "given":
            assert interactions.parts is not None
            parts = interactions.parts.copy()
            if config.validation_fraction is not None:
                train = np.flatnonzero(parts == TRAIN)
                parts[train] = _draw(users[train], 0.0, config.validation_fraction, rng)
            return parts
        case _:
            assert_never(strategy)


def _last_two(users: IntArray, order: IntArray) -> IntArray:
    """Each user's last in the given order for test, the one before for validation.

    Users with fewer than 3 interactions keep all of them in train.

    Args:
        users: (N,) not decreasing.
        order: the rows, users in their order, (N,).
    """
    counts = np.bincount(users)
    ends = np.cumsum(counts)[counts >= LEAVE_OUT_MINIMUM]
    parts = np.full(len(users), TRAIN)
    parts[order[ends - 1]] = TEST
    parts[order[ends - 2]] = VALIDATION
    return parts


def _hold_out_items(
    interactions: Interactions, config: SplitConfig, rng: np.random.Generator
) -> IntArray:
    """All interactions of some items for test, of others for validation, drawn at random."""
    n_items = interactions.n_items
    test, validation = (
        round(n_items * (share or 0)) if count is None else count
        for share, count in (
            (config.test_fraction, config.n_test_items),
            (config.validation_fraction, config.n_validation_items),
        )
    )
    if test + validation >= n_items:
        raise DataError(
            f"the split 'cold_items' must leave items to train on, {test} for test and "
            f"{validation} for validation are to be held out of {n_items}"
        )
    of_item = np.full(n_items, TRAIN)
    drawn = rng.permutation(n_items)
    of_item[drawn[: test + validation]] = VALIDATION
    of_item[drawn[:test]] = TEST
    return of_item[interactions.items]


def _cut_in_time(times: IntArray, test_share: float, held_share: float) -> IntArray:
    """The latest share of all interactions for test, the share before it for validation.

    A cut never parts interactions of the same time: all of them fall on its later side.
    """
    in_order, n_times = np.sort(times), len(times)
    test_from, held_from = (
        in_order[min(n_times - 1, round(n_times * (1 - share)))]
        for share in (test_share, held_share)
    )
    return np.select([times >= test_from, times >= held_from], [TEST, VALIDATION], TRAIN)


def _draw(
    users: IntArray, test_share: float, held_share: float, rng: np.random.Generator
) -> IntArray:
    """A random share of each user's interactions.

    How many are held out of a user's ``n`` is ``n * share`` rounded up or down at random, so that
    the share holds on average however few a user has; at least one always stays in train.

    Args:
        users: (N,) not decreasing.
        test_share: for test.
        held_share: for test and validation together.
        rng: draws.
    """
    counts = np.bincount(users)
    rounding = rng.random(len(counts))
    n_held = np.floor(counts * held_share + rounding).astype(np.int64)
    np.minimum(n_held, np.maximum(counts - 1, 0), out=n_held)
    n_test = np.minimum(np.floor(counts * test_share + rounding).astype(np.int64), n_held)
    shuffled = np.lexsort((rng.random(len(users)), users))
    place = np.arange(len(users)) - np.repeat(np.cumsum(counts) - counts, counts)
    is_test, is_held = (place < np.repeat(n, counts) for n in (n_test, n_held))
    parts = np.full(len(users), TRAIN)
    parts[shuffled] = np.select([is_test, is_held], [TEST, VALIDATION], TRAIN)
    return parts


def _shares(config: SplitConfig) -> tuple[float, float]:
    """(share for test, share for test and validation together)."""
    assert config.test_fraction is not None and config.validation_fraction is not None
    return config.test_fraction, config.test_fraction + config.validation_fraction
