"""A user's items as a part of the user tower."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self, assert_never

import numpy as np
import torch
from torch import Tensor, nn

from recsys.config import HistoryPooling
from recsys.data.arrays import FloatArray, IntArray, offsets_of
from recsys.data.histories import Histories
from recsys.models.bags import BagTensors, repeated, softmax_entries, sum_bags, sum_entries
from recsys.models.normalise import normalise

SECONDS_A_DAY = 86_400
FIRST_SLOPE = 0.1
SLOPE_PACE = 5.0
"""Slopes are learned so many times as fast as other weights, of which each step moves a share."""


@dataclass(frozen=True, eq=False)
class HistoryRows:
    """Some of the items of R users, each row's oldest first.

    Attributes:
        offsets: where each row begins, and the end, (R + 1,) int64.
        items: rows of the table of item vectors, (m,) int64.
        positions: distance from the end of the history, 0 for the most recent item, (m,) int64;
            None where the data has no order.
        ages: seconds before the row's latest item, (m,) float32; None where times are not known.
        ratings: (m,) float32, or None.
    """

    offsets: Tensor
    items: Tensor
    positions: Tensor | None = None
    ages: Tensor | None = None
    ratings: Tensor | None = None

    @classmethod
    def of(
        cls,
        histories: Histories,
        places: IntArray,
        offsets: IntArray,
        *,
        positions: IntArray,
        beside: IntArray,
    ) -> Self:
        """Items of histories; rows name items of the catalogue.

        Args:
            histories: of all users.
            places: of the items in ``histories.items``, (m,).
            offsets: where each row begins in ``places``, and the end, (R + 1,) int64.
            positions: distance of each item from the end of its row, (m,) int64.
            beside: place of the item that its age is counted from, (m,).
        """
        times, ages, ratings = histories.times, None, None
        if times is not None:
            ages = torch.from_numpy(np.abs(times[beside] - times[places]).astype(np.float32))
        if histories.ratings is not None:
            ratings = torch.from_numpy(histories.ratings[places].astype(np.float32))
        return cls(
            torch.from_numpy(offsets),
            torch.from_numpy(histories.items[places].astype(np.int64)),
            torch.from_numpy(positions) if histories.has_order else None,
            ages,
            ratings,
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def bags(self) -> BagTensors:
        """The rows as bags of items."""
        return BagTensors(self.offsets, self.items)

    @property
    def lengths(self) -> Tensor:
        """Items of each row, (R,)."""
        return self.offsets.diff()

    def part(self, start: int, end: int) -> HistoryRows:
        """The rows from ``start`` to before ``end``."""
        offsets = self.offsets[start : end + 1]
        entries = slice(int(offsets[0]), int(offsets[-1]))
        columns = (self.items, self.positions, self.ages, self.ratings)
        items, *described = (None if each is None else each[entries] for each in columns)
        assert items is not None
        return HistoryRows(offsets - offsets[0], items, *described)

    def to(self, device: torch.device) -> HistoryRows:
        """The same on a device."""
        moved = {name: t.to(device) for name, t in vars(self).items() if t is not None}
        return replace(self, **moved)


def latest(histories: Histories, most: int) -> HistoryRows:
    """The most recent items of each history, at most so many; rows name items of the catalogue."""
    lengths = histories.lengths
    from_end = np.repeat(histories.offsets[1:], lengths) - 1 - np.arange(len(histories.items))
    places = np.flatnonzero(from_end < most)
    positions = from_end[places]
    offsets = offsets_of(np.minimum(lengths, most))
    return HistoryRows.of(
        histories, places, offsets, positions=positions, beside=places + positions
    )


class HistoryWeights(nn.Module):
    """Learned weights of the items of a history: the exponential of a sum of terms.

    Recency is a curve of two learned slopes, ``-(a d / 10 + b log(1 + d))`` of the distance d from
    the end, in items or in days. It begins nearly flat and becomes steep only where order tells.

    Args:
        recency: "none", "position" or "time".
        rating_edges: borders between ratings that have a weight each, ascending, (r,); None where
            ratings do not count.
    """

    rating_edges: Tensor | None

    def __init__(self, recency: str, rating_edges: FloatArray | None) -> None:
        super().__init__()
        self.recency = recency
        self.slopes = self.by_rating = None
        if recency != "none":
            self.slopes = nn.Parameter(torch.full((2,), FIRST_SLOPE / SLOPE_PACE))
        edges = None if rating_edges is None else torch.from_numpy(rating_edges.astype(np.float32))
        self.register_buffer("rating_edges", edges)
        if rating_edges is not None:
            self.by_rating = nn.Parameter(torch.zeros(len(rating_edges) + 1))

    def forward(self, history: HistoryRows) -> Tensor | None:
        """Logarithm of the weight of each item, (m,); None where all weigh the same."""
        terms = []
        if self.slopes is not None:
            distance = history.positions
            if self.recency == "time" and history.ages is not None:
                distance = history.ages / SECONDS_A_DAY
            if distance is not None:
                curves = torch.stack([distance / 10, torch.log1p(distance)], dim=1)
                terms.append(-SLOPE_PACE * (curves * self.slopes).sum(dim=1))
        if self.by_rating is not None and history.ratings is not None:
            assert self.rating_edges is not None
            known = history.ratings.isfinite()
            bucket = torch.bucketize(history.ratings.nan_to_num(), self.rating_edges, right=True)
            terms.append(self.by_rating[bucket] * known)
        return torch.stack(terms).sum(dim=0) if terms else None


class PooledHistory(nn.Module):
    """The weighted sum of a user's item vectors, as one vector or as one for each prototype.

    With K prototypes an item counts for each by the softmax of their cosines over a temperature,
    so that each of the K vectors stands for some of the user's interests.

    Args:
        pooling: "sum", "mean" (over the weights), "sqrt" (over the root of the squared weights) or
            "attention" (a learned query adds to the weights, which then sum to 1).
        dim: length of an item vector, D.
        weights: by recency and rating.
        queries: K.
    """

    ASSIGNMENT_TEMPERATURE = 0.1

    def __init__(
        self, pooling: HistoryPooling, dim: int, weights: HistoryWeights, *, queries: int = 1
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.weights = weights
        self.query = nn.Parameter(torch.randn(dim) * dim**-0.5) if pooling == "attention" else None
        self.prototypes = nn.Parameter(torch.randn(queries, dim)) if queries > 1 else None

    def forward(self, history: HistoryRows, table: Tensor) -> Tensor:
        """The pooled vectors, (R, D) or, with prototypes, (R, K, D); 0 for an empty history.

        Args:
            history: R rows.
            table: item vectors, (n, D).
        """
        weights = self._weights(history, table)
        if self.prototypes is None:
            return sum_bags(table, replace(history.bags, weights=weights))
        shares = self._shares(table)[history.items]  # (m, K)
        if weights is not None:
            shares = shares * weights.unsqueeze(1)
        k = shares.shape[1]
        pooled = sum_bags(table, repeated(history.bags, shares))
        return pooled.view(len(history), k, table.shape[1])

    def _weights(self, history: HistoryRows, table: Tensor) -> Tensor | None:
        logits = self.weights(history)
        if self.query is not None:
            attention = (table @ self.query).float()[history.items]  # bfloat16 under autocast
            return softmax_entries(
                attention if logits is None else attention + logits, history.bags
            )
        if self.pooling == "sum":
            return None if logits is None else logits.exp()
        weights = table.new_ones(len(history.items)) if logits is None else logits.exp()
        power = 1 if self.pooling == "mean" else 2
        sums = sum_entries(weights**power, history.bags) ** (1 / power)
        return weights / sums[history.bags.owners()]

    def _shares(self, table: Tensor) -> Tensor:
        """How much of each item counts for each prototype, (n, K); rows sum to 1."""
        assert self.prototypes is not None
        cosines = normalise(table) @ normalise(self.prototypes).T  # bfloat16 under autocast
        return (cosines.float() / self.ASSIGNMENT_TEMPERATURE).softmax(dim=1)


class SequenceHistory(nn.Module):
    """Causal self-attention over a user's items in order; the output at the most recent counts.

    As in SASRec (Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018), with
    positions counted from the end and normalisation before each layer.

    Args:
        dim: length of an item vector, D.
        max_length: longest history.
        layers: of self-attention.
        heads: of each layer.
        dropout: in the layers.
        weights: by rating; items weigh in as they enter.
    """

    def __init__(
        self,
        dim: int,
        max_length: int,
        *,
        layers: int,
        heads: int,
        dropout: float,
        weights: HistoryWeights,
    ) -> None:
        super().__init__()
        self.weights = weights
        self.max_length = max_length
        self.positions = nn.Parameter(torch.randn(max_length, dim) * 0.02)
        layer = nn.TransformerEncoderLayer(
            dim, heads, 2 * dim, dropout, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.scale = dim**0.5

    @property
    def draws_by_batch(self) -> bool:
        """Whether dropout is drawn for all rows of a batch at once, by torch's own layers."""
        return any(isinstance(each, nn.Dropout) and each.p > 0 for each in self.encoder.modules())

    def forward(self, history: HistoryRows, table: Tensor) -> Tensor:
        """The output at each row's last item, (R, D); 0 for an empty history."""
        lengths, owners = history.lengths, history.bags.owners()
        width = max(int(lengths.max()) if len(lengths) else 0, 1)
        columns = torch.arange(len(owners), device=owners.device) - history.offsets[owners]
        vectors = table[history.items] * self.scale
        weights = self.weights(history)
        if weights is not None:
            vectors = vectors * weights.exp().unsqueeze(1)
        vectors = vectors + self.positions[lengths[owners] - 1 - columns]
        padded = table.new_zeros((len(history), width, table.shape[1]))
        padded = padded.index_put((owners, columns), vectors)
        # Padding stands last, where the causal mask hides it from every item.
        future = torch.ones((width, width), dtype=torch.bool, device=table.device).triu(1)
        encoded = self.encoder(padded, mask=future)
        rows = torch.arange(len(history), device=table.device)
        last: Tensor = encoded[rows, (lengths - 1).clamp(min=0)]
        return last * (lengths > 0).unsqueeze(1)


HistoryEncoder = PooledHistory | SequenceHistory


def build_history(
    pooling: HistoryPooling,
    dim: int,
    weights: HistoryWeights,
    *,
    queries: int,
    max_length: int,
    sequence: tuple[int, int, float],
) -> HistoryEncoder | None:
    """The named encoder of histories.

    Args:
        pooling: its name; ``none`` gives None.
        dim: D.
        weights: of the items.
        queries: vectors a user, K.
        max_length: longest history.
        sequence: layers, heads and dropout of ``sequence``.
    """
    match pooling:
        case "none":
            return None
        case "sum" | "mean" | "sqrt" | "attention":
            return PooledHistory(pooling, dim, weights, queries=queries)
        case "sequence":
            layers, heads, dropout = sequence
            return SequenceHistory(
                dim, max_length, layers=layers, heads=heads, dropout=dropout, weights=weights
            )
        case _:
            assert_never(pooling)
