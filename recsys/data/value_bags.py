"""Multi-valued text fields (categories, authors, words of the title) as weighted bags."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, assert_never

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.config import BagKind
from recsys.data.arrays import Bags, FloatArray, IntArray

CHUNK_ROWS = 1 << 16


@dataclass(frozen=True, eq=False)
class ValueLists:
    """The distinct values of a text field, and which of them each row has.

    Attributes:
        values: distinct values, (m,) strings, in order of first appearance.
        bags: the values of each row, each once; (n,) rows, m columns.
    """

    values: pa.Array
    bags: Bags


def split_values(column: pa.ChunkedArray, separator: str) -> ValueLists:
    """The values of a text field, without the white space around them.

    Empty values count as none, and a value that a row repeats counts once. Rows are worked on a
    chunk at a time, so that the working memory does not grow with their number.
    """
    values = pa.array([], pa.string())
    codes: list[IntArray] = []
    lengths: list[IntArray] = []
    for start in range(0, len(column), CHUNK_ROWS):
        distinct, rows, columns = _split_chunk(column.slice(start, CHUNK_ROWS), separator)
        known = pc.index_in(distinct, value_set=values)
        new = distinct.filter(known.is_null())
        places = pc.fill_null(known, -1).to_numpy(zero_copy_only=False).astype(np.int32)
        places[places < 0] = len(values) + np.arange(len(new))
        values = pa.concat_arrays([values, new])
        codes.append(places[columns])
        lengths.append(np.bincount(rows, minlength=min(CHUNK_ROWS, len(column) - start)))
    offsets = np.zeros(len(column) + 1, dtype=np.int64)
    if codes:
        np.cumsum(np.concatenate(lengths), out=offsets[1:])
    indices = np.concatenate(codes) if codes else np.zeros(0, dtype=np.int32)
    return ValueLists(values, Bags(offsets, indices, len(values)))


def _split_chunk(column: pa.ChunkedArray, separator: str) -> tuple[pa.Array, IntArray, IntArray]:
    """(distinct values, row of each value, its place among the distinct), row by row."""
    lists = pc.split_pattern(column, separator).combine_chunks()
    encoded = lists.flatten().dictionary_encode()
    trimmed = pc.utf8_trim_whitespace(encoded.dictionary).dictionary_encode()
    codes = trimmed.indices.to_numpy()[encoded.indices.to_numpy()]
    distinct = trimmed.dictionary
    rows = np.repeat(np.arange(len(lists)), np.diff(lists.offsets.to_numpy()))
    is_value = pc.greater(pc.utf8_length(distinct), 0).to_numpy(zero_copy_only=False)
    places = np.cumsum(is_value) - 1
    kept = is_value[codes]
    pairs = _sorted_once(rows[kept] * max(len(distinct), 1) + places[codes[kept]])
    rows, columns = np.divmod(pairs, max(len(distinct), 1))
    return distinct.filter(pa.array(is_value)), rows, columns


def _sorted_once(numbers: IntArray) -> IntArray:
    """The distinct numbers, ascending; sorts in place, which is faster than ``np.unique``."""
    numbers.sort()
    first = np.ones(len(numbers), dtype=bool)
    np.not_equal(numbers[1:], numbers[:-1], out=first[1:])
    return numbers if first.all() else numbers[first]


@dataclass(frozen=True)
class BagColumns:
    """Which column each value of a text field falls in, and what it weighs there.

    Attributes:
        kind: top_k or hashed.
        labels: what each column stands for, (size,): the value itself, or "bucket 7".
        counts: train books that have each column, (size,).
        n_books: number of train books.
        min_count: columns that fewer train books have are in no bag.
        idf: whether an entry weighs log(n_books / count), each row scaled to length 1.
    """

    kind: BagKind
    labels: tuple[str, ...]
    counts: tuple[int, ...]
    n_books: int
    min_count: int = 1
    idf: bool = False

    @classmethod
    def fit(
        cls, train: ValueLists, kind: BagKind, size: int, *, min_count: int = 1, idf: bool = False
    ) -> BagColumns:
        """Columns chosen from the values of the train books.

        top_k takes the values that most train books have, ties by name, and fewer than ``size``
        where not as many are had by ``min_count`` books; hashed always has ``size`` columns.
        """
        n_books = train.bags.n_rows
        match kind:
            case "top_k":
                labels, counts = _most_frequent(train, size, min_count)
                return cls("top_k", labels, counts, n_books, min_count, idf)
            case "hashed":
                labels = tuple(f"bucket {number}" for number in range(size))
                seen = cls("hashed", labels, (1,) * size, n_books).bags(train).indices
                counts = tuple(np.bincount(seen, minlength=size).tolist())
                return cls("hashed", labels, counts, n_books, min_count, idf)
            case _:
                assert_never(kind)

    @property
    def size(self) -> int:
        """Number of columns."""
        return len(self.labels)

    def bags(self, lists: ValueLists) -> Bags:
        """The columns of each row, each once, ascending; values without a column are left out."""
        columns = self._columns(lists.values)
        columns[np.isin(columns, np.flatnonzero(np.array(self.counts) < self.min_count))] = -1
        owners = np.repeat(np.arange(lists.bags.n_rows), lists.bags.lengths)
        chosen = columns[lists.bags.indices]
        kept = chosen >= 0
        pairs = owners[kept] * max(self.size, 1) + chosen[kept]
        rows, indices = np.divmod(_sorted_once(pairs), max(self.size, 1))
        offsets = np.zeros(lists.bags.n_rows + 1, dtype=np.int64)
        np.cumsum(np.bincount(rows, minlength=lists.bags.n_rows), out=offsets[1:])
        weights = self._weights(rows, indices, lists.bags.n_rows) if self.idf else None
        return Bags(offsets, indices.astype(np.int32), self.size, weights)

    def _weights(self, rows: IntArray, columns: IntArray, n_rows: int) -> FloatArray:
        """The weight of each entry; 0 where every train book has all that a row has."""
        rarity = np.log(max(self.n_books, 1) / np.maximum(np.array(self.counts, dtype=np.int64), 1))
        weights = rarity[columns]
        lengths = np.sqrt(np.bincount(rows, weights**2, minlength=n_rows))
        lengths[lengths == 0] = 1
        scaled: FloatArray = (weights / lengths[rows]).astype(np.float32)
        return scaled

    def _columns(self, values: pa.Array) -> IntArray:
        """Column of each value, (m,) int64; -1 where it has none."""
        match self.kind:
            case "top_k":
                labels = pa.array(self.labels, pa.string())
                found = pc.fill_null(pc.index_in(values, value_set=labels), -1)
                columns: IntArray = found.to_numpy(zero_copy_only=False).astype(np.int64)
                return columns
            case "hashed":
                # CRC-32 is the same in every process and on every machine; hash() is not
                hashes = (zlib.crc32(value.encode()) for value in values.to_pylist())
                return np.fromiter(hashes, np.int64, len(values)) % self.size
            case _:
                assert_never(self.kind)

    def to_json(self) -> dict[str, Any]:
        """A form that JSON can hold."""
        labels = list(self.labels) if self.kind == "top_k" else None
        return {
            "kind": self.kind,
            "labels": labels,
            "counts": list(self.counts),
            "n_books": self.n_books,
            "min_count": self.min_count,
            "idf": self.idf,
        }

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> BagColumns:
        """The columns that :meth:`to_json` wrote."""
        counts, labels = saved["counts"], saved["labels"]
        if labels is None:
            labels = [f"bucket {number}" for number in range(len(counts))]
        return cls(
            saved["kind"],
            tuple(labels),
            tuple(counts),
            saved["n_books"],
            saved["min_count"],
            saved["idf"],
        )


def _most_frequent(
    lists: ValueLists, size: int, min_count: int
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The values that most rows have, and how many have each."""
    counts = np.bincount(lists.bags.indices, minlength=len(lists.values))
    present = np.flatnonzero(counts >= min_count)
    enough = np.sort(counts[present])[-size:][:1] if size else np.zeros(0, dtype=np.int64)
    if not len(enough):
        return (), ()
    candidates = present[counts[present] >= enough[0]]  # the ties at the end included
    names = lists.values.take(pa.array(candidates)).to_pylist()
    ranked = sorted(zip((-counts[candidates]).tolist(), names, strict=True))[:size]
    return tuple(name for _, name in ranked), tuple(-count for count, _ in ranked)
