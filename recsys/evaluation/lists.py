"""Ranked lists, what must not be in them, and their order: by score, ties by a fixed order.

Order is total. A score and the item's place in a fixed pseudo-random order of the catalogue are
packed into one integer, so that equal scores are told apart by that place. Breaking ties by index
instead would follow the order of the file, which is often an order of popularity, and would let a
model that scores everything alike look well informed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import torch
from torch import Tensor

from recsys.data.arrays import BoolArray, FloatArray, IntArray
from recsys.workers import Map

_TIE_SEED = 20130401
_LOW = 0xFFFFFFFF
BLOCKS_AHEAD = 256
"""A pool keeps some KB for each block that waits: of millions of rows not all wait at once."""
NO_ITEM = -(2**63)
"""The packed key where there is no item."""


@dataclass(frozen=True, eq=False)
class Lists:
    """Ranked items.

    Attributes:
        items: (n, k) int32, best first; -1 where fewer than k items are allowed.
        scores: (n, k) float32; minus infinity where there is no item.
    """

    items: IntArray
    scores: FloatArray

    @classmethod
    def empty(cls, n: int, k: int) -> Self:
        """Lists without items, to be filled."""
        return cls(np.full((n, k), -1, np.int32), np.full((n, k), -np.inf, np.float32))

    def put(self, rows: IntArray | int | slice, lists: Lists) -> None:
        """Take over lists, in the given rows."""
        self.items[rows], self.scores[rows] = lists.items, lists.scores


@dataclass(frozen=True, eq=False)
class Hidden:
    """What must not appear in some lists.

    Attributes:
        rows: the list of each hidden item, (m,).
        items: the hidden items, in any order, (m,).
        allowed: ranges of lists in which only some items may appear, and which, (I,).
    """

    rows: IntArray
    items: IntArray
    allowed: Sequence[tuple[slice, BoolArray]] = ()

    @classmethod
    def of(
        cls,
        pairs: Sequence[tuple[IntArray, IntArray]],
        allowed: Sequence[tuple[slice, BoolArray]] = (),
    ) -> Self:
        """The same, of several times (rows, items)."""
        nothing = np.zeros(0, dtype=np.int64)
        rows = np.concatenate([nothing, *(part[0] for part in pairs)])
        items = np.concatenate([nothing, *(part[1] for part in pairs)])
        return cls(rows, items, allowed)

    def hide(self, scores: Tensor, first: int = 0) -> None:
        """Put minus infinity in place of scores (n, size) of items from ``first`` on."""
        size = scores.shape[1]
        rows, items = self._among(first, size)
        if len(rows):
            scores[torch.from_numpy(rows), torch.from_numpy(items)] = -torch.inf
        for rows_of, allowed in self.allowed:
            others = torch.from_numpy(~allowed[first : first + size])
            scores[rows_of].masked_fill_(others, -torch.inf)

    def _among(self, first: int, size: int) -> tuple[IntArray, IntArray]:
        """Lists and places of what is hidden among so many items from ``first`` on."""
        if first == 0 and self.items.max(initial=-1) < size:
            return self.rows, self.items  # as they came, list by list, is near in memory
        rows, items = self._by_item
        part = slice(*np.searchsorted(items, [first, first + size]))
        return rows[part], items[part] - first

    @cached_property
    def _by_item(self) -> tuple[IntArray, IntArray]:
        order = np.argsort(self.items, kind="stable")
        return self.rows[order], self.items[order]

    @cached_property
    def _pairs(self) -> IntArray:
        return np.sort((self.rows << 32) + self.items)

    def holds(self, rows: IntArray, items: IntArray) -> BoolArray:
        """Whether each (row, item) must not appear, (m,)."""
        pairs = (rows << 32) + items
        places = np.searchsorted(self._pairs, pairs)
        hidden: BoolArray = np.append(self._pairs, -1)[places] == pairs
        for rows_of, allowed in self.allowed:
            among = (rows >= rows_of.start) & (rows < rows_of.stop)
            hidden |= among & ~allowed[items]
        return hidden


def lists_of(
    n: int,
    k: int,
    order: IntArray,
    keys_of: Callable[[slice], IntArray],
    at_once: int,
    run: Map = map,
) -> Lists:
    """Lists of ``n`` rows, made in blocks.

    Args:
        n: how many lists.
        k: length of each.
        order: as :func:`tie_order`.
        keys_of: packed keys of the best of a range of rows, (rows, at most k), in any order.
        at_once: rows of a range.
        run: works through the blocks, as ``map`` does; that of a pool does so side by side.
    """
    lists = Lists.empty(n, k)
    if not len(order):
        return lists

    def fill(start: int) -> None:
        part = slice(start, start + at_once)
        keys = np.sort(keys_of(part), axis=1)[:, ::-1]
        scores = _scores_of(keys)
        found = scores > -np.inf  # what is hidden has minus infinity, no item the bits of a NaN
        places = np.where(found, _LOW - (keys & _LOW), 0)
        lists.items[part, : keys.shape[1]] = np.where(found, order[places], -1)
        lists.scores[part, : keys.shape[1]] = np.where(found, scores, -np.inf)

    starts = range(0, n, at_once)
    for first in range(0, len(starts), BLOCKS_AHEAD):
        for _ in run(fill, starts[first : first + BLOCKS_AHEAD]):
            pass  # raises what a worker raised
    return lists


def tie_order(n_items: int) -> IntArray:
    """The catalogue in the fixed order in which ties are broken, earliest wins; (I,) int64.

    It depends on the number of items alone. The legacy generator is used because its stream is
    the same in every version of numpy.
    """
    order: IntArray = np.random.RandomState(_TIE_SEED).permutation(n_items)
    return order


def places_in(order: IntArray) -> IntArray:
    """Place of each item in an order, (I,) int32."""
    places = np.empty(len(order), dtype=np.int32)
    places[order] = np.arange(len(order))
    return places


def largest(keys: IntArray, k: int) -> IntArray:
    """The largest ``k`` of each row, in any order; all where there are fewer."""
    rest = keys.shape[1] - k
    return keys if rest <= 0 else np.partition(keys, rest, axis=1)[:, rest:]


def pack(scores: FloatArray, places: IntArray) -> IntArray:
    """Integers that sort as (score rising, place falling): the larger is the better; int64.

    Args:
        scores: float32, not NaN.
        places: from 0, below 2**32, of a shape that broadcasts with ``scores``.
    """
    bits = (scores + np.float32(0)).view(np.int32)  # + 0 makes -0.0 equal 0.0
    # The bits of floats sort as integers once those below zero are turned round.
    ordered = bits >> 31
    ordered &= 0x7FFFFFFF
    ordered ^= bits
    keys = ordered.astype(np.int64)
    keys <<= 32
    keys += _LOW - places.astype(np.int64)
    return keys


def _scores_of(keys: IntArray) -> FloatArray:
    """The scores in packed keys."""
    ordered = (keys >> 32).astype(np.int32)
    scores: FloatArray = (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).view(np.float32)
    return scores
