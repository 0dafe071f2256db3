"""Raw ids as codes: the distinct ids of a column, and which of them each row holds.

White space around an id is no part of it, here as wherever ids are looked up.
Ids that are whole numbers, not much larger than there are rows, are numbered by counting, several
times as fast as a hash table of their texts.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.arrays import IntArray

DICTIONARY = pa.dictionary(pa.int32(), pa.string())
_NUMBERS_A_ROW = 2  # tables of counts are no larger than this times the rows


def encode_ids(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of ids with one dictionary, of strings; one chunk of int32 codes.

    The order of the dictionary is not defined.

    Args:
        ids: strings, large strings, integers, or a dictionary of these; (n,) with or without nulls.
    """
    if not len(ids):
        return pa.chunked_array([pa.array([], DICTIONARY)])
    numbers = _plain_numbers(ids)
    codes, distinct = _hashed(ids) if numbers is None else _counted(numbers)
    encoded = pa.DictionaryArray.from_arrays(codes, distinct.cast(pa.string()))
    return pa.chunked_array([encoded], DICTIONARY)


def _hashed(ids: pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
    """(code of each row, distinct ids)."""
    encoded = pa.types.is_dictionary(ids.type)
    ids = ids.unify_dictionaries() if encoded else ids.dictionary_encode()
    indices = pa.chunked_array([chunk.indices for chunk in ids.chunks])
    codes, distinct = indices.combine_chunks().cast(pa.int32()), ids.chunk(0).dictionary
    if not pa.types.is_integer(distinct.type):
        trimmed = pc.utf8_trim_whitespace(distinct)
        if not trimmed.equals(distinct):
            merged = trimmed.dictionary_encode()
            return merged.indices.take(codes), merged.dictionary
    return codes, distinct


def _counted(numbers: IntArray) -> tuple[pa.Array, pa.Array]:
    """(code of each row, distinct ids)."""
    counts = np.bincount(numbers)
    distinct = np.flatnonzero(counts)
    codes = np.zeros(len(counts), dtype=np.int32)
    codes[distinct] = np.arange(len(distinct), dtype=np.int32)
    return pa.array(codes[numbers]), pa.array(distinct)


def _plain_numbers(ids: pa.ChunkedArray) -> IntArray | None:
    """The ids as numbers from 0, (n,) int32; None unless each is written as its number is."""
    textual = pa.types.is_string(ids.type) or pa.types.is_large_string(ids.type)
    if ids.null_count or not (textual or pa.types.is_integer(ids.type)):
        return None
    numbers, start = np.empty(len(ids), dtype=np.int32), 0
    limit = min(_NUMBERS_A_ROW * len(ids), 2**31)
    for chunk in ids.chunks:
        try:
            part = chunk.cast(pa.int64()).to_numpy()
        except pa.ArrowInvalid:
            return None
        if len(part) and (part.min() < 0 or part.max() >= limit):
            return None
        numbers[start : start + len(part)] = part
        start += len(part)
    if textual:
        # "007" is not "7". No number of this size has a shorter text, so one sum tells of all.
        powers = range(1, len(str(numbers.max())))
        n_digits = len(numbers) + sum(int(np.count_nonzero(numbers >= 10**p)) for p in powers)
        if pc.sum(pc.binary_length(ids)).as_py() != n_digits:
            return None
    return numbers
