"""Item neighbours against a loop over pairs of items."""

import numpy as np
import pytest
from scipy import sparse

from recsys.baselines import baseline, neighbours
from recsys.baselines.item_knn import fit_item_knn


def slow_cosines(matrix, shrinkage):
    n_items = matrix.shape[1]
    cosines = np.zeros((n_items, n_items))
    for i in range(n_items):
        for j in range(n_items):
            both = (matrix[:, i] & matrix[:, j]).sum()
            lengths = np.sqrt(matrix[:, i].sum() * matrix[:, j].sum())
            if i != j and lengths:
                cosines[j, i] = both / (lengths + shrinkage)
    return cosines


@pytest.mark.parametrize("shrinkage", [0, 3])
@pytest.mark.parametrize("cells", [2**24, 30])
def test_weights_are_cosines_with_all_neighbours(rng, monkeypatch, shrinkage, cells, weights_of):
    monkeypatch.setattr(neighbours, "CELLS_AT_ONCE", cells)  # one block, or several
    matrix = (rng.random((30, 12)) < 0.3).astype(int)
    weights = weights_of("item_knn", matrix, neighbours=12, shrinkage=shrinkage)
    assert weights == pytest.approx(slow_cosines(matrix, shrinkage), abs=1e-6)


@pytest.mark.parametrize("cells", [2**24, 30])
def test_an_item_is_scored_by_its_nearest_alone(rng, monkeypatch, cells, weights_of):
    monkeypatch.setattr(neighbours, "CELLS_AT_ONCE", cells)
    matrix = (rng.random((200, 12)) < 0.3).astype(int)
    cosines = slow_cosines(matrix, 0)
    weights = weights_of("item_knn", matrix, neighbours=3, shrinkage=0)
    for item in range(12):
        nearest = np.argsort(-cosines[:, item])[:3]
        expected = np.zeros(12)
        expected[nearest] = cosines[nearest, item]
        assert weights[:, item] == pytest.approx(expected, abs=1e-6)


def test_two_items_that_the_same_users_have_are_as_near_as_can_be(weights_of):
    matrix = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]])
    weights = weights_of("item_knn", matrix, neighbours=1, shrinkage=0)
    assert weights.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]


def test_few_weights_are_a_plain_array_and_score_the_same(rng, monkeypatch, histories):
    known = histories((rng.random((200, 40)) < 0.3).astype(int))
    scored = {}
    for most in (0, 4 * 40 * 40 - 1, 4 * 40 * 40):
        monkeypatch.setattr(baseline, "SMALL_BYTES", most)
        scorer = fit_item_knn(known, neighbours=8, shrinkage=2.0)(known, 5.0)
        assert sparse.issparse(scorer.weights) == (most < 4 * 40 * 40)
        scored[most] = scorer.score_all(np.arange(200))
    first, *others = scored.values()
    assert all(np.array_equal(first, each) for each in others)
