"""Content neighbours against a loop over pairs of items."""

from dataclasses import replace

import numpy as np
import pytest

from recsys.baselines import content_knn, neighbours
from recsys.baselines.content_knn import fit_content_knn
from tests.small_arrays import categories_of

NOBODY = np.zeros((2, 9), dtype=int)


@pytest.fixture(autouse=True)
def nothing_kept():
    content_knn._nearest.cache_clear()


def slow_cosines(rows):
    n_items = len(rows)
    cosines = np.zeros((n_items, n_items))
    for i, j in np.ndindex(n_items, n_items):
        if i != j and rows[i] and rows[j]:
            shared = len(set(rows[i]) & set(rows[j]))
            cosines[i, j] = shared / np.sqrt(len(rows[i]) * len(rows[j]))
    return cosines


@pytest.mark.parametrize("cells", [2**24, 30])
@pytest.mark.parametrize("most", [2, 9, 200])
def test_an_item_is_scored_by_those_most_like_it(rng, monkeypatch, weights_of, most, cells):
    monkeypatch.setattr(neighbours, "CELLS_AT_ONCE", cells)  # one block, or several
    rows = [sorted(rng.choice(6, size, replace=False)) for size in (1, 2, 3, 4, 5, 3, 2, 1, 0)]
    cosines = slow_cosines(rows)
    weights = weights_of("content_knn", NOBODY, categories_of(rows), neighbours=most)
    kept = np.sort(cosines, axis=0)[-min(most, 9) :].sum(axis=0)  # ties: any of the equal
    assert weights.sum(axis=0) == pytest.approx(kept, abs=1e-6)
    assert weights[weights > 0] == pytest.approx(cosines[weights > 0], abs=1e-6)


def test_an_item_that_nobody_has_is_found_by_its_content(histories):
    features = categories_of([[0], [0], [1], [1], [0]])  # nobody has the last
    known = histories(np.array([[1, 0, 0, 0, 0], [0, 0, 1, 0, 0]]))
    scores = fit_content_knn(features, neighbours=4)(known, None).score_all(np.arange(2))
    assert scores.tolist() == [[0, 1, 0, 0, 1], [0, 0, 0, 1, 0]]


def test_all_fields_count_by_their_weights(weights_of):
    features = categories_of([[0], [0], [0]])
    authors = categories_of([[0], [0], [1]]).bags["categories"]
    features.bags["authors"] = authors
    weights = weights_of("content_knn", NOBODY[:, :3], features, neighbours=3)
    assert weights == pytest.approx(np.array([[0, 1, 0.5], [1, 0, 0.5], [0.5, 0.5, 0]]), abs=1e-6)


def test_what_weighs_nothing_makes_no_items_alike(weights_of):
    features = categories_of([[0], [0], [1], [1]])
    bags = features.bags["categories"]
    features.bags["categories"] = replace(bags, weights=np.array([0, 0, 2, 3], np.float32))
    expected = np.zeros((4, 4))
    expected[2, 3] = expected[3, 2] = 1
    weights = weights_of("content_knn", NOBODY[:, :4], features, neighbours=3)
    assert weights == pytest.approx(expected)
