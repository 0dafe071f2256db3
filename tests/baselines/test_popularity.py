"""Histories: whose items, in which order, and what they weigh."""

import numpy as np
import pytest

from recsys.baselines.popularity import Popularity
from recsys.data.arrays import Interactions
from recsys.data.histories import Histories


def interactions(rows):
    users, items, times = (np.array(column) for column in zip(*rows, strict=True))
    return Interactions(users.astype(np.int32), items.astype(np.int32), times, 3, 5)


TRAIN = interactions([(0, 1, 10), (0, 3, 5), (1, 2, 7)])
LATER = interactions([(0, 4, 20), (1, 0, 1)])


def test_parts_are_united_in_the_order_of_time():
    known = Histories.of(TRAIN, LATER)
    assert [known.bags.row(user).tolist() for user in range(3)] == [[3, 1, 4], [0, 2], []]


def test_the_latest_weighs_one_and_the_one_before_it_less():
    recent = Histories.of(TRAIN, LATER).recent(2.0)
    expected = [np.exp(-1), np.exp(-1 / 2), 1, np.exp(-1 / 2), 1]
    assert recent.weights == pytest.approx(expected)


def test_without_a_scale_all_weigh_alike():
    assert Histories.of(TRAIN).recent(None).weights is None


def test_data_without_times_has_no_order():
    timeless = Interactions(TRAIN.users, TRAIN.items, None, 3, 5)
    assert Histories.of(TRAIN).has_order
    assert not Histories.of(timeless).has_order
    assert sorted(Histories.of(timeless, timeless).bags.row(1).tolist()) == [2, 2]


def test_counts_are_of_users_and_together_of_pairs():
    known = Histories.of(TRAIN, LATER)
    assert known.counts.tolist() == [1, 1, 1, 1, 1]
    assert known.together.toarray()[3].tolist() == [0, 1, 0, 1, 1]


def test_popularity_counts_the_users_of_an_item():
    scorer = Popularity().fit(Histories.of(TRAIN)).scorer(Histories.of(TRAIN, LATER), None)
    assert (scorer.users @ scorer.items.T).tolist() == [[0, 1, 1, 1, 0]] * 3
