"""Multi-valued text fields."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data import value_bags
from recsys.data.value_bags import BagColumns, split_values


def split(texts, separator="|"):
    return split_values(pa.chunked_array([pa.array(texts, pa.string())]), separator)


def labels_of(lists, bags, columns):
    return [[columns.labels[c] for c in bags.row(row)] for row in range(bags.n_rows)]


def values_of(lists):
    names = lists.values.to_pylist()
    return [{names[code] for code in lists.bags.row(row)} for row in range(lists.bags.n_rows)]


@given(st.lists(st.text(alphabet="ab| ü", max_size=8)), st.integers(1, 4))
def test_values_are_parted_stripped_and_counted_once(texts, chunk):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(value_bags, "CHUNK_ROWS", chunk)
        lists = split(texts)
    expected = [{part.strip() for part in text.split("|")} - {""} for text in texts]
    assert values_of(lists) == expected
    assert lists.bags.lengths.tolist() == [len(values) for values in expected]


def test_the_most_frequent_values_get_columns_and_ties_go_by_name():
    lists = split(["c|a|b", "c|b|a", "c|d", "a|a|a"])  # c and a: 3 books, b: 2, d: 1
    columns = BagColumns.fit(lists, "top_k", 3)
    assert columns.labels == ("a", "c", "b")
    assert labels_of(lists, columns.bags(lists), columns) == [
        ["a", "c", "b"],
        ["a", "c", "b"],
        ["c"],
        ["a"],
    ]


def test_ties_at_the_last_place_go_by_name():
    columns = BagColumns.fit(split(["z", "y", "x", "w|z"]), "top_k", 2)
    assert columns.labels == ("z", "w")


def test_fewer_values_than_columns_make_fewer_columns():
    assert BagColumns.fit(split(["a", "b"]), "top_k", 300).size == 2


@pytest.mark.parametrize("texts", [[], ["", "|"]])
def test_a_field_without_values_has_no_columns(texts):
    lists = split(texts)
    columns = BagColumns.fit(lists, "top_k", 5)
    assert columns.size == 0
    assert columns.bags(lists).n_rows == len(texts)


def test_values_unseen_in_training_have_no_column():
    columns = BagColumns.fit(split(["a"]), "top_k", 5)
    assert columns.bags(split(["new", "new|a"])).lengths.tolist() == [0, 1]


def test_hashed_values_all_have_a_bucket_and_a_collision_counts_once():
    lists = split(["a|b|c|d|e", "x"])
    bags = BagColumns.fit(lists, "hashed", 2).bags(lists)
    assert bags.row(0).tolist() in ([0, 1], [0], [1])
    assert bags.lengths[1] == 1


def test_buckets_are_the_same_in_every_process():
    """That of CRC-32, which must not move when a library is updated."""
    lists = split(["romance"])
    assert BagColumns.fit(lists, "hashed", 1000).bags(lists).indices[0] == 576


def test_buckets_that_too_few_train_rows_have_are_in_no_bag():
    """Two values in a thousand buckets do not collide here, as the first line says."""
    columns = BagColumns.fit(split(["a|b", "a"]), "hashed", 1000)
    assert sorted(count for count in columns.counts if count) == [1, 2]
    columns = BagColumns.fit(split(["a|b", "a"]), "hashed", 1000, min_count=2)
    assert columns.bags(split(["a", "b", "a|b", "new"])).lengths.tolist() == [1, 0, 1, 0]
