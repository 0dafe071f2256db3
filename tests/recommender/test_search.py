"""Exact search against scores sorted one by one."""

import numpy as np
import pytest

from recsys.evaluation.ranking import Vectors, rank, tie_order
from recsys.recommender import search as search_module
from recsys.recommender.search import ItemSearch, Query
from tests.small_arrays import bags_of, random_bags


@pytest.fixture(scope="module")
def world():
    """Whole numbers, so that sums are exact and ties are many: 70 vectors, 90 items."""
    rng = np.random.default_rng(5)
    vectors = rng.integers(-2, 3, (70, 4)).astype(np.float32)
    items = rng.integers(-2, 3, (90, 4)).astype(np.float32)
    return vectors, items, random_bags(rng, 70, 90, 0.2)


def sorted_by_hand(scores, k):
    """Items of the k highest scores, ties in their fixed order, -1 for minus infinity."""
    place = np.argsort(tie_order(scores.shape[1]))
    best = np.array([np.lexsort((place, -row))[:k] for row in scores])
    return np.where(np.take_along_axis(scores, best, 1) > -np.inf, best, -1)


def assert_as_alone(search, queries):
    """Queries together find what each finds alone, to the bit."""
    for query, found in zip(queries, search.best_together(queries), strict=True):
        alone = search.best(query)
        np.testing.assert_array_equal(found.items, alone.items)
        np.testing.assert_array_equal(found.scores.view(np.int32), alone.scores.view(np.int32))


@pytest.fixture(params=[("float32", 32), ("float32", 1024), ("bfloat16", 32), ("bfloat16", 1024)])
def read_as(request, monkeypatch):
    """How the catalogue is read, whatever this processor does best, and how many items at once."""
    monkeypatch.setattr(search_module, "is_fast", lambda: request.param[0] == "bfloat16")
    monkeypatch.setattr(search_module, "HALF_PAYS_FROM", 0)
    monkeypatch.setattr(search_module, "ITEMS_PER_BLOCK", request.param[1])
    return request.param[0]


@pytest.mark.parametrize("n", [1, 70])
@pytest.mark.parametrize("k", [1, 7, 90])
@pytest.mark.parametrize("one_in", [None, 2, 15])
@pytest.mark.parametrize("hides", [True, False])
def test_the_best_are_those_of_all_scores_sorted(world, read_as, n, k, one_in, hides):
    vectors, items, masked = world
    allowed = None if one_in is None else np.arange(90) % one_in == 0
    masked = masked.take(np.arange(n)) if hides else None
    search = ItemSearch(items)
    assert str(search.catalogue.rounded.dtype) == f"torch.{read_as}"
    found = search.best(Query(vectors[:n], k, masked=masked, allowed=allowed))
    scores = vectors[:n] @ items.T
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    if masked is not None:
        scores[masked.owners, masked.indices] = -np.inf
    expected = sorted_by_hand(scores, k)
    np.testing.assert_array_equal(found.items, expected)
    assert (np.isneginf(found.scores) == (expected < 0)).all()


def test_queries_together_find_what_they_find_alone_to_the_bit(read_as):
    rng = np.random.default_rng(7)
    items = rng.standard_normal((500, 24)).astype(np.float32)
    search, queries = ItemSearch(items), []
    for n, k in ((1, 5), (3, 50), (2, 1), (7, 10), (60, 4), (1, 500)):
        masked = random_bags(rng, n, 500, 0.1)
        allowed = rng.random(500) < rng.choice([0.05, 0.5]) if n < 3 else None
        queries.append(Query(rng.standard_normal((n, 24)).astype(np.float32), k, masked, allowed))
    assert_as_alone(search, queries)


@pytest.mark.parametrize("combine", ["max", "logsumexp"])
@pytest.mark.parametrize("n_vectors", [1, 3])
@pytest.mark.parametrize("one_in", [1, 2, 15])
def test_few_and_many_are_ranked_alike(world, monkeypatch, read_as, combine, n_vectors, one_in):
    """One by one and as evaluation does it, where what is not allowed is masked for all."""
    vectors, items, masked = world
    vectors = np.stack([np.roll(vectors, turn, axis=0) for turn in range(n_vectors)], axis=1)
    allowed, some = np.arange(90) % one_in == 0, np.arange(40)
    others = bags_of([np.flatnonzero(~allowed)] * 70, 90)
    monkeypatch.setattr(search_module, "ROWS_AT_ONCE", 3)
    query = Query(vectors[some], 12, masked.take(some), allowed)
    few = ItemSearch(items, combine).best(query)
    many = rank(Vectors(vectors, items, combine), some, masked=(masked, others), k=12)
    np.testing.assert_array_equal(few.items, many.items)
    np.testing.assert_array_equal(few.scores, many.scores)


def combined(products, combine):
    """One score of the products along the last axis, in float64."""
    products = products.astype(np.float64)
    return products.max(axis=-1) if combine == "max" else np.log(np.exp(products).sum(axis=-1))


@pytest.mark.parametrize("combine", ["max", "logsumexp"])
def test_an_item_finds_the_users_whose_combined_score_is_best(read_as, combine):
    """The same scores as the other way round; three vectors of each of 200 users are searched."""
    rng = np.random.default_rng(9)
    users = rng.standard_normal((200, 3, 12)).astype(np.float32)
    items = rng.standard_normal((5, 12)).astype(np.float32)
    found = ItemSearch(users, combine).best(Query(items, 9))
    scores = combined(np.einsum("ukd,id->iuk", users, items), combine)
    expected = sorted_by_hand(scores, 9)
    np.testing.assert_array_equal(found.items, expected)
    np.testing.assert_allclose(found.scores, np.take_along_axis(scores, expected, 1), rtol=1e-4)


@pytest.mark.parametrize("combine", ["max", "logsumexp"])
def test_products_that_cancel_in_the_logarithm_hide_no_item(read_as, combine):
    """Scores near 0 of products that are not: rounding errs by the size of the products."""
    rng = np.random.default_rng(10)
    items = (1 + 1e-4 * rng.standard_normal((300, 8))).astype(np.float32)
    users = np.full((4, 2, 8), -np.log(2) / 8, np.float32)
    users += (1e-3 * rng.standard_normal(users.shape)).astype(np.float32)
    found = ItemSearch(items, combine).best(Query(users, 10))
    scores = combined(np.einsum("nkd,id->nik", *(x.astype(float) for x in (users, items))), combine)
    best = -np.sort(-scores, axis=1)[:, :10]
    np.testing.assert_allclose(np.take_along_axis(scores, found.items, 1), best, rtol=0, atol=1e-6)


def test_queries_of_one_and_of_several_vectors_share_a_search_to_the_bit(read_as):
    rng = np.random.default_rng(11)
    search = ItemSearch(rng.standard_normal((400, 12)).astype(np.float32), "logsumexp")
    shapes = [(2, 12), (3, 1, 12), (2, 4, 12), (1, 4, 12), (30, 4, 12)]
    queries = [Query(rng.standard_normal(shape).astype(np.float32), 8) for shape in shapes]
    assert_as_alone(search, queries)


def test_nothing_is_found_where_nothing_is_allowed(world):
    vectors, items, _ = world
    found = ItemSearch(items).best(Query(vectors[:2], 3, allowed=np.zeros(90, dtype=bool)))
    assert (found.items == -1).all()


def test_no_vectors_find_nothing(world):
    _, items, _ = world
    assert ItemSearch(items).best(Query(np.zeros((0, 4), np.float32), 3)).items.shape == (0, 3)
