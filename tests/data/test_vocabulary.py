"""Raw ids and indices."""

import numpy as np
import pyarrow as pa
import pytest

from recsys.data import vocabulary
from recsys.data.vocabulary import Vocabulary, near_match

LETTERS = Vocabulary(pa.array(["b", "a", "ü"]))


@pytest.mark.parametrize(
    "asked",
    [
        [" a", "ü\n", "a x", "b"],
        pa.array(["a", "ü", "x", "b "]),
        pa.chunked_array([["a", "ü"], ["x", "b"]]),
    ],
    ids=["list", "array", "chunks"],
)
def test_an_index_is_the_place_of_an_id_and_minus_one_where_unknown(asked):
    """White space around an id makes no other id."""
    found = LETTERS.index_of(asked)
    assert found.tolist() == [1, 2, -1, 0]
    assert found.dtype == np.int64


@pytest.mark.parametrize("known", [LETTERS, Vocabulary(pa.array([], pa.string()))])
@pytest.mark.parametrize("asked", [["a", "ü", "x", "", "a", "b"], [" a", "ü\n", "a x"], []])
def test_few_ids_are_found_where_many_are(known, asked):
    found = known.find(asked)
    assert found.tolist() == known.index_of(asked).tolist()
    assert found.dtype == np.int64


def test_ids_whose_hashes_meet_are_told_apart(monkeypatch):
    monkeypatch.setattr(
        vocabulary, "text_hashes", lambda texts: np.array([len(text) for text in texts])
    )
    ids = [f"book {number} Ö" for number in range(500)]
    assert Vocabulary(pa.array(ids)).find([*ids, "book ÖÖÖÖ"]).tolist() == [*range(500), -1]


@pytest.mark.parametrize(
    "unknown, known, how",
    [
        ("12x", "12X", "in another case"),
        ("12X", "12x", "in another case"),
        ("7", "7.0", "but for '.0' at the end"),
        ("195", "0195", "but for zeros in front"),
        ("0-19", "019", "but for hyphens"),
    ],
)
def test_ids_that_nearly_match_are_told_with_how_they_differ(unknown, known, how):
    said = near_match(pa.array([unknown, "gone"]), pa.array(["a", known]))
    assert said == f", but 1 of these 2 ids are known {how}: '{unknown}' is '{known}'"


def test_where_few_ids_nearly_match_nothing_is_said():
    assert near_match(pa.array(["x", "y", "z"]), pa.array(["X"])) == ""


def test_ids_come_back_by_index():
    assert LETTERS.id_of(np.array([2, 0, 2])) == ["ü", "b", "ü"]
    assert len(LETTERS) == 3


def test_asking_for_nothing_gives_nothing():
    assert LETTERS.index_of([]).shape == (0,)
    assert LETTERS.id_of(np.array([], dtype=np.int64)) == []


@pytest.mark.parametrize("index", [-1, 3])
def test_an_index_outside_is_an_error(index):
    with pytest.raises(IndexError, match=r"indices must be in 0\.\.2"):
        LETTERS.id_of(np.array([index]))
