"""The best items for some vectors, exactly: one pass over the catalogue, then a second look.

The pass multiplies the vectors with a block of items at a time, in bfloat16 where that pays, and
keeps the largest score of each group of 16 items. How far off such a score can be is bounded: for a
vector ``u`` and an item ``v``, rounded to ``u' = u - du`` and ``v' = v - dv``, Cauchy and Schwarz
give ``|uv - u'v'| = |du v + u' dv| <= |du| |v| + |u'| |dv|``, to which comes what sums of float32
lose. That, with the longest ``v`` and ``dv``, is the ``margin`` of ``u``. Let ``t`` be the k-th
largest of the kept scores. At least k items score ``t - margin`` or more in truth, and each item
that does was found to score ``t - 2 margin`` or more. Only those are scored exactly, each by
itself, so that a score is the same whatever else is asked at the same time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import torch
from torch import Tensor

from recsys.data.arrays import BoolArray, FloatArray, IntArray
from recsys.evaluation.lists import NO_ITEM, Hidden, largest, pack, places_in, tie_order
from recsys.evaluation.scorers import Combine, Vectors, as_tensor, combine_products

GROUP = 16
ITEMS_PER_BLOCK = 1 << 16
"""Smaller blocks pay more for each product; scores of larger ones leave the cache."""
GROUPS_PER_PLACE = 4
"""Where more groups of items than this times k may hold the best, a user is looked at alone."""
PAIRS_AT_ONCE = 1 << 14
_HALF_STEP = 2.0**-8  # at most so much of a score is lost by rounding it to bfloat16
_SUMS = 2.0**-21  # eight times what a product and a sum of float32 lose, a term
_SAFETY = 1.02  # for the rounding of lengths, and products of rounded vectors may be larger
_TINY = 2.0**-126  # smaller numbers may be taken for 0
_HUGE = 1e37  # nothing overflows below it
_ROWS_AT_ONCE = 1 << 12


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The vectors of all items, to be searched.

    Where what asks has K vectors, or an item has M, all K M products are combined to one score.
    In a block of items, ``n`` groups of 16, group ``g`` has the items ``g``, ``n + g``, ``2 n + g``
    and so on, so that largest scores are taken along memory; what is left over is a group too.

    Attributes:
        items: (I, D) or (I, M, D) float32, finite.
        combine: how products become one score, where there are several.
        rounded: the vectors as they are multiplied, (I M, D), bfloat16 or float32.
        longest: length of the longest vector.
        lost: length of the longest difference that rounding made.
        order: the items in the order in which ties are broken, (I,) int64.
    """

    items: FloatArray
    combine: Combine
    rounded: Tensor
    longest: float
    lost: float
    order: IntArray

    @classmethod
    def of(
        cls,
        items: FloatArray,
        combine: Combine = "max",
        *,
        in_half: bool = False,
        order: IntArray | None = None,
    ) -> Self:
        """Measure the vectors of items, and round them to bfloat16 if that is wanted.

        Not where products become one by ``logsumexp``: their scores lie so close that, with the
        margin of bfloat16, nearly every user would be looked at alone.
        """
        in_half = in_half and combine == "max"
        flat = as_tensor(items.reshape(-1, items.shape[-1]))
        rounded = torch.empty(flat.shape, dtype=torch.bfloat16) if in_half else flat
        longest = lost = 0.0
        for start in range(0, len(flat), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            longest = max(longest, float(_lengths(flat[part]).max()))
            if in_half:
                rounded[part] = flat[part]
                lost = max(lost, float(_lengths(flat[part] - rounded[part]).max()))
        order = tie_order(len(items)) if order is None else order
        return cls(items, combine, rounded, longest, lost, order)

    def take(self, kept: IntArray) -> Catalogue:
        """Some of the items, rising, whose ties are broken as among all."""
        return Catalogue.of(self.items[kept], self.combine, order=np.argsort(self.places[kept]))

    @property
    def n_items(self) -> int:
        """I."""
        return len(self.items)

    @property
    def n_vectors(self) -> int:
        """M, the vectors of an item."""
        return 1 if self.items.ndim == 2 else int(self.items.shape[1])

    @cached_property
    def places(self) -> IntArray:
        """Place of each item in the order in which ties are broken, (I,) int32."""
        return places_in(self.order)

    def best_keys(
        self,
        queries: FloatArray,
        k: int,
        hidden: Hidden,
        *,
        items_per_block: int,
        pairs_at_once: int,
    ) -> IntArray:
        """Packed keys of the best ``k`` items of each query, in any order; (n, k) int64.

        Args:
            queries: vectors of each user, or of what else asks, (n, K, D) float32, finite.
            k: from 1.
            hidden: what must not appear.
            items_per_block: items multiplied at once, a multiple of 16.
            pairs_at_once: (query, item) pairs that are scored exactly at once.
        """
        keys = np.full((len(queries), k), NO_ITEM)
        search = _Search(self, queries, k, hidden, items_per_block, pairs_at_once)
        few, owners, items = search.candidates()
        if len(items):
            scores = self.exact(queries, owners, items, pairs_at_once)
            found = pack(scores, self.places[items])
            counts = np.bincount(owners, minlength=len(queries))
            at = np.arange(len(owners)) - (np.cumsum(counts) - counts)[owners]
            side_by_side = np.full((len(queries), max(k, int(counts.max()))), NO_ITEM)
            side_by_side[owners, at] = found
            keys = largest(side_by_side, k)
        for row in np.flatnonzero(~few).tolist():
            keys[row] = search.best_of_one(row)
        return keys

    def exact(
        self,
        queries: FloatArray,
        rows: IntArray,
        items: IntArray,
        pairs_at_once: int = PAIRS_AT_ONCE,
    ) -> FloatArray:
        """The score of each (row of ``queries``, item), (m,), the same wherever the two stand."""
        if self.items.ndim == 3:  # the side of several vectors scores
            scorer = Vectors(self.items, queries[:, 0], self.combine)
            rows, items = items, rows
        else:
            scorer = Vectors(queries, self.items, self.combine)
        scores = np.empty(len(items), dtype=np.float32)
        for start in range(0, len(items), pairs_at_once):
            part = slice(start, start + pairs_at_once)
            scores[part] = scorer.score_listed(rows[part], items[part, None])[:, 0]
        return scores


class _Search:
    """One search: the largest scores of all groups, and which items can be among the best."""

    def __init__(
        self,
        catalogue: Catalogue,
        queries: FloatArray,
        k: int,
        hidden: Hidden,
        items_per_block: int,
        pairs_at_once: int,
    ) -> None:
        self.catalogue, self.queries, self.k, self.hidden = catalogue, queries, k, hidden
        self.block, self.pairs_at_once = items_per_block, pairs_at_once
        self.scores: Tensor | None = None  # of a catalogue that is one block
        self.maxima = self._maxima()
        margins = self._margins()
        self.bounds = self._bounds(margins)
        self.wanted: BoolArray = self.maxima >= self.bounds[:, None]
        self.wanted &= self.maxima > -np.inf
        self.is_bounded = np.isfinite(margins)
        self.wanted[~self.is_bounded] = True

    def candidates(self) -> tuple[BoolArray, IntArray, IntArray]:
        """Which queries have few items that can be among the best, (n,), and (query, item) of them.

        The pairs are sorted by query.
        """
        n_wanted = np.count_nonzero(self.wanted, axis=1)
        few = self.is_bounded & (n_wanted <= GROUPS_PER_PLACE * self.k)
        if self.scores is not None and self.maxima.shape[1] <= GROUPS_PER_PLACE * self.k:
            bounds = torch.from_numpy(self.bounds)[:, None]  # in few items groups save nothing
            near = ((self.scores >= bounds) & (self.scores > -torch.inf)).numpy()
            near[~few] = False
            return few, *np.divmod(np.flatnonzero(near), self.catalogue.n_items)
        # several times as fast as np.nonzero
        rows = np.flatnonzero(few)
        at, groups = np.divmod(np.flatnonzero(self.wanted[rows]), self.maxima.shape[1])
        owners = rows[at]
        if self.scores is not None:
            return few, *self._near(owners, groups)
        owners = np.repeat(owners, GROUP)
        items = self._members(groups).ravel()
        kept = items < self.catalogue.n_items
        owners, items = owners[kept], items[kept]
        kept = ~self.hidden.holds(owners, items)
        return few, owners[kept], items[kept]

    def _near(self, owners: IntArray, groups: IntArray) -> tuple[IntArray, IntArray]:
        """(query, item) of groups (m,) whose scores, all at hand, are not below the bound."""
        assert self.scores is not None
        bounds = np.maximum(self.bounds, np.finfo(np.float32).min)  # above what is hidden
        n_full = self.catalogue.n_items // GROUP
        is_full = groups < n_full
        of, at = owners[is_full], groups[is_full]
        near = _gathered(_grouped(self.scores), of, at) >= bounds[of, None]  # (m, 16)
        rows, members = np.divmod(np.flatnonzero(near), GROUP)
        found, items = of[rows], at[rows] + members * n_full
        if len(of) == len(owners):
            return found, items
        of = owners[~is_full]
        rest = self.scores[:, n_full * GROUP :, None]
        rows, places = np.nonzero(_gathered(rest, of, np.zeros_like(of)) >= bounds[of, None])
        found = np.concatenate([found, of[rows]])
        items = np.concatenate([items, n_full * GROUP + places])
        order = np.argsort(found, kind="stable")
        return found[order], items[order]

    def best_of_one(self, row: int) -> IntArray:
        """Packed keys of the best items of a query whose scores lie close together, (k,)."""
        catalogue = self.catalogue
        items = self._members(np.flatnonzero(self.wanted[row])).ravel()
        keys = np.full((1, self.k), NO_ITEM)
        for start in range(0, len(items), self.pairs_at_once):
            part = items[start : start + self.pairs_at_once]
            part = part[part < catalogue.n_items]
            part = part[~self.hidden.holds(np.full(len(part), row), part)]
            rows = np.full(len(part), row)
            scores = catalogue.exact(self.queries, rows, part, self.pairs_at_once)
            found = pack(scores, catalogue.places[part])
            keys = largest(np.concatenate([keys, found[None]], axis=1), self.k)
        best: IntArray = keys[0]
        return best

    def _members(self, groups: IntArray) -> IntArray:
        """The items of groups, (m, 16); I where there are fewer."""
        blocks, groups = np.divmod(groups, self.block // GROUP)
        starts = blocks * self.block
        n_full = np.minimum(self.catalogue.n_items - starts, self.block) // GROUP
        steps = np.arange(GROUP)
        full = groups[:, None] + steps * n_full[:, None]
        rest = GROUP * n_full[:, None] + steps
        items: IntArray = starts[:, None] + np.where((groups < n_full)[:, None], full, rest)
        np.minimum(items, self.catalogue.n_items, out=items)
        return items

    def _maxima(self) -> FloatArray:
        """The largest score of each group, (n, groups) float32."""
        catalogue, n = self.catalogue, len(self.queries)
        vectors = as_tensor(self.queries).flatten(0, 1).to(catalogue.rounded.dtype)
        longest = min(self.block, catalogue.n_items) * catalogue.n_vectors
        memory = np.empty(len(vectors) * longest * vectors.itemsize, dtype=np.uint8)
        buffer = torch.from_numpy(memory).view(vectors.dtype)
        maxima = torch.empty(n, -(-catalogue.n_items // GROUP))
        for start, block in self._blocks():
            products = buffer[: len(vectors) * len(block)].view(len(vectors), -1)
            torch.mm(vectors, block.T, out=products)
            scores = self._combined(products)
            self.hidden.hide(scores, start)
            first, size = start // GROUP, scores.shape[1]
            n_full = size // GROUP
            if n_full:
                maxima[:, first : first + n_full] = _largest(_grouped(scores))
            if size % GROUP:
                maxima[:, first + n_full] = scores[:, n_full * GROUP :].amax(dim=1)
            if size == catalogue.n_items:
                self.scores = scores
        kept: FloatArray = maxima.numpy()
        return kept

    def _blocks(self) -> Iterator[tuple[int, Tensor]]:
        m = self.catalogue.n_vectors
        for start in range(0, self.catalogue.n_items, self.block):
            yield start, self.catalogue.rounded[start * m : (start + self.block) * m]

    def _combined(self, products: Tensor) -> Tensor:
        """One score of all products of a query and an item; (n K, m M) -> (n, m)."""
        k, m = self.queries.shape[1], self.catalogue.n_vectors
        if k == m == 1:
            return products
        products = products.view(len(self.queries), k, -1, m)
        return combine_products(products, self.catalogue.combine, (1, 3))

    def _bounds(self, margins: FloatArray) -> FloatArray:
        """Below which no group holds one of the best, (n,) float32; minus infinity for none."""
        if self.maxima.shape[1] < self.k:
            return np.full(len(self.queries), -np.inf, np.float32)
        place = self.maxima.shape[1] - self.k
        found = np.partition(self.maxima, place, axis=1)[:, place].astype(np.float64)
        step = _HALF_STEP if self.catalogue.rounded.dtype == torch.bfloat16 else 0.0
        with np.errstate(invalid="ignore", over="ignore"):
            lowest = found - np.abs(found) * step - 2 * margins
            bounds = (lowest - np.abs(lowest) * step).astype(np.float32)
        return np.where(np.isnan(bounds), np.float32(-np.inf), bounds)

    def _margins(self) -> FloatArray:
        """How far off scores may be, (n,): no further than the furthest product, but for logs."""
        catalogue, vectors = self.catalogue, as_tensor(self.queries).flatten(0, 1)
        lengths = _lengths(vectors).numpy()
        lost = _lengths(vectors - vectors.to(catalogue.rounded.dtype)).numpy()
        products = lengths * catalogue.longest
        products[products > _HUGE] = np.inf
        dim = vectors.shape[1]
        margins = _SAFETY * (lost * catalogue.longest + (lengths + lost) * catalogue.lost)
        margins += _SUMS * (dim + 16) * products + _TINY * dim * (2 + lengths + catalogue.longest)
        n_products = self.queries.shape[1] * catalogue.n_vectors
        if n_products > 1 and catalogue.combine == "logsumexp":
            margins += _SUMS * (_SAFETY * products + n_products)
        furthest: FloatArray = margins.reshape(len(self.queries), -1).max(axis=1)
        return furthest


def _grouped(scores: Tensor) -> Tensor:
    """The scores of the full groups of a block, (n, 16, groups)."""
    n_full = scores.shape[1] // GROUP
    return scores[:, : n_full * GROUP].view(len(scores), GROUP, n_full)


def _gathered(grouped: Tensor, rows: IntArray, groups: IntArray) -> FloatArray:
    """The members of one group of each row, (n, members, groups) to (m, members) float32."""
    if grouped.dtype != torch.bfloat16:
        found: FloatArray = grouped.numpy()[rows, :, groups]
        return found
    bits = grouped.view(torch.int16).numpy()[rows, :, groups].astype(np.int32)
    floats: FloatArray = (bits << 16).view(np.float32)
    return floats


def _largest(grouped: Tensor) -> Tensor:
    """The largest of each group, (n, 16, groups) to (n, groups).

    Bits of bfloat16 are compared, which is several times as fast: as integers they rise with the
    numbers, those of numbers below zero the other way round and below all others.
    """
    if grouped.dtype != torch.bfloat16:
        return grouped.amax(dim=1)
    bits = grouped.view(torch.int16)
    largest = bits.amax(dim=1)
    below = largest.numpy() < 0
    if below.any():
        largest.numpy()[below] = bits.amin(dim=1).numpy()[below]
    return largest.view(torch.bfloat16)


def _lengths(vectors: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=1, dtype=torch.float64)
    return lengths
