"""The values that texts of a book have."""

import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data.text_fields import field_values, series, title_ngrams, title_words

TITLES = st.lists(st.text(alphabet="aBÉ12 -_'(#,;)\u0301ß", max_size=14), max_size=6)


def values_of(lists):
    names = lists.values.to_pylist()
    assert len(set(names)) == len(names)
    rows = [[names[code] for code in lists.bags.row(row)] for row in range(lists.bags.n_rows)]
    assert all(len(set(row)) == len(row) for row in rows)
    return [set(row) for row in rows]


def texts_of(titles):
    return pa.chunked_array([pa.array(titles, pa.string())])


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("The Hunger Games (The Hunger Games, #1)", {"The Hunger Games"}),
        ("Mort (Discworld, #4; Death, #1)", {"Discworld", "Death"}),
        ("Dune Messiah (Dune Chronicles #2)", {"Dune Chronicles"}),
        ("The Lord of the Rings (The Lord of the Rings, #1-3)", {"The Lord of the Rings"}),
        ("It (Abridged) (Derry, #1) [audio]", {"Derry"}),
        ("It (Derry, #1) (Abridged)", set()),
        ("The C# Player's Guide", set()),
        ("Emma (Penguin Classics)", set()),
        ("(#1)", set()),
        ("", set()),
    ],
)
def test_the_series_is_named_in_the_last_parentheses(title, expected):
    assert values_of(series(texts_of([title]))) == [expected]


def slow_words(title: str) -> set[str]:
    words, word = [], ""
    for character in title.lower() + " ":
        if unicodedata.category(character)[0] in "LMN":
            word += character
        else:
            words.append(word)
            word = ""
    return {word for word in words if len(word) >= 2}


def slow_ngrams(title: str) -> set[str]:
    marked = [f"<{word}>" for word in slow_words(title)]
    return {m[start : start + 3] for m in marked for start in range(len(m) - 2)}


@given(TITLES)
def test_words_are_runs_of_letters_and_digits_in_lower_case(titles):
    assert values_of(title_words(texts_of(titles))) == [slow_words(title) for title in titles]


@given(TITLES)
def test_ngrams_are_the_trigrams_of_words_with_their_ends_marked(titles):
    assert values_of(title_ngrams(texts_of(titles))) == [slow_ngrams(title) for title in titles]


def test_authors_and_categories_have_their_own_separators():
    texts = texts_of(["a, b|c"])
    assert values_of(field_values("authors", texts)) == [{"a", "b|c"}]
    assert values_of(field_values("categories", texts)) == [{"a, b", "c"}]
