"""Each user's items, oldest first."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data.arrays import Interactions
from recsys.data.histories import Histories

N_USERS, N_ITEMS = 4, 6
ROWS = st.lists(
    st.tuples(
        st.integers(0, N_USERS - 1),
        st.integers(0, N_ITEMS - 1),
        st.integers(0, 3),
        st.integers(1, 5),
    )
)


def part_of(rows, times=True, ratings=True) -> Interactions:
    columns = np.array(rows, dtype=np.int64).reshape(-1, 4)
    return Interactions(
        columns[:, 0].astype(np.int32),
        columns[:, 1].astype(np.int32),
        columns[:, 2] if times else None,
        N_USERS,
        N_ITEMS,
        columns[:, 3].astype(np.float32) if ratings else None,
    )


def rows_of(histories: Histories, user: int):
    """(item, time, rating) of one user's history."""
    span = slice(histories.offsets[user], histories.offsets[user + 1])
    nothing = [None] * len(histories.items[span])
    times = nothing if histories.times is None else histories.times[span].tolist()
    ratings = nothing if histories.ratings is None else histories.ratings[span].tolist()
    return list(zip(histories.items[span].tolist(), times, ratings, strict=True))


@given(st.lists(ROWS, min_size=1, max_size=3), st.booleans(), st.booleans())
def test_parts_are_merged_in_time_and_ties_keep_the_order_given(parts, times, ratings):
    histories = Histories.of(*(part_of(rows, times, ratings) for rows in parts))
    assert (len(histories), histories.n_items) == (N_USERS, N_ITEMS)
    assert histories.has_order == times
    for user in range(N_USERS):
        own = [row for rows in parts for row in rows if row[0] == user]
        if times:
            own = sorted(own, key=lambda row: row[2])  # stable
        expected = [
            (item, time if times else None, rating if ratings else None)
            for _, item, time, rating in own
        ]
        assert rows_of(histories, user) == expected
        assert histories.row(user).tolist() == [item for item, _, _ in expected]
        assert histories.lengths[user] == len(expected)
    assert (histories.offsets.dtype, histories.items.dtype) == (np.int64, np.int32)


@given(ROWS, st.lists(st.integers(0, N_USERS - 1)), st.booleans())
def test_histories_are_taken_in_the_given_order(rows, users, times):
    histories = Histories.of(part_of(rows, times, ratings=times))
    taken = histories.take(np.array(users, dtype=np.int64))
    assert len(taken) == len(users)
    assert taken.has_order == times
    for place, user in enumerate(users):
        assert rows_of(taken, place) == rows_of(histories, user)


@pytest.mark.parametrize("lacking", ["times", "ratings"])
def test_what_one_part_lacks_the_whole_lacks(lacking):
    rows = [(0, 1, 2, 3)]
    histories = Histories.of(part_of(rows), part_of(rows, **{lacking: False}))
    assert getattr(histories, lacking) is None
    assert histories.row(0).tolist() == [1, 1]


def test_the_latest_weighs_one_and_the_one_before_it_less():
    histories = Histories.of(part_of([(0, 1, 10, 1), (0, 3, 5, 1), (0, 4, 20, 1), (1, 2, 7, 1)]))
    expected = [np.exp(-1), np.exp(-1 / 2), 1, 1]
    assert histories.recent(2.0).weights == pytest.approx(expected)
    assert histories.recent(None).weights is None


def test_counts_are_of_users_and_together_of_pairs():
    histories = Histories.of(part_of([(0, 1, 0, 1), (0, 3, 0, 1), (1, 3, 0, 1)]))
    assert histories.counts.tolist() == [0, 1, 0, 2, 0, 0]
    assert histories.together.toarray()[3].tolist() == [0, 1, 0, 2, 0, 0]
