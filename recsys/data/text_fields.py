"""The text fields of a books table: which values each item has."""

from __future__ import annotations

from typing import Literal, assert_never, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.arrays import Bags, offsets_of
from recsys.data.columns import AUTHOR, AUTHOR_SEPARATOR, CATEGORIES, CATEGORY_SEPARATOR, TITLE
from recsys.data.value_bags import ValueLists, split_values

TextField = Literal["categories", "authors", "series", "title_words", "title_ngrams"]
TEXT_BAGS: tuple[TextField, ...] = get_args(TextField)
"""Names of the bags that the texts of an item become, in order."""
SOURCE_COLUMNS: dict[TextField, str] = {
    "categories": CATEGORIES,
    "authors": AUTHOR,
    "series": TITLE,
    "title_words": TITLE,
    "title_ngrams": TITLE,
}
"""The column of the books table that each field is taken from."""
LEAST_WORD = 2
"""Characters of a word of the title."""
NGRAM = 3


def field_values(field: TextField, texts: pa.ChunkedArray) -> ValueLists:
    """The values of a field in each item.

    Args:
        field: which one.
        texts: the column it is taken from, (n,) strings, "" where missing.
    """
    match field:
        case "categories":
            return split_values(texts, CATEGORY_SEPARATOR)
        case "authors":
            return split_values(texts, AUTHOR_SEPARATOR)
        case "series":
            return series(texts)
        case "title_words":
            return title_words(texts)
        case "title_ngrams":
            return title_ngrams(texts)
        case _:
            assert_never(field)


def series(titles: pa.ChunkedArray) -> ValueLists:
    """The series that each title names in its last parentheses, before the number of the volume.

    "Catching Fire (The Hunger Games, #2)" is of "The Hunger Games", and "Mort (Discworld, #4;
    Death #1)" of two. Parentheses without a "#" name none.
    """
    found = pc.extract_regex(titles, r"\((?P<inside>[^()]*#[^()]*)\)[^()]*$")
    inside = pc.fill_null(pc.struct_field(found, "inside"), "")
    return split_values(pc.replace_substring_regex(inside, r"[,\s]*#[^;]*", ""), ";")


def title_words(titles: pa.ChunkedArray) -> ValueLists:
    """The words of each title in lower case: runs of letters and digits, two or more."""
    lower = pc.utf8_lower(titles)
    spaced = pc.replace_substring_regex(lower, r"[^\pL\pM\pN]+", " ")
    lists = split_values(spaced, " ")
    is_word = pc.greater_equal(pc.utf8_length(lists.values), LEAST_WORD)
    return lists.only(is_word.to_numpy(zero_copy_only=False))


def title_ngrams(titles: pa.ChunkedArray) -> ValueLists:
    """The trigrams of characters of each title's words, "<" before and ">" behind a word.

    "fire" has "<fi", "fir", "ire" and "re>".
    """
    words = title_words(titles)
    texts = [f"<{word}>" for word in words.values.to_pylist()]
    grams = [[text[at : at + NGRAM] for at in range(len(text) - NGRAM + 1)] for text in texts]
    encoded = pa.array([gram for of in grams for gram in of], pa.string()).dictionary_encode()
    values, codes = encoded.dictionary, encoded.indices.to_numpy()
    of_word = Bags(offsets_of(np.array([*map(len, grams)], np.int64)), codes, len(values))
    owners, columns = of_word.entries(words.bags.indices)
    rows = words.bags.owners[owners]
    bags = Bags.from_set(rows, columns, n_rows=words.bags.n_rows, n_columns=len(values))
    return ValueLists(values, bags)
