"""The best items of every user over the whole catalogue, exactly and in bounded memory.

Scores are computed for a block of users against a block of the catalogue, known items are set to
minus infinity, and the best ``k`` of the block are merged into the best so far.

Order is total. A score and the item's place in a fixed pseudo-random order of the catalogue are
packed into one integer, so that equal scores are told apart by that place. Breaking ties by index
instead would follow the order of the file, which is often an order of popularity, and would let a
model that scores everything alike look well informed.

The best ``k`` of a block are found in two steps. Its columns form groups of ``_GROUP`` items that
are neighbours in the fixed order; the ``k`` groups with the best (largest member, earliest group)
hold the best ``k`` items: an item outside them is beaten by one member of each. So only
``_GROUP * k`` candidates are sorted.

Where the processor is fast in half precision, :mod:`recsys.evaluation.shortlist` first narrows a
block down to the few items that can be among the best, and only those are scored in float32. Users
for whom they are not few (scores all alike, long ties) take the way above.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np
import torch
from torch import Tensor

from recsys.bfloat16 import is_fast
from recsys.data.arrays import Bags, FloatArray, IntArray
from recsys.evaluation.scorers import (
    Combine,
    ItemWeights,
    Needs,
    Scorer,
    Vectors,
    as_tensor,
)
from recsys.evaluation.shortlist import (
    CANDIDATE_BYTES,
    GROUPS_A_PLACE,
    MINUS_INFINITY,
    HalfVectors,
    Shortlist,
    shortlist,
)
from recsys.workers import worker_pool

__all__ = [
    "Combine",
    "ItemWeights",
    "Ranking",
    "Scorer",
    "Task",
    "Vectors",
    "pack",
    "rank",
    "tie_order",
]

_TIE_SEED = 20130401
_GROUP = 16
_USERS_PER_BLOCK = 96  # larger blocks leave the cache, smaller ones pay more for each call
_ITEMS_PER_BLOCK = 2**16  # more would leave room for fewer users
_USERS_WANTED = 32  # fewer make the matrix product slow; rather take fewer items
_GROUP_BYTES = 2  # for each score its share of the largest of its group and that one's key
_HALF_PAYS_FROM = 2**14  # multiplications a user and place of the list, in one block
_LOW = 0xFFFFFFFF
_NOTHING = -(2**63)


@dataclass(frozen=True, eq=False)
class Ranking:
    """The best items of some users.

    Attributes:
        users: (n,) indices.
        items: (n, k) int32, best first; -1 where fewer than k items are allowed.
        scores: (n, k) float32; minus infinity where there is no item.
    """

    users: IntArray
    items: IntArray
    scores: FloatArray


@dataclass(frozen=True, eq=False)
class Task:
    """What there is to be found, and what must not be shown.

    Attributes:
        users: whom to judge by, (n,) indices, each once.
        relevant: held-out items, one bag a user of the vocabulary, no item twice in a bag.
        known: items that are no longer news to the user, of the same form; several are united.
    """

    users: IntArray
    relevant: Bags
    known: tuple[Bags, ...]


@dataclass(frozen=True)
class _Blocks:
    """How much is worked on at once: items, users against them, users whose best are kept."""

    items: int
    users: int
    group: int


def tie_order(n_items: int) -> IntArray:
    """The catalogue in the fixed order in which ties are broken, earliest wins; (I,) int64.

    It depends on the number of items alone. The legacy generator is used because its stream is
    the same in every version of numpy.
    """
    order: IntArray = np.random.RandomState(_TIE_SEED).permutation(n_items)
    return order


def rank(
    scorer: Scorer,
    users: IntArray,
    *,
    masked: Sequence[Bags],
    k: int,
    memory_limit_mb: int = 512,
) -> Ranking:
    """The best ``k`` items of each user among the whole catalogue without the masked ones.

    Exact and deterministic; equal scores are ordered by :func:`tie_order`. Neither users nor items
    need to fit: when the catalogue does not, it is worked through in blocks. Scores of one block
    against another may differ in the last bit from those of another block size, as sums of floats
    do. As many threads work as torch is set to use.

    Args:
        scorer: what scores.
        users: (n,) indices, of users that it knows.
        masked: items that must not appear, one bag a user of the vocabulary; several are united.
        k: length of the lists.
        memory_limit_mb: bound on working memory, in MB of 2**20 bytes. The scorer, the
            ranking returned and 12 bytes an item for the tie order are not counted.

    Returns:
        The lists, in the order of ``users``; empty for no users.

    Raises:
        BookendsError: a number of the scorer is NaN or infinite, or so large that scores would
            overflow.
    """
    assert k >= 1
    n_items = scorer.n_items
    users = np.asarray(users, dtype=np.int64)
    items = np.full((len(users), k), -1, dtype=np.int32)
    scores = np.full((len(users), k), -np.inf, dtype=np.float32)
    if not len(users) or not n_items:
        return Ranking(users, items, scores)
    longest, n_threads = sum(int(m.lengths[users].max()) for m in masked), torch.get_num_threads()
    needs = scorer.needs()
    blocks = _plan(n_items, needs, k, longest, memory_limit_mb, n_threads)
    catalogue = _Catalogue(scorer, blocks.items, _goes_in_half(scorer, blocks.items, k))
    with worker_pool() as pool:
        scorer.check_finite(users)
        n_scores = blocks.users * catalogue.columns * needs.parts
        merger = _Merger(pool, n_threads, blocks.users, n_scores)
        for start in range(0, len(users), blocks.group):
            group = slice(start, start + blocks.group)
            keys = np.full((len(users[group]), k), _NOTHING)
            for block in catalogue.blocks():
                merger.merge(scorer, block, users[group], masked, keys)
            places, scores[group] = _unpack(keys)
            items[group] = np.where(places < 0, -1, catalogue.order[np.maximum(places, 0)])
    return Ranking(users, items, scores)


def _plan(
    n_items: int, needs: Needs, k: int, longest_mask: int, memory_limit_mb: int, n_threads: int
) -> _Blocks:
    """Block sizes whose buffers stay within the limit, at least one group of items and one user."""
    # A quarter each: what items are gathered to, scores, the lists kept, what libraries take.
    quarter = memory_limit_mb * 2**20 // 4
    own = quarter // n_threads
    padded = -(-n_items // _GROUP) * _GROUP
    column_bytes = needs.score + _GROUP_BYTES
    several = max(needs.parts, 1)  # scores of a user, worked on as of so many users
    wanted = -(-_USERS_WANTED // several)
    room = min(quarter // needs.item, own // (column_bytes * wanted))
    items = max(min(room, padded, _ITEMS_PER_BLOCK) // _GROUP, 1) * _GROUP
    lists = CANDIDATE_BYTES * GROUPS_A_PLACE * _GROUP * k
    user_bytes = column_bytes * items + needs.user + lists + 40 * longest_mask
    users = min(max(own // user_bytes, 1), -(-_USERS_PER_BLOCK // several))
    return _Blocks(items, users, max(users, quarter // (64 * k)))


def _goes_in_half(scorer: Scorer, n_items: int, k: int) -> bool:
    """Whether lists are first narrowed down in half precision: for single vectors alone."""
    if isinstance(scorer, ItemWeights) or scorer.n_queries > 1:
        return False
    return _half_pays(n_items, scorer.values_of_item, k)


def _half_pays(n_items: int, dim: int, k: int) -> bool:
    """Whether what half precision saves of a product is worth a second look at short lists."""
    return is_fast() and n_items * dim >= _HALF_PAYS_FROM * k


@dataclass(frozen=True, eq=False)
class _ItemBlock:
    """Some items, neighbours in the tie order, padded to full groups.

    Column ``j * n_groups + g`` is the item at place ``g * _GROUP + j`` of the block, so that the
    members of a group lie one row of groups apart and their maximum runs along memory.

    Attributes:
        first: place of the first item in the tie order.
        size: how many items there are.
        columns: how many columns there are; padding repeats an item.
        values: what the scorer gathered for the columns.
        half: vectors in half precision; None where that would be no gain.
        column_of: column of every item of the catalogue, -1 outside the block; (I,) int32.
    """

    first: int
    size: int
    columns: int
    values: FloatArray
    half: HalfVectors | None
    column_of: IntArray

    @property
    def padding(self) -> int:
        """How many columns, the last members of the last group, hold no item."""
        return -self.size % _GROUP


class _Catalogue:
    """The items in tie order, a block at a time, all in the same memory."""

    def __init__(self, scorer: Scorer, block: int, in_half: bool) -> None:
        self.order = tie_order(scorer.n_items)
        self.columns = min(block, -(-scorer.n_items // _GROUP) * _GROUP)
        self._scorer, self._block = scorer, block
        n_values = self.columns * scorer.values_of_item
        self._values = np.empty(n_values, dtype=np.float32)
        self._half = np.empty(n_values, dtype=np.int16) if in_half else None
        self._column_of = np.empty(scorer.n_items, dtype=np.int32)
        self._kept: _ItemBlock | None = None

    def blocks(self) -> Iterator[_ItemBlock]:
        """Every block in order; each is valid until the next. A lone one is gathered once."""
        for start in range(0, len(self.order), self._block):
            if self._kept is None or self._kept.first != start:
                self._kept = self._gather(start)
            yield self._kept

    def _gather(self, start: int) -> _ItemBlock:
        size = min(self._block, len(self.order) - start)
        places = np.arange(-(-size // _GROUP) * _GROUP).reshape(-1, _GROUP).T.ravel()
        rows = self.order[start + np.minimum(places, size - 1)]
        values = self._scorer.gather(rows, self._values)
        half = None
        if self._half is not None:
            half = HalfVectors.of(values, self._half[: values.size].reshape(values.shape))
        self._column_of.fill(-1)
        real = np.flatnonzero(places < size)
        self._column_of[rows[real]] = real
        return _ItemBlock(start, size, len(rows), values, half, self._column_of)


class _Merger:
    """Puts the best items of a block among the best so far, blocks of users side by side."""

    def __init__(
        self, pool: ThreadPoolExecutor, n_threads: int, n_users: int, n_scores: int
    ) -> None:
        self._pool, self._n_users = pool, n_users
        self._buffers: SimpleQueue[FloatArray] = SimpleQueue()
        for _ in range(n_threads):
            self._buffers.put(np.empty(n_scores, dtype=np.float32))

    def merge(
        self,
        scorer: Scorer,
        block: _ItemBlock,
        users: IntArray,
        masked: Sequence[Bags],
        keys: IntArray,
    ) -> None:
        """Change ``keys`` (n, k), packed and in any order, to the best of them and the block."""

        def work(start: int) -> None:
            part = slice(start, start + self._n_users)
            buffer = self._buffers.get()
            try:
                found = _best(scorer, block, users[part], masked, buffer, keys.shape[1])
            finally:
                self._buffers.put(buffer)
            keys[part] = _largest(np.concatenate([keys[part], found], axis=1), keys.shape[1])

        for _ in self._pool.map(work, range(0, len(users), self._n_users)):
            pass  # raises what a worker raised


def _best(
    scorer: Scorer,
    block: _ItemBlock,
    users: IntArray,
    masked: Sequence[Bags],
    buffer: FloatArray,
    k: int,
) -> IntArray:
    """Packed keys of the best ``k`` of a block, in any order; (n, min(k, columns)) int64."""
    if block.half is None or block.columns < k * _GROUP:
        return _top(_masked_scores(scorer, block, users, masked, buffer), block.first, k)
    assert isinstance(scorer, Vectors)
    vectors = as_tensor(scorer.users[users])
    bits = buffer.view(np.int16)[: len(users) * block.columns].reshape(len(users), -1)
    margins = block.half.score(vectors, bits)
    _hide(bits, block, users, masked, MINUS_INFINITY)
    found = shortlist(bits.reshape(len(users), _GROUP, -1), margins, k)
    # Half precision leaves half the buffer's share of memory to the vectors that are compared.
    at_once = max(buffer.nbytes // 2 // (8 * vectors.shape[1]), 1)
    keys = _best_of_shortlist(found, block, vectors, k, at_once)
    rest = np.flatnonzero(~found.is_short)
    if len(rest):
        scores = _masked_scores(scorer, block, users[rest], masked, buffer)
        keys[rest] = _top(scores, block.first, k)
    return keys


def _best_of_shortlist(
    found: Shortlist, block: _ItemBlock, users: Tensor, k: int, at_once: int
) -> IntArray:
    """Packed keys of the best ``k`` of each short list, in any order; (n, k) int64."""
    columns = found.members * (block.columns // _GROUP) + found.groups
    items = torch.from_numpy(block.values)
    scores = np.empty(len(columns), dtype=np.float32)
    for start in range(0, len(columns), at_once):
        part = slice(start, start + at_once)
        rows = users.index_select(0, torch.from_numpy(found.rows[part]))
        # A sum over each product: equal vectors get bit-equal scores wherever they stand.
        products = rows.mul_(items.index_select(0, torch.from_numpy(columns[part])))
        scores[part] = products.sum(dim=1).numpy()
    counts = np.bincount(found.rows, minlength=len(users))
    places = np.arange(len(columns)) - (np.cumsum(counts) - counts)[found.rows]
    keys = np.full((len(users), max(k, int(counts.max()))), _NOTHING)
    keys[found.rows, places] = pack(scores, block.first + found.groups * _GROUP + found.members)
    return _largest(keys, k)


def _masked_scores(
    scorer: Scorer,
    block: _ItemBlock,
    users: IntArray,
    masked: Sequence[Bags],
    buffer: FloatArray,
) -> FloatArray:
    """Scores of some users for a block, (n, columns); minus infinity for masked and padding."""
    scores = scorer.score_block(users, block.values, buffer)
    _hide(scores, block, users, masked, -np.inf)
    return scores


def _hide(
    scores: np.ndarray, block: _ItemBlock, users: IntArray, masked: Sequence[Bags], value: float
) -> None:
    """Put ``value`` in place of the scores (n, columns) of masked items and of padding."""
    flat, width = scores.reshape(-1), scores.shape[1]
    for mask in masked:
        owners, items = mask.entries(users)
        columns = block.column_of[items]
        inside = columns >= 0
        flat[owners[inside] * width + columns[inside]] = value
    if block.padding:
        scores.reshape(len(users), _GROUP, -1)[:, _GROUP - block.padding :, -1] = value


def _top(scores: FloatArray, first: int, k: int) -> IntArray:
    """Packed keys of the best ``k`` of a block, in any order; (n, min(k, columns)) int64."""
    groups = torch.from_numpy(scores.reshape(len(scores), _GROUP, -1))
    maxima = groups.amax(dim=1).numpy()
    kept = _largest(pack(maxima, np.arange(maxima.shape[1])), k)
    best = _LOW - (kept & _LOW)[:, None, :]
    wanted = torch.from_numpy(best).expand(-1, _GROUP, -1)
    places = best * _GROUP + np.arange(first, first + _GROUP)[:, None]
    keys = pack(groups.gather(2, wanted).numpy(), places)
    return _largest(keys.reshape(len(scores), -1), k)


def _largest(keys: IntArray, k: int) -> IntArray:
    """The largest ``k`` of each row, in any order; all where there are fewer."""
    rest = keys.shape[1] - k
    return keys if rest <= 0 else np.partition(keys, rest, axis=1)[:, rest:]


def pack(scores: FloatArray, places: IntArray) -> IntArray:
    """Integers that sort as (score rising, place falling): the larger is the better; int64.

    Args:
        scores: float32, not NaN.
        places: int64 below 2**32, of a shape that broadcasts with ``scores``.
    """
    bits = (scores + np.float32(0)).view(np.int32)  # + 0 makes -0.0 equal 0.0
    # The bits of floats sort as integers once those below zero are turned round.
    ordered = bits >> 31
    ordered &= 0x7FFFFFFF
    ordered ^= bits
    keys = ordered.astype(np.int64)
    keys <<= 32
    keys += _LOW - places
    return keys


def _unpack(keys: IntArray) -> tuple[IntArray, FloatArray]:
    """(places, scores) of packed keys, best first; -1 and minus infinity where there is no item."""
    keys = np.sort(keys, axis=1)[:, ::-1]
    ordered = (keys >> 32).astype(np.int32)
    scores = (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).view(np.float32)
    # What was never filled has the bits of a NaN; what was masked is minus infinity.
    empty = ~(scores > -np.inf)
    return np.where(empty, -1, _LOW - (keys & _LOW)), np.where(empty, np.float32(-np.inf), scores)
