"""Whether a reader's vectors agree with their books and their metadata more than a stranger's."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from recsys.data.arrays import FloatArray, Interactions
from recsys.evaluation.cohesion import sample
from recsys.evaluation.intervals import mean_interval
from recsys.evaluation.tables import Table


class Spaces(Protocol):
    """The vectors of one tower."""

    @property
    def vectors(self) -> FloatArray:
        """Tower output, (n, D)."""

    @property
    def ids(self) -> FloatArray | None:
        """Id embeddings of the first rows, (m, D)."""

    @property
    def metadata(self) -> FloatArray | None:
        """Metadata embeddings, (n, D)."""


def alignment_table(
    users: Spaces,
    items: Spaces,
    *,
    train: Interactions,
    n_users: int,
    n_items: int,
    rng: np.random.Generator,
) -> Table:
    """Cosines of vectors that belong together, against shuffled pairs.

    Args:
        users: vectors of every user.
        items: vectors of every item.
        train: users without train items have no mean to compare with and are left out.
        n_users: at most so many users are compared.
        n_items: at most so many items.
        rng: draws them, and the shuffled pairs.
    """
    records = []
    readers = sample(np.flatnonzero(train.user_counts), n_users, rng)
    if len(readers) > 1:
        histories = train.by_user.take(readers).to_scipy()
        means = histories @ items.vectors / train.user_counts[readers, None]  # (U, D)
        records.append(
            _compare("reader and mean of train books", users.vectors[readers], means, rng)
        )
    for name, tower, size in (
        ("reader: id and metadata", users, n_users),
        ("book: id and metadata", items, n_items),
    ):
        if tower.ids is None or tower.metadata is None or len(tower.ids) < 2:
            continue
        rows = sample(np.arange(len(tower.ids)), size, rng)
        records.append(_compare(name, tower.ids[rows], tower.metadata[rows], rng))
    return Table.from_records(
        "alignment",
        "Alignment of vectors that belong together",
        "Mean cosine of each pair, and of the same vectors paired with those of another row. The "
        "first row compares tower vectors; the others, where a tower has both, id embeddings with "
        "metadata embeddings of rows seen in training. Intervals: 95 %, over pairs.",
        records,
    )


def cosines(left: FloatArray, right: FloatArray) -> FloatArray:
    """Cosine of each pair of rows, (n, D) and (n, D) to (n,); NaN where a row is all zero."""
    dots = np.einsum("nd,nd->n", left, right, dtype=np.float64)
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    result: FloatArray = np.divide(dots, lengths, out=np.full(len(dots), np.nan), where=lengths > 0)
    return result


def _compare(
    name: str, left: FloatArray, right: FloatArray, rng: np.random.Generator
) -> dict[str, str | float | int]:
    together = mean_interval(cosines(left, right))
    order = rng.permutation(len(left))
    apart = mean_interval(cosines(left[order], right[np.roll(order, 1)]))  # no row keeps its own
    return {
        "pair": name,
        "n": together.n,
        "cosine": together.mean,
        "low": together.low,
        "high": together.high,
        "shuffled": apart.mean,
        "shuffled_low": apart.low,
        "shuffled_high": apart.high,
        "difference": together.mean - apart.mean,
    }
