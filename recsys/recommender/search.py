"""The best items for a few vectors at once, exactly, among all items or some of them.

:func:`recsys.evaluation.ranking.rank` is made for many users: it lays the catalogue out anew for
every call. A question of one user is over sooner than that, so it is answered from vectors that
are kept as :mod:`recsys.recommender.coarse` reads them; the few items that it finds are scored in
float32, each by itself. So a score is the same to the bit whatever else is asked at the same time,
and questions that wait can share one pass over the catalogue. Both ways give the same order: by
score, then by the fixed order of ties.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch

from recsys.data.arrays import Bags, BoolArray, FloatArray, IntArray
from recsys.evaluation.ranking import Combine, Vectors, pack, rank, tie_order
from recsys.evaluation.scorers import as_tensor
from recsys.recommender.coarse import CoarseCatalogue, Hidden

MEMORY_LIMIT_MB = 256
FEW = 48
"""More users of one query are ranked as evaluation does it, on all threads."""
ROWS_AT_ONCE = 64
"""Rows of one product; 64 take three times as long as one, on 1,000,000 items."""
SPARSE = 8
"""Where at most one item in so many is allowed, the vectors of those are gathered."""
ROUNDING = 1e-5
TINY = 1e-12
_GROUPS_AT_ONCE = 1 << 17  # 2 million items, to be compared
_PAIRS_AT_ONCE = 1 << 14  # vectors that are multiplied exactly


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
class Query:
    """Lists that are wanted.

    Attributes:
        vectors: of each user, or of what else asks, (n, K, D) float32, finite; (n, D), one vector
            each, becomes (n, 1, D).
        k: from 1; lists are shorter where fewer items are allowed.
        masked: items that must not appear, one bag for each user.
        allowed: the only items that may appear, for all users, (I,); all where None.
    """

    vectors: FloatArray
    k: int
    masked: Bags | None = None
    allowed: BoolArray | None = None

    def __post_init__(self) -> None:
        """Give single vectors their place among several."""
        if self.vectors.ndim == 2:
            object.__setattr__(self, "vectors", self.vectors[:, None])

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def n_vectors(self) -> int:
        """K."""
        return int(self.vectors.shape[1])


class Search(Protocol):
    """Finds the best items of users."""

    def best(
        self,
        vectors: FloatArray,
        k: int,
        *,
        masked: Bags | None = None,
        allowed: BoolArray | None = None,
    ) -> Found:
        """The best ``k`` items of each user; see :class:`Query`."""
        return self.best_together([Query(vectors, k, masked, allowed)])[0]

    def best_together(self, queries: Sequence[Query]) -> list[Found]:
        """The lists of each query, the same as if it were alone."""
        ...


@dataclass(frozen=True, eq=False)
class ItemSearch(Search):
    """Exact search by inner product.

    Attributes:
        items: vectors, (I, D) float32, finite; or several of each, (I, M, D), to be found by one.
        combine: how the products of several vectors become one score.
        own_places: places for ties, where the items are some of a catalogue's; see ``places``.
    """

    items: FloatArray
    combine: Combine = "max"
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

    @cached_property
    def coarse(self) -> CoarseCatalogue:
        """The vectors as they are read for every question; made at the first."""
        return CoarseCatalogue.of(self.items, self.combine, is_whole=self.own_places is None)

    def best_together(self, queries: Sequence[Query]) -> list[Found]:
        """The lists of each query, to the bit the same as if it were alone."""
        lists: dict[int, Found] = {}
        shared: dict[int, list[int]] = {}  # by how many vectors ask together
        for number, query in enumerate(queries):
            if not len(self.items):
                lists[number] = Found.nothing(len(query), query.k)
            elif query.allowed is not None and _is_sparse(query.allowed):
                lists[number] = self._best_of_some(query, np.flatnonzero(query.allowed))
            elif self._is_for_rank(query):
                lists[number] = self._best_of_many(query)
            else:
                shared.setdefault(query.n_vectors, []).append(number)
        for numbers in shared.values():
            found = self._best_of_shared([queries[number] for number in numbers])
            lists |= dict(zip(numbers, found, strict=True))
        return [lists[number] for number in range(len(queries))]

    def _is_for_rank(self, query: Query) -> bool:
        is_whole = query.allowed is None and self.own_places is None and self.items.ndim == 2
        return is_whole and len(query) > FEW

    def _best_of_many(self, query: Query) -> Found:
        ranking = rank(
            Vectors(query.vectors, self.items, self.combine),
            np.arange(len(query)),
            masked=() if query.masked is None else (query.masked,),
            k=query.k,
            memory_limit_mb=MEMORY_LIMIT_MB,
        )
        return Found(ranking.items, ranking.scores)

    def _best_of_some(self, query: Query, kept: IntArray) -> Found:
        """The best among a few items, gathered: all other scores are saved."""
        some, masked = ItemSearch(self.items[kept], self.combine, self.places[kept]), query.masked
        if masked is not None:
            column_of = np.full(len(self.items), -1, dtype=np.int32)
            column_of[kept] = np.arange(len(kept), dtype=np.int32)
            owners, items = masked.entries(np.arange(len(query)))
            columns = column_of[items]
            pairs = owners[columns >= 0], columns[columns >= 0]
            masked = Bags.from_pairs(*pairs, n_rows=len(query), n_columns=len(kept))
        found = some.best(query.vectors, query.k, masked=masked)
        items = np.append(kept, -1)[found.items].astype(np.int32)
        return Found(items, found.scores)

    def _best_of_shared(self, queries: Sequence[Query]) -> list[Found]:
        """One pass over the catalogue for all, as far as they are few; all of one K."""
        ends = np.cumsum([len(query) for query in queries])
        vectors = np.concatenate([query.vectors for query in queries])
        found = Found.nothing(len(vectors), max(query.k for query in queries))
        at_once = max(ROWS_AT_ONCE // (queries[0].n_vectors * self.coarse.n_vectors), 1)
        for start in range(0, len(vectors), at_once):
            rows = slice(start, min(start + at_once, len(vectors)))
            hidden = _hidden(queries, ends, rows)
            self._fill(found, rows, vectors[rows], hidden)
        lists = []
        for query, end in zip(queries, ends.tolist(), strict=True):
            part = slice(end - len(query), end)
            lists.append(Found(found.items[part, : query.k], found.scores[part, : query.k]))
        return lists

    def _fill(self, found: Found, rows: slice, vectors: FloatArray, hidden: Hidden) -> None:
        """Put the best items of some users, (n, K, D), in the given rows of ``found``."""
        k = found.items.shape[1]
        wanted = self.coarse.wanted(vectors, k, hidden)
        for part in _parts(np.count_nonzero(wanted, axis=1)):
            # several times as fast as np.nonzero
            owners, groups = np.divmod(np.flatnonzero(wanted[part]), wanted.shape[1])
            owners = np.repeat(owners + part.start, self.coarse.group)
            items = self.coarse.members(groups).ravel()
            real = items < len(self.items)
            real[real] = ~hidden.holds(owners[real], items[real], len(self.items))
            owners, items = owners[real], items[real]
            scores = self.scores(vectors, owners, items)
            order = np.lexsort((-pack(scores, self.places[items]), owners))
            owners, items, scores = owners[order], items[order], scores[order]
            ranks = np.arange(len(owners)) - np.searchsorted(owners, owners)
            kept = ranks < k
            at = rows.start + owners[kept], ranks[kept]
            found.items[at], found.scores[at] = items[kept], scores[kept]

    def scores(self, vectors: FloatArray, rows: IntArray, items: IntArray) -> FloatArray:
        """The score of each (row of ``vectors``, item), to the bit the same wherever it stands."""
        if self.items.ndim == 3:  # the side of several vectors scores
            scorer = Vectors(self.items, vectors[:, 0], self.combine)
            rows, items = items, rows
        else:
            scorer = Vectors(vectors, self.items, self.combine)
        scores = np.empty(len(items), dtype=np.float32)
        for start in range(0, len(items), _PAIRS_AT_ONCE):
            part = slice(start, start + _PAIRS_AT_ONCE)
            scores[part] = scorer.score_listed(rows[part], items[part, None])[:, 0]
        return scores


def _is_sparse(allowed: BoolArray) -> bool:
    return bool(SPARSE * np.count_nonzero(allowed) <= len(allowed))


def _hidden(queries: Sequence[Query], ends: IntArray, rows: slice) -> Hidden:
    """What must not appear in rows of the queries laid one after another; the first row is 0."""
    owners, items, allowed = [], [], []
    for query, end in zip(queries, ends.tolist(), strict=True):
        first = end - len(query)
        start, stop = max(rows.start, first), min(rows.stop, end)
        if start >= stop:
            continue
        if query.masked is not None:
            of, masked = query.masked.entries(np.arange(start - first, stop - first))
            owners.append(of + (start - rows.start))
            items.append(masked)
        if query.allowed is not None:
            allowed.append((slice(start - rows.start, stop - rows.start), query.allowed))
    nothing = np.zeros(0, dtype=np.int64)
    return Hidden.of(np.concatenate([nothing, *owners]), np.concatenate([nothing, *items]), allowed)


def _parts(counts: IntArray) -> Iterator[slice]:
    """Ranges of rows whose counts sum to no more than fit, or of a single row."""
    ends, start = np.cumsum(counts), 0
    while start < len(counts):
        spent = int(ends[start - 1]) if start else 0
        end = int(np.searchsorted(ends, spent + _GROUPS_AT_ONCE, side="right"))
        end = max(end, start + 1)
        yield slice(start, end)
        start = end


def best_candidates(items: IntArray, scores: FloatArray, places: IntArray, k: int) -> Found:
    """The best k of some items: (k,) items and scores."""
    order = np.argsort(-pack(scores, places[items]), kind="stable")[:k]
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
