"""What gives every user a score for every item: vectors, or weights between items.

A scorer is asked in two ways. :meth:`score_block` scores some users for a block of the catalogue,
which :meth:`gather` has laid out; a last bit may depend on the sizes of the blocks.
:meth:`score_listed` scores each user for some items of their own, and gives equal items equal
scores to the bit wherever they stand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, assert_never

import numpy as np
import torch
from torch import Tensor

from recsys.data.arrays import Bags, FloatArray, IntArray
from recsys.errors import BookendsError

Combine = Literal["max", "logsumexp"]
"""How the scores of a user's several vectors become one: the largest, or log of sum of exp."""

_LARGEST = float(np.finfo(np.float32).max)
_CHUNK = 2**20  # values looked at together


@dataclass(frozen=True)
class Needs:
    """Working memory of :meth:`score_block`, in bytes.

    Attributes:
        item: for each item of a block.
        score: for each user and item of a block.
        parts: float32 values among those that ``memory`` must hold for each user and item.
        user: for each user.
        listed: of :meth:`score_listed`, for each item of a user.
    """

    item: int
    score: int
    parts: int
    user: int
    listed: int


@dataclass(frozen=True, eq=False)
class Vectors:
    """The score of a user for an item is the dot product of their vectors.

    A user may have several vectors; the score is then what ``combine`` makes of their products.
    Popularity is a column of ones against the counts; a factor model of the world is its oracle.

    Attributes:
        users: (U, D) float32, or (U, K, D) with K at least 2; (U, 1, D) becomes (U, D).
        items: (I, D) float32.
        combine: over the K vectors; without meaning where there is one.
    """

    users: FloatArray
    items: FloatArray
    combine: Combine = "max"

    def __post_init__(self) -> None:
        """Check that the two sides can meet."""
        users = np.asarray(self.users, dtype=np.float32)
        if users.ndim == 3 and users.shape[1] == 1:
            users = users[:, 0]
        assert users.ndim in (2, 3) and self.items.ndim == 2
        assert users.shape[-1] == self.items.shape[1]
        object.__setattr__(self, "users", users)
        object.__setattr__(self, "items", np.asarray(self.items, dtype=np.float32))

    @property
    def queries(self) -> FloatArray:
        """The vectors of users, (U, K, D) also where K is 1."""
        return self.users if self.users.ndim == 3 else self.users[:, None]

    @property
    def n_queries(self) -> int:
        """K, the vectors of a user."""
        return int(self.queries.shape[1])

    @property
    def n_users(self) -> int:
        """U."""
        return len(self.users)

    @property
    def n_items(self) -> int:
        """I."""
        return len(self.items)

    @property
    def values_of_item(self) -> int:
        """Values that :meth:`gather` lays out for an item."""
        dim: int = self.items.shape[1]
        return dim

    def needs(self) -> Needs:
        """Working memory: items also in half precision, users gathered and laid side by side."""
        dim, n = self.items.shape[1], self.n_queries
        several = 0 if n == 1 else 4 * dim + 16 * n
        return Needs(
            item=6 * dim + 24,
            score=4 * self._n_parts,
            parts=self._n_parts,
            user=8 * dim * n,
            listed=4 * dim + several,
        )

    @property
    def _n_parts(self) -> int:
        """Scores held for each user and item: of every vector, and their largest."""
        return 1 if self.n_queries == 1 else self.n_queries + 1

    def check_finite(self, users: IntArray) -> None:
        """Refuse vectors whose products could be NaN or infinite (Cauchy and Schwarz)."""
        longest = [_longest(self.users, users, "user"), _longest(self.items, None, "item")]
        if longest[0] * longest[1] > _LARGEST:
            raise BookendsError(
                "scores must be finite, but vectors of length "
                f"{longest[0]:.3g} and {longest[1]:.3g} overflow; did training diverge?"
            )

    def gather(self, items: IntArray, memory: FloatArray) -> FloatArray:
        """The vectors of a block of items, (n, D), written to the head of ``memory``."""
        out = memory[: len(items) * self.items.shape[1]].reshape(len(items), -1)
        np.take(self.items, items, axis=0, out=out, mode="clip")  # "raise" would copy first
        return out

    def score_block(self, users: IntArray, block: FloatArray, memory: FloatArray) -> FloatArray:
        """Scores of some users for a block, (n, columns), in ``memory`` as :meth:`needs` says."""
        shape = (self._n_parts, len(users), len(block))
        parts = torch.from_numpy(memory[: int(np.prod(shape))].reshape(shape))
        side_by_side = np.moveaxis(self.queries[users], 1, 0).reshape(-1, block.shape[1])
        products = parts[: self.n_queries].view(-1, len(block))
        torch.mm(as_tensor(side_by_side), torch.from_numpy(block).T, out=products)
        if self.n_queries > 1:
            combine_parts(parts, self.combine)
        return parts[0].numpy()

    def score_listed(self, users: IntArray, items: IntArray) -> FloatArray:
        """Score of each user for their own items; (m,), (m, w) -> (m, w) float32."""
        chosen = torch.from_numpy(np.ascontiguousarray(items, dtype=np.int64))
        gathered = as_tensor(self.items).index_select(0, chosen.view(-1)).view(*chosen.shape, -1)
        # A sum over each product, not a matrix product: equal vectors must get bit-equal scores
        # wherever they stand, or a collapsed model would not score like chance.
        if self.n_queries == 1:
            return gathered.mul_(as_tensor(self.users[users])[:, None]).sum(dim=-1).numpy()
        queries = as_tensor(self.users[users])
        parts = torch.empty(self.n_queries + 1, *chosen.shape, dtype=torch.float64)
        for number in range(self.n_queries):
            parts[number] = (gathered * queries[:, number, None]).sum(dim=-1)
        # In float64: how exp rounds may depend on where a value lies, float32 no longer shows it.
        combine_parts(parts, self.combine)
        return parts[0].float().numpy()


def combine_parts(parts: Tensor, combine: Combine) -> None:
    """Put what the first K parts come to in place of the first; (K + 1, ...), all overwritten."""
    match combine:
        case "max":
            for part in parts[1:-1]:
                torch.maximum(parts[0], part, out=parts[0])
        case "logsumexp":
            largest = torch.amax(parts[:-1], dim=0, out=parts[-1])
            parts[:-1].sub_(largest).exp_()
            for part in parts[1:-1]:
                parts[0] += part
            parts[0].log_().add_(largest)
        case _:
            assert_never(combine)


@dataclass(frozen=True, eq=False)
class ItemWeights:
    """The score of a user for an item is the weighted sum of what their items say for it.

    For user u and item i: the sum over j in the history of u of ``w_uj * weights[j, i]``. EASE and
    item neighbours score so.

    Attributes:
        history: items of each user, (U, I), with weights or all counting 1.
        weights: (I, I) float32; row j is what item j says for every item.
    """

    history: Bags
    weights: FloatArray

    def __post_init__(self) -> None:
        """Check that the two sides can meet."""
        assert self.weights.shape == (self.history.n_columns, self.history.n_columns)
        object.__setattr__(self, "weights", np.asarray(self.weights, dtype=np.float32))

    @property
    def n_users(self) -> int:
        """U."""
        return self.history.n_rows

    @property
    def n_items(self) -> int:
        """I."""
        return self.history.n_columns

    @property
    def values_of_item(self) -> int:
        """Values that :meth:`gather` lays out for an item."""
        return self.n_items

    def needs(self) -> Needs:
        """Working memory: a column of weights an item, the scores, histories taken."""
        longest = int(self.history.lengths.max()) if self.n_users else 0
        return Needs(
            item=4 * self.n_items + 24, score=4, parts=0, user=40 * longest, listed=8 * longest
        )

    def check_finite(self, users: IntArray) -> None:
        """Refuse weights whose sums could be NaN or infinite."""
        largest = 0.0
        at_once = max(1, _CHUNK // max(1, self.n_items))
        for start in range(0, self.n_items, at_once):
            block = self.weights[start : start + at_once]
            rows = np.maximum(block.max(axis=1), -block.min(axis=1))  # NaN where one is
            if not np.isfinite(rows).all():
                item = start + int(np.flatnonzero(~np.isfinite(rows))[0])
                raise BookendsError(
                    f"scores must be finite, but a weight of item {item} is NaN or infinity"
                )
            largest = max(largest, float(rows.max()))
        for start in range(0, len(users), at_once):
            taken = abs(self.history.take(users[start : start + at_once]).to_scipy())
            sums = np.asarray(taken.sum(axis=1, dtype=np.float64)).ravel()
            if not (sums * largest <= _LARGEST).all():  # also NaN
                user = int(users[start + int(np.flatnonzero(~(sums * largest <= _LARGEST))[0])])
                raise BookendsError(
                    f"scores must be finite, but the history of user {user} weighs too much or "
                    "holds NaN"
                )

    def gather(self, items: IntArray, memory: FloatArray) -> FloatArray:
        """What every item says for a block, (I, n), written to the head of ``memory``."""
        out = memory[: len(items) * self.n_items].reshape(self.n_items, len(items))
        np.take(self.weights, items, axis=1, out=out, mode="clip")
        return out

    def score_block(self, users: IntArray, block: FloatArray, memory: FloatArray) -> FloatArray:
        """Scores of some users for a block, (n, columns); terms added in the history's order."""
        scores: FloatArray = self.history.take(users).to_scipy() @ block
        return scores

    def score_listed(self, users: IntArray, items: IntArray) -> FloatArray:
        """Score of each user for their own items; (m,), (m, w) -> (m, w) float32."""
        scores = np.empty(items.shape, dtype=np.float32)
        for row, user in enumerate(users):
            own = self.history.take(np.array([user]))
            terms = self.weights[own.indices[:, None], items[row]]  # (h, w)
            if own.weights is not None:
                terms *= own.weights[:, None]
            terms.sum(axis=0, out=scores[row])
        return scores


Scorer = Vectors | ItemWeights
"""What ranks."""


def _longest(values: FloatArray, rows: IntArray | None, what: str) -> float:
    """Length of the longest of the given rows (all for None); each one vector or several."""
    longest, at_once = 0.0, max(1, _CHUNK // max(1, values[:1].size))
    for start in range(0, len(values) if rows is None else len(rows), at_once):
        part = slice(start, start + at_once)
        block = values[part] if rows is None else values[rows[part]]
        lengths = torch.linalg.vector_norm(as_tensor(block), dim=-1, dtype=torch.float64)
        lengths = lengths.view(len(block), -1).amax(dim=1)  # NaN where one is
        if not bool(torch.isfinite(lengths).all()):
            row = start + int(torch.isfinite(lengths).logical_not().nonzero()[0])
            index = row if rows is None else int(rows[row])
            raise BookendsError(
                f"scores must be finite, but the vector of {what} {index} holds NaN or infinity; "
                "did training diverge?"
            )
        longest = max(longest, float(lengths.max()))
    return longest


def as_tensor(values: FloatArray) -> Tensor:
    """The array as a float32 tensor, sharing memory where torch can."""
    values = np.ascontiguousarray(values, dtype=np.float32)
    return torch.from_numpy(values if values.flags.writeable else values.copy())
