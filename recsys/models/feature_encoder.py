"""The feature encoder: metadata of users or items in, one vector each out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from recsys.models.bag_sum import sum_bags
from recsys.models.draws import Draws
from recsys.models.dropout import ReluDropout
from recsys.models.feature_table import BagTable, FeatureTable

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

    def forward(self, table: BagTable, rows: Tensor, start: Tensor) -> Tensor:
        """``start``, (n, out_dim) float32, plus each row's columns, weight times vector."""
        if table.matrix is not None:
            return start + table.dense(rows) @ self.weight
        return start + sum_bags(self.weight, table.bag, rows)


class BagEmbedding(nn.Module):
    """The weighted mean of the learned embeddings of each row's columns; zero for an empty row.

    Args:
        n_columns: how many columns have an embedding.
        dim: length of an embedding.
    """

    def __init__(self, n_columns: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_columns, dim) * dim**-0.5)

    def forward(self, table: BagTable, rows: Tensor) -> Tensor:
        """The mean embedding of each row, (n, dim)."""
        total = sum_bags(self.weight, table.bag, rows)
        return total / table.mass[rows].clamp(min=LEAST_MASS).unsqueeze(1)


class FeatureEncoder(nn.Module):
    """Dense features and bags through a multilayer perceptron with ReLU and dropout.

    Args:
        features: the table the encoder looks rows up in.
        out_dim: length of the metadata embedding, D.
        hidden_dims: widths of the hidden layers; empty makes the encoder linear.
        dropout: share of hidden units left out in training.
        bag_dims: for each bag that enters as learned embeddings, their dimension; a bag that is
            not named enters one-hot.
    """

    def __init__(
        self,
        features: FeatureTable,
        out_dim: int,
        *,
        hidden_dims: Sequence[int] = (192,),
        dropout: float = 0.1,
        bag_dims: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        bag_dims = bag_dims or {}
        self.features = features
        first_dim = hidden_dims[0] if hidden_dims else out_dim
        tables = features.bag_tables
        one_hot = {name: table.n_columns for name, table in tables.items() if name not in bag_dims}
        embedded = {name: bag_dims[name] for name in tables if name in bag_dims}
        dense_dim = features.dense_dim + sum(embedded.values())
        in_features = max(dense_dim + sum(one_hot.values()), 1)
        self.embeddings = nn.ModuleDict(
            {name: BagEmbedding(tables[name].n_columns, dim) for name, dim in embedded.items()}
        )
        self.projections = nn.ModuleDict(
            {
                name: BagProjection(n_columns, first_dim, in_features=in_features)
                for name, n_columns in one_hot.items()
            }
        )
        bound = in_features**-0.5
        self.dense_weight = nn.Parameter(torch.empty(dense_dim, first_dim).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(first_dim))
        self.hidden = build_hidden((*hidden_dims, out_dim), dropout) if hidden_dims else None

    @property
    def projection_weights(self) -> dict[str, nn.Parameter]:
        """For each bag that enters one-hot, the weights of its columns."""
        found = ((name, each.weight) for name, each in self.projections.items())
        return {name: weight for name, weight in found if isinstance(weight, nn.Parameter)}

    @property
    def embedding_weights(self) -> dict[str, nn.Parameter]:
        """For each bag that enters as its mean embedding, the embeddings of its columns."""
        found = ((name, each.weight) for name, each in self.embeddings.items())
        return {name: weight for name, weight in found if isinstance(weight, nn.Parameter)}

    def forward(self, rows: Tensor, draws: Draws | None = None) -> Tensor:
        """The metadata embedding of each row, (n, D).

        Args:
            rows: (n,) int64.
            draws: of the rows, for dropout; None takes fresh ones.
        """
        tables = self.features.bag_tables
        dense = [self.features.dense.index_select(0, rows)]
        dense += [bag(tables[name], rows) for name, bag in self.embeddings.items()]
        wide = dense[0] if len(dense) == 1 else torch.cat(dense, dim=1)
        with torch.autocast(wide.device.type, enabled=False):  # so that bags are added to float32
            units = torch.addmm(self.bias, wide, self.dense_weight)
        for name, projection in self.projections.items():
            units = projection(tables[name], rows, units)
        for layer in self.hidden or ():
            units = layer(units.float(), draws) if isinstance(layer, ReluDropout) else layer(units)
        return units


def build_hidden(dims: Sequence[int], dropout: float) -> nn.Sequential:
    """What follows the first layer: ReLU, dropout and a linear layer for each further width."""
    layers: list[nn.Module] = []
    for stream, (width, next_width) in enumerate(pairwise(dims), start=1):
        layers += [ReluDropout(dropout, stream), nn.Linear(width, next_width)]
    return nn.Sequential(*layers)
