"""Lists of liked items become histories in their order."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data.vocabulary import Vocabulary
from recsys.errors import DataError
from recsys.recommender.liked import liked_histories

IDS = ["a", "b", "c", "d"]
CATALOGUE = Vocabulary(pa.array(IDS))


def histories(liked, ratings=None):
    return liked_histories(liked, ratings, CATALOGUE)


def by_hand(ids, ratings):
    """(item, rating) of each book of the catalogue where it stands last, in order."""
    pairs = list(zip(ids, ratings, strict=True))
    return [
        (IDS.index(name), rating)
        for place, (name, rating) in enumerate(pairs)
        if name in IDS and name not in ids[place + 1 :]
    ]


@given(st.lists(st.lists(st.sampled_from([*IDS, "x"]), max_size=7), max_size=4))
def test_the_last_is_the_most_recent_and_counts_where_a_book_is_repeated(liked):
    ratings = [[float(place) for place in range(len(ids))] for ids in liked]
    found = histories(liked, ratings)
    assert len(found) == len(liked)
    bags = found.bags
    for user, (ids, given_ratings) in enumerate(zip(liked, ratings, strict=True)):
        expected = by_hand(ids, given_ratings)
        assert bags.row(user).tolist() == [item for item, _ in expected]
        at = slice(found.offsets[user], found.offsets[user + 1])
        assert (np.diff(found.times[at]) > 0).all()
        if found.ratings is not None:
            assert found.ratings[at].tolist() == [rating for _, rating in expected]


def test_books_and_users_without_a_rating_have_none():
    found = histories([["a", "b"], ["c"], []], [[4, None], None, []])
    np.testing.assert_array_equal(found.ratings, np.array([4, np.nan, np.nan], np.float32))
    assert histories([["a", "b"]], [[None, None]]).ratings is None
    assert histories([["a", "b"]]).ratings is None


def test_ids_are_read_as_texts():
    assert histories([[1]], None).lengths.tolist() == [0]


@pytest.mark.parametrize(
    ("liked", "ratings", "message"),
    [
        (["ab"], None, "must be given as a list of ids, got the text 'ab'"),
        ([["a"], ["b"]], [[1]], "must have a list for each user, got 1 for 2 users"),
        ([["a"], ["b", "c"]], [[1], [2]], "got 1 for 2 items of user 1 of the question"),
        ([["a", "b"]], ["12"], "ratings must be as many as the liked items"),
        ([["a"]], [["5"]], "a rating must be a finite number, got '5'"),
        ([["a"]], [[True]], "a rating must be a finite number, got True"),
        ([["a"]], [[float("inf")]], "a rating must be a finite number, got inf"),
    ],
)
def test_what_is_no_list_of_books_or_ratings_is_refused(liked, ratings, message):
    with pytest.raises(DataError, match=message):
        histories(liked, ratings)
