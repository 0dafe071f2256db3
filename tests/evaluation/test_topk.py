"""Which items can be among the best, by scores in half precision, and the lists made of them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.bfloat16 import is_fast
from recsys.evaluation import ranking as module
from recsys.evaluation.lists import Hidden, lists_of
from recsys.evaluation.ranking import Vectors, rank, tie_order
from recsys.evaluation.topk import Catalogue, _Search
from tests.small_arrays import random_bags

GROUP = 16


def random_vectors(rng, n, dim, scale, spread):
    """Vectors about one point: the smaller the spread, the closer all scores lie together."""
    centre = rng.standard_normal(dim)
    return (scale * (centre + spread * rng.standard_normal((n, dim)))).astype(np.float32)


def found_by_half(users, items, k, hidden=()):
    """The candidates as pairs (user, item), and which users have few."""
    catalogue = Catalogue.of(items, in_half=True)
    rows, hidden_items = np.array(list(hidden), dtype=np.int64).reshape(-1, 2).T
    hidden = Hidden.of([(rows, hidden_items)])
    search = _Search(catalogue, users[:, None], k, hidden, 1 << 16, 1 << 14)
    few, owners, candidates = search.candidates()
    return set(zip(owners.tolist(), candidates.tolist(), strict=True)), few


def test_scores_by_logsumexp_are_not_searched_in_bfloat16():
    """They lie so close together that with its margin every user would be searched alone."""
    rng = np.random.default_rng(0)
    queries = 4 * random_vectors(rng, 20 * 8, 96, 1.0, 0.5).reshape(20, 8, 96)
    items = random_vectors(rng, 2000, 96, 0.05, 0.5)
    catalogue = Catalogue.of(items, "logsumexp", in_half=True)
    search = _Search(catalogue, queries, 5, Hidden.of([]), 1 << 16, 1 << 14)
    few, _, _ = search.candidates()
    assert few.all()


def in_half(monkeypatch, value):
    monkeypatch.setattr(module, "is_fast", lambda: value)
    monkeypatch.setattr(module, "_HALF_PAYS_FROM", 0)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    dim=st.sampled_from([1, 2, 7, 96]),
    k=st.integers(1, 6),
    scales=st.tuples(*[st.sampled_from([1e-38, 1e-22, 1e-3, 1.0, 1e4, 1e18])] * 2),
    spread=st.sampled_from([1e-3, 0.1, 1.0, 10.0]),
)
def test_candidates_hold_every_item_that_truly_is_among_the_best(seed, dim, k, scales, spread):
    rng = np.random.default_rng(seed)
    users = random_vectors(rng, 5, dim, scales[0], spread)
    items = random_vectors(rng, GROUP * 20, dim, scales[1], spread)
    pairs, few = found_by_half(users, items, k)
    scores = users.astype(np.float64) @ items.T.astype(np.float64)
    for user in np.flatnonzero(few):
        best = np.argsort(-scores[user])[:k]
        assert {(user, item) for item in best.tolist()} <= pairs
    assert {user for user, _ in pairs} == set(np.flatnonzero(few).tolist())


@pytest.mark.parametrize("start", [1.0, 1.3, 1.7])
def test_the_best_item_is_found_where_rounding_treats_it_worst(start):
    """It loses in every dimension what rounding can take, the other items gain as much."""
    step, least = 2.0**-7, 2.0**-16  # of bfloat16 and of these float32, between 1 and 2
    middle = step * int(start / step) + step / 2
    for dim in range(4, 300):
        for k in (1, 3):
            items = np.zeros((GROUP * 20, dim), dtype=np.float32)
            items[:3, :-1] = middle + least
            items[7, :-1] = middle - least
            items[7, -1] = 2.5 * dim * least
            users = np.ones((1, dim), dtype=np.float32)
            assert np.argmax(items.astype(np.float64) @ users[0]) == 7
            pairs, few = found_by_half(users, items, k)
            assert few[0] and (0, 7) in pairs


def test_spread_scores_leave_few_candidates():
    rng = np.random.default_rng(0)
    users, items = (rng.standard_normal((n, 96), dtype=np.float32) for n in (50, 3200))
    pairs, few = found_by_half(users, items, 20)
    assert few.all()
    assert len(pairs) < 2 * 20 * 50


def test_candidates_of_scores_below_zero_hold_the_best():
    rng = np.random.default_rng(0)
    users = np.abs(rng.standard_normal((9, 30), dtype=np.float32)) + 1
    items = -np.abs(rng.standard_normal((320, 30), dtype=np.float32)) - 1
    pairs, few = found_by_half(users, items, 4)
    assert few.all()
    assert {(row, int(np.argmax(items @ users[row]))) for row in range(9)} <= pairs


def test_hidden_items_are_no_candidates():
    rng = np.random.default_rng(0)
    users, items = (rng.standard_normal((n, 8), dtype=np.float32) for n in (3, 320))
    best = np.argmax(items @ users.T, axis=0)
    hidden = set(zip(range(3), best.tolist(), strict=True))
    pairs, few = found_by_half(users, items, 2, hidden)
    assert few.all() and not pairs & hidden


@pytest.mark.parametrize(
    ("users", "items"),
    [
        (1.0, 0.0),  # all alike
        (3e38, 1.0),  # becomes infinite in half precision
        (1e19, 1e19),  # sums could overflow
        (np.nan, 1.0),
    ],
)
def test_users_whose_scores_cannot_be_told_apart_are_looked_at_alone(users, items):
    vectors = np.full((2, 4), users, np.float32), np.full((320, 4), items, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        pairs, few = found_by_half(*vectors, 3)
    assert not pairs and not few.any()


@pytest.mark.parametrize("in_half", [True, False])
@pytest.mark.parametrize("hidden", [318, 320])
def test_users_with_fewer_items_left_than_wanted_get_those(in_half, hidden):
    rng = np.random.default_rng(0)
    users, items = (rng.standard_normal((n, 1, 8), dtype=np.float32) for n in (1, 320))
    catalogue = Catalogue.of(items[:, 0], in_half=in_half)
    rows = Hidden.of([(np.zeros(hidden, dtype=np.int64), np.arange(hidden))])

    def keys_of(_):
        return catalogue.best_keys(users, 3, rows, items_per_block=64, pairs_at_once=7)

    lists = lists_of(1, 3, catalogue.order, keys_of, 1)
    assert sorted(lists.items[0].tolist()) == [*[-1] * (3 - 320 + hidden), *range(hidden, 320)]
    assert np.isfinite(lists.scores[0]).sum() == 320 - hidden


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_items=st.integers(300, 700),
    k=st.integers(1, 20),
    share=st.sampled_from([0.0, 0.1, 0.97, 1.0]),
    spread=st.sampled_from([1, 3, 8]),
    shift=st.sampled_from([-9, 0, 9]),
)
def test_half_precision_changes_no_list_where_sums_are_exact(
    seed, n_items, k, share, spread, shift
):
    """Small whole numbers: no rounding, and ties are frequent."""
    rng = np.random.default_rng(seed)
    vectors = Vectors(
        rng.integers(-spread, spread + 1, (20, 4)).astype(np.float32) + shift,
        rng.integers(-spread, spread + 1, (n_items, 4)).astype(np.float32),
    )
    mask = random_bags(rng, 20, n_items, share)
    lists = []
    for value in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            in_half(patch, value)
            lists.append(rank(vectors, np.arange(20), masked=[mask], k=k))
    np.testing.assert_array_equal(lists[0].items, lists[1].items)
    np.testing.assert_array_equal(lists[0].scores, lists[1].scores)


@pytest.mark.parametrize("spread", [0.001, 0.03, 1.0])
@pytest.mark.parametrize("limit", [1, 512])
def test_half_precision_changes_lists_by_no_more_than_sums_of_floats_do(monkeypatch, spread, limit):
    """Whatever is left out scores no better than the last that is listed, but for rounding."""
    rng = np.random.default_rng(3)
    vectors = Vectors(
        random_vectors(rng, 60, 96, 1.0, spread), random_vectors(rng, 5000, 96, 1.0, spread)
    )
    mask = random_bags(rng, 60, 5000, 0.2)
    in_half(monkeypatch, True)
    ranking = rank(vectors, np.arange(60), masked=[mask], k=10, memory_limit_mb=limit)
    scores = vectors.users.astype(np.float64) @ vectors.items.T.astype(np.float64)
    rounding = 2.0**-24 * 97 * np.abs(vectors.users) @ np.abs(vectors.items).max(axis=0)
    scores[mask.entries(np.arange(60))] = -np.inf
    listed = np.take_along_axis(scores, ranking.items.astype(np.int64), axis=1)
    assert (np.abs(listed - ranking.scores) <= rounding[:, None]).all()
    np.put_along_axis(scores, ranking.items.astype(np.int64), -np.inf, axis=1)
    assert (scores.max(axis=1) <= listed[:, -1] + 2 * rounding).all()


def test_ties_between_equal_items_are_broken_by_the_tie_order_in_half_precision(monkeypatch):
    """Ten copies of the best item stand anywhere; each must get the same score to the bit."""
    in_half(monkeypatch, True)
    rng = np.random.default_rng(0)
    items = rng.standard_normal((2000, 96), dtype=np.float32)
    users = rng.standard_normal((40, 96), dtype=np.float32)
    copies = rng.choice(2000, 10, replace=False)
    items[copies] = 3 * users.mean(axis=0)
    users += 20 * users.mean(axis=0)
    ranking = rank(Vectors(users, items), np.arange(40), masked=[], k=10)
    place = np.argsort(tie_order(2000))
    expected = copies[np.argsort(place[copies])]
    np.testing.assert_array_equal(ranking.items, np.tile(expected, (40, 1)))


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx512_bf16": False}, False)],
)
def test_half_precision_is_used_where_the_processor_computes_in_it(
    monkeypatch, capabilities, expected
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert is_fast() is expected


@pytest.mark.parametrize(
    ("n_items", "dim", "limit", "expected"),
    [
        (10_000, 96, 512, True),
        (10_000, 8, 512, False),
        (1000, 96, 512, False),
        (10_000, 96, 4, False),
    ],
)
def test_half_precision_is_used_where_the_product_is_most_of_the_work_and_the_copy_fits(
    monkeypatch, n_items, dim, limit, expected
):
    monkeypatch.setattr(module, "is_fast", lambda: True)
    made, of = [], Catalogue.of

    def caught(*args, in_half, **options):
        made.append(in_half)
        return of(*args, in_half=in_half, **options)

    monkeypatch.setattr(Catalogue, "of", caught)
    vectors = Vectors(np.ones((1, dim), np.float32), np.eye(n_items, dim, dtype=np.float32))
    rank(vectors, np.array([0]), masked=[], k=20, memory_limit_mb=limit)
    assert made == [expected]


def test_half_precision_is_not_used_where_torch_does_not_know_the_processor(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert is_fast() is False
