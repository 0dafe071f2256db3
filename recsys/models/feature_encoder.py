"""The feature encoder: metadata of users or items in, one vector each out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from recsys.models.bags import sum_bags
from recsys.models.dropout import ReluDropout
from recsys.models.feature_table import BagTable, FeatureTable, take_rows

LEAST_MASS = 1e-12
"""What an empty bag's sum, which is zero, is divided by."""


class BagProjection(nn.Module):
    """A linear map of one-hot (or multi-hot) columns, without holding the one-hot matrix.

    Args:
        n_columns: width of the one-hot vector.
        out_dim: length of the result.
        in_features: width of the whole input of the layer, for the scale of the initial weights.
    """

    def __init__(self, n_columns: int, out_dim: int, *, in_features: int) -> None:
        super().__init__()
        bound = in_features**-0.5  # as nn.Linear over the whole input would draw it
        self.weight = nn.Parameter(torch.empty(n_columns, out_dim).uniform_(-bound, bound))

    def forward(self, table: BagTable, rows: Tensor | int) -> Tensor:
        """Each row's columns, weight times vector, (n, out_dim)."""
        return sum_bags(self.weight, table.bags(rows))


class BagEmbedding(nn.Module):
    """The weighted mean of the learned embeddings of each row's columns; zero for an empty row.

    Args:
        n_columns: how many columns have an embedding.
        dim: length of an embedding.
    """

    def __init__(self, n_columns: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_columns, dim) * dim**-0.5)

    def forward(self, table: BagTable, rows: Tensor | int) -> Tensor:
        """The mean embedding of each row, (n, dim)."""
        total = sum_bags(self.weight, table.bags(rows))
        return total / take_rows(table.mass, rows).clamp(min=LEAST_MASS).unsqueeze(1)


class FeatureEncoder(nn.Module):
    """Dense features and bags through a multilayer perceptron with ReLU and dropout.

    Args:
        features: the table the encoder looks rows up in.
        out_dim: length of the metadata embedding.
        hidden_dims: widths of the hidden layers; empty makes the encoder linear.
        dropout: share of hidden units left out in training.
        bag_dim: dimension of the learned embeddings that bags enter as; None gives each column
            weights of its own in the first layer.
    """

    def __init__(
        self,
        features: FeatureTable,
        out_dim: int,
        *,
        hidden_dims: Sequence[int] = (),
        dropout: float = 0.0,
        bag_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.features = features
        self.out_dim = out_dim
        first_dim = hidden_dims[0] if hidden_dims else out_dim
        widths = {name: table.n_columns for name, table in features.bag_tables.items()}
        one_hot, embedded = (widths, {}) if bag_dim is None else ({}, widths)
        dense_dim = features.dense_dim + len(embedded) * (bag_dim or 0)
        in_features = max(dense_dim + sum(one_hot.values()), 1)
        self.embeddings = nn.ModuleDict(
            {name: BagEmbedding(width, bag_dim or 0) for name, width in embedded.items()}
        )
        self.projections = nn.ModuleDict(
            {
                name: BagProjection(width, first_dim, in_features=in_features)
                for name, width in one_hot.items()
            }
        )
        bound = in_features**-0.5
        self.dense_weight = nn.Parameter(torch.empty(dense_dim, first_dim).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(first_dim))
        self.hidden = nn.Sequential()
        for width, next_width in pairwise((*hidden_dims, out_dim)):
            self.hidden.extend([ReluDropout(dropout), nn.Linear(width, next_width)])

    def forward(self, rows: Tensor | int) -> Tensor:
        """The metadata embedding of each row, (n, out_dim) float32.

        Args:
            rows: (n,) int64; a number stands for the first so many.
        """
        encoded: Tensor = self.hidden(self._first_layer(rows))
        return encoded.float()

    def _first_layer(self, rows: Tensor | int) -> Tensor:
        tables, kind = self.features.bag_tables, self.bias.device.type
        if self.embeddings:
            made = [bag(tables[name], rows) for name, bag in self.embeddings.items()]
            columns = torch.cat([take_rows(self.features.dense, rows), *made], dim=1)
            return torch.addmm(self.bias, columns, self.dense_weight)
        is_lower = torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if is_lower else torch.float32
        beside = self.features.side_by_side(dtype)
        own = [self.projections.get_parameter(f"{name}.weight") for name in beside.names]
        weight = torch.cat([self.dense_weight, *own])
        units = torch.addmm(self.bias, take_rows(beside.matrix, rows), weight)
        for name, projection in self.projections.items():
            if name not in beside.names:
                units = units + projection(tables[name], rows)
        return units
