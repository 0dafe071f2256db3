"""From settings and data to a two-tower model with fresh weights."""

from __future__ import annotations

import math

import numpy as np

from recsys.config import ModelConfig, TowerConfig
from recsys.data.arrays import FloatArray, IntArray
from recsys.data.dataset import Prepared
from recsys.data.features import Features
from recsys.errors import DataError
from recsys.models.augmented import AugmentedVectors
from recsys.models.feature_encoder import FeatureEncoder
from recsys.models.feature_table import FeatureTable
from recsys.models.fusion import build_fusion
from recsys.models.history import HistoryEncoder, HistoryWeights, build_history
from recsys.models.id_embedding import IdEmbedding
from recsys.models.tower import Tower
from recsys.models.two_tower import Matching, PopularityTerm, TwoTower

MOST_RATINGS = 20
"""Distinct ratings that have a weight each; more are put into as many buckets."""


def build_two_tower(config: ModelConfig, prepared: Prepared) -> TwoTower:
    """The configured model with fresh weights, drawn from torch's current random state.

    An item is as popular as it is in train; one that train lacks, as it is in validation.
    """
    train, validation = prepared.train.item_counts, prepared.validation.item_counts
    return assemble(
        config,
        n_warm=(prepared.n_warm_users, prepared.n_warm_items),
        features=(prepared.user_features, prepared.item_features),
        has_order=prepared.train.times is not None,
        rating_edges=rating_edges(prepared.train.ratings),
        item_counts=np.where(train > 0, train, validation)[: prepared.n_warm_items],
    )


def assemble(
    config: ModelConfig,
    *,
    n_warm: tuple[int, int],
    features: tuple[Features, Features],
    has_order: bool,
    rating_edges: FloatArray | None,
    item_counts: IntArray,
) -> TwoTower:
    """The configured model.

    Args:
        config: its settings.
        n_warm: users and items with an id embedding of their own.
        features: of users and of items.
        has_order: whether histories have one.
        rating_edges: borders between ratings that have a weight each, where the data has any.
        item_counts: interactions of the items with an id embedding.
    """
    config = with_usual(config, n_items=n_warm[1], has_order=has_order)
    user, item = config.user_encoder, config.item_encoder
    history = user.history
    assert history.recency is not None
    weights = HistoryWeights(history.recency, rating_edges if history.ratings else None)
    pooled = build_history(
        history.pooling,
        user.dim,
        weights,
        queries=user.queries,
        max_length=history.max_length,
        sequence=(history.layers or 0, history.heads or 0, history.dropout or 0.0),
    )
    table = None
    if pooled is not None and history.table == "own":
        table = build_ids(item, n_warm[1])
    user_tower = build_tower(user, n_warm[0], features[0], pooled, table)
    item_tower = build_tower(item, n_warm[1], features[1])
    matching = Matching(
        similarity=config.similarity,
        temperature=config.temperature or 1.0,  # a dot product has none
        learn_temperature=bool(config.learn_temperature),
        temperature_power=history.temperature_power or 0.0,
        query_score=user.query_score or "max",
        query_prior=user.query_prior or 0.0,
        max_history=history.max_length,
    )
    popularity = PopularityTerm(item_counts) if config.popularity else None
    return TwoTower(user_tower, item_tower, matching, popularity)


def with_usual(config: ModelConfig, *, n_items: int, has_order: bool) -> ModelConfig:
    """The settings with what the data decides where they do not: recency and temperature.

    Args:
        config: of the model.
        n_items: items with an id embedding of their own.
        has_order: whether histories have one.
    """
    user, temperature = config.user_encoder, config.temperature
    recency = user.history.recency
    if recency is None:
        recency = "position" if has_order and user.history.pooling != "sequence" else "none"
    if temperature is None and config.similarity == "cosine":
        temperature = usual_temperature(n_items)
    history = user.history.model_copy(update={"recency": recency})
    update = {"user_encoder": user.model_copy(update={"history": history})}
    return config.model_copy(update=update | {"temperature": temperature})


def usual_temperature(n_items: int) -> float:
    """The temperature of a softmax over so many items where none is given.

    An item with a cosine of 1 among n with 0 has the probability 1 / (1 + n exp(-1 / temperature)),
    which falls with n unless the temperature falls as 1 / ln(n) does.
    """
    return round(0.82 / math.log(max(n_items, 3)), 4)


def build_ids(config: TowerConfig, n_warm: int) -> IdEmbedding:
    """A table of id embeddings."""
    params = config.id_embedding.params
    return IdEmbedding(
        n_warm,
        params.embedding_dim,
        sparse=params.sparse,
        max_norm=params.max_norm,
        dropout=params.dropout or 0.0,
        std=params.initial_std,
    )


def build_tower(
    config: TowerConfig,
    n_warm: int,
    features: Features,
    history: HistoryEncoder | None = None,
    history_table: IdEmbedding | None = None,
) -> Tower:
    """One tower; metadata that the data does not have is left out.

    Raises:
        DataError: the tower was to know its users or items by metadata alone, and there is none.
    """
    encoder, out_dim = config.feature_encoder, config.feature_encoder.output_dim or config.dim
    ids = build_ids(config, n_warm) if config.id_embedding.type == "embedding" else None
    fusion = build_fusion(config.fusion, config.dim, out_dim)
    encode = augmented = None
    if not features.dense_names and not features.bags:
        if ids is None and history is None:
            raise DataError("a tower without ids and history needs metadata, but the data has none")
        fusion = None
    if fusion is not None:
        encode = FeatureEncoder(
            FeatureTable(features),
            out_dim,
            hidden_dims=encoder.hidden_dims or (),
            dropout=encoder.dropout or 0.0,
            bag_dim=encoder.bag_dim,
        )
        if config.fusion == "dual_augmented":
            augmented = AugmentedVectors(build_ids(config, n_warm))
    return Tower(
        config.dim,
        id_embedding=ids,
        history=history,
        history_table=history_table,
        encoder=encode,
        fusion=fusion,
        augmented=augmented,
    )


def rating_edges(ratings: FloatArray | None) -> FloatArray | None:
    """Borders between ratings that have a weight each: between all distinct ones, if they are few.

    None where there are no ratings, or only one.
    """
    if ratings is None or not np.isfinite(ratings).any():
        return None
    distinct = np.unique(ratings[np.isfinite(ratings)])
    if len(distinct) > MOST_RATINGS:
        shares = np.linspace(0, 1, MOST_RATINGS + 1)[1:-1]
        distinct = np.unique(np.quantile(ratings[np.isfinite(ratings)], shares))
        return distinct.astype(np.float32)
    edges: FloatArray = ((distinct[1:] + distinct[:-1]) / 2).astype(np.float32)
    return edges if len(edges) else None
