"""The lists of users over the whole catalogue, exactly and in bounded memory.

Blocks of users are searched side by side, each by :mod:`recsys.evaluation.topk`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from recsys.bfloat16 import is_fast
from recsys.data.arrays import Bags, FloatArray, IntArray
from recsys.evaluation.lists import (
    Hidden,
    Lists,
    largest,
    lists_of,
    pack,
    places_in,
    tie_order,
)
from recsys.evaluation.scorers import Combine, ItemWeights, Scorer, Vectors
from recsys.evaluation.topk import GROUP, GROUPS_PER_PLACE, ITEMS_PER_BLOCK, Catalogue
from recsys.workers import worker_map

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

_USERS_PER_BLOCK = 96  # larger blocks leave the cache, smaller ones pay more for each call
_SCORES_PER_BLOCK = 2**18  # of a small catalogue more users are taken, so that calls are fewer
_USERS_WANTED = 32  # fewer make the matrix product slow; rather take fewer items
_CANDIDATE_BYTES = 100  # of working memory, at most, for each item that is scored exactly
_GROUP_BYTES = 10  # for the largest score of a group, while the best groups are chosen
_PACKED_BYTES = 40  # for each score that is packed
_HALF_PAYS_FROM = 2**14  # multiplications a user and place of the list


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


def rank(
    scorer: Scorer,
    users: IntArray,
    *,
    masked: Sequence[Bags],
    k: int,
    memory_limit_mb: int = 512,
) -> Ranking:
    """The best ``k`` items of each user among the whole catalogue without the masked ones.

    Exact and deterministic: lists and scores do not depend on block sizes or threads, and equal
    scores are ordered by :func:`tie_order`. Neither users nor items need to fit: they are worked
    through in blocks. As many threads work as torch is set to use.

    Args:
        scorer: what scores.
        users: (n,) indices, of users that it knows.
        masked: items that must not appear, one bag a user of the vocabulary; several are united.
        k: length of the lists.
        memory_limit_mb: bound on working memory, in MB of 2**20 bytes. The scorer, the ranking
            returned and 12 bytes an item for the tie order are not counted; at least one user a
            thread is worked on, which takes up to a byte an item.

    Returns:
        The lists, in the order of ``users``; empty for no users.

    Raises:
        BookendsError: a number of the scorer is NaN or infinite, or so large that scores would
            overflow.
    """
    assert k >= 1
    users = np.asarray(users, dtype=np.int64)
    if not len(users) or not scorer.n_items:
        lists = Lists.empty(len(users), k)
        return Ranking(users, lists.items, lists.scores)
    own = memory_limit_mb * 2**20 // (2 * torch.get_num_threads())  # half for what libraries take
    with worker_map() as run:
        scorer.check_finite(users)
        if isinstance(scorer, ItemWeights):
            order, keys_of, at_once = _keys_by_weights(scorer, users, masked, k, own)
        else:
            order, keys_of, at_once = _keys_by_vectors(scorer, users, masked, k, own)
        lists = lists_of(len(users), k, order, keys_of, at_once, run)
    return Ranking(users, lists.items, lists.scores)


_Keys = tuple[IntArray, Callable[[slice], IntArray], int]
"""The tie order, what gives the packed keys of a range of users, and how many users at once."""


def _hidden(users: IntArray, masked: Sequence[Bags]) -> Hidden:
    return Hidden.of([mask.entries(users) for mask in masked])


def _longest(users: IntArray, masked: Sequence[Bags]) -> int:
    return sum(int(mask.lengths[users].max()) for mask in masked)


def _keys_by_vectors(
    scorer: Vectors, users: IntArray, masked: Sequence[Bags], k: int, own: int
) -> _Keys:
    values = scorer.items.size
    in_half = is_fast() and values >= _HALF_PAYS_FROM * k and 2 * values <= own // 2
    catalogue = Catalogue.of(scorer.items, scorer.combine, in_half=in_half)
    dim, n_queries = scorer.items.shape[1], scorer.n_queries
    longest = _longest(users, masked)
    items_per_block, n_users = _plan(scorer.n_items, n_queries, dim, k, longest, own)

    def keys_of(part: slice) -> IntArray:
        return catalogue.best_keys(
            scorer.queries[users[part]],
            k,
            _hidden(users[part], masked),
            items_per_block=items_per_block,
            pairs_at_once=max(own // (4 * 12 * dim), 1),
        )

    return catalogue.order, keys_of, n_users


def _plan(
    n_items: int, n_queries: int, dim: int, k: int, longest_mask: int, own: int
) -> tuple[int, int]:
    """Items and users of a block, whose buffers take ``own`` bytes; a group and a user at least."""
    score_bytes = 4 if n_queries == 1 else 8 * (n_queries + 1)
    padded = -(-n_items // GROUP) * GROUP
    room = min(own // (2 * score_bytes * _USERS_WANTED), padded, ITEMS_PER_BLOCK)
    items = max(room // GROUP, 1) * GROUP
    candidates = _CANDIDATE_BYTES * GROUPS_PER_PLACE * GROUP * k
    groups = _GROUP_BYTES * (padded // GROUP)
    user_bytes = score_bytes * items + groups + candidates + 8 * dim * n_queries + 40 * longest_mask
    users = max(_USERS_PER_BLOCK, min(_SCORES_PER_BLOCK // padded, 1024))
    return items, min(max(own // 2 // user_bytes, 1), -(-users // n_queries))


def _keys_by_weights(
    scorer: ItemWeights, users: IntArray, masked: Sequence[Bags], k: int, own: int
) -> _Keys:
    order = tie_order(scorer.n_items)
    places = places_in(order)
    longest = _longest(users, masked) + int(scorer.history.lengths.max())

    def keys_of(part: slice) -> IntArray:
        scores = scorer.score_all(users[part])
        _hidden(users[part], masked).hide(torch.from_numpy(scores))
        return largest(pack(scores, places), k)

    user_bytes = _PACKED_BYTES * scorer.n_items + 40 * longest
    at_once = max(_USERS_PER_BLOCK, min(_SCORES_PER_BLOCK // scorer.n_items, 1024))
    return order, keys_of, min(max(own // user_bytes, 1), at_once)
