"""Search by an index: near the exact one, and never against a filter."""

import sys

import numpy as np
import pytest

from recsys.errors import ConfigError
from recsys.recommender.approximate import ApproximateSearch
from recsys.recommender.search import ItemSearch, Query
from tests.small_arrays import bags_of

pytest.importorskip("usearch")
N_ITEMS, N_USERS = 3000, 60


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(6)
    items = rng.standard_normal((N_ITEMS, 16)).astype(np.float32)
    users = rng.standard_normal((N_USERS, 16)).astype(np.float32)
    exact = ItemSearch(items)
    favourites = exact.best(Query(users, 30)).items  # seen: what an index would propose first
    seen = bags_of(favourites, N_ITEMS)
    return users, seen, exact, ApproximateSearch.build(exact, users, seen, k=10, n_sample=50)


def test_recall_is_measured_against_the_exact_lists(world):
    users, seen, exact, approximate = world
    recall = approximate.recall
    drawn = np.sort(np.random.default_rng(20130401).permutation(N_USERS)[:50])
    masked = seen.take(drawn)
    found = approximate.best(Query(users[drawn], 10, masked=masked)).items
    wanted = exact.best(Query(users[drawn], 10, masked=masked)).items
    shares = [len(set(a) & set(b)) / 10 for a, b in zip(found, wanted, strict=True)]
    assert recall.mean == pytest.approx(np.mean(shares))
    assert recall.lowest == pytest.approx(np.min(shares))
    assert (recall.k, recall.n_users) == (10, 50)
    assert recall.mean > 0.9 and recall.n_bytes > 0 and recall.build_seconds > 0


def test_scores_fall_and_are_to_the_bit_those_of_the_exact_search(world):
    users, seen, exact, approximate = world
    found = approximate.best(Query(users, 10, masked=seen))
    everything = exact.best(Query(users, N_ITEMS))
    scores = np.empty((N_USERS, N_ITEMS), np.float32)
    np.put_along_axis(scores, everything.items, everything.scores, axis=1)
    np.testing.assert_array_equal(found.scores, np.take_along_axis(scores, found.items, axis=1))
    assert (np.diff(found.scores) <= 0).all()


@pytest.mark.parametrize("combine", ["max", "logsumexp"])
def test_items_near_any_vector_of_a_user_are_proposed_and_scored_by_all(world, combine):
    """Three tastes far apart: each must be met, and scores are those of the exact search."""
    users, seen, exact, _ = world
    exact = ItemSearch(exact.catalogue.items, combine)
    several = 3 * users.reshape(20, 3, 16)
    approximate = ApproximateSearch.build(
        exact, several, seen.take(np.arange(20)), k=10, n_sample=20
    )
    assert approximate.recall.mean > 0.9
    found, expected = approximate.best(Query(several, 10)), exact.best(Query(several, 10))
    shared = 0
    for row in range(20):
        scores = dict(zip(expected.items[row].tolist(), expected.scores[row], strict=True))
        for item, score in zip(found.items[row].tolist(), found.scores[row], strict=True):
            shared += item in scores
            assert scores.get(item, score) == score
    assert shared > 0.9 * 200


def test_users_of_one_query_find_what_they_find_alone(world):
    users, seen, _, approximate = world
    some = np.arange(N_ITEMS) % 3 == 0
    for k, allowed in ((4, some), (500, None), (2000, None)):  # the last is exact
        together = approximate.best(Query(users[:9], k, seen.take(np.arange(9)), allowed))
        for row in range(9):
            query = Query(users[[row]], k, seen.take(np.array([row])), allowed)
            alone = approximate.best(query)
            np.testing.assert_array_equal(together.items[[row]], alone.items)
            np.testing.assert_array_equal(together.scores[[row]], alone.scores)


def test_nothing_masked_and_nothing_but_the_allowed_is_found(world):
    users, seen, exact, approximate = world
    allowed = np.arange(N_ITEMS) % 2 == 0
    found = approximate.best(Query(users, 10, masked=seen, allowed=allowed))
    assert (found.items >= 0).all() and allowed[found.items].all()
    assert not seen.contains(np.arange(N_USERS)[:, None], found.items).any()
    expected = exact.best(Query(users, 10, masked=seen, allowed=allowed)).items
    shares = [np.isin(a, b).mean() for a, b in zip(found.items, expected, strict=True)]
    assert np.mean(shares) > 0.9


@pytest.mark.parametrize("n", [1, 40])
def test_a_filter_that_leaves_few_falls_back_on_the_exact_search(world, n):
    users, _, exact, approximate = world
    allowed = np.zeros(N_ITEMS, dtype=bool)
    allowed[[5, 700, 2999]] = True
    found = approximate.best(Query(users[:n], 5, allowed=allowed))
    expected = exact.best(Query(users[:n], 5, allowed=allowed))
    np.testing.assert_array_equal(found.items, expected.items)
    assert set(found.items[0]) == {5, 700, 2999, -1}


@pytest.mark.parametrize("k", [1500, N_ITEMS])
def test_long_lists_are_exact(world, k):
    users, seen, exact, approximate = world
    found = approximate.best(Query(users[:3], k, masked=seen.take(np.arange(3))))
    expected = exact.best(Query(users[:3], k, masked=seen.take(np.arange(3))))
    np.testing.assert_array_equal(found.items, expected.items)


def test_a_recommender_with_an_index_answers_in_the_same_form(shop):
    approximate = shop.with_approximate(k=5, n_sample=40)
    users = [*shop.users.ids.to_pylist()[:40], "nobody"]
    found = approximate.recommend(users, k=5)
    expected = shop.recommend(users, k=5)
    assert list(found.columns) == list(expected.columns)
    assert list(found["user_id"]) == list(expected["user_id"])
    assert (found["item_id"] == expected["item_id"]).mean() > 0.9
    assert shop.approximate is None and approximate.approximate.recall.k == 5


def test_without_usearch_the_user_is_told_what_to_install(shop, monkeypatch):
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    with pytest.raises(ConfigError, match=r"pip install -e '.\[ann\]'"):
        shop.with_approximate()
