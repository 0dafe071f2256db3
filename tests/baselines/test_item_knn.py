"""Item neighbours against a loop over pairs of items."""

import numpy as np
import pytest

from recsys.baselines import neighbours


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
