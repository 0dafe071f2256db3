import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.data.arrays import Bags
from recsys.errors import BookendsError
from recsys.evaluation import ranking as module
from recsys.evaluation.ranking import Vectors, pack, rank, tie_order


def no_mask(n_users, n_items):
    empty = np.empty(0, dtype=np.int64)
    return Bags.from_pairs(empty, empty, n_rows=n_users, n_columns=n_items)


def whole(rng, n_users, n_items, dim=3, spread=3):
    """Vectors of small whole numbers: scores are exact in float32, and ties are frequent."""
    return Vectors(
        rng.integers(-spread, spread + 1, (n_users, dim)).astype(np.float32),
        rng.integers(-spread, spread + 1, (n_items, dim)).astype(np.float32),
    )


def random_mask(rng, n_users, n_items, share):
    users, items = np.nonzero(rng.random((n_users, n_items)) < share)
    return Bags.from_pairs(users, items, n_rows=n_users, n_columns=n_items)


def slow_lists(vectors, users, masked, k):
    """Sort every allowed item by (score, place in the tie order), one user at a time."""
    place = np.argsort(tie_order(len(vectors.items)))
    lists = np.full((len(users), k), -1)
    for row, user in enumerate(users):
        known = {item for mask in masked for item in mask.row(user)}
        allowed = [item for item in range(len(vectors.items)) if item not in known]
        scores = vectors.items @ vectors.users[user]
        best = sorted(allowed, key=lambda item: (-scores[item], place[item]))[:k]
        lists[row, : len(best)] = best
    return lists


def force_blocks(monkeypatch, *, items, users, group):
    monkeypatch.setattr(module, "_plan", lambda *_: module._Blocks(items, users, group))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_items=st.integers(1, 90),
    k=st.integers(1, 25),
    share=st.sampled_from([0.0, 0.1, 0.9, 1.0]),
    spread=st.sampled_from([0, 1, 5]),
)
def test_lists_equal_a_full_sort_of_every_user(seed, n_items, k, share, spread):
    rng = np.random.default_rng(seed)
    vectors = whole(rng, 7, n_items, spread=spread)
    masked = [random_mask(rng, 7, n_items, share), random_mask(rng, 7, n_items, 0.05)]
    users = rng.permutation(7)
    ranking = rank(vectors, users, masked=masked, k=k)
    np.testing.assert_array_equal(ranking.items, slow_lists(vectors, users, masked, k))


@pytest.mark.parametrize("items", [16, 48, 112, 512])
@pytest.mark.parametrize(("users", "group"), [(1, 1), (5, 12), (128, 128)])
def test_blocks_of_any_size_give_the_same_lists(monkeypatch, items, users, group):
    rng = np.random.default_rng(4)
    vectors, mask = whole(rng, 40, 300), random_mask(rng, 40, 300, 0.1)
    everyone = np.arange(40)
    force_blocks(monkeypatch, items=items, users=users, group=group)
    ranking = rank(vectors, everyone, masked=[mask], k=30)
    np.testing.assert_array_equal(ranking.items, slow_lists(vectors, everyone, [mask], 30))


@pytest.mark.parametrize("items", [16, 512])
def test_equal_scores_follow_the_tie_order_across_blocks(monkeypatch, items):
    vectors = Vectors(np.ones((2, 1), np.float32), np.full((100, 1), 0.3, np.float32))
    force_blocks(monkeypatch, items=items, users=1, group=1)
    ranking = rank(vectors, np.arange(2), masked=[no_mask(2, 100)], k=40)
    np.testing.assert_array_equal(ranking.items, np.tile(tie_order(100)[:40], (2, 1)))


def test_the_tie_order_says_nothing_of_the_order_of_the_file():
    order = tie_order(10_000)
    assert sorted(order) == list(range(10_000))
    assert abs(np.corrcoef(order, np.arange(10_000))[0, 1]) < 4 / np.sqrt(10_000)


def test_a_collapsed_model_finds_no_more_than_chance():
    """All vectors alike, held-out books at the head of the file: hits stay at k / items."""
    rng = np.random.default_rng(1)
    vectors = Vectors(
        np.tile(rng.standard_normal((1, 96), dtype=np.float32), (500, 1)),
        np.tile(rng.standard_normal((1, 96), dtype=np.float32), (2000, 1)),
    )
    ranking = rank(vectors, np.arange(500), masked=[no_mask(500, 2000)], k=20)
    in_first_tenth = (ranking.items < 200).mean()
    assert in_first_tenth < 0.1 + 4 * np.sqrt(0.1 * 0.9 / 20)


def test_minus_zero_ties_with_zero():
    vectors = Vectors(np.ones((1, 1), np.float32), np.array([[0.0], [-0.0]] * 20, dtype=np.float32))
    ranking = rank(vectors, np.array([0]), masked=[], k=40)
    np.testing.assert_array_equal(ranking.items[0], tie_order(40))


def test_scores_are_those_of_the_listed_items():
    rng = np.random.default_rng(0)
    vectors = whole(rng, 5, 60)
    ranking = rank(vectors, np.arange(5), masked=[], k=10)
    expected = np.einsum("nd,nkd->nk", vectors.users, vectors.items[ranking.items])
    np.testing.assert_array_equal(ranking.scores, expected)


def test_masked_items_are_never_listed():
    rng = np.random.default_rng(0)
    vectors, masks = whole(rng, 20, 50), [random_mask(rng, 20, 50, 0.3) for _ in range(2)]
    ranking = rank(vectors, np.arange(20), masked=masks, k=50)
    for mask in masks:
        assert not mask.contains(np.arange(20)[:, None], ranking.items).any()


def test_lists_are_filled_up_with_minus_one_where_too_few_items_are_allowed():
    vectors = Vectors(np.ones((2, 1), np.float32), np.array([[1.0], [3.0], [2.0]], np.float32))
    mask = Bags.from_pairs(np.array([1, 1]), np.array([0, 1]), n_rows=2, n_columns=3)
    ranking = rank(vectors, np.array([0, 1]), masked=[mask], k=4)
    assert ranking.items.tolist() == [[1, 2, 0, -1], [2, -1, -1, -1]]
    assert ranking.scores[1].tolist() == [2.0, -np.inf, -np.inf, -np.inf]


def test_users_may_come_in_any_order_and_more_than_once():
    rng = np.random.default_rng(0)
    vectors, mask = whole(rng, 9, 40), random_mask(rng, 9, 40, 0.3)
    users = np.array([7, 2, 7, 0])
    ranking = rank(vectors, users, masked=[mask], k=5)
    np.testing.assert_array_equal(ranking.items, slow_lists(vectors, users, [mask], 5))


def test_no_users_give_no_lists():
    vectors = whole(np.random.default_rng(0), 3, 4)
    assert rank(vectors, np.empty(0, np.int64), masked=[], k=2).items.shape == (0, 2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["user", "item"])
def test_vectors_that_are_not_finite_are_refused_by_name(value, side):
    vectors = whole(np.random.default_rng(0), 5, 6)
    (vectors.users if side == "user" else vectors.items)[3, 1] = value
    with pytest.raises(BookendsError, match=f"the vector of {side} 3 holds NaN or infinity"):
        rank(vectors, np.array([1, 3]), masked=[], k=2)


def test_vectors_of_users_who_are_not_ranked_do_not_matter():
    vectors = whole(np.random.default_rng(0), 5, 6)
    vectors.users[4] = np.nan
    assert rank(vectors, np.array([1, 3]), masked=[], k=2).items.min() >= 0


def test_scores_that_would_overflow_are_refused():
    vectors = Vectors(np.full((1, 2), 1e30, np.float32), np.full((3, 2), 1e30, np.float32))
    with pytest.raises(BookendsError, match="overflow"):
        rank(vectors, np.array([0]), masked=[], k=1)


def test_vectors_of_other_precision_are_ranked_in_single():
    vectors = whole(np.random.default_rng(0), 5, 30)
    double = Vectors(vectors.users.astype(np.float64), vectors.items.astype(np.float64))
    expected = rank(vectors, np.arange(5), masked=[], k=3).items
    np.testing.assert_array_equal(rank(double, np.arange(5), masked=[], k=3).items, expected)


def test_read_only_vectors_are_ranked():
    vectors = whole(np.random.default_rng(0), 5, 30)
    expected = rank(vectors, np.arange(5), masked=[], k=3).items
    for values in (vectors.users, vectors.items):
        values.setflags(write=False)
    np.testing.assert_array_equal(rank(vectors, np.arange(5), masked=[], k=3).items, expected)


@given(
    st.lists(st.floats(width=32, allow_nan=False), min_size=2, max_size=30),
    st.randoms(use_true_random=False),
)
def test_packed_keys_sort_by_score_then_by_earlier_place(scores, random):
    places = list(range(len(scores)))
    random.shuffle(places)
    keys = pack(np.array(scores, dtype=np.float32), np.array(places)).tolist()
    by_key = sorted(range(len(scores)), key=lambda i: -keys[i])
    assert by_key == sorted(range(len(scores)), key=lambda i: (-scores[i], places[i]))


@pytest.mark.parametrize("limit", [1, 8, 64, 512])
@pytest.mark.parametrize("n_items", [1, 1000, 10**6, 10**8])
@pytest.mark.parametrize("dim", [1, 96, 1024])
@pytest.mark.parametrize("n_threads", [1, 16])
def test_planned_buffers_fit_in_the_limit(limit, n_items, dim, n_threads):
    k, longest = 20, 300
    blocks = module._plan(n_items, dim, k, longest, limit, n_threads)
    scores = 4 * blocks.users * blocks.items * n_threads
    vectors = 4 * dim * blocks.items
    lists = 8 * k * blocks.group
    assert scores + vectors + lists <= limit * 2**20
    assert blocks.items % 16 == 0
    assert 1 <= blocks.users <= blocks.group


def test_the_number_of_threads_changes_no_list_and_is_left_as_it_was():
    before = torch.get_num_threads()
    vectors = whole(np.random.default_rng(0), 1000, 60)
    lists = []
    try:
        for n_threads in (1, 3):
            torch.set_num_threads(n_threads)
            lists.append(rank(vectors, np.arange(1000), masked=[], k=5).items)
            assert torch.get_num_threads() == n_threads
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*lists)


@pytest.mark.parametrize("limit", [2, 8])
def test_memory_stays_within_the_limit(limit):
    """All scores would take 2000 * 30000 * 4 bytes = 229 MB, the items alone 11 MB."""
    rng = np.random.default_rng(0)
    vectors = Vectors(
        rng.standard_normal((2000, 96), dtype=np.float32),
        rng.standard_normal((30_000, 96), dtype=np.float32),
    )
    mask = random_mask(rng, 2000, 300, 0.1)
    mask = Bags(mask.offsets, mask.indices, 30_000)
    tracemalloc.start()  # buffers are numpy's, also where torch computes in them
    try:
        ranking = rank(vectors, np.arange(2000), masked=[mask], k=20, memory_limit_mb=limit)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    uncounted = ranking.items.nbytes + ranking.scores.nbytes + 12 * 30_000
    assert peak - uncounted < limit * 2**20
