"""The best items for a few vectors at once, exactly, among all items or some of them.

:func:`recsys.evaluation.ranking.rank` is made for many users: it lays the catalogue out anew for
every call. A question of one reader is over sooner than that, so it is answered from the vectors as
they lie. Both give the same order: by score, then by the fixed order of ties.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from recsys.data.arrays import Bags, BoolArray, FloatArray, IntArray
from recsys.evaluation.ranking import Vectors, as_tensor, pack, rank, tie_order

MEMORY_LIMIT_MB = 256
FEW = 48
"""Up to so many questions are answered one by one; measured on 10,000 and on 1,000,000 items."""
SPARSE = 8
"""Where at most one item in so many is allowed, the vectors of those are gathered."""
ROUNDING = 1e-5
TINY = 1e-12
_SCORE_BYTES = 64 * 2**20


@dataclass(frozen=True, eq=False)
class Found:
    """Ranked items.

    Attributes:
        items: (n, k) int32, best first; -1 where fewer than k items are allowed.
        scores: (n, k) float32; minus infinity where there is no item.
    """

    items: IntArray
    scores: FloatArray

    @classmethod
    def nothing(cls, n: int, k: int) -> Found:
        """Empty lists, to be filled."""
        return cls(np.full((n, k), -1, np.int32), np.full((n, k), -np.inf, np.float32))

    def put(self, rows: IntArray | int, found: Found) -> None:
        """Take over lists, in the given rows."""
        self.items[rows], self.scores[rows] = found.items, found.scores


@dataclass(frozen=True, eq=False)
class ItemSearch:
    """Exact search by inner product.

    Attributes:
        items: vectors, (I, D) float32, finite.
        own_places: places for ties, where the items are some of a catalogue's; see ``places``.
    """

    items: FloatArray
    own_places: IntArray | None = None

    @cached_property
    def places(self) -> IntArray:
        """Place of each item in the order in which ties are broken, (I,) int64."""
        if self.own_places is not None:
            return self.own_places
        order = tie_order(len(self.items))
        places = np.empty(len(order), dtype=np.int64)
        places[order] = np.arange(len(order))
        return places

    def best(
        self,
        vectors: FloatArray,
        k: int,
        *,
        masked: Bags | None = None,
        allowed: BoolArray | None = None,
    ) -> Found:
        """The best ``k`` items of each vector.

        Args:
            vectors: (n, D) float32, finite.
            k: from 1; lists are shorter where fewer items are allowed.
            masked: items that must not appear, one bag for each vector.
            allowed: the only items that may appear, for all vectors, (I,); all where None.
        """
        if allowed is not None and SPARSE * np.count_nonzero(allowed) <= len(allowed):
            return self._best_of_some(vectors, k, masked, np.flatnonzero(allowed))
        if allowed is None and self.own_places is None and len(vectors) > FEW:
            ranking = rank(
                Vectors(vectors, self.items),
                np.arange(len(vectors)),
                masked=() if masked is None else (masked,),
                k=k,
                memory_limit_mb=MEMORY_LIMIT_MB,
            )
            return Found(ranking.items, ranking.scores)
        found = Found.nothing(len(vectors), k)
        step = max(1, min(FEW, _SCORE_BYTES // (4 * max(len(self.items), 1))))
        for start in range(0, len(vectors), step):
            rows = np.arange(start, min(start + step, len(vectors)))
            scores = self._scores(vectors, rows, masked)
            if allowed is not None:
                scores[:, ~allowed] = -np.inf
            for row, values in zip(rows.tolist(), scores, strict=True):
                found.put(row, _best_of_row(values, self.places, k))
        return found

    def _best_of_some(
        self, vectors: FloatArray, k: int, masked: Bags | None, kept: IntArray
    ) -> Found:
        """The best among a few items, gathered: all other scores are saved."""
        some = ItemSearch(self.items[kept], self.places[kept])
        if masked is not None:
            column_of = np.full(len(self.items), -1, dtype=np.int32)
            column_of[kept] = np.arange(len(kept), dtype=np.int32)
            owners, items = masked.entries(np.arange(len(vectors)))
            columns = column_of[items]
            pairs = owners[columns >= 0], columns[columns >= 0]
            masked = Bags.from_pairs(*pairs, n_rows=len(vectors), n_columns=len(kept))
        found = some.best(vectors, k, masked=masked)
        items = np.append(kept, -1)[found.items].astype(np.int32)
        return Found(items, found.scores)

    def _scores(self, vectors: FloatArray, rows: IntArray, masked: Bags | None) -> FloatArray:
        product = as_tensor(vectors[rows]) @ as_tensor(self.items).T
        scores: FloatArray = product.numpy()
        if masked is not None:
            owners, items = masked.entries(rows)
            scores[owners, items] = -np.inf
        return scores


def _best_of_row(scores: FloatArray, places: IntArray, k: int) -> Found:
    """The best k of one row of scores: (k,) items and scores."""
    last = max(len(scores) - k, 0)
    threshold = np.partition(scores, last)[last] if len(scores) else np.inf
    candidates = np.flatnonzero(scores >= threshold)  # with all that tie at the end
    return best_candidates(candidates, scores[candidates], places, k)


def best_candidates(items: IntArray, scores: FloatArray, places: IntArray, k: int) -> Found:
    """The best k of some items, those of score minus infinity left out: (k,) items and scores."""
    order = np.argsort(-pack(scores, places[items]), kind="stable")[:k]
    order = order[scores[order] > -np.inf]
    found = Found.nothing(1, k)
    found.items[0, : len(order)], found.scores[0, : len(order)] = items[order], scores[order]
    return Found(found.items[0], found.scores[0])


def normalised(vectors: FloatArray) -> FloatArray:
    """Each vector divided by its length, (n, D) float32; zero stays zero.

    Where all have length 1 or 0 already, as those of items of a cosine model, they are given back
    as they are: a copy would take as much memory again.
    """
    lengths = torch.linalg.vector_norm(as_tensor(vectors), dim=1)
    if bool(((lengths - 1).abs().lt(ROUNDING) | lengths.eq(0)).all()):
        return vectors
    unit: FloatArray = (as_tensor(vectors) / lengths.clamp(min=TINY).unsqueeze(1)).numpy()
    return unit
