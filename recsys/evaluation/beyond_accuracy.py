"""What lists are like apart from being right: how wide, how new, how popular, how varied.

Definitions, for the first ``k`` of each list:

- ``coverage@k``: share of the catalogue that is recommended to anyone at all; one value in total.
- ``novelty@k``: mean over the list of ``-log2 p(item)``, in bits, where ``p`` is the item's share
  of train interactions after adding one to the count of every item, so that an item never seen in
  train is as new as can be, not infinitely so.
- ``popularity_lift@k``: mean train count of the listed items over the mean train count of the
  user's own train items; above 1 the list is more popular than what the user has. NaN for a user
  without train items.
- ``intra_list_diversity@k``: 1 - mean cosine of the category sets of all pairs in the list. Items
  without categories are left out; NaN where fewer than two remain.

All are NaN for a user with an empty list.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from recsys.data.arrays import Bags, FloatArray, IntArray, Interactions
from recsys.evaluation.ranking import Ranking

_USERS_AT_ONCE = 4096


def coverage(ranking: Ranking, n_items: int, ks: Sequence[int]) -> dict[str, float]:
    """``coverage@k`` for each k; NaN for an empty catalogue."""
    shares: dict[str, float] = {}
    for k in ks:
        shown = np.unique(ranking.items[:, :k])
        shares[f"coverage@{k}"] = (shown >= 0).sum() / n_items if n_items else float("nan")
    return {name: float(share) for name, share in shares.items()}


def list_character(
    ranking: Ranking, train: Interactions, categories: Bags | None, ks: Sequence[int]
) -> dict[str, FloatArray]:
    """Novelty, popularity lift and diversity of each user's list at each k.

    Args:
        ranking: lists of n users.
        train: what popularity and histories are counted on.
        categories: category columns of every item; without them there is no diversity.
        ks: list lengths.

    Returns:
        Keys such as ``"novelty@10"``; values (n,) float64.
    """
    counts = train.item_counts.astype(np.float64)
    bits = -np.log2((counts + 1) / (counts.sum() + len(counts)))
    history = _mean_history_count(train)[ranking.users]
    directions = None if categories is None else _directions(categories)
    names = [f"{name}@{k}" for name in ("novelty", "popularity_lift") for k in ks]
    if directions is not None:
        names += [f"intra_list_diversity@{k}" for k in ks]
    values: dict[str, FloatArray] = {name: np.empty(len(ranking.users)) for name in names}
    for start in range(0, len(ranking.users), _USERS_AT_ONCE):
        part = slice(start, start + _USERS_AT_ONCE)
        items = ranking.items[part]
        novelty = _means_over_list(bits, items, ks)
        popularity = _means_over_list(counts, items, ks)
        for k in ks:
            values[f"novelty@{k}"][part] = novelty[k]
            values[f"popularity_lift@{k}"][part] = popularity[k] / history[part]
            if directions is not None:
                values[f"intra_list_diversity@{k}"][part] = _diversity(directions, items[:, :k])
    return values


def _means_over_list(
    of_item: FloatArray, items: IntArray, ks: Sequence[int]
) -> dict[int, FloatArray]:
    """Mean of an item's value over the first k of each list, (n,) for each k; NaN when empty."""
    present = items >= 0
    total = np.cumsum(np.where(present, of_item[np.maximum(items, 0)], 0.0), axis=1)
    number = np.cumsum(present, axis=1, dtype=np.float64)
    number[number == 0] = np.nan
    return {k: total[:, k - 1] / number[:, k - 1] for k in ks}


def _mean_history_count(train: Interactions) -> FloatArray:
    """Mean train count of each user's train items, (U,); NaN without any."""
    total = np.bincount(
        train.users, weights=train.item_counts[train.items], minlength=train.n_users
    )
    number = train.user_counts.astype(np.float64)
    number[number == 0] = np.nan
    means: FloatArray = total / number
    return means


def _directions(categories: Bags) -> sparse.csr_matrix:
    """Category sets as rows of length 1 (0 without categories), (I, columns) float64."""
    lengths = categories.lengths
    values = np.repeat(1.0 / np.sqrt(np.maximum(lengths, 1)), lengths)
    shape = (categories.n_rows, categories.n_columns)
    return sparse.csr_matrix((values, categories.indices, categories.offsets), shape=shape)


def _diversity(directions: sparse.csr_matrix, items: IntArray) -> FloatArray:
    """1 - mean cosine of all pairs of each list, (n,)."""
    described = np.diff(directions.indptr) > 0
    kept = (items >= 0) & described[np.maximum(items, 0)]
    number = kept.sum(axis=1)
    offsets = np.concatenate([[0], np.cumsum(number)])
    lists = sparse.csr_matrix(
        (np.ones(offsets[-1]), items[kept], offsets), shape=(len(items), directions.shape[0])
    )
    sums = lists @ directions
    # |sum of unit vectors|^2 = number + 2 * sum of the cosines of all pairs
    squares = np.asarray(sums.multiply(sums).sum(axis=1)).ravel()
    pairs = np.where(number > 1, number * (number - 1.0), np.nan)
    diversity: FloatArray = 1 - (squares - number) / pairs
    return diversity
