"""The two-tower model: a tower for users, a tower for items, and how their vectors meet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from recsys.config import QueryScore, Similarity
from recsys.data.arrays import FloatArray, IntArray
from recsys.data.histories import Histories
from recsys.models.history import latest
from recsys.models.normalise import LEAST_LENGTH, normalise
from recsys.models.tower import Tower, TowerParts

Side = Literal["user", "item"]
MIN_TEMPERATURE = 0.01
"""A learned temperature stops here: below, one wrong negative outweighs the whole batch."""
CHUNK = 8192
"""Rows encoded at once when all users or items are."""
POPULARITY_PACE = 10.0
"""The weight of popularity is learned so many times as fast as other weights."""
USUAL_LENGTH = 10
"""Items of a history at which ``temperature_power`` leaves scores as they are."""
LEAST_SHARE = 3e-4
"""A query whose share is less than this counts as if it had so much."""


@dataclass(frozen=True)
class Matching:
    """How the vectors of both towers meet.

    Attributes:
        similarity: ``cosine`` divides by a temperature, since a logit in [-1, 1] cannot fit a
            probability; ``dot`` takes the product as it is.
        temperature: cosine only; its start where learned.
        learn_temperature: cosine only.
        temperature_power: cosine only; scores are multiplied by (length of the history / 10) to it.
        query_score: how the scores of a user's queries become one.
        query_prior: cosine only; a query's scores are raised by so many times the logarithm of its
            share, its length over the sum of all K lengths; 0 leaves it out.
        max_history: most items of a history.
    """

    similarity: Similarity = "cosine"
    temperature: float = 0.1
    learn_temperature: bool = False
    temperature_power: float = 0.0
    query_score: QueryScore = "max"
    query_prior: float = 0.0
    max_history: int = 200


class PopularityTerm(nn.Module):
    """A learned weight times how much more popular an item is than the average, as a coordinate.

    Args:
        counts: interactions of the items with an id embedding, (n_warm,).
    """

    values: Tensor

    def __init__(self, counts: IntArray) -> None:
        super().__init__()
        logs = np.log1p(counts).astype(np.float32)
        centred = logs - logs.mean() if len(logs) else logs
        # The last value is of all other items. Not persistent: it belongs to the data set.
        values = torch.from_numpy(np.append(centred, np.float32(0)))
        self.register_buffer("values", values, persistent=False)
        self.weight = nn.Parameter(torch.zeros(()))

    def of_items(self, items: Tensor | int) -> Tensor:
        """The coordinate of items, (n, 1)."""
        if isinstance(items, int):
            items = torch.arange(items, device=self.values.device)
        n_warm = len(self.values) - 1
        known = (items >= 0) & (items < n_warm)
        return self.values[torch.where(known, items, n_warm)].unsqueeze(1)

    def of_users(self, vectors: Tensor) -> Tensor:
        """The same coordinate of users' vectors (..., D): the weight, (..., 1)."""
        return (self.weight * POPULARITY_PACE).expand(*vectors.shape[:-1], 1)


class TwoTower(nn.Module):
    """Scores a user and an item by the product of their towers' vectors.

    Args:
        user_tower: for users.
        item_tower: for items; vectors of the same length.
        matching: how their vectors meet.
        popularity: adds the items' popularity to the score; None leaves it out.
    """

    log_scale: Tensor | None

    def __init__(
        self,
        user_tower: Tower,
        item_tower: Tower,
        matching: Matching,
        popularity: PopularityTerm | None = None,
    ) -> None:
        super().__init__()
        self.popularity = popularity
        assert user_tower.dim == item_tower.dim
        self.user_tower = user_tower
        self.item_tower = item_tower
        self.matching = matching
        start = torch.tensor(matching.temperature).log().neg()
        if matching.similarity == "dot":
            self.log_scale = None
        elif matching.learn_temperature:
            self.log_scale = nn.Parameter(start)
        else:
            self.register_buffer("log_scale", start)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def temperature(self) -> float | None:
        """What the cosine is divided by; None for ``dot``."""
        if self.log_scale is None:
            return None
        return max(float((-self.log_scale.detach()).exp()), MIN_TEMPERATURE)

    def tower(self, side: Side) -> Tower:
        """The user tower or the item tower."""
        return self.user_tower if side == "user" else self.item_tower

    def match_users(self, vectors: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Vectors of users as they enter the product; for cosine over the temperature.

        They are longer than the tower's by one coordinate for the popularity term and one for the
        prior of queries: a softmax over items becomes a mixture of softmaxes, each query's with a
        weight of its own (Yang et al., "Breaking the Softmax Bottleneck", ICLR 2018, eq. 2).

        Args:
            vectors: of the user tower, (n, D) or (n, K, D).
            lengths: items of each user's history, (n,); None where there are no histories.
        """
        coordinates = [self._scaled(vectors, lengths)]
        if self.popularity is not None:
            coordinates.append(self.popularity.of_users(vectors))
        if self.matching.query_prior > 0:
            coordinates.append(self.matching.query_prior * log_shares(vectors))
        return _side_by_side(coordinates)

    def _scaled(self, vectors: Tensor, lengths: Tensor | None) -> Tensor:
        if self.log_scale is None:
            return vectors
        scale = self.log_scale.exp().clamp(max=1 / MIN_TEMPERATURE)
        power = self.matching.temperature_power
        if lengths is not None and power > 0:
            scale = scale * (lengths.clamp(min=1) / USUAL_LENGTH) ** power
            scale = scale.view(-1, *[1] * (vectors.ndim - 1))
        return normalise(vectors) * scale

    def match_items(self, vectors: Tensor, items: Tensor | int) -> Tensor:
        """Vectors of items as they enter the product, (n, D), longer as those of users are.

        Args:
            vectors: of the item tower, (n, D).
            items: their indices, (n,) int64; a number stands for the first so many.
        """
        coordinates = [vectors if self.log_scale is None else normalise(vectors)]
        if self.popularity is not None:
            coordinates.append(self.popularity.of_items(items))
        if self.matching.query_prior > 0:
            coordinates.append(vectors.new_ones((len(vectors), 1)))
        return _side_by_side(coordinates)

    def history_table(self, items: Tensor | int, item_vectors: Tensor) -> Tensor:
        """The vectors that histories pool, of the given items, (n, D).

        Args:
            items: (n,) int64; a number stands for the first so many.
            item_vectors: what the item tower gave for them.
        """
        own = self.user_tower.history_table
        if own is None:
            return item_vectors
        if isinstance(items, int):
            items = torch.arange(items, device=item_vectors.device)
        vectors: Tensor = own(own.rows(items))
        return vectors

    # All users and items, as arrays ----------------------------------------------------------

    def item_vectors(self, n_items: int) -> FloatArray:
        """All items' vectors, (I, D) float32."""
        return self.collect_items(n_items, lambda p, items: self.match_items(p.vectors, items))

    def user_vectors(self, histories: Histories, table: FloatArray | None = None) -> FloatArray:
        """All users' vectors, (U, D) or (U, K, D) float32: their products with items' are logits.

        Args:
            histories: of users 0..U-1; their ids are the indices.
            table: what :meth:`item_table` gave; None makes it.
        """
        return self.collect_users(
            np.arange(len(histories)),
            histories,
            lambda parts, lengths: self.match_users(parts.vectors, lengths),
            table,
        )

    def item_table(self, n_items: int) -> FloatArray | None:
        """The item vectors that histories pool, (I, D); None for a model without histories."""
        if self.user_tower.history is None:
            return None
        own = self.user_tower.history_table
        if own is None:
            return self.collect_items(n_items, lambda parts, _: parts.vectors)
        return self._by_chunk(n_items, lambda items: own(own.rows(items)))

    def collect_items(
        self, n_items: int, part: Callable[[TowerParts, Tensor], Tensor | None]
    ) -> FloatArray:
        """One part of what the item tower makes of items 0..n-1, in evaluation mode.

        Args:
            n_items: n.
            part: takes the parts of a chunk of items and their indices.
        """
        return self._by_chunk(n_items, lambda items: part(self.item_tower.parts(items), items))

    def collect_users(
        self,
        users: IntArray,
        histories: Histories,
        part: Callable[[TowerParts, Tensor | None], Tensor | None],
        table: FloatArray | None = None,
    ) -> FloatArray:
        """One part of what the user tower makes of users, in evaluation mode.

        Args:
            users: indices of the users, -1 where not known, (n,).
            histories: of n users, one for each of ``users``.
            part: takes the parts of a chunk of users and the lengths of their histories.
            table: what :meth:`item_table` gave; None makes it.
        """
        if self.user_tower.history is not None and table is None:
            table = self.item_table(histories.n_items)
        vectors = None if table is None else torch.from_numpy(table).to(self.device)

        def encode(rows: Tensor) -> Tensor | None:
            at = rows.cpu().numpy()
            indices = torch.from_numpy(users[at].astype(np.int64)).to(self.device)
            if vectors is None:
                return part(self.user_tower.parts(indices), None)
            history = latest(histories.take(at), self.matching.max_history).to(self.device)
            return part(self.user_tower.parts(indices, history, vectors), history.lengths)

        return self._by_chunk(len(users), encode)

    @torch.no_grad()
    def _by_chunk(self, n: int, encode: Callable[[Tensor], Tensor | None]) -> FloatArray:
        """What is made of rows 0..n-1, in evaluation mode and so many at once; (n, ...)."""
        was_training = self.training
        self.eval()
        chunks = []
        for start in range(0, max(n, 1), CHUNK):  # of no rows a chunk of none
            chunk = encode(torch.arange(start, min(start + CHUNK, n), device=self.device))
            assert chunk is not None
            chunks.append(chunk.float().cpu().numpy())
        self.train(was_training)
        return np.concatenate(chunks)


def log_shares(vectors: Tensor) -> Tensor:
    """The logarithm of each query's share in the length of all of its user, (n, K, 1) or (n, 1).

    Args:
        vectors: of users, (n, K, D); a single one, (n, D), has all of it.
    """
    if vectors.ndim == 2:
        return vectors.new_zeros((len(vectors), 1))
    lengths = torch.linalg.vector_norm(vectors, dim=2, keepdim=True) + LEAST_LENGTH
    shares: Tensor = lengths / lengths.sum(dim=1, keepdim=True)  # of nothing, all alike
    return shares.clamp(min=LEAST_SHARE).log()


def _side_by_side(coordinates: list[Tensor]) -> Tensor:
    return coordinates[0] if len(coordinates) == 1 else torch.cat(coordinates, dim=-1)
