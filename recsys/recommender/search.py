"""The best items for the vectors of a question, exactly, among all items or some of them.

The vectors of the items are kept as :mod:`recsys.evaluation.topk` reads them. Reading them is what
a question costs, and costs hardly more for eight users than for one, so questions can share a pass:
a question is a generator that stops where it needs lists, and goes on with them. Lists and scores
are to the bit those of a question alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

import numpy as np
import torch

from recsys.bfloat16 import is_fast
from recsys.data.arrays import Bags, BoolArray, FloatArray, IntArray
from recsys.evaluation.lists import Hidden, Lists, lists_of
from recsys.evaluation.scorers import Combine, as_tensor
from recsys.evaluation.topk import ITEMS_PER_BLOCK, PAIRS_AT_ONCE, Catalogue
from recsys.workers import worker_map

ROWS_AT_ONCE = 64
"""Rows of one product; 64 take three times as long as one, on 1,000,000 items."""
PLACES_AT_ONCE = 1 << 15
"""Rows times k, at most, which bounds the items that are compared."""
SPARSE = 8
"""Where at most one item in so many is allowed, the vectors of those are gathered."""
HALF_PAYS_FROM = 1 << 24
"""Values of a catalogue; a smaller one is read as fast as it is."""
ROUNDING = 1e-5
TINY = 1e-12


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

    def take(self, rows: IntArray) -> Query:
        """The query of some of the users."""
        masked = None if self.masked is None else self.masked.take(rows)
        return Query(self.vectors[rows], self.k, masked, self.allowed)


class Search(ABC):
    """Finds the best items of users."""

    @abstractmethod
    def best_together(self, queries: Sequence[Query]) -> list[Lists]:
        """The lists of each query, to the bit the same as if it were alone."""

    def best(self, query: Query) -> Lists:
        """The lists of one query."""
        return self.best_together([query])[0]


@dataclass(frozen=True, eq=False)
class Wanted:
    """Lists that a question needs.

    Attributes:
        search: where they are found.
        query: what is looked for.
    """

    search: Search
    query: Query


Answer = TypeVar("Answer")
Asking = Generator[Sequence[Wanted], Sequence[Lists], Answer]
"""A question: stops once, where it needs lists, and is sent those in the same order."""


def answer(asking: Asking[Answer]) -> Answer:
    """The answer to one question."""
    found = search_together([next(asking)])[0]
    return finish(asking, found)


def finish(asking: Asking[Answer], found: Sequence[Lists]) -> Answer:
    """The answer to a question that stopped, from what was found for it."""
    try:
        asking.send(found)
    except StopIteration as end:
        result: Answer = end.value
        return result
    raise AssertionError("a question stops once")


def search_together(questions: Sequence[Sequence[Wanted]]) -> list[list[Lists]]:
    """What each question wants, in one pass of each search that any of them names."""
    by_search: defaultdict[Search, list[Wanted]] = defaultdict(list)
    for one in chain.from_iterable(questions):
        by_search[one.search].append(one)
    found: dict[Wanted, Lists] = {}
    for search, together in by_search.items():
        lists = search.best_together([one.query for one in together])
        found |= zip(together, lists, strict=True)
    return [[found[one] for one in wanted] for wanted in questions]


class ItemSearch(Search):
    """Exact search by inner product.

    Args:
        items: vectors, (I, D) float32, finite; or several of each, (I, M, D), to be found by one.
        combine: how the products of several vectors become one score.
    """

    def __init__(self, items: FloatArray, combine: Combine = "max") -> None:
        in_half = is_fast() and items.size >= HALF_PAYS_FROM
        self.catalogue = Catalogue.of(items, combine, in_half=in_half)

    def best_together(self, queries: Sequence[Query]) -> list[Lists]:
        """The lists of each query, to the bit the same as if it were alone."""
        lists = [Lists.empty(len(query), query.k) for query in queries]
        by_n_vectors: defaultdict[int, list[int]] = defaultdict(list)
        for number, query in enumerate(queries):
            if query.allowed is not None and SPARSE * np.sum(query.allowed) <= len(query.allowed):
                lists[number] = self._best_of_few(query, np.flatnonzero(query.allowed))
            elif len(query):
                by_n_vectors[query.n_vectors].append(number)
        for numbers in by_n_vectors.values():
            found = _best_of_alike(self.catalogue, [queries[number] for number in numbers])
            for number, one in zip(numbers, found, strict=True):
                lists[number] = one
        return lists

    def _best_of_few(self, query: Query, kept: IntArray) -> Lists:
        """The best among a few items, gathered: all other scores are saved."""
        masked, n_items = query.masked, self.catalogue.n_items
        if masked is not None:
            column_of = np.full(n_items, -1, dtype=np.int32)
            column_of[kept] = np.arange(len(kept), dtype=np.int32)
            owners, items = masked.entries(np.arange(len(query)))
            columns = column_of[items]
            pairs = owners[columns >= 0], columns[columns >= 0]
            masked = Bags.from_pairs(*pairs, n_rows=len(query), n_columns=len(kept))
        part = self.catalogue.take(kept)
        found = _best_of_alike(part, [Query(query.vectors, query.k, masked)])[0]
        return Lists(np.append(kept, -1)[found.items].astype(np.int32), found.scores)


def _best_of_alike(catalogue: Catalogue, queries: Sequence[Query]) -> list[Lists]:
    """The lists of queries of one K, laid one after another."""
    vectors = np.concatenate([query.vectors for query in queries])
    ends = np.cumsum([len(query) for query in queries]).tolist()
    k = max(query.k for query in queries)
    n_products = queries[0].n_vectors * catalogue.n_vectors
    at_once = max(min(ROWS_AT_ONCE // n_products, PLACES_AT_ONCE // k), 1)

    def keys_of(part: slice) -> IntArray:
        return catalogue.best_keys(
            vectors[part],
            k,
            _hidden(queries, ends, part),
            items_per_block=ITEMS_PER_BLOCK,
            pairs_at_once=PAIRS_AT_ONCE,
        )

    n = len(vectors)
    if n <= at_once:
        found = lists_of(n, k, catalogue.order, keys_of, at_once)
    else:
        with worker_map() as run:
            found = lists_of(n, k, catalogue.order, keys_of, at_once, run)
    lists = []
    for query, end in zip(queries, ends, strict=True):
        rows = slice(end - len(query), end)
        lists.append(Lists(found.items[rows, : query.k], found.scores[rows, : query.k]))
    return lists


def _hidden(queries: Sequence[Query], ends: Sequence[int], part: slice) -> Hidden:
    """What must not appear in some rows of the queries laid one after another; the first is 0."""
    pairs, allowed = [], []
    for query, end in zip(queries, ends, strict=True):
        first = end - len(query)
        start, stop = max(part.start, first), min(part.stop, end)
        if start >= stop:
            continue
        if query.masked is not None:
            rows, items = query.masked.entries(np.arange(start - first, stop - first))
            pairs.append((rows + (start - part.start), items))
        if query.allowed is not None:
            allowed.append((slice(start - part.start, stop - part.start), query.allowed))
    return Hidden.of(pairs, allowed)


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
