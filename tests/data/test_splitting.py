"""What is held out."""

import logging
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.config import SplitConfig
from recsys.data.arrays import Interactions
from recsys.data.splitting import (
    SplitSummary,
    break_ties,
    order_by_user_and_time,
    split_interactions,
)
from recsys.errors import DataError


def split_of(users, times=None, seed=0, strategy="leave_latest_out", items=None, **settings):
    users = np.array(users, dtype=np.int32)
    times = None if times is None else np.array(times, dtype=np.int64)
    items = np.zeros(len(users), dtype=np.int32) if items is None else np.array(items)
    interactions = Interactions(
        users, items, times, users.max(initial=-1) + 1, items.max(initial=-1) + 1
    )
    config = SplitConfig(strategy=strategy, **settings)
    parts, summary = split_interactions(interactions, config, np.random.default_rng(seed))
    masks = {name: parts == n for n, name in enumerate(("train", "validation", "test"))}
    return SimpleNamespace(summary=summary, skipped=summary.skipped, **masks)


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([-7, 0, 3, 10**12]))))
def test_rows_are_sorted_by_user_then_time_then_row(rows):
    users = np.array([user for user, _ in rows], dtype=np.int32)
    times = np.array([time for _, time in rows], dtype=np.int64)
    expected = sorted(range(len(rows)), key=lambda row: (*rows[row], row))
    assert order_by_user_and_time(users, times).tolist() == expected


@pytest.mark.parametrize(
    ("users", "times", "expected"),
    [
        ([0, 0, 0, 0], [2**62, -(2**61), 2**62, 0], [1, 3, 0, 2]),
        ([1, 0, 1, 0], None, [1, 3, 0, 2]),
    ],
    ids=["keys too wide for one number", "without times"],
)
def test_rows_that_nothing_orders_stay_in_order(users, times, expected):
    times = None if times is None else np.array(times)
    assert order_by_user_and_time(np.array(users, np.int32), times).tolist() == expected


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=15),
    st.booleans(),
    st.randoms(),
)
def test_ties_are_broken_within_themselves_whatever_the_order_of_rows(rows, timed, random):
    items = list(range(len(rows)))
    random.shuffle(items)
    rows = [
        (user, time if timed else 0, item) for (user, time), item in zip(rows, items, strict=True)
    ]
    other = random.sample(rows, len(rows))
    found = []
    for some in (rows, other):
        users, times, items = np.array(some, dtype=np.int64).reshape(-1, 3).T
        order = order_by_user_and_time(users, times if timed else None)
        broken, n_tied = break_ties(order, users, times if timed else None, items)
        found.append([some[row] for row in broken])
        groups = Counter((user, time) for user, time, _ in rows)
        assert n_tied == sum(size for size in groups.values() if size > 1)
    assert found[0] == found[1]
    assert sorted(found[0]) == sorted(rows)
    assert [row[:2] for row in found[0]] == sorted(row[:2] for row in rows)


def test_ties_are_broken_at_random():
    users, items = np.repeat(np.arange(2000), 2), np.tile([0, 1], 2000)
    broken, n_tied = break_ties(np.arange(4000), users, None, items)
    # The standard error of a share of 1/2 is 0.011.
    assert n_tied == 4000
    assert 0.45 < (items[broken][::2] == 0).mean() < 0.55


def test_the_latest_is_test_and_the_one_before_validation_of_users_with_three():
    split = split_of([0, 1, 1, 2, 2, 2, 3, 3, 3, 3], times=[1, 1, 2, 1, 2, 3, 1, 2, 3, 4])
    assert np.flatnonzero(split.test).tolist() == [5, 9]
    assert np.flatnonzero(split.validation).tolist() == [4, 8]
    expected = SplitSummary("leave_latest_out", "timestamp", None, train=6, validation=2, test=2)
    assert split.summary == expected


@pytest.mark.parametrize("strategy", ["leave_latest_out", "global_time"])
def test_without_an_order_the_split_is_skipped_and_says_why(strategy, caplog):
    with caplog.at_level(logging.WARNING):
        split = split_of([0, 0, 0, 0], strategy=strategy)
    summary = split.summary
    assert (summary.train, summary.validation, summary.test) == (4, 0, 0)
    assert "there is no timestamp column" in summary.skipped
    assert summary.skipped in caplog.text


@pytest.mark.parametrize(
    ("times", "shares", "test", "validation"),
    [
        ([0, 1, 2, 3, 9, 4, 5, 6, 7, 8], (0.2, 0.1), [4, 9], [8]),  # one cut for both users
        ([0, 0, 0, 0, 0, 1, 1, 1, 1, 1], (0.2, 0.1), [5, 6, 7, 8, 9], []),
        ([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], (0.01, 0.29), [9], [7, 8]),
    ],
    ids=["all users", "the same time is not parted", "the latest however small the share"],
)
def test_a_cut_in_time_holds_out_the_latest_shares(times, shares, test, validation):
    fractions = dict(zip(("test_fraction", "validation_fraction"), shares, strict=True))
    split = split_of([0] * 5 + [1] * 5, times, strategy="global_time", **fractions)
    assert np.flatnonzero(split.test).tolist() == test
    assert np.flatnonzero(split.validation).tolist() == validation


def test_a_cut_that_leaves_nothing_to_train_on_is_an_error():
    with pytest.raises(DataError, match="all 4 interactions are held out"):
        split_of([0, 0, 1, 1], [7, 7, 7, 7], strategy="global_time")


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(0, 5))
def test_random_leaves_every_user_something_to_train_on(counts, seed):
    users = np.repeat(np.arange(len(counts)), counts)
    shares = {"test_fraction": 0.5, "validation_fraction": 0.4}
    split = split_of(users, seed=seed, strategy="random", **shares)
    assert (np.bincount(users[split.train], minlength=len(counts)) >= 1).all()
    held = np.bincount(users[~split.train], minlength=len(counts))
    assert (np.abs(held - np.minimum(0.9 * np.array(counts), np.array(counts) - 1)) <= 1).all()


def test_random_holds_out_its_share_even_of_short_histories():
    """Of 5 interactions a tenth is half a one: half of the users lose one to test."""
    users = np.repeat(np.arange(4000), 5)
    split = split_of(users, strategy="random")
    assert split.skipped is None
    assert 0.09 < split.test.mean() < 0.11
    assert 0.09 < split.validation.mean() < 0.11
    long = split_of([0] * 100, strategy="random")
    assert (np.count_nonzero(long.test), np.count_nonzero(long.validation)) == (10, 10)


def test_random_holds_out_all_but_one_where_the_share_asks_for_more():
    shares = {"test_fraction": 0.5, "validation_fraction": 0.4}
    split = split_of(np.repeat(np.arange(50), 2), strategy="random", **shares)
    assert np.bincount(np.flatnonzero(split.train) // 2).tolist() == [1] * 50
    assert split.test.sum() + split.validation.sum() == 50


def test_random_takes_any_place_in_a_history():
    users = np.repeat(np.arange(2000), 10)
    split = split_of(users, strategy="random")
    by_place = split.test.reshape(2000, 10).mean(axis=0)
    assert (by_place > 0.06).all()
    assert (by_place < 0.14).all()


@given(st.lists(st.integers(0, 7), min_size=1, max_size=8), st.integers(0, 5))
def test_leave_random_out_holds_out_one_of_each_for_users_with_three(counts, seed):
    users = np.repeat(np.arange(len(counts)), counts)
    if not len(users):
        return
    split = split_of(users, seed=seed, strategy="leave_random_out")
    expected = [int(count >= 3) for count in counts]
    for part in (split.test, split.validation):
        assert np.bincount(users[part], minlength=len(counts)).tolist() == expected


def test_leave_random_out_takes_any_place_and_any_pair_of_places():
    users = np.repeat(np.arange(6000), 3)
    split = split_of(users, strategy="leave_random_out")
    test = split.test.reshape(6000, 3).argmax(axis=1)
    validation = split.validation.reshape(6000, 3).argmax(axis=1)
    shares = np.bincount(3 * test + validation, minlength=9).reshape(3, 3) / 6000
    assert (np.diag(shares) == 0).all()
    assert (np.abs(shares[~np.eye(3, dtype=bool)] - 1 / 6) < 0.03).all()


@pytest.mark.parametrize("strategy", ["random", "leave_random_out", "cold_items"])
def test_what_is_drawn_comes_from_the_seed_alone(strategy):
    users, items = np.repeat(np.arange(50), 10), np.tile(np.arange(25), 20)
    same = (split_of(users, seed=3, strategy=strategy, items=items).test for _ in range(2))
    assert np.array_equal(*same)
    others = (split_of(users, seed=seed, strategy=strategy, items=items).test for seed in (3, 4))
    assert not np.array_equal(*others)


@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        ({}, (2, 2)),
        ({"test_fraction": 0.25, "validation_fraction": 0.5}, (5, 10)),
        ({"n_test_items": 7, "n_validation_items": 1}, (7, 1)),
        ({"n_test_items": 3}, (3, 2)),
    ],
)
def test_cold_items_are_held_out_whole(settings, sizes):
    users, items = np.repeat(np.arange(30), 10), np.random.default_rng(0).permutation(300) % 20
    split = split_of(users, strategy="cold_items", items=items, **settings)
    of_part = [set(items[part]) for part in (split.test, split.validation, split.train)]
    assert tuple(len(part) for part in of_part[:2]) == sizes
    assert sum(len(part) for part in of_part) == len(set.union(*of_part)) == 20


def test_cold_items_must_leave_items_to_train_on():
    with pytest.raises(DataError, match=r"3 for test and 1 for validation .* held out of 4"):
        split_of([0] * 4, strategy="cold_items", items=range(4), n_test_items=3,
                 n_validation_items=1)  # fmt: skip
