"""Multi-valued text fields (categories, authors, words of the title) as weighted bags."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, assert_never

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ConfigDict, Field

from recsys.config import BagKind
from recsys.data.arrays import Bags, BoolArray, FloatArray, IntArray, offsets_of
from recsys.data.vocabulary import text_hashes

CHUNK_ROWS = 1 << 16
Number = Annotated[int, Field(ge=0, le=2**53)]
"""A whole number that is the same as a float."""


@dataclass(frozen=True, eq=False)
class ValueLists:
    """The distinct values of a text field, and which of them each row has.

    Attributes:
        values: distinct values, (m,) strings, in order of first appearance.
        bags: the values of each row, each once; (n,) rows, m columns.
    """

    values: pa.Array
    bags: Bags

    def head(self, n_rows: int) -> ValueLists:
        """The first rows; values that none of them has stay."""
        offsets = self.bags.offsets[: n_rows + 1]
        indices = self.bags.indices[: offsets[-1]]
        return ValueLists(self.values, Bags(offsets, indices, self.bags.n_columns))

    def only(self, keep: BoolArray) -> ValueLists:
        """Without the values for which ``keep`` (m,) is false."""
        entries = keep[self.bags.indices]
        offsets = np.append(0, np.cumsum(entries))[self.bags.offsets]
        places = (np.cumsum(keep) - 1).astype(np.int32)
        indices = places[self.bags.indices[entries]]
        bags = Bags(offsets, indices, int(np.count_nonzero(keep)))
        return ValueLists(self.values.filter(pa.array(keep)), bags)


def split_values(column: pa.ChunkedArray, separator: str) -> ValueLists:
    """The values of a text field, without the white space around them.

    Empty values count as none, and a value that a row repeats counts once. Rows are worked on a
    chunk at a time, so that the working memory does not grow with their number.
    """
    parts, lengths = [], []
    for start in range(0, max(len(column), 1), CHUNK_ROWS):
        lists = pc.split_pattern(column.slice(start, CHUNK_ROWS), separator).combine_chunks()
        encoded = lists.flatten().dictionary_encode()
        trimmed = pc.utf8_trim_whitespace(encoded.dictionary).dictionary_encode()
        codes = trimmed.indices.to_numpy()[encoded.indices.to_numpy()]
        is_value = pc.not_equal(trimmed.dictionary, "").to_numpy(zero_copy_only=False)[codes]
        rows = np.repeat(np.arange(len(lists)), np.diff(lists.offsets.to_numpy()))[is_value]
        sizes = {"n_rows": len(lists), "n_columns": len(trimmed.dictionary)}
        bags = Bags.from_set(rows, codes[is_value], **sizes)
        parts.append(pa.DictionaryArray.from_arrays(bags.indices, trimmed.dictionary))
        lengths.append(bags.lengths)
    values = pa.chunked_array(parts).unify_dictionaries()
    distinct = values.chunk(0).dictionary
    indices = np.concatenate([chunk.indices.to_numpy() for chunk in values.chunks])
    lists = ValueLists(distinct, Bags(offsets_of(np.concatenate(lengths)), indices, len(distinct)))
    return lists.only(pc.not_equal(distinct, "").to_numpy(zero_copy_only=False))


@dataclass(frozen=True)
class BagColumns:
    """Which column each value of a text field falls in, and what it weighs there.

    Attributes:
        kind: top_k or hashed.
        labels: the value that each column stands for, (size,); None where they are hashed.
        counts: train items that have each column, (size,).
        n_books: number of train items.
        min_count: columns that fewer train items have are in no bag.
        idf: whether an entry weighs log(n_books / count), each row scaled to length 1.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: BagKind
    labels: tuple[str, ...] | None
    counts: tuple[Number, ...]
    n_books: Number
    min_count: Number = 1
    idf: bool = False

    def __post_init__(self) -> None:
        """Check that parts which were read go together."""
        is_labelled = self.labels is not None and len(self.labels) == len(self.counts)
        if self.kind == "top_k" and not (is_labelled and all(self.counts)):
            raise ValueError("each column must have a label and be had by a train item")
        if self.kind == "hashed" and self.labels is not None:
            raise ValueError("columns of hashed values have no labels")

    @classmethod
    def fit(
        cls, train: ValueLists, kind: BagKind, size: int, *, min_count: int = 1, idf: bool = False
    ) -> BagColumns:
        """Columns chosen from the values of the train items.

        top_k takes the values that most train items have, ties by name, and fewer than ``size``
        where not as many are had by ``min_count`` items; hashed always has ``size`` columns.
        """
        n_books, labels = train.bags.n_rows, None
        match kind:
            case "top_k":
                labels, counts = _most_frequent(train, size, min_count)
            case "hashed":
                seen = cls("hashed", None, (1,) * size, n_books).bags(train).indices
                counts = tuple(np.bincount(seen, minlength=size).tolist())
            case _:
                assert_never(kind)
        return cls(kind, labels, counts, n_books, min_count, idf)

    @property
    def size(self) -> int:
        """Number of columns."""
        return len(self.counts)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What each column stands for, (size,): the value itself, or "bucket 7"."""
        return self.labels or tuple(f"bucket {number}" for number in range(self.size))

    def bags(self, lists: ValueLists) -> Bags:
        """The columns of each row, each once, ascending; values without a column are left out."""
        columns = self._columns(lists.values)
        columns[np.isin(columns, np.flatnonzero(np.array(self.counts) < self.min_count))] = -1
        chosen = columns[lists.bags.indices]
        kept = chosen >= 0
        sizes = {"n_rows": lists.bags.n_rows, "n_columns": self.size}
        bags = Bags.from_set(lists.bags.owners[kept], chosen[kept], **sizes)
        if not self.idf:
            return bags
        return Bags(bags.offsets, bags.indices, self.size, self._weights(bags))

    def _weights(self, bags: Bags) -> FloatArray:
        """The weight of each entry; 0 where every train item has all that a row has."""
        rarity = np.log(max(self.n_books, 1) / np.maximum(np.array(self.counts, dtype=np.int64), 1))
        weights, rows = rarity[bags.indices], bags.owners
        lengths = np.sqrt(np.bincount(rows, weights**2, minlength=bags.n_rows))
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
                return text_hashes(values.to_pylist()).astype(np.int64) % self.size
            case _:
                assert_never(self.kind)


def _most_frequent(
    lists: ValueLists, size: int, min_count: int
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The values that most rows have, and how many have each."""
    counts = np.bincount(lists.bags.indices, minlength=len(lists.values))
    values = pa.table({"name": lists.values, "count": counts})
    values = values.filter(pc.field("count") >= min_count)
    keys = [("count", "descending"), ("name", "ascending")]
    best = values.sort_by(keys).slice(0, size)
    return tuple(best["name"].to_pylist()), tuple(best["count"].to_pylist())
