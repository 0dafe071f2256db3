"""Exact search against scores sorted one by one."""

import numpy as np
import pytest

from recsys.data.arrays import Bags
from recsys.evaluation.ranking import Vectors, rank, tie_order
from recsys.recommender import search as search_module
from recsys.recommender.search import ItemSearch


@pytest.fixture(scope="module")
def world():
    """Whole numbers, so that sums are exact and ties are many: 70 vectors, 90 items."""
    rng = np.random.default_rng(5)
    vectors = rng.integers(-2, 3, (70, 4)).astype(np.float32)
    items = rng.integers(-2, 3, (90, 4)).astype(np.float32)
    pairs = np.argwhere(rng.random((70, 90)) < 0.2)
    return vectors, items, Bags.from_pairs(pairs[:, 0], pairs[:, 1], n_rows=70, n_columns=90)


def by_hand(vectors, items, masked, allowed, k):
    place = {int(item): number for number, item in enumerate(tie_order(len(items)))}
    lists = []
    for row, vector in enumerate(vectors):
        hidden = set() if masked is None else set(masked.row(row).tolist())
        left = [i for i in range(len(items)) if i not in hidden and (allowed is None or allowed[i])]
        left.sort(key=lambda item: (-float(vector @ items[item]), place[item]))
        lists.append([*left, *[-1] * k][:k])
    return np.array(lists)


@pytest.mark.parametrize("n", [1, 5, 70])
@pytest.mark.parametrize("k", [1, 7, 90])
@pytest.mark.parametrize("one_in", [None, 2, 15])
@pytest.mark.parametrize("hides", [True, False])
def test_the_best_are_those_of_all_scores_sorted(world, n, k, one_in, hides):
    vectors, items, masked = world
    allowed = None if one_in is None else np.arange(90) % one_in == 0
    masked = masked.take(np.arange(n)) if hides else None
    found = ItemSearch(items).best(vectors[:n], k, masked=masked, allowed=allowed)
    expected = by_hand(vectors[:n], items, masked, allowed, k)
    np.testing.assert_array_equal(found.items, expected)
    assert (np.isneginf(found.scores) == (expected < 0)).all()


def test_few_and_many_are_ranked_alike(world, monkeypatch):
    """One by one and as evaluation does it."""
    vectors, items, masked = world
    monkeypatch.setattr(search_module, "_SCORE_BYTES", 4 * 90 * 3)  # three at a time
    few = ItemSearch(items).best(vectors[:40], 12, masked=masked.take(np.arange(40)))
    many = rank(Vectors(vectors, items), np.arange(40), masked=(masked,), k=12)
    np.testing.assert_array_equal(few.items, many.items)
    np.testing.assert_array_equal(few.scores, many.scores)


def test_nothing_is_found_where_nothing_is_allowed(world):
    vectors, items, _ = world
    found = ItemSearch(items).best(vectors[:2], 3, allowed=np.zeros(90, dtype=bool))
    assert (found.items == -1).all()


def test_no_vectors_find_nothing(world):
    _, items, _ = world
    assert ItemSearch(items).best(np.zeros((0, 4), np.float32), 3).items.shape == (0, 3)
