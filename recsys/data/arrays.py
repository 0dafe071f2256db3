"""Array types and ragged rows: what every layer passes on.

Legend of shapes, used everywhere: U users, I items, N interactions, B batch, K negatives per
positive, D embedding dimension, F feature width, k list length. An *id* is the raw value from the
file; an *index* is contiguous, 0..n-1, and -1 when unknown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import sparse

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.integer]
BoolArray = npt.NDArray[np.bool_]


def offsets_of(lengths: IntArray) -> IntArray:
    """Where each of several ragged rows begins, and the end; (n + 1,) int64."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


@dataclass(frozen=True, eq=False)
class Bags:
    """Ragged rows of column indices: a CSR matrix, its values implied to be 1 where not given.

    Attributes:
        offsets: where each row begins in ``indices``, and the end; (n + 1,) int64.
        indices: column of each entry; (nnz,) int32.
        n_columns: how many columns there are.
        weights: value of each entry, (nnz,) float32, or None when all are 1.
    """

    offsets: IntArray
    indices: IntArray
    n_columns: int
    weights: FloatArray | None = None

    @classmethod
    def from_pairs(cls, rows: IntArray, columns: IntArray, *, n_rows: int, n_columns: int) -> Bags:
        """Bags that hold the given (row, column) pairs, each row's in their given order."""
        order = np.argsort(rows, kind="stable")
        offsets = offsets_of(np.bincount(rows, minlength=n_rows))
        return cls(offsets, np.asarray(columns)[order].astype(np.int32), n_columns)

    @classmethod
    def from_set(cls, rows: IntArray, columns: IntArray, *, n_rows: int, n_columns: int) -> Bags:
        """Bags that hold each of the given (row, column) pairs once, columns ascending."""
        pairs = rows * max(n_columns, 1) + columns
        pairs.sort()
        is_first = np.append(True, pairs[1:] != pairs[:-1])[: len(pairs)]
        rows, columns = np.divmod(pairs[is_first], max(n_columns, 1))
        offsets = offsets_of(np.bincount(rows, minlength=n_rows))
        return cls(offsets, columns.astype(np.int32), n_columns)

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> IntArray:
        """Entries in each row, (n,)."""
        return np.diff(self.offsets)

    @property
    def owners(self) -> IntArray:
        """The row of each entry, (nnz,) int64."""
        return np.repeat(np.arange(self.n_rows), self.lengths)

    def row(self, index: int) -> IntArray:
        """The columns of one row."""
        return self.indices[self.offsets[index] : self.offsets[index + 1]]

    def take(self, rows: IntArray) -> Bags:
        """The bags of the given rows, in the given order."""
        positions, offsets = self.positions(rows)
        weights = None if self.weights is None else self.weights[positions]
        return Bags(offsets, self.indices[positions], self.n_columns, weights)

    def columns(self, columns: IntArray) -> Bags:
        """The bags with the given columns alone, numbered in the given order."""
        matrix = self.to_scipy()[:, columns]
        weights = None if self.weights is None else matrix.data
        return Bags(matrix.indptr.astype(np.int64), matrix.indices, len(columns), weights)

    def entries(self, rows: IntArray) -> tuple[IntArray, IntArray]:
        """(position in ``rows``, column) of every entry of the given rows, row by row."""
        positions, offsets = self.positions(rows)
        owners = np.repeat(np.arange(len(rows)), np.diff(offsets))
        return owners, self.indices[positions]

    def positions(self, rows: IntArray) -> tuple[IntArray, IntArray]:
        """(place in ``indices`` of every entry of the given rows, offsets of the rows taken)."""
        starts = self.offsets[rows]
        lengths = self.offsets[np.asarray(rows) + 1] - starts
        offsets = offsets_of(lengths)
        positions = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        return positions, offsets

    @cached_property
    def _keys(self) -> IntArray:
        keys = self.owners * self.n_columns + self.indices
        keys.sort()
        return keys

    def contains(self, rows: IntArray, columns: IntArray) -> BoolArray:
        """Whether each (row, column) pair is an entry; ``rows`` and ``columns`` broadcast.

        Columns of -1 (unknown) are in no row.
        """
        rows, columns = np.broadcast_arrays(rows, columns)
        if not len(self._keys):
            return np.zeros(rows.shape, dtype=bool)
        keys = rows.astype(np.int64) * self.n_columns + columns
        found = np.searchsorted(self._keys, keys)
        np.minimum(found, len(self._keys) - 1, out=found)
        held: BoolArray = (self._keys[found] == keys) & (columns >= 0)
        return held

    def to_scipy(self) -> sparse.csr_matrix:
        """The same as a scipy CSR matrix (n, n_columns) of float32."""
        values = self.weights
        if values is None:
            values = np.ones(len(self.indices), dtype=np.float32)
        return sparse.csr_matrix(
            (values, self.indices, self.offsets), shape=(self.n_rows, self.n_columns)
        )


@dataclass(frozen=True, eq=False)
class Interactions:
    """Who has what, by index.

    Attributes:
        users: (N,) int32.
        items: (N,) int32.
        times: seconds since 1970, (N,) int64, or the row number in the file where the row order
            is the order in time; None where the data has no order.
        n_users: how many users there are, those without interactions included.
        n_items: the same for items.
        ratings: (N,) float32, or None where the data has none.
        parts: before a ready-made split is made, which part each is of: 0 train, 1 validation,
            2 test, (N,) int8; else None.
    """

    users: IntArray
    items: IntArray
    times: IntArray | None
    n_users: int
    n_items: int
    ratings: FloatArray | None = None
    parts: IntArray | None = None

    def __len__(self) -> int:
        return len(self.users)

    @cached_property
    def by_user(self) -> Bags:
        """Each user's items, oldest first where there is an order."""
        order = (
            np.arange(len(self)) if self.times is None else np.argsort(self.times, kind="stable")
        )
        return Bags.from_pairs(
            self.users[order], self.items[order], n_rows=self.n_users, n_columns=self.n_items
        )

    @cached_property
    def item_counts(self) -> IntArray:
        """Interactions of each item, (I,)."""
        return np.bincount(self.items, minlength=self.n_items)

    @cached_property
    def user_counts(self) -> IntArray:
        """Interactions of each user, (U,)."""
        return np.bincount(self.users, minlength=self.n_users)

    def select(self, rows: IntArray | BoolArray) -> Interactions:
        """The interactions of the given rows, or those for which ``rows`` is true."""
        if rows.dtype == bool:
            rows = np.flatnonzero(rows)  # found once, which is faster than by each of the arrays
        return replace(
            self,
            users=self.users[rows],
            items=self.items[rows],
            times=None if self.times is None else self.times[rows],
            ratings=None if self.ratings is None else self.ratings[rows],
            parts=None if self.parts is None else self.parts[rows],
        )
