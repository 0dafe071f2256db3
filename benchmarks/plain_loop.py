"""The same two towers trained as a plain PyTorch loop: what the product is held against.

One-hot features in a dense matrix, ``nn.Embedding(sparse=True)`` with SparseAdam beside Adam, one
tower row for every positive's user and for every sampled item. The maths is the product's: the same
layers, initial weights, losses, dropouts and settings of the optimizers. Negatives are drawn and
refused in whole arrays, so that the loop is plain but not slow on purpose.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recsys.config import Config
from recsys.data.arrays import IntArray, Interactions
from recsys.data.dataset import Prepared
from recsys.data.features import Features
from recsys.models.fusion import AdaptiveMimicFusion
from recsys.models.tower import Tower
from recsys.models.two_tower import TwoTower


def one_hot(features: Features) -> Tensor:
    """Dense columns, then one column for each of every bag, (n, F) float32."""
    bags = [bags.to_scipy().toarray() for bags in features.bags.values()]
    return torch.from_numpy(np.concatenate([features.dense, *bags], axis=1).astype(np.float32))


class PlainTower(nn.Module):
    """Id embedding and metadata, fused by adaptive mimic.

    Args:
        features: of all rows, (n, F).
        n_warm: rows from this index on have no id embedding.
        dim: D.
        hidden_dim: width of the hidden layer.
        dropout: share of hidden units left out.
        id_dropout: share of ids treated as unknown.
    """

    features: Tensor

    def __init__(
        self,
        features: Tensor,
        n_warm: int,
        *,
        dim: int,
        hidden_dim: int,
        dropout: float,
        id_dropout: float,
    ) -> None:
        super().__init__()
        self.n_warm = n_warm
        self.id_dropout = id_dropout
        self.register_buffer("features", features)
        self.ids = nn.Embedding(n_warm + 1, dim, padding_idx=0, sparse=True)
        self.encoder = nn.Sequential(
            nn.Linear(features.shape[1], hidden_dim),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, dim),
        )
        self.gate = nn.Linear(2 * dim, dim)

    def forward(self, indices: Tensor) -> Tensor:
        """Vectors of the given indices, (n, D)."""
        rows = torch.where(indices < self.n_warm, indices + 1, 0)
        if self.training and self.id_dropout > 0:
            rows = rows * (torch.rand(len(rows), device=rows.device) >= self.id_dropout)
        ids = self.ids(rows)
        metadata = self.encoder(self.features[indices])
        gates = torch.sigmoid(self.gate(torch.cat([ids, metadata], dim=1)))
        gates = gates * (rows > 0).unsqueeze(1)
        vectors: Tensor = gates * ids + (1 - gates) * metadata
        return vectors


class PlainTwoTower(nn.Module):
    """Both towers, cosine similarity over a learned temperature."""

    def __init__(self, config: Config, prepared: Prepared) -> None:
        super().__init__()
        assert config.model.user_encoder.feature_encoder.hidden_dims is not None
        settings: dict[str, Any] = {
            "dim": config.model.user_encoder.id_embedding.params.embedding_dim,
            "hidden_dim": config.model.user_encoder.feature_encoder.hidden_dims[0],
            "dropout": config.model.user_encoder.feature_encoder.dropout or 0.0,
            "id_dropout": config.model.user_encoder.id_embedding.params.dropout,
        }
        self.users = PlainTower(one_hot(prepared.user_features), prepared.n_warm_users, **settings)
        self.items = PlainTower(one_hot(prepared.item_features), prepared.n_warm_items, **settings)
        self.log_scale = nn.Parameter(torch.zeros(()))

    def loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        """Halved mean cross-entropies of positives (B,) and negatives (B, K), summed; in nats."""
        user_vectors = F.normalize(self.users(users), dim=1)
        item_indices = torch.cat([positives, negatives.reshape(-1)])
        item_vectors = F.normalize(self.items(item_indices), dim=1)
        positive_vectors = item_vectors[: len(positives)]
        negative_vectors = item_vectors[len(positives) :].view(*negatives.shape, -1)
        scale = self.log_scale.exp().clamp(max=100)
        positive = scale * (user_vectors * positive_vectors).sum(dim=1)
        negative = scale * (user_vectors.unsqueeze(1) * negative_vectors).sum(dim=2)
        return F.softplus(-positive).mean() / 2 + F.softplus(negative).mean() / 2


def copy_weights(model: TwoTower, plain: PlainTwoTower) -> None:
    """Give the plain towers the weights of the product's."""
    with torch.no_grad():
        _copy_tower(model.user_tower, plain.users)
        _copy_tower(model.item_tower, plain.items)
        assert model.log_scale is not None
        plain.log_scale.copy_(model.log_scale)


def _copy_tower(tower: Tower, plain: PlainTower) -> None:
    encoder, fusion = tower.encoder, tower.fusion
    assert encoder is not None
    assert isinstance(fusion, AdaptiveMimicFusion)
    first: list[Any] = [encoder.dense_weight]
    first += [bag.weight for bag in encoder.projections.values()]
    hidden: Any = plain.encoder
    assert tower.id_embedding is not None
    plain.ids.weight.copy_(tower.id_embedding.embedding.weight)
    hidden[0].weight.copy_(torch.cat(first).T)
    hidden[0].bias.copy_(encoder.bias)
    hidden[3].load_state_dict(encoder.hidden[-1].state_dict())
    plain.gate.load_state_dict(fusion.linear.state_dict())


class PlainNegatives:
    """Items a user is not known to have read, by search in the sorted known pairs."""

    def __init__(self, train: Interactions, n_candidates: int) -> None:
        self._n_items, self._n_candidates = train.n_items, n_candidates
        self._keys = np.sort(train.users.astype(np.int64) * train.n_items + train.items)

    def sample(self, users: IntArray, k: int, rng: np.random.Generator) -> IntArray:
        """K negatives of each user, (B, K)."""
        owners = np.repeat(users.astype(np.int64), k)
        negatives = rng.integers(self._n_candidates, size=len(owners))
        pending = np.arange(len(owners))
        while len(pending):
            keys = owners[pending] * self._n_items + negatives[pending]
            found = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
            pending = pending[self._keys[found] == keys]
            negatives[pending] = rng.integers(self._n_candidates, size=len(pending))
        return negatives.reshape(len(users), k)


class PlainLoop:
    """Trains a plain model on the given positives.

    Args:
        model: with its weights, on its device.
        config: batch size, negatives and learning rates.
    """

    def __init__(self, model: PlainTwoTower, config: Config) -> None:
        self._model, self._config = model, config
        sparse = [model.users.ids.weight, model.items.ids.weight]
        is_sparse = {id(weight) for weight in sparse}
        dense = [weight for weight in model.parameters() if id(weight) not in is_sparse]
        rate, betas = config.training.learning_rate, config.training.betas or (0.9, 0.999)
        id_rate = config.training.embedding_learning_rate or rate
        self._optimizers = (
            torch.optim.Adam(dense, lr=rate, betas=betas),
            torch.optim.SparseAdam(sparse, lr=id_rate, betas=betas),
        )

    def epoch(
        self, positives: Interactions, negatives: PlainNegatives, rng: np.random.Generator
    ) -> float:
        """One pass over the positives in a new order; the mean loss."""
        self._model.train()
        total = torch.zeros((), device=self._model.log_scale.device)
        k = self._config.training.negatives_per_positive
        assert k is not None
        for rows in self._batches(len(positives), rng):
            users, items = positives.users[rows], positives.items[rows]
            drawn = negatives.sample(users, k, rng)
            total += self.step(users, items, drawn) * len(rows)
        return float(total) / len(positives)

    def step(self, users: IntArray, positives: IntArray, negatives: IntArray) -> Tensor:
        """One step on one batch; its loss."""
        loss = self._model.loss(*(self._tensor(part) for part in (users, positives, negatives)))
        for optimizer in self._optimizers:
            optimizer.zero_grad()
        torch.autograd.backward(loss)
        for optimizer in self._optimizers:
            optimizer.step()
        return loss.detach()

    def _batches(self, n: int, rng: np.random.Generator) -> Iterator[IntArray]:
        order = rng.permutation(n)
        size = self._config.training.batch_size
        assert size is not None
        for start in range(0, n, size):
            yield order[start : start + size]

    def _tensor(self, array: IntArray) -> Tensor:
        return torch.from_numpy(array.astype(np.int64)).to(self._model.log_scale.device)
