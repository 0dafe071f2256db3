"""Cells of authors and categories that hold a list."""

import logging

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.config import DataConfig
from recsys.data.features import featurize_items
from recsys.data.list_cells import lists_as_text
from recsys.data.tables import read_books


def books_of(tmp_path, categories, authors=None):
    """The books table of a CSV or, for lists, a Parquet file with these cells."""
    columns = {
        "item_id": [f"b{number}" for number in range(len(categories))],
        "title": ["T"] * len(categories),
        "author": authors or [""] * len(categories),
        "categories": categories,
    }
    path = tmp_path / "books.parquet"
    pq.write_table(pa.table(columns), path)
    return read_books(path, DataConfig(books_path=path))


@pytest.mark.parametrize(
    "cell, expected",
    [
        ("['Fantasy', 'Crime']", "Fantasy|Crime"),
        ('["Fantasy", "Crime"]', "Fantasy|Crime"),
        (' [ "Caf\\u00e9" , null ] ', "Café"),
        ("""['Artists\\' Lives', "Men's"]""", "Artists' Lives|Men's"),
        ("['a|b', 'c']", "a/b|c"),
        ("[]", ""),
        ("Fantasy|Crime", "Fantasy|Crime"),
        ("[Fantasy, Crime]", "[Fantasy, Crime]"),
        ("['Fantasy' 'Crime']", "['Fantasy' 'Crime']"),
        ("[1, 2]", "[1, 2]"),
        ("[{[]: 1}]", "[{[]: 1}]"),
        (r"['Sci\Fi']", r"Sci\Fi"),
        ("[" * 10_000, "[" * 10_000),
    ],
)
def test_a_list_as_text_is_read_as_a_list_and_all_else_as_it_stands(cell, expected):
    cells = pa.chunked_array([["x"], [cell]])
    assert lists_as_text(cells, "|").to_pylist() == ["x", expected]
    cells = pa.chunked_array([["['King, Stephen', 'Peter Straub']"]])
    assert lists_as_text(cells, ",").to_pylist() == ["King Stephen,Peter Straub"]


@pytest.mark.parametrize("of", [pa.list_, pa.large_list])
def test_parquet_lists_of_strings_are_lists_and_so_are_lists_as_text(tmp_path, of):
    lists = pa.array([["Fantasy", "Crime"], None, [], ["a|b", None]], of(pa.string()))
    books = books_of(tmp_path, lists, ["['Ann', 'Bo']"] * 4)
    assert books["categories"].to_pylist() == ["Fantasy|Crime", "", "", "a/b"]
    assert books["author"].to_pylist() == ["Ann,Bo"] * 4


def test_a_new_item_may_give_its_categories_as_a_list():
    config = DataConfig().feature_params.model_copy(update={"min_count": 1})
    train = pa.table({"categories": ["Fantasy|Crime", "Fantasy", "Crime"]})
    featurizer, _ = featurize_items(train, 3, config)
    listed, plain = (
        featurizer.transform(pa.table({"categories": [cell]})).bags["categories"]
        for cell in ("['Crime', 'Fantasy']", "Crime|Fantasy")
    )
    assert listed.indices.tolist() == plain.indices.tolist() == [0, 1]


@pytest.mark.parametrize(
    "cells", [["{Fantasy,Crime}"] * 3 + ["Tea"], ["Fantasy; Crime"] * 3 + ["Tea"]]
)
def test_another_notation_is_warned_about_with_its_most_frequent_cells(tmp_path, caplog, cells):
    with caplog.at_level(logging.WARNING):
        books = books_of(tmp_path, cells)
    assert books["categories"].to_pylist() == cells
    assert "3 of 4 cells of column 'categories' look like several values" in caplog.text
    assert f"most often '{cells[0]}' (3)" in caplog.text


def test_commas_within_a_few_categories_are_no_other_notation(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        books_of(tmp_path, ["Arts, Music|Jazz", "Arts, Music", "Tea|Rum"], ["Ann, Bo"] * 3)
    assert not caplog.text
