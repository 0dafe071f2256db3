import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data import id_codes as module
from recsys.data.id_codes import DICTIONARY, encode_ids


def chunked(ids, size, type_=None):
    parts = [ids[start : start + size] for start in range(0, len(ids), size)]
    return pa.chunked_array([pa.array(part, type_) for part in parts], type_)


texts = st.one_of(
    st.integers(0, 40).map(str),
    st.sampled_from(["", " ", "007", "+1", "-1", "-0", "1 ", "1.0", "1e3", "0x1F", "B0042", "٣"]),
)


@given(st.lists(texts, min_size=1, max_size=40), st.integers(1, 40))
def test_every_row_keeps_its_trimmed_text_and_no_text_is_there_twice(ids, size):
    encoded = encode_ids(chunked(ids, size, pa.string()))
    trimmed = [text.strip() for text in ids]
    assert encoded.type == DICTIONARY
    assert encoded.to_pylist() == trimmed
    assert sorted(encoded.chunk(0).dictionary.to_pylist()) == sorted(set(trimmed))


def test_white_space_of_any_kind_around_ids_is_no_part_of_them():
    ids = ["u 1", " u 1", None, "u 1\t", "u 1\u00a0\x1f", "u 2"]
    assert encode_ids(chunked(ids, 2)).to_pylist() == ["u 1", "u 1", None, "u 1", "u 1", "u 2"]


@pytest.mark.parametrize("type_", [pa.string(), pa.large_string()])
def test_whole_numbers_no_larger_than_the_rows_allow_are_counted(type_):
    ids = [str(number) for number in range(1, 1001)]
    assert module._plain_numbers(chunked(ids, 300, type_)) is not None
    assert module._plain_numbers(chunked([*ids, "3000"], 300, type_)) is None


@pytest.mark.parametrize(
    ("numbers", "type_"),
    [
        ([3, 10**6, 0, 3, 2**31 - 1], pa.int64()),
        ([3, 10**6, 0, 3, 2**31 - 1], pa.int32()),
        ([2**64 - 1, 0], pa.uint64()),
        ([-1, 1], pa.int64()),
        ([1, None, 2, 1], pa.int64()),
        (["a", None, "b", "a"], pa.string()),
    ],
)
def test_integers_become_their_decimal_text_and_nulls_stay_nulls(numbers, type_):
    expected = [None if number is None else str(number) for number in numbers]
    assert encode_ids(chunked(numbers, 2, type_)).to_pylist() == expected


def test_chunks_with_dictionaries_of_their_own_come_together():
    chunks = [pa.array(part).dictionary_encode() for part in (["b", "a", "b"], ["c", "a"])]
    encoded = encode_ids(pa.chunked_array(chunks))
    assert encoded.to_pylist() == ["b", "a", "b", "c", "a"]
    assert len(encoded.chunk(0).dictionary) == 3


def test_a_column_without_rows_stays_empty():
    encoded = encode_ids(pa.chunked_array([], pa.string()))
    assert len(encoded) == 0 and encoded.type == DICTIONARY
