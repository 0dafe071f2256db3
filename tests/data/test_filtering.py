"""Which interactions are kept."""

import logging
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recsys.config import DataConfig
from recsys.data import filtering
from recsys.data.arrays import Interactions
from recsys.data.filtering import FilterStep, filter_interactions, k_core
from recsys.data.tables import Tables
from recsys.errors import DataError


def tables_of(pairs, *, books, ratings=None, times=None) -> Tables:
    """Tables with the given (user id, item id) pairs and book ids."""
    user_ids = sorted({user for user, _ in pairs})
    item_ids = sorted({item for _, item in pairs})
    return Tables(
        books=pa.table({"item_id": pa.array(books, pa.string())}),
        user_ids=pa.array(user_ids),
        item_ids=pa.array(item_ids),
        interactions=Interactions(
            users=np.array([user_ids.index(user) for user, _ in pairs], dtype=np.int32),
            items=np.array([item_ids.index(item) for _, item in pairs], dtype=np.int32),
            times=None if times is None else np.array(times, dtype=np.int64),
            n_users=len(user_ids),
            n_items=len(item_ids),
            ratings=None if ratings is None else np.array(ratings, dtype=np.float32),
        ),
        ticks=1,
        rows=None,
    )


def config_of(users=1, items=1, **settings) -> DataConfig:
    return DataConfig(min_user_interactions=users, min_item_interactions=items, **settings)


def message_of(tables, config) -> str:
    with pytest.raises(DataError) as caught:
        filter_interactions(tables, config)
    return str(caught.value)


def log_of(pairs) -> Interactions:
    users, items = (np.array(column, dtype=np.int32) for column in zip(*pairs, strict=True))
    return Interactions(users, items, None, int(users.max()) + 1, int(items.max()) + 1)


def pairs_of(log: Interactions) -> list[tuple[int, int]]:
    return list(zip(log.users.tolist(), log.items.tolist(), strict=True))


def slow_k_core(pairs, least_by_user, least_by_item):
    """One user or item at a time, until none has too few."""
    pairs = list(pairs)
    while True:
        users, items = [user for user, _ in pairs], [item for _, item in pairs]
        few_users = [user for user in users if users.count(user) < least_by_user]
        few_items = [item for item in items if items.count(item) < least_by_item]
        if few_users:
            pairs = [(user, item) for user, item in pairs if user != few_users[0]]
        elif few_items:
            pairs = [(user, item) for user, item in pairs if item != few_items[0]]
        else:
            return pairs


def slow_rounds(pairs, least_by_user, least_by_item):
    """(users, items, interactions) after each round that leaves out all with too few at once."""
    rounds = []
    while True:
        users, items = [user for user, _ in pairs], [item for _, item in pairs]
        kept = [
            (user, item)
            for user, item in pairs
            if users.count(user) >= least_by_user and items.count(item) >= least_by_item
        ]
        if len(kept) < len(pairs) or not rounds:
            sizes = len({user for user, _ in kept}), len({item for _, item in kept}), len(kept)
            rounds.append(sizes)
        if len(kept) == len(pairs):
            return rounds
        pairs = kept


CHAIN = [(0, 0), (0, 1), (1, 1), (1, 2), (2, 2), (2, 3), (3, 3)]  # each round takes both ends


@example(CHAIN, 2, 2, 0.8)
@given(
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), min_size=1, unique=True),
    st.integers(1, 5),
    st.integers(1, 5),
    st.sampled_from([0.0, 0.8, 1.0]),
)
def test_the_k_core_is_what_is_left_when_one_at_a_time_goes(pairs, users, items, below):
    """In the same rounds, however often what is left is copied."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filtering, "_COMPACT_BELOW", below)
        log, steps = k_core(log_of(pairs), min_user_interactions=users, min_item_interactions=items)
    rounds = enumerate(slow_rounds(pairs, users, items), start=1)
    assert list(steps) == [FilterStep(f"k-core round {n}", *sizes) for n, sizes in rounds]
    assert pairs_of(log) == slow_k_core(pairs, users, items)


def test_interactions_of_unknown_items_are_left_out_counted_and_the_first_is_named(caplog):
    pairs = [("u", "b1"), ("u", "gone"), ("v", "lost"), ("v", "b1"), ("w", "gone")]
    with caplog.at_level(logging.WARNING):
        log, steps = filter_interactions(tables_of(pairs, books=["b0", "b1"]), config_of())
    assert pairs_of(log) == [(0, 1), (1, 1)]
    assert steps[:2] == (FilterStep("read", 3, 3, 5), FilterStep("known items", 2, 1, 2))
    assert "3 values missing from data/sample/books.csv, first 'gone' in row 2" in caplog.text


def test_ids_that_only_dropped_rows_had_do_not_count(caplog):
    tables = tables_of([("u", "b")], books=["b"])
    tables = replace(tables, user_ids=pa.array(["u", ""]), item_ids=pa.array(["b", "gone"]))
    with caplog.at_level(logging.WARNING):
        _, steps = filter_interactions(tables, config_of())
    assert steps[0] == FilterStep("read", 1, 1, 1)
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("items", "books", "expected"),
    [
        (["x"], ["y"], "no item_id of data/sample/users.csv is in data/sample/books.csv, the first "
         "is 'x'"),
        (["1001.0", "1002.0", "gone"], ["1001", "1002"],
         "but 2 of these 3 ids are known but for '.0' at the end: '1001.0' is '1001'"),
        (["0195", "b"], ["195", "b"],
         "1 of these 1 ids are known but for zeros in front: '0195' is '195'"),
    ],
    ids=["nothing alike", "none known", "some known"],
)  # fmt: skip
def test_where_ids_are_unknown_the_likely_cause_is_said(items, books, expected, caplog):
    tables = tables_of([("u", item) for item in items], books=books)
    if "b" in books:
        with caplog.at_level(logging.WARNING):
            filter_interactions(tables, config_of())
        assert expected in caplog.text
    else:
        assert message_of(tables, config_of()).endswith(expected)


def slow_latest(rows, times, ratings):
    """Numbers of the rows that are kept of each pair: the latest, of these the best rated."""
    kept = {}
    for number, pair in enumerate(rows):
        this = (times[number], ratings[number]) if times else (number,)
        if pair not in kept or this >= kept[pair][1]:
            kept[pair] = number, this
    return sorted(number for number, _ in kept.values())


@given(st.lists(st.tuples(*[st.integers(0, 3)] * 4), min_size=1, max_size=40), st.booleans(),
       st.sampled_from(["rows", "timestamp"]))  # fmt: skip
def test_of_repeated_pairs_the_latest_is_kept(rows, timed, order):
    """By time, ties by rating; without times, or where rows are the order, the last."""
    pairs = [(f"u{user}", f"i{item}") for user, item, _, _ in rows]
    times = [row[2] for row in rows] if timed else None
    ratings = [row[3] for row in rows]
    tables = tables_of(pairs, books=[f"i{item}" for item in range(4)], times=times, ratings=ratings)
    log, steps = filter_interactions(tables, config_of(split={"order": order}))
    kept = slow_latest(pairs, times if order == "timestamp" else None, ratings)
    assert log.ratings.tolist() == [ratings[row] for row in kept]
    assert log.users.tolist() == tables.interactions.users[kept].tolist()
    assert log.items.tolist() == [rows[row][1] for row in kept]
    if timed and order == "timestamp":
        assert log.times.tolist() == [times[row] for row in kept]
    assert (steps[2].name, steps[2].interactions) == ("latest of each pair", len(kept))


def test_a_user_who_changed_their_mind_is_taken_at_their_last_word():
    tables = tables_of([("u", "a"), ("u", "a"), ("u", "b")], books=["a", "b"], ratings=[5, 1, 5])
    log, _ = filter_interactions(tables, config_of(min_rating=3))
    assert pairs_of(log) == [(0, 1)]


def test_min_rating_keeps_what_is_rated_as_high_and_may_not_be_above_all():
    tables = tables_of([("u", "a"), ("u", "b")], books=["a", "b"], ratings=[4.1, 4.0])
    log, steps = filter_interactions(tables, config_of(min_rating=4.1))
    assert pairs_of(log) == [(0, 0)]
    assert steps[3] == FilterStep("min_rating", 1, 1, 1)
    assert "min_rating=5; the highest is 4.1" in message_of(tables, config_of(min_rating=5))


def grid(n_users, n_items):
    return [(f"u{user}", f"b{item}") for user in range(n_users) for item in range(n_items)]


def test_when_nothing_is_left_the_error_says_what_would_survive():
    tables = tables_of(grid(4, 6), books=[f"b{item}" for item in range(6)])
    assert message_of(tables, config_of(users=5, items=10)) == (
        "nothing is left after min_user_interactions=5, min_item_interactions=10; "
        "with min_item_interactions=4 there would be 4 users, 6 items, 24 interactions"
    )


def test_when_both_thresholds_are_too_high_both_are_named():
    tables = tables_of(grid(4, 3), books=["b0", "b1", "b2"])
    assert message_of(tables, config_of(users=5, items=10)) == (
        "nothing is left after min_user_interactions=5, min_item_interactions=10; "
        "with min_user_interactions=3 and min_item_interactions=3 "
        "there would be 4 users, 3 items, 12 interactions"
    )


def test_either_threshold_is_offered_where_either_is_enough():
    """Two stars: lowering one threshold to 1 saves one of them."""
    pairs = [("hub", f"b{item}") for item in range(5)] + [(f"u{user}", "best") for user in range(6)]
    books = [f"b{item}" for item in range(5)] + ["best"]
    message = message_of(tables_of(pairs, books=books), config_of(users=2, items=2))
    assert "with min_item_interactions=1 there would be 1 users, 5 items, 5" in message
    assert "with min_user_interactions=1 there would be 6 users, 1 items, 6" in message
