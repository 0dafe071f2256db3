"""Nearest neighbours among items, and whether they share categories more than chance has it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from recsys.data.arrays import Bags, FloatArray, IntArray
from recsys.evaluation.intervals import mean_interval
from recsys.evaluation.tables import Table

BLOCK_CELLS = 1 << 22  # similarities held at once: 16 MiB of float32


def cohesion_table(
    spaces: Mapping[str, FloatArray],
    categories: Bags,
    *,
    k: int,
    sample_size: int,
    rng: np.random.Generator,
) -> Table:
    """Mean category overlap of items with their nearest neighbours, against random pairs.

    Items without a category take no part. Neighbours are sought in the whole catalogue.

    Args:
        spaces: vectors by name, each (m, D): those of the first m items.
        categories: categories of every item.
        k: neighbours of an item; fewer where the catalogue is smaller.
        sample_size: at most so many items are asked for their neighbours.
        rng: draws the items and the random pairs.
    """
    records = []
    for name, vectors in spaces.items():
        pool = np.flatnonzero(categories.lengths[: len(vectors)] > 0)
        if len(pool) < 2:
            continue
        asked = sample(pool, sample_size, rng)
        n_neighbours = min(k, len(pool) - 1)
        neighbours = nearest(vectors, asked, pool, k=n_neighbours, rng=rng)
        strangers = _random_others(asked, pool, n_neighbours, rng)
        near = mean_interval(jaccard(categories, asked[:, None], neighbours).mean(axis=1))
        chance = mean_interval(jaccard(categories, asked[:, None], strangers).mean(axis=1))
        records.append(
            {"vector": name, "items": near.n, "neighbours": n_neighbours}
            | {"cohesion": near.mean, "low": near.low, "high": near.high}
            | {"chance": chance.mean, "chance_low": chance.low, "chance_high": chance.high}
            | {"times_chance": near.mean / chance.mean if chance.mean > 0 else None}
        )
    return Table.from_records(
        "category_cohesion",
        "Category cohesion of nearest neighbours",
        "Jaccard overlap of the categories of an item and its nearest neighbours by cosine, the "
        "mean over neighbours, then over items; chance is the same with as many random items. "
        "Intervals: 95%, over items. Items without a category are left out; "
        f"at most {sample_size:,} items are asked.",
        records,
    )


def nearest(
    vectors: FloatArray, asked: IntArray, pool: IntArray, *, k: int, rng: np.random.Generator
) -> IntArray:
    """The k items of the pool nearest to each asked item by cosine, itself left out, unordered.

    Ties go by a random order, never by index. A vector of length zero has cosine 0 with all.

    Args:
        vectors: (n, D).
        asked: indices of items, (Q,), all in the pool.
        pool: indices of items, (P,), P above k.
        k: neighbours of each.
        rng: draws the order that breaks ties.

    Returns:
        Indices of items, (Q, k).
    """
    candidates = rng.permutation(pool)
    unit = _unit(vectors[candidates])
    found = np.empty((len(asked), k), dtype=np.int64)
    block = max(1, BLOCK_CELLS // len(candidates))
    for start in range(0, len(asked), block):
        rows = asked[start : start + block]
        similarity = _unit(vectors[rows]) @ unit.T  # (block, P)
        similarity[candidates[None, :] == rows[:, None]] = -np.inf
        best = np.argpartition(similarity, len(candidates) - k, axis=1)[:, -k:]
        found[start : start + block] = candidates[best]
    return found


def jaccard(bags: Bags, left: IntArray, right: IntArray) -> FloatArray:
    """Shared columns over all columns of each pair of rows; ``left`` and ``right`` broadcast.

    0 where both rows are empty. Weights do not count; no row holds a column twice.
    """
    left, right = np.broadcast_arrays(left, right)
    shape, left, right = left.shape, left.ravel(), right.ravel()
    owners, columns = bags.entries(left)
    shared = np.bincount(owners[bags.contains(right[owners], columns)], minlength=len(left))
    union = bags.lengths[left] + bags.lengths[right] - shared
    overlap: FloatArray = (shared / np.maximum(union, 1)).reshape(shape)
    return overlap


def _random_others(asked: IntArray, pool: IntArray, k: int, rng: np.random.Generator) -> IntArray:
    """Random items of the pool for each asked one, never itself; (Q, k), repetition possible."""
    drawn = rng.integers(len(pool) - 1, size=(len(asked), k))
    drawn += drawn >= np.searchsorted(pool, asked)[:, None]  # step over the item itself
    others: IntArray = pool[drawn]
    return others


def sample(values: IntArray, size: int, rng: np.random.Generator) -> IntArray:
    """At most ``size`` of the values, drawn without replacement, in their order."""
    if len(values) <= size:
        return values
    return values[np.sort(rng.choice(len(values), size, replace=False))]


def _unit(vectors: FloatArray) -> FloatArray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: FloatArray = vectors / np.where(norms > 0, norms, 1)
    return unit
