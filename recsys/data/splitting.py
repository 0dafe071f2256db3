"""Train, validation and test."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import assert_never

import numpy as np

from recsys.config import Order, SplitConfig, SplitStrategy
from recsys.data.arrays import BoolArray, IntArray, Interactions
from recsys.errors import DataError

logger = logging.getLogger(__name__)

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


@dataclass(frozen=True, eq=False)
class Split:
    """Which interactions are held out; the others are train.

    Attributes:
        validation: (N,) bool.
        test: (N,) bool, nowhere true together with ``validation``.
        skipped: why nothing is held out, or None.
    """

    validation: BoolArray
    test: BoolArray
    skipped: str | None = None

    @property
    def train(self) -> BoolArray:
        """The interactions that are not held out, (N,)."""
        train: BoolArray = ~(self.validation | self.test)
        return train

    def summary(self, config: SplitConfig, n_tied: int = 0) -> SplitSummary:
        """The sizes of the parts.

        Args:
            config: the strategy and its shares.
            n_tied: interactions at the same time as another of their user.
        """
        assert config.strategy is not None
        train, validation, test = (
            int(np.count_nonzero(part)) for part in (self.train, self.validation, self.test)
        )
        notes = []
        if config.strategy == "given" and config.validation_fraction is not None:
            share = f"{100 * config.validation_fraction:g} %"
            notes.append(
                f"validation is cut at random from train, {share} of each user's interactions"
            )
        if n_tied:
            notes.append(
                f"{n_tied} of {len(self.test)} interactions have the same time as another of their "
                "user; these are in a random order that does not depend on the order of the rows"
            )
        note = "; ".join(notes) or None
        return SplitSummary(
            config.strategy, config.order, self.skipped, train, validation, test, note
        )


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
    interactions: Interactions, config: SplitConfig, rng: np.random.Generator
) -> Split:
    """What is held out of interactions that are sorted by user, then time, then row.

    Args:
        interactions: where they have no times, ``leave_latest_out`` and ``global_time`` hold out
            nothing and say so; where the split is ready-made, they have ``parts``.
        config: the strategy and its shares.
        rng: draws for the strategies that are drawn; the others draw nothing.

    Raises:
        DataError: nothing is left for train.
    """
    split = _split(interactions, config, rng)
    if not split.train.any():
        raise DataError(
            f"the split '{config.strategy}' must leave something to train on, "
            f"all {len(interactions)} interactions are held out"
        )
    return split


def _split(interactions: Interactions, config: SplitConfig, rng: np.random.Generator) -> Split:
    users, times, strategy = interactions.users, interactions.times, config.strategy
    assert strategy is not None
    match strategy:
        case "leave_latest_out":
            return _skip(users, config) if times is None else _last_two(users)
        case "global_time":
            return _skip(users, config) if times is None else _cut_in_time(times, config)
        case "random":
            return _draw(users, *_shares(config), rng)
        case "leave_random_out":
            return _last_two(users, np.lexsort((rng.random(len(users)), users)))
        case "cold_items":
            return _hold_out_items(interactions, config, rng)
        case "given":
            assert interactions.parts is not None
            return _ready_made(users, interactions.parts, config.validation_fraction, rng)
        case _:
            assert_never(strategy)


def _skip(users: IntArray, config: SplitConfig) -> Split:
    why = (
        f"'{config.strategy}' needs to know which interaction came first: there is no timestamp "
        "column, or one that holds the same in every row, and 'data.split.order: rows' is not set"
    )
    logger.warning("nothing is held out for validation and test: %s", why)
    return Split(np.zeros(len(users), dtype=bool), np.zeros(len(users), dtype=bool), why)


def _last_two(users: IntArray, order: IntArray | slice = slice(None)) -> Split:
    """Each user's last in the given order for test, the one before for validation.

    Users with fewer than 3 interactions keep all of them in train.

    Args:
        users: (N,) not decreasing.
        order: the rows, users in their order, (N,); as they are where not given.
    """
    counts = np.bincount(users)
    ends = np.cumsum(counts)[counts >= LEAVE_OUT_MINIMUM]
    rows = np.arange(len(users))[order]
    validation, test = np.zeros((2, len(users)), dtype=bool)
    test[rows[ends - 1]] = True
    validation[rows[ends - 2]] = True
    return Split(validation, test)


def _hold_out_items(
    interactions: Interactions, config: SplitConfig, rng: np.random.Generator
) -> Split:
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
    place = np.empty(n_items, dtype=np.int64)
    place[rng.permutation(n_items)] = np.arange(n_items)
    places = place[interactions.items]
    return Split((places >= test) & (places < test + validation), places < test)


def _cut_in_time(times: IntArray, config: SplitConfig) -> Split:
    """The latest share of all interactions for test, the share before it for validation.

    A cut never parts interactions of the same time: all of them fall on its later side.
    """
    test_share, held_share = _shares(config)
    in_order = np.sort(times)
    last = len(times) - 1
    test_from = in_order[min(last, round(len(times) * (1 - test_share)))]
    validation_from = in_order[min(last, round(len(times) * (1 - held_share)))]
    test = times >= test_from
    return Split((times >= validation_from) & ~test, test)


def _ready_made(
    users: IntArray, parts: IntArray, validation_share: float | None, rng: np.random.Generator
) -> Split:
    """The parts as given; where a share is given too, it is drawn from train for validation."""
    validation: BoolArray = parts == 1
    if validation_share is not None:
        train = np.flatnonzero(parts == 0)
        validation[train] = _draw(users[train], 0.0, validation_share, rng).validation
    return Split(validation, parts == 2)


def _draw(users: IntArray, test_share: float, held_share: float, rng: np.random.Generator) -> Split:
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
    validation, test = np.zeros((2, len(users)), dtype=bool)
    test[shuffled] = place < np.repeat(n_test, counts)
    validation[shuffled] = place < np.repeat(n_held, counts)
    validation &= ~test
    return Split(validation, test)


def _shares(config: SplitConfig) -> tuple[float, float]:
    """(share for test, share for test and validation together)."""
    assert config.test_fraction is not None and config.validation_fraction is not None
    return config.test_fraction, config.test_fraction + config.validation_fraction
