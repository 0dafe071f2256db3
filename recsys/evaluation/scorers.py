"""What gives every user a score for every item: vectors, or weights between items.

:meth:`score_listed` defines the score: it gives equal items equal scores wherever they stand.
:mod:`recsys.evaluation.topk` finds the best by faster means, and gives these scores.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, assert_never

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from recsys.data.arrays import Bags, FloatArray, IntArray
from recsys.errors import BookendsError

Combine = Literal["max", "logsumexp"]
"""How the scores of a user's several vectors become one: the largest, or log of sum of exp."""

_LARGEST = float(np.finfo(np.float32).max)
_CHUNK = 2**20  # values looked at together
_LISTED_BYTES = 2**21
"""What is made at once to score listed items; of a single user it may be more."""


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
    def n_items(self) -> int:
        """I."""
        return len(self.items)

    def of_items(self, items: IntArray) -> Vectors:
        """The same of the given items, numbered in their order."""
        return replace(self, items=self.items[items])

    @property
    def listed_bytes(self) -> int:
        """Memory of :meth:`score_listed` for each item of a user, beside a fixed amount."""
        return 4 * int(self.items.shape[1]) if self.n_queries == 1 else 4

    def check_finite(self, users: IntArray) -> None:
        """Refuse vectors whose products could be NaN or infinite (Cauchy and Schwarz)."""
        longest = [_longest(self.users, users, "user"), _longest(self.items, None, "item")]
        if longest[0] * longest[1] > _LARGEST:
            raise BookendsError(
                "scores must be finite, but vectors of length "
                f"{longest[0]:.3g} and {longest[1]:.3g} overflow; did training diverge?"
            )

    def score_listed(self, users: IntArray, items: IntArray) -> FloatArray:
        """Score of each user for their own items; (m,), (m, w) -> (m, w) float32."""
        chosen = torch.from_numpy(np.ascontiguousarray(items, dtype=np.int64))
        if self.n_queries > 1:
            return self._combine_listed(users, chosen)
        gathered = as_tensor(self.items).index_select(0, chosen.view(-1)).view(*chosen.shape, -1)
        # A sum over each product, not a matrix product: equal vectors must get bit-equal scores
        # wherever they stand, or a collapsed model would not score like chance.
        return gathered.mul_(as_tensor(self.users[users])[:, None]).sum(dim=-1).numpy()

    def _combine_listed(self, users: IntArray, chosen: Tensor) -> FloatArray:
        """The same of users with several vectors, by matrix products in float64.

        How these round may depend on how many items are listed beside; float32 shows it once in
        some 10^8 scores. Pairs, one item a user, get the same bits alone and together.
        """
        scores, table = np.empty(chosen.shape, dtype=np.float32), as_tensor(self.items)
        of_user = 8 * (self.n_queries + chosen.shape[1]) * (self.items.shape[1] + self.n_queries)
        at_once = max(1, _LISTED_BYTES // of_user)
        for start in range(0, len(users), at_once):
            part = slice(start, start + at_once)
            queries = as_tensor(self.users[users[part]]).double()  # (n, K, D)
            listed = table[chosen[part]].double()  # (n, w, D)
            products = listed @ queries.mT
            scores[part] = combine_products(products, self.combine, (-1,)).numpy()
        return scores


def combine_products(products: Tensor, combine: Combine, dims: tuple[int, ...]) -> Tensor:
    """One score of the products along some dimensions."""
    match combine:
        case "max":
            return products.amax(dim=dims)
        case "logsumexp":
            return products.logsumexp(dim=dims)
        case _:
            assert_never(combine)


@dataclass(frozen=True, eq=False)
class ItemWeights:
    """The score of a user for an item is the weighted sum of what their items say for it.

    For user u and item i: the sum over j in the history of u of ``w_uj * weights[j, i]``. EASE and
    item neighbours score so.

    Attributes:
        history: items of each user, (U, J), with weights or all counting 1.
        weights: (J, I) float32, or sparse where most are 0; row j is what item j says for every
            item. The items of histories are those that are scored, J = I, but for
            :meth:`of_items`.
    """

    history: Bags
    weights: FloatArray | sparse.csr_matrix

    def __post_init__(self) -> None:
        """Check that the two sides can meet."""
        assert self.weights.shape[0] == self.history.n_columns
        object.__setattr__(self, "weights", self.weights.astype(np.float32, copy=False))

    @property
    def n_items(self) -> int:
        """I."""
        return int(self.weights.shape[1])

    def of_items(self, items: IntArray) -> ItemWeights:
        """The same of the given items, numbered in their order; histories keep all."""
        return replace(self, weights=self.weights[:, items])

    @property
    def listed_bytes(self) -> int:
        """Memory of :meth:`score_listed` for each item of a user, beside a fixed amount."""
        return 4

    def check_finite(self, users: IntArray) -> None:
        """Refuse weights whose sums could be NaN or infinite."""
        largest = 0.0
        at_once = max(1, _CHUNK // max(1, self.n_items))
        for start in range(0, self.history.n_columns, at_once):
            block = self.weights[start : start + at_once]
            ends = (block.max(axis=1), block.min(axis=1))  # NaN where one is
            high, low = (end.toarray().ravel() if sparse.issparse(end) else end for end in ends)
            rows = np.maximum(high, -low)
            if not np.isfinite(rows).all():
                item = start + int(np.flatnonzero(~np.isfinite(rows))[0])
                raise BookendsError(
                    f"scores must be finite, but a weight of item {item} is NaN or infinity"
                )
            largest = max(largest, float(rows.max(initial=0.0)))
        for start in range(0, len(users), at_once):
            taken = abs(self.history.take(users[start : start + at_once]).to_scipy())
            sums = np.asarray(taken.sum(axis=1, dtype=np.float64)).ravel()
            if not (sums * largest <= _LARGEST).all():  # also NaN
                user = int(users[start + int(np.flatnonzero(~(sums * largest <= _LARGEST))[0])])
                raise BookendsError(
                    f"scores must be finite, but the history of user {user} weighs too much or "
                    "holds NaN"
                )

    def score_all(self, users: IntArray) -> FloatArray:
        """Scores of some users for every item, (n, I); terms added in the history's order."""
        scores = self.history.take(users).to_scipy() @ self.weights
        dense: FloatArray = scores.toarray() if sparse.issparse(scores) else scores
        return dense

    def score_listed(self, users: IntArray, items: IntArray) -> FloatArray:
        """Score of each user for their own items; (m,), (m, w) -> (m, w) float32."""
        scores = np.empty(items.shape, dtype=np.float32)
        at_once = max(1, _LISTED_BYTES // (4 * max(1, self.n_items)))
        for start in range(0, len(users), at_once):
            part = slice(start, start + at_once)
            # Whole rows are read in order; the listed items are scattered in memory.
            scores[part] = np.take_along_axis(self.score_all(users[part]), items[part], axis=1)
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
