"""Which items can be among the best of a few vectors: one pass over the catalogue, in blocks.

The pass is what a question costs, so it is made for all vectors that wait, and in bfloat16 where
the processor computes in it: half the memory is read. In a large catalogue sixteen items form a
group, of which only the largest score is kept. How far off a score can be is bounded, as
:mod:`recsys.evaluation.shortlist` shows, so the groups named hold the best items with certainty;
their members are then scored exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self, assert_never

import numpy as np
import torch
from torch import Tensor

from recsys.bfloat16 import is_fast
from recsys.data.arrays import BoolArray, FloatArray, IntArray
from recsys.evaluation.scorers import Combine, as_tensor
from recsys.evaluation.shortlist import HalfVectors

MEMBERS = 16
ITEMS_A_BLOCK = 1 << 16
"""Smaller blocks pay more for each product; scores of larger ones leave the cache."""
HALF_PAYS_FROM = 1 << 24
"""Values of a catalogue; a smaller one is read as fast as it is."""
_HALF_STEP = 2.0**-8  # at most so much of a score is lost by rounding it to bfloat16
_SUMS = 2.0**-21  # eight times what a product and a sum of float32 lose, a term
_SAFETY = 1.02  # products of rounded vectors may be larger
_TINY = 2.0**-126  # smaller numbers may be taken for 0


@dataclass(frozen=True, eq=False)
class Hidden:
    """What must not appear, for some rows of vectors.

    Attributes:
        owners: rows of single items, (m,).
        items: those items, rising, (m,).
        allowed: ranges of rows for which only some items may appear, and which, (I,).
    """

    owners: IntArray
    items: IntArray
    allowed: Sequence[tuple[slice, BoolArray]] = ()

    @classmethod
    def of(
        cls, owners: IntArray, items: IntArray, allowed: Sequence[tuple[slice, BoolArray]] = ()
    ) -> Self:
        """The same, of items in any order."""
        order = np.argsort(items, kind="stable")
        return cls(owners[order], items[order], allowed)

    def hide(self, scores: Tensor, first: int) -> None:
        """Put minus infinity in place of scores (n, size) of items from ``first`` on."""
        size = scores.shape[1]
        start, end = np.searchsorted(self.items, [first, first + size])
        if end > start:
            rows = torch.from_numpy(self.owners[start:end])
            scores[rows, torch.from_numpy(self.items[start:end] - first)] = -torch.inf
        for rows_of, allowed in self.allowed:
            others = torch.from_numpy(~allowed[first : first + size])
            scores[rows_of].masked_fill_(others, -torch.inf)

    def holds(self, rows: IntArray, items: IntArray, n_items: int) -> BoolArray:
        """Whether each (row, item) must not appear, (m,)."""
        hidden = np.isin(
            rows * n_items + items, self.owners.astype(np.int64) * n_items + self.items
        )
        for rows_of, allowed in self.allowed:
            among = (rows >= rows_of.start) & (rows < rows_of.stop)
            hidden |= among & ~allowed[items]
        return hidden


@dataclass(frozen=True, eq=False)
class CoarseCatalogue:
    """The vectors of a catalogue, to be read fast.

    Where what asks has K vectors, or an item has M, all K M products are combined to one score.
    In a block of ``size`` items and ``n`` groups, group ``g`` has the items ``g``, ``n + g``,
    ``2 n + g`` and so on, so that largest scores are taken along memory.

    Attributes:
        vectors: those of the first item, of the second and so on, (I M, D), bfloat16 or float32;
            how long they are and what rounding lost.
        group: items in a group; 1 where one block holds them all, and nothing is to be saved.
        n_vectors: M, the vectors of an item.
        combine: how products become one score, where there are several.
    """

    vectors: HalfVectors
    group: int
    n_vectors: int = 1
    combine: Combine = "max"

    @classmethod
    def of(cls, items: FloatArray, combine: Combine, *, is_whole: bool) -> Self:
        """Round the vectors where that pays.

        Args:
            items: (I, D) or (I, M, D) float32, at least one.
            combine: as above.
            is_whole: whether it will be read again and again.
        """
        flat, n_vectors = items.reshape(-1, items.shape[-1]), items[:1].size // items.shape[-1]
        if is_whole and is_fast() and items.size >= HALF_PAYS_FROM:
            half = HalfVectors.of(flat, np.empty(flat.shape, dtype=np.int16))
            return cls(half, MEMBERS, n_vectors, combine)
        vectors = as_tensor(flat)
        longest = float(_lengths(vectors).max())
        group = 1 if len(items) <= ITEMS_A_BLOCK else MEMBERS
        return cls(HalfVectors(vectors, longest, 0.0), group, n_vectors, combine)

    @property
    def n_items(self) -> int:
        """I."""
        return len(self.vectors.vectors) // self.n_vectors

    @property
    def is_half(self) -> bool:
        """Whether vectors and scores are rounded."""
        return self.vectors.vectors.dtype == torch.bfloat16

    def wanted(self, users: FloatArray, k: int, hidden: Hidden) -> BoolArray:
        """Which groups can hold one of the best ``k`` items of each user, (n, groups).

        Args:
            users: vectors, (n, K, D) float32.
            k: how many are wanted.
            hidden: what must not appear.
        """
        maxima = self._maxima(as_tensor(users), hidden)
        margins = self._margins(as_tensor(users))
        bounds = np.full(len(users), -np.inf)
        if k < maxima.shape[1]:
            # The k-th largest of the maxima is no more than the k-th largest score.
            place = maxima.shape[1] - k
            found = np.partition(maxima, place, axis=1)[:, place].astype(np.float64)
            with np.errstate(invalid="ignore"):
                step = _HALF_STEP if self.is_half else 0.0
                lowest = found - np.abs(found) * step - 2 * margins
                bounds = lowest - np.abs(lowest) * step
        unbounded = ~np.isfinite(margins)
        bounds[unbounded | np.isnan(bounds)] = -np.inf
        wanted: BoolArray = (maxima >= bounds.astype(np.float32)[:, None]) & (maxima > -np.inf)
        wanted[unbounded] = True
        return wanted

    def members(self, groups: IntArray) -> IntArray:
        """The items of groups, (m, group) int64; ``n_items`` or more where there are fewer."""
        starts = groups // (ITEMS_A_BLOCK // self.group) * ITEMS_A_BLOCK
        sizes = np.minimum(self.n_items - starts, ITEMS_A_BLOCK)
        n_groups = -(-sizes // self.group)
        steps = np.arange(self.group) * n_groups[:, None]
        columns = (groups - starts // self.group)[:, None] + steps
        items: IntArray = np.where(
            columns < sizes[:, None], starts[:, None] + columns, self.n_items
        )
        return items

    def _maxima(self, users: Tensor, hidden: Hidden) -> FloatArray:
        """The largest score of each group, (n, groups) float32."""
        vectors = users.flatten(0, 1).to(self.vectors.vectors.dtype)
        longest = min(ITEMS_A_BLOCK, self.n_items) * self.n_vectors
        buffer = torch.empty(len(vectors) * longest, dtype=vectors.dtype)
        maxima = torch.empty(len(users), -(-self.n_items // self.group))
        for start, block in self._blocks():
            products = buffer[: len(vectors) * len(block)].view(len(vectors), -1)
            torch.mm(vectors, block.T, out=products)
            scores = self._combined(products.view(*users.shape[:2], -1, self.n_vectors))
            hidden.hide(scores, start)
            if self.group == 1:
                return scores.numpy()
            if scores.shape[1] % self.group:
                padding = (0, -scores.shape[1] % self.group)
                scores = torch.nn.functional.pad(scores, padding, value=-torch.inf)
            first = start // self.group
            largest = scores.view(len(users), self.group, -1).amax(dim=1)
            maxima[:, first : first + largest.shape[1]] = largest
        return maxima.numpy()

    def _combined(self, products: Tensor) -> Tensor:
        """One score of all products of a user and an item; (n, K, m, M) -> (n, m)."""
        if products.shape[1] == self.n_vectors == 1:
            return products.view(len(products), -1)
        match self.combine:
            case "max":
                return products.amax(dim=(1, 3))
            case "logsumexp":
                return products.float().logsumexp(dim=(1, 3))
            case _:
                assert_never(self.combine)

    def _blocks(self) -> Iterator[tuple[int, Tensor]]:
        for start in range(0, self.n_items, ITEMS_A_BLOCK):
            stop = start + ITEMS_A_BLOCK
            yield start, self.vectors.vectors[start * self.n_vectors : stop * self.n_vectors]

    def _margins(self, users: Tensor) -> FloatArray:
        """How far off scores may be, (n,): no further than the furthest product, but for logs."""
        vectors = users.flatten(0, 1)
        margins = self._product_margins(vectors)
        n_products = users.shape[1] * self.n_vectors
        if n_products > 1 and self.combine == "logsumexp":
            largest = _SAFETY * _lengths(vectors).numpy() * self.vectors.longest
            margins += _SUMS * (largest + n_products)
            if self.is_half:  # products were rounded before they were combined
                margins += _HALF_STEP * largest
        furthest: FloatArray = margins.reshape(len(users), -1).max(axis=1)
        return furthest

    def _product_margins(self, vectors: Tensor) -> FloatArray:
        """How far off products with the items' vectors may be, (n,)."""
        if self.is_half:
            none = HalfVectors(self.vectors.vectors[:0], self.vectors.longest, self.vectors.lost)
            return none.score(vectors, np.empty((len(vectors), 0), dtype=np.int16))
        lengths, dim = _lengths(vectors).numpy(), vectors.shape[1]
        margins: FloatArray = _SUMS * (dim + 16) * lengths * self.vectors.longest
        return margins + _TINY * dim * (2 + lengths + self.vectors.longest)


def _lengths(vectors: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=1, dtype=torch.float64)
    return lengths
