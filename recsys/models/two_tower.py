"""The two-tower model: a tower for users, a tower for items, and how their vectors meet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recsys.config import FusionName, ModelConfig, Similarity
from recsys.data.arrays import FloatArray
from recsys.data.dataset import Prepared
from recsys.data.features import Features
from recsys.models.feature_encoder import FeatureEncoder
from recsys.models.feature_table import FeatureTable
from recsys.models.fusion import build_fusion
from recsys.models.id_embedding import IdEmbedding
from recsys.models.tower import Tower, TowerParts

Side = Literal["user", "item"]
MIN_TEMPERATURE = 0.01
"""A learned temperature stops here: below, one wrong negative outweighs the whole batch."""
CHUNK = 8192
"""Rows encoded at once when all users or items are."""


class TwoTower(nn.Module):
    """Scores a user and an item by the product of their towers' vectors.

    Args:
        user_tower: for users.
        item_tower: for items; vectors of the same length.
        similarity: ``cosine`` divides by a temperature, since a logit in [-1, 1] cannot fit a
            probability; ``dot`` takes the product as it is.
        temperature: cosine only; its start where learned.
        learn_temperature: cosine only.
    """

    log_scale: Tensor | None

    def __init__(
        self,
        user_tower: Tower,
        item_tower: Tower,
        *,
        similarity: Similarity = "cosine",
        temperature: float = 0.1,
        learn_temperature: bool = True,
    ) -> None:
        super().__init__()
        self.user_tower = user_tower
        self.item_tower = item_tower
        if similarity == "dot":
            self.log_scale = None
        elif learn_temperature:
            self.log_scale = nn.Parameter(torch.tensor(temperature).log().neg())
        else:
            self.register_buffer("log_scale", torch.tensor(temperature).log().neg())

    @property
    def temperature(self) -> float | None:
        """What the cosine is divided by; None for ``dot``."""
        if self.log_scale is None:
            return None
        return max(float((-self.log_scale.detach()).exp()), MIN_TEMPERATURE)

    def match_users(self, vectors: Tensor) -> Tensor:
        """Tower vectors of users as they enter the product, (n, D); for cosine over temperature."""
        if self.log_scale is None:
            return vectors
        scale = self.log_scale.exp().clamp(max=1 / MIN_TEMPERATURE)
        return F.normalize(vectors, dim=1) * scale

    def match_items(self, vectors: Tensor) -> Tensor:
        """Tower vectors of items as they enter the product, (n, D)."""
        return vectors if self.log_scale is None else F.normalize(vectors, dim=1)

    def tower(self, side: Side) -> Tower:
        """The users' or the items' tower."""
        return self.user_tower if side == "user" else self.item_tower

    def user_vectors(self, n_users: int) -> FloatArray:
        """All users' vectors, (U, D) float32: their product with items' gives the logits."""
        return self.collect("user", n_users, lambda parts: self.match_users(parts.vectors))

    def item_vectors(self, n_items: int) -> FloatArray:
        """All items' vectors, (I, D) float32."""
        return self.collect("item", n_items, lambda parts: self.match_items(parts.vectors))

    @torch.no_grad()
    def collect(
        self, side: Side, n: int, part: Callable[[TowerParts], Tensor | None]
    ) -> FloatArray:
        """One part of what a tower makes of indices 0..n-1, in evaluation mode; (n, D) float32."""
        tower = self.tower(side)
        device = tower.id_embedding.embedding.weight.device
        collected = np.empty((n, tower.id_embedding.dim), dtype=np.float32)
        was_training = self.training
        self.eval()
        for start in range(0, n, CHUNK):
            stop = min(start + CHUNK, n)
            chunk = part(tower.parts(torch.arange(start, stop, device=device)))
            assert chunk is not None
            collected[start:stop] = chunk.cpu().numpy()
        self.train(was_training)
        return collected


def build_two_tower(config: ModelConfig, prepared: Prepared) -> TwoTower:
    """The configured model with fresh weights, drawn from torch's current random state."""
    user_tower = build_tower(
        config, config.user_tower.fusion, prepared.n_warm_users, prepared.user_features
    )
    item_tower = build_tower(
        config, config.item_tower.fusion, prepared.n_warm_items, prepared.item_features
    )
    return TwoTower(
        user_tower,
        item_tower,
        similarity=config.similarity,
        temperature=config.temperature or 1.0,
        learn_temperature=bool(config.learn_temperature),
    )


def build_tower(config: ModelConfig, name: FusionName, n_warm: int, features: Features) -> Tower:
    """One tower with the named fusion."""
    ids = IdEmbedding(n_warm, config.embedding_dim, sparse=config.sparse, max_norm=config.max_norm)
    fusion = build_fusion(name, config.embedding_dim)
    if fusion is None:
        return Tower(ids)
    encoder = config.encoder
    bag_dims = {"categories": encoder.categories.dim, "authors": encoder.authors.dim}
    return Tower(
        ids,
        FeatureEncoder(
            FeatureTable(features),
            config.embedding_dim,
            hidden_dims=encoder.hidden_dims or (),
            dropout=encoder.dropout or 0.0,
            bag_dims={name: dim for name, dim in bag_dims.items() if dim is not None},
        ),
        fusion,
        id_dropout=config.id_dropout,
    )
