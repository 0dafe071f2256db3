"""From ids to indices."""

import numpy as np
import pyarrow as pa
import pytest

from recsys.recommender import books as books_module
from recsys.recommender.books import Lookup


@pytest.fixture
def ids():
    return [f"book {number} Ö" for number in range(500)]


def test_each_id_is_found_at_its_place_and_others_nowhere(ids):
    lookup = Lookup(pa.array(ids))
    asked = ["stranger", *reversed(ids), ids[3], "", "book 1"]
    expected = [-1, *reversed(range(500)), 3, -1, -1]
    assert lookup.index_of(asked).tolist() == expected


def test_white_space_around_an_id_makes_no_other_id(ids):
    assert Lookup(pa.array(ids)).index_of([" book 3 Ö\n", "book  3 Ö"]).tolist() == [3, -1]


def test_ids_whose_hashes_meet_are_told_apart(ids, monkeypatch):
    monkeypatch.setattr(
        books_module, "_hashes", lambda given: np.array([len(i) for i in given], np.uint64)
    )
    lookup = Lookup(pa.array(ids))
    assert lookup.index_of([*ids, "book ÖÖÖÖ"]).tolist() == [*range(500), -1]


def test_nothing_is_found_among_nothing():
    assert Lookup(pa.array([], pa.string())).index_of(["a"]).tolist() == [-1]
    assert Lookup(pa.array(["a"])).index_of([]).tolist() == []
