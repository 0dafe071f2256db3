"""Negatives: items a user is not known to have."""

from __future__ import annotations

import numpy as np

from recsys.config import NegativeSampling
from recsys.data.arrays import Bags, BoolArray, FloatArray, IntArray
from recsys.errors import DataError

BITMAP_LIMIT_BYTES = 256 * 2**20
"""Known pairs are held as one bit for each (user, item) up to this size, else as sorted keys."""
MAX_ROUNDS = 64
"""Redraws of rejected negatives before the rest is drawn from each user's own complement."""


class KnownPairs:
    """Which (user, item) pairs are known, for many look-ups.

    Args:
        by_user: each user's items.
    """

    def __init__(self, by_user: Bags) -> None:
        self._by_user = by_user
        self._n_items = by_user.n_columns
        self._bits: IntArray | None = None
        n_bytes = (by_user.n_rows * by_user.n_columns + 7) // 8
        if n_bytes <= BITMAP_LIMIT_BYTES:
            keys = by_user.owners * self._n_items + by_user.indices
            self._bits = np.zeros(n_bytes, dtype=np.uint8)
            np.bitwise_or.at(self._bits, keys >> 3, (1 << (keys & 7)).astype(np.uint8))

    def contains(self, users: IntArray, items: IntArray) -> BoolArray:
        """Whether each pair is known; both arrays of one shape."""
        if self._bits is None:
            return self._by_user.contains(users, items)
        keys = users.astype(np.int64) * self._n_items + items
        known: BoolArray = (self._bits[keys >> 3] >> (keys & 7).astype(np.uint8)) & 1 == 1
        return known


class NegativeSampler:
    """Draws items that are not known positives of the user, from those with train interactions.

    Items never seen in training are not drawn: they could only ever be negatives, and the model
    would learn that what is new is bad.

    Args:
        by_user: the known items of each user.
        n_candidates: items 0..n_candidates-1 may be drawn.
        kind: ``uniform``, or ``popularity`` in proportion to count ** alpha; ``in_batch`` draws
            nothing, but knows how often an item is a batch's positive.
        alpha: the exponent; ``popularity`` only.

    Raises:
        DataError: a user knows every candidate, so that nothing is left to draw.
    """

    def __init__(
        self, by_user: Bags, n_candidates: int, *, kind: NegativeSampling, alpha: float = 0.75
    ) -> None:
        self._by_user = by_user
        self._known = KnownPairs(by_user)
        self._n_candidates = n_candidates
        self._cumulative: FloatArray | None = None
        counts = np.bincount(by_user.indices, minlength=n_candidates)[:n_candidates]
        if kind != "uniform":
            exponent = alpha if kind == "popularity" else 1.0
            self._cumulative = np.cumsum(counts.astype(np.float64) ** exponent)
            self._cumulative /= self._cumulative[-1]
            self._chances = np.diff(self._cumulative, prepend=0.0)
        full = np.flatnonzero(by_user.lengths >= n_candidates)
        if len(full):
            raise DataError(
                f"each user must have an item left that is not known, but {len(full)} users "
                f"have interacted with all {n_candidates} train items (first: index {full[0]})"
            )

    def sample(self, users: IntArray, k: int, rng: np.random.Generator) -> IntArray:
        """K negatives of each user, (B, K) int64; an item may be drawn twice."""
        owners = np.repeat(users.astype(np.int64), k)
        negatives = self.draw(len(owners), rng)
        pending = np.flatnonzero(self._known.contains(owners, negatives))
        for _ in range(MAX_ROUNDS):
            if not len(pending):
                break
            redrawn = self.draw(len(pending), rng)
            negatives[pending] = redrawn
            pending = pending[self._known.contains(owners[pending], redrawn)]
        for position in pending:  # users who know almost everything that is likely to be drawn
            negatives[position] = self._draw_from_complement(int(owners[position]), rng)
        return negatives.reshape(len(users), k)

    def log_chance(self, items: IntArray, n_draws: int) -> FloatArray:
        """Logarithm of how often each item is expected among so many draws, float32."""
        if self._cumulative is None:
            return np.full(items.shape, np.log(n_draws / self._n_candidates), dtype=np.float32)
        logs: FloatArray = np.log(n_draws * self._chances[items]).astype(np.float32)
        return logs

    def log_inclusion(self, items: IntArray, n_draws: int) -> FloatArray:
        """Logarithm of the chance that each item is drawn at least once in so many draws."""
        expected = np.exp(self.log_chance(items, 1).astype(np.float64))
        with np.errstate(divide="ignore"):
            none = n_draws * np.log1p(-np.minimum(expected, 1.0))
            logs: FloatArray = np.log(-np.expm1(none)).astype(np.float32)
        return logs

    def draw(self, n: int, rng: np.random.Generator) -> IntArray:
        """Items for nobody in particular, (n,) int64; an item may be drawn twice."""
        if self._cumulative is None:
            return rng.integers(self._n_candidates, size=n)
        drawn = np.searchsorted(self._cumulative, rng.random(n), side="right")
        return np.minimum(drawn, self._n_candidates - 1)

    def _draw_from_complement(self, user: int, rng: np.random.Generator) -> int:
        unknown = np.setdiff1d(np.arange(self._n_candidates), self._by_user.row(user))
        weights = None if self._cumulative is None else self._chances[unknown]
        if weights is None or weights.sum() <= 0:
            return int(rng.choice(unknown))
        return int(rng.choice(unknown, p=weights / weights.sum()))
