"""The best items for the vectors of a question, exactly, among all items or some of them.

The vectors of the items are kept as :mod:`recsys.evaluation.topk` reads them. Reading them is what
a question costs, and costs hardly more for eight users than for one, so questions of several
threads share a pass: a thread that finds all passes taken waits, and the next pass answers all that
wait. Nothing is held up to gather more. Lists and scores are to the bit those of a question alone.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import Protocol

import numpy as np
import torch

from recsys.bfloat16 import is_fast
from recsys.data.arrays import Bags, BoolArray, FloatArray, IntArray
from recsys.evaluation.lists import Lists, lists_of
from recsys.evaluation.scorers import Combine, as_tensor
from recsys.evaluation.topk import ITEMS_PER_BLOCK, PAIRS_AT_ONCE, Catalogue, Hidden
from recsys.workers import worker_pool

logger = logging.getLogger(__name__)
ROWS_AT_ONCE = 64
"""Rows of one product; 64 take three times as long as one, on 1,000,000 items."""
PLACES_AT_ONCE = 1 << 15
"""Rows times k, at most, which bounds the items that are compared."""
MOST_VECTORS = 64
"""Vectors in one pass, K for each user, but for a question that wants more by itself: later ones
wait no longer than one pass."""
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


class Search(Protocol):
    """Finds the best items of users."""

    def best(self, query: Query) -> Lists:
        """The lists of a query."""
        ...


@dataclass(eq=False)
class _Waiting:
    """A query that waits.

    Attributes:
        query: what is looked for.
        woken: set when there is something to do for its thread.
        batch: the queries that its thread is to answer, itself the first; empty for none.
        result: its lists, or what was raised.
    """

    query: Query
    woken: Event = field(default_factory=Event)
    batch: list[_Waiting] = field(default_factory=list)
    result: Lists | Exception | None = None


class ItemSearch(Search):
    """Exact search by inner product, by one thread or many.

    Args:
        items: vectors, (I, D) float32, finite; or several of each, (I, M, D), to be found by one.
        combine: how the products of several vectors become one score.
        on_pass: told after each pass how many queries it answered.
        n_passes: at once; None for one a core.
    """

    def __init__(
        self,
        items: FloatArray,
        combine: Combine = "max",
        *,
        on_pass: Callable[[int], None] | None = None,
        n_passes: int | None = None,
    ) -> None:
        in_half = is_fast() and items.size >= HALF_PAYS_FROM
        self.catalogue = Catalogue.of(items, combine, in_half=in_half)
        self._on_pass = on_pass
        self._n_free = n_passes or len(os.sched_getaffinity(0))
        self._lock, self._queue = Lock(), deque[_Waiting]()

    def best(self, query: Query) -> Lists:
        """The lists of a query, found in one pass with those that wait at the same time."""
        waiting = _Waiting(query)
        with self._lock:
            self._queue.append(waiting)
            if self._n_free:
                self._n_free -= 1
                self._start_pass()
        waiting.woken.wait()
        if waiting.batch:
            try:
                self._answer(waiting.batch)
            except BaseException:  # such as Ctrl-C: the others must not wait for ever
                for other in waiting.batch:
                    other.result = other.result or RuntimeError("the search was interrupted")
                    other.woken.set()
                raise
            finally:
                with self._lock:
                    if self._queue:
                        self._start_pass()
                    else:
                        self._n_free += 1
        if isinstance(waiting.result, Exception):
            raise waiting.result
        assert waiting.result is not None
        return waiting.result

    def _start_pass(self) -> None:
        """Give the thread of the first query all that wait, as far as a pass may hold them."""
        first = self._queue.popleft()
        first.batch, n_vectors = [first], first.query.vectors[..., 0].size
        while self._queue and n_vectors < MOST_VECTORS:
            first.batch.append(self._queue.popleft())
            n_vectors += first.batch[-1].query.vectors[..., 0].size
        first.woken.set()

    def _answer(self, batch: Sequence[_Waiting]) -> None:
        """Search for all at once; where that fails, for each alone, so that one is to blame."""
        results: Sequence[Lists | Exception]
        try:
            results = self.best_together([waiting.query for waiting in batch])
        except Exception as error:
            if len(batch) > 1:
                # the trace too: alone, each may succeed, and then nobody else would tell
                said = "%d questions failed together, each is searched for alone; the error follows"
                logger.warning(said, len(batch), exc_info=error)
                for waiting in batch:
                    self._answer([waiting])
                return
            results = [error]
        else:
            if self._on_pass is not None:
                self._on_pass(len(batch))
        for waiting, result in zip(batch, results, strict=True):
            waiting.result = result
            waiting.woken.set()

    def best_together(self, queries: Sequence[Query]) -> list[Lists]:
        """The lists of each query, to the bit the same as if it were alone."""
        lists = [Lists.empty(len(query), query.k) for query in queries]
        by_n_vectors: dict[int, list[int]] = {}
        for number, query in enumerate(queries):
            if query.allowed is not None and SPARSE * np.sum(query.allowed) <= len(query.allowed):
                lists[number] = self._best_of_few(query, np.flatnonzero(query.allowed))
            elif len(query):
                by_n_vectors.setdefault(query.n_vectors, []).append(number)
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
    if n <= at_once or torch.get_num_threads() == 1:
        found = lists_of(n, k, catalogue.order, keys_of, at_once)
    else:
        with worker_pool() as pool:
            found = lists_of(n, k, catalogue.order, keys_of, at_once, pool.map)
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
