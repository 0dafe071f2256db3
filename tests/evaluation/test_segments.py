from math import log2

import numpy as np
import pytest
from pytest import approx

from recsys.config import RANKING_METRICS, SegmentConfig
from recsys.evaluation.metrics import Places
from recsys.evaluation.segments import (
    TAIL_PREFIX,
    Judged,
    activity_tables,
    main_k,
    segments_of,
    tail_metrics,
)

CONFIG = SegmentConfig(cold_max=2, head_share=0.25)


def test_cold_ends_at_cold_max():
    segments = segments_of(np.array([0, 2, 3]), CONFIG)
    assert list(segments) == ["cold", "cold", "tail"]


def test_head_is_the_most_active_share_of_those_who_are_not_cold():
    counts = np.array([1, 1, 1, 1, 3, 9, 4, 5, 6, 7, 8, 10])
    assert list(np.flatnonzero(segments_of(counts, CONFIG) == "head")) == [5, 11]


def test_equally_active_ones_are_never_torn_apart():
    counts = np.array([9, 5, 5, 5, 4, 4, 4, 4, 4, 4])  # a quarter is 2.5: 1 is nearer than 4, tied
    assert list(np.flatnonzero(segments_of(counts, CONFIG) == "head")) == [0]
    assert "head" not in segments_of(np.full(8, 5), CONFIG)


def test_cold_ones_are_not_counted_where_the_head_is_cut():
    """Of five beyond cold a quarter is 1.25: one. With 20 cold ones it were 6.25: all five."""
    counts = np.array([9, 8, 7, 6, 5, *[2] * 20])
    assert list(np.flatnonzero(segments_of(counts, CONFIG) == "head")) == [0]


def test_nobody_beyond_cold_leaves_only_cold():
    assert set(segments_of(np.array([0, 1, 2]), CONFIG)) == {"cold"}
    assert len(segments_of(np.empty(0, dtype=int), CONFIG)) == 0


@pytest.mark.parametrize(("ks", "expected"), [((5, 10, 20), 10), ((3, 7), 7)])
def test_summaries_show_ten_where_it_is_there(ks, expected):
    assert main_k(ks) == expected


def tables():
    """Users 0 (cold, unseen), 1 (cold), 2 (tail), 3 (head), one held-out item each.

    The item of user 1 stands beyond the list; values of users are not those of their items.
    """
    found = Places(np.arange(4), np.array([0, 1, 2, 3]), np.array([0, 3, 2, 1]), 4)
    ndcg = np.array([0.9, 0.0, 0.5, 1 / log2(3)])
    model = Judged(None, found, {"recall@3": np.array([1.0, 0, 1, 1]), "ndcg@3": ndcg})
    none = Places(np.arange(4), found.items, np.full(4, -1), 4)
    nothing = Judged(None, none, {"recall@3": np.zeros(4), "ndcg@3": np.zeros(4)})
    counts = np.array([0, 1, 3, 60])
    return activity_tables(
        {"model": model, "popularity": nothing},
        user_counts=counts,
        item_counts=counts[::-1],
        users=np.arange(4),
        config=SegmentConfig(cold_max=1, head_share=0.5),
        k=3,
    )


def test_users_are_averaged_within_their_segment():
    users = tables()[1].to_frame().query("kind == 'users'").set_index("segment")
    assert users["n"].to_dict() == {"cold": 2, "unseen": 1, "tail": 1, "head": 1}
    assert users.loc["cold", "ndcg@3"] == approx((0.9 + 0) / 2)
    assert users.loc["unseen", "ndcg@3"] == 0.9


def test_items_are_averaged_over_held_out_interactions():
    """Item 3 (unseen) stands at place 1, item 2 (cold) at place 2, item 0 (head) at place 0."""
    items = tables()[1].to_frame().query("kind == 'items'").set_index("segment")
    assert items["n"].to_dict() == {"cold": 2, "unseen": 1, "tail": 1, "head": 1}
    assert items.loc["cold", "ndcg@3"] == approx((1 / log2(3) + 1 / log2(4)) / 2)
    assert items.loc["unseen", "ndcg@3"] == approx(1 / log2(3))
    assert items.loc["tail", "recall@3"] == 0
    assert items.loc["head", "recall@3"] == 1


def test_baselines_stand_beside_the_model_under_their_name():
    assert set(tables()[1].column("popularity_ndcg@3")) == {0}


def test_rows_by_number_of_train_interactions_are_those_that_anyone_is_in():
    by_count = tables()[0].to_frame().set_index(["kind", "train_interactions"])
    ranges = ["0", "1", "3–5", "51+"]
    assert list(by_count.index) == [(kind, each) for kind in ("users", "items") for each in ranges]
    assert by_count["n"].tolist() == [1] * 8
    assert by_count.loc[("users", "3–5"), "ndcg@3"] == 0.5
    assert by_count.loc[("items", "0"), "ndcg@3"] == approx(1 / log2(3))


@pytest.fixture
def tail():
    """User 0: head first, tail second. User 1: head only. User 2: cold first, tail missed.

    Item 0 is head (9 of 12 train interactions), 1 is tail (3), 2 is cold (0).
    """
    found = Places(
        rows=np.array([0, 0, 1, 2, 2]),
        items=np.array([0, 1, 0, 2, 1]),
        places=np.array([0, 1, 0, 0, -1]),
        n_rows=3,
    )
    config = SegmentConfig(cold_max=1, head_share=0.5)
    values = tail_metrics(found, np.array([9, 3, 0]), config, (2,))
    return {name.removeprefix(TAIL_PREFIX): column for name, column in values.items()}


def test_hits_of_the_head_count_for_nothing(tail):
    """The one relevant item stands second: 1 / log2(3) of what it would be worth first."""
    assert tail["ndcg@2"][0] == approx(1 / log2(3))


def test_a_user_who_went_on_to_the_head_alone_has_no_value_in_any_metric(tail):
    assert set(tail) == {f"{metric}@2" for metric in RANKING_METRICS}
    assert all(np.isnan(values[1]) for values in tail.values())


def test_cold_items_are_outside_the_head(tail):
    """Two to find, the cold one found first."""
    assert tail["recall@2"][2] == approx(1 / 2)
    assert tail["ndcg@2"][2] == approx(1 / (1 + 1 / log2(3)))
