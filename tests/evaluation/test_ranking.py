import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.data.arrays import Bags
from recsys.errors import BookendsError
from recsys.evaluation import lists
from recsys.evaluation import ranking as module
from recsys.evaluation.ranking import ItemWeights, Vectors, pack, rank, tie_order
from tests.small_arrays import bags_of, random_bags


def whole(rng, n_users, n_items, dim=3, spread=3):
    """Vectors of small whole numbers: scores are exact in float32, and ties are frequent."""
    return Vectors(
        rng.integers(-spread, spread + 1, (n_users, dim)).astype(np.float32),
        rng.integers(-spread, spread + 1, (n_items, dim)).astype(np.float32),
    )


def several(rng, n_users, n_items, spread=3):
    """Three vectors a user, of small whole numbers."""
    users = rng.integers(-spread, spread + 1, (n_users, 3, 3)).astype(np.float32)
    return Vectors(users, rng.integers(-spread, spread + 1, (n_items, 3)).astype(np.float32))


def weighted(rng, n_users, n_items, spread=3):
    """Histories and weights between items, of small whole numbers."""
    history = random_bags(rng, n_users, n_items, 0.2)
    says = rng.integers(-spread, spread + 1, len(history.indices)).astype(np.float32)
    weights = rng.integers(-spread, spread + 1, (n_items, n_items)).astype(np.float32)
    return ItemWeights(replace(history, weights=says), weights)


def slow_scores(scorer, user):
    """Score of a user for every item, in float64."""
    if isinstance(scorer, ItemWeights):
        history, scores = scorer.history, np.zeros(scorer.n_items)
        for at in range(history.offsets[user], history.offsets[user + 1]):
            weight = 1 if history.weights is None else float(history.weights[at])
            scores += weight * scorer.weights[history.indices[at]].astype(np.float64)
        return scores
    products = scorer.items.astype(np.float64) @ scorer.queries[user].T.astype(np.float64)
    if scorer.combine == "max":
        return products.max(axis=1)
    return np.log(np.exp(products).sum(axis=1))


def slow_lists(scorer, users, masked, k):
    """Sort every allowed item by (score, place in the tie order), one user at a time."""
    place = np.argsort(tie_order(scorer.n_items))
    lists = np.full((len(users), k), -1)
    for row, user in enumerate(users):
        known = {item for mask in masked for item in mask.row(user)}
        allowed = [item for item in range(scorer.n_items) if item not in known]
        scores = slow_scores(scorer, user)
        best = sorted(allowed, key=lambda item: (-scores[item], place[item]))[:k]
        lists[row, : len(best)] = best
    return lists


def force_blocks(monkeypatch, *, items, users):
    monkeypatch.setattr(module, "_plan", lambda *_: (items, users))
    monkeypatch.setattr(module, "_USERS_PER_BLOCK", users)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_items=st.integers(1, 90),
    k=st.integers(1, 25),
    share=st.sampled_from([0.0, 0.1, 0.9, 1.0]),
    spread=st.sampled_from([0, 1, 5]),
    make=st.sampled_from([whole, several, weighted]),
)
def test_lists_equal_a_full_sort_of_every_user(seed, n_items, k, share, spread, make):
    rng = np.random.default_rng(seed)
    scorer = make(rng, 7, n_items, spread=spread)
    masked = [random_bags(rng, 7, n_items, share), random_bags(rng, 7, n_items, 0.05)]
    users = rng.permutation(7)
    ranking = rank(scorer, users, masked=masked, k=k)
    np.testing.assert_array_equal(ranking.items, slow_lists(scorer, users, masked, k))


def test_logsumexp_ranks_by_the_log_of_the_sum_of_exponentials():
    """Products up to a few hundred: their exponentials overflow float32, their scores must not."""
    rng = np.random.default_rng(5)
    users = rng.standard_normal((20, 4, 30), dtype=np.float32) * 8
    users[10:] /= 20
    scorer = Vectors(users, rng.standard_normal((300, 30), dtype=np.float32), "logsumexp")
    ranking = rank(scorer, np.arange(20), masked=[], k=20)
    expected = slow_lists(scorer, np.arange(20), [], 20)
    np.testing.assert_array_equal(ranking.items, expected)
    for user, items in enumerate(expected):
        scores = slow_scores(scorer, user)[items]
        np.testing.assert_allclose(ranking.scores[user], scores, rtol=1e-5)


@pytest.mark.parametrize("combine", ["max", "logsumexp"])
def test_one_vector_of_several_is_the_single_one(combine):
    rng = np.random.default_rng(0)
    users, items = (rng.standard_normal((n, 20), dtype=np.float32) for n in (9, 200))
    one = rank(Vectors(users, items), np.arange(9), masked=[], k=8)
    other = rank(Vectors(users[:, None], items, combine), np.arange(9), masked=[], k=8)
    np.testing.assert_array_equal(one.items, other.items)
    np.testing.assert_array_equal(one.scores, other.scores)


@pytest.mark.parametrize("combine", ["max", "logsumexp"])
def test_equal_vectors_of_a_user_count_as_often_as_they_are_there(combine):
    """Four copies: the largest is the same, the sum of exponentials four times as much."""
    rng = np.random.default_rng(0)
    users, items = (rng.standard_normal((n, 20), dtype=np.float32) for n in (9, 200))
    one = rank(Vectors(users, items), np.arange(9), masked=[], k=8)
    four = Vectors(np.repeat(users[:, None], 4, axis=1), items, combine)
    ranking = rank(four, np.arange(9), masked=[], k=8)
    np.testing.assert_array_equal(ranking.items, one.items)
    more = 0 if combine == "max" else np.log(4)
    np.testing.assert_allclose(ranking.scores, one.scores + more, rtol=1e-5)


def test_a_history_without_weights_counts_every_item_once():
    rng = np.random.default_rng(0)
    scorer = weighted(rng, 9, 40)
    plain = ItemWeights(replace(scorer.history, weights=None), scorer.weights)
    ones = np.ones(len(scorer.history.indices), np.float32)
    counted = ItemWeights(replace(scorer.history, weights=ones), scorer.weights)
    expected = slow_lists(plain, np.arange(9), [], 5)
    for each in (plain, counted):
        np.testing.assert_array_equal(rank(each, np.arange(9), masked=[], k=5).items, expected)


@pytest.mark.parametrize("items", [16, 48, 112, 512])
@pytest.mark.parametrize("users", [1, 5, 128])
@pytest.mark.parametrize("make", [whole, several, weighted])
def test_blocks_of_any_size_give_the_same_lists(monkeypatch, items, users, make):
    rng = np.random.default_rng(4)
    scorer, mask = make(rng, 40, 300), random_bags(rng, 40, 300, 0.1)
    everyone = np.arange(40)
    force_blocks(monkeypatch, items=items, users=users)
    ranking = rank(scorer, everyone, masked=[mask], k=30)
    np.testing.assert_array_equal(ranking.items, slow_lists(scorer, everyone, [mask], 30))


def real_numbers(rng, kind):
    """Vectors, several vectors a user, or weights: sums that are not exact."""
    if kind == "weights":
        history = random_bags(rng, 40, 300, 0.1)
        return ItemWeights(history, rng.standard_normal((300, 300), dtype=np.float32))
    shape = (40, 3, 24) if kind == "several" else (40, 24)
    users = rng.standard_normal(shape, dtype=np.float32)
    return Vectors(users, rng.standard_normal((300, 24), dtype=np.float32), "logsumexp")


@pytest.mark.parametrize("items", [16, 512])
@pytest.mark.parametrize("users", [1, 7, 40])
@pytest.mark.parametrize("kind", ["one", "several", "weights"])
def test_blocks_of_any_size_give_scores_to_the_bit(monkeypatch, items, users, kind):
    scorer = real_numbers(np.random.default_rng(4), kind)
    expected = rank(scorer, np.arange(40), masked=[], k=9)
    force_blocks(monkeypatch, items=items, users=users)
    ranking = rank(scorer, np.arange(40), masked=[], k=9)
    np.testing.assert_array_equal(ranking.items, expected.items)
    np.testing.assert_array_equal(ranking.scores, expected.scores)


@pytest.mark.parametrize("combine", ["max", "logsumexp"])
@pytest.mark.parametrize("limit", [1, 512])
def test_equal_items_tie_for_users_of_several_vectors(combine, limit):
    """Ten copies of an item that everyone likes best, anywhere: ordered by the tie order."""
    rng = np.random.default_rng(0)
    items = rng.standard_normal((3000, 24), dtype=np.float32)
    copies = rng.choice(3000, 10, replace=False)
    items[copies] = 3.0
    users = rng.standard_normal((30, 4, 24), dtype=np.float32) + 2
    scorer = Vectors(users, items, combine)
    ranking = rank(scorer, np.arange(30), masked=[], k=10, memory_limit_mb=limit)
    place = np.argsort(tie_order(3000))
    expected = copies[np.argsort(place[copies])]
    np.testing.assert_array_equal(ranking.items, np.tile(expected, (30, 1)))


@pytest.mark.parametrize("make", [whole, several, weighted])
def test_listed_items_get_the_scores_of_the_whole_catalogue(make):
    rng = np.random.default_rng(0)
    scorer, users = make(rng, 9, 40), np.array([7, 2, 7, 0])
    items = rng.integers(0, 40, (4, 6))
    expected = [slow_scores(scorer, user)[row] for user, row in zip(users, items, strict=True)]
    np.testing.assert_array_equal(scorer.score_listed(users, items), np.array(expected))


@pytest.mark.parametrize("combine", ["max", "logsumexp"])
def test_a_pair_gets_the_same_bits_alone_and_among_others(combine):
    """So that an answer does not depend on the questions that it shared a pass with."""
    rng = np.random.default_rng(0)
    users = rng.standard_normal((50, 8, 129), dtype=np.float32)
    scorer = Vectors(users, rng.standard_normal((60, 129), dtype=np.float32), combine)
    rows, items = rng.integers(50, size=500), rng.integers(60, size=(500, 1))
    together = scorer.score_listed(rows, items)
    alone = [scorer.score_listed(rows[i : i + 1], items[i : i + 1]) for i in range(500)]
    np.testing.assert_array_equal(together, np.concatenate(alone))


def test_weights_that_are_not_finite_are_refused_by_name():
    scorer = weighted(np.random.default_rng(0), 5, 6)
    scorer.weights[4, 1] = np.inf
    with pytest.raises(BookendsError, match="a weight of item 4 is NaN or infinity"):
        rank(scorer, np.array([1, 3]), masked=[], k=2)


@pytest.mark.parametrize("value", [np.nan, 1e38])
def test_histories_that_weigh_too_much_are_refused_by_name(value):
    history = Bags(np.array([0, 1, 3]), np.array([0, 1, 2], np.int32), 3, np.ones(3, np.float32))
    history.weights[2] = value
    scorer = ItemWeights(history, np.full((3, 3), 9.0, np.float32))
    assert rank(scorer, np.array([0]), masked=[], k=2).items.min() >= 0
    with pytest.raises(BookendsError, match="the history of user 1 weighs too much or holds NaN"):
        rank(scorer, np.array([0, 1]), masked=[], k=2)


def test_the_tie_order_says_nothing_of_the_order_of_the_file():
    order = tie_order(10_000)
    assert sorted(order) == list(range(10_000))
    assert abs(np.corrcoef(order, np.arange(10_000))[0, 1]) < 4 / np.sqrt(10_000)


@pytest.mark.parametrize("in_half", [True, False])
@pytest.mark.parametrize("items", [16, 1024])
def test_a_collapsed_model_is_ordered_by_the_tie_order(monkeypatch, items, in_half):
    """All vectors alike, so that it finds no more than chance."""
    monkeypatch.setattr(module, "is_fast", lambda: in_half)
    monkeypatch.setattr(module, "_HALF_PAYS_FROM", 0)
    force_blocks(monkeypatch, items=items, users=3)
    rng = np.random.default_rng(1)
    users, catalogue = (
        np.tile(rng.standard_normal((1, 96), dtype=np.float32), (n, 1)) for n in (5, 900)
    )
    ranking = rank(Vectors(users, catalogue), np.arange(5), masked=[], k=40)
    np.testing.assert_array_equal(ranking.items, np.tile(tie_order(900)[:40], (5, 1)))


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


def test_lists_are_filled_up_with_minus_one_where_too_few_items_are_allowed():
    vectors = Vectors(np.ones((2, 1), np.float32), np.array([[1.0], [3.0], [2.0]], np.float32))
    mask = bags_of([[], [0, 1]], 3)
    ranking = rank(vectors, np.array([0, 1]), masked=[mask], k=4)
    assert ranking.items.tolist() == [[1, 2, 0, -1], [2, -1, -1, -1]]
    assert ranking.scores[1].tolist() == [2.0, -np.inf, -np.inf, -np.inf]


def test_users_may_come_in_any_order_and_more_than_once():
    rng = np.random.default_rng(0)
    vectors, mask = whole(rng, 9, 40), random_bags(rng, 9, 40, 0.3)
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


def test_vectors_of_other_precision_and_read_only_ones_are_ranked():
    vectors = whole(np.random.default_rng(0), 5, 30)
    expected = rank(vectors, np.arange(5), masked=[], k=3).items
    double = Vectors(vectors.users.astype(np.float64), vectors.items.astype(np.float64))
    for values in (vectors.users, vectors.items):
        values.setflags(write=False)
    for each in (double, vectors):
        np.testing.assert_array_equal(rank(each, np.arange(5), masked=[], k=3).items, expected)


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
@pytest.mark.parametrize("n_queries", [1, 8])
@pytest.mark.parametrize("n_threads", [1, 16])
def test_planned_buffers_fit_in_the_limit(limit, n_items, n_queries, n_threads):
    own = limit * 2**20 // (2 * n_threads)
    items, users = module._plan(n_items, n_queries, 96, 20, 300, own)
    assert 4 * users * items * n_queries <= own // 2
    assert items % 16 == 0
    assert users >= 1


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


def peak_beyond_the_ranking(scorer, mask, limit):
    """Bytes taken at most while all users are ranked, without what is not counted."""
    tracemalloc.start()  # buffers are numpy's, also where torch computes in them
    try:
        users = np.arange(mask.n_rows)
        ranking = rank(scorer, users, masked=[mask], k=20, memory_limit_mb=limit)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return peak - ranking.items.nbytes - ranking.scores.nbytes - 12 * scorer.n_items


@pytest.mark.parametrize("limit", [2, 8])
@pytest.mark.parametrize("shape", [(2000, 96), (300, 4, 96)])
def test_memory_stays_within_the_limit(limit, shape):
    """All scores would take 2000 * 30000 * 4 bytes = 229 MB, the items alone 11 MB."""
    rng = np.random.default_rng(0)
    vectors = Vectors(
        rng.standard_normal(shape, dtype=np.float32),
        rng.standard_normal((30_000, 96), dtype=np.float32),
    )
    mask = random_bags(rng, len(vectors.users), 300, 0.1)
    mask = Bags(mask.offsets, mask.indices, 30_000)
    assert peak_beyond_the_ranking(vectors, mask, limit) < limit * 2**20


@pytest.mark.parametrize("limit", [2, 8])
def test_memory_for_weights_between_items_stays_within_the_limit(limit):
    """The weights take 2000 * 2000 * 4 bytes = 15 MB, all scores 1.5 MB."""
    rng = np.random.default_rng(0)
    history = random_bags(rng, 200, 2000, 0.01)
    scorer = ItemWeights(history, rng.standard_normal((2000, 2000), dtype=np.float32))
    assert peak_beyond_the_ranking(scorer, history, limit) < limit * 2**20


def test_of_many_blocks_not_all_wait_at_once(monkeypatch):
    monkeypatch.setattr(lists, "BLOCKS_AHEAD", 4)
    handed_out, order = [], np.array([2, 0, 1])

    def run(fill, starts):
        handed_out.append(len(starts))
        return map(fill, starts)

    def keys_of(part):  # everyone's best is item 0
        size = min(part.stop, 21) - part.start
        return pack(np.ones((size, 1), np.float32), lists.places_in(order)[:1])

    found = lists.lists_of(21, 1, order, keys_of, 2, run)
    assert handed_out == [4, 4, 3]  # eleven blocks of two
    assert found.items.tolist() == [[0]] * 21
