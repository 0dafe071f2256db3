"""Vectors of users and items that training never saw: the towers with every id unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from recsys.config import Config, ModelConfig
from recsys.data.arrays import FloatArray
from recsys.data.columns import ITEM_ID
from recsys.data.dataset import Prepared
from recsys.data.features import Features, ItemFeaturizer
from recsys.data.histories import Histories
from recsys.data.user_features import UserFeaturizer, user_side
from recsys.errors import ArtifactError, DataError
from recsys.models.build import assemble
from recsys.models.feature_table import FeatureTable
from recsys.models.two_tower import TwoTower

_OF_KNOWN_IDS = (
    "id_embedding.embedding.weight",
    "history_table.embedding.weight",
    "augmented.table.embedding.weight",
)
_RATING_EDGES = "user_tower.history.weights.rating_edges"
NO_BOOKS = pa.table({ITEM_ID: pa.array([], pa.string())})


@dataclass(frozen=True, eq=False)
class ColdStart:
    """What vectors of users and items that training never saw are made with.

    Attributes:
        model: both towers, with no id that they know.
        settings: what the model is built from.
        item_featurizer: from an item's metadata to its features.
        user_featurizer: from liked items to a user's features.
        item_features: of the catalogue; of no items where the user tower reads no metadata.
        item_table: the vectors of the catalogue that histories pool, (I, D) float32; None where
            the user tower has no history.
        has_order: whether the histories of training were in an order.
    """

    model: TwoTower
    settings: ModelConfig
    item_featurizer: ItemFeaturizer
    user_featurizer: UserFeaturizer
    item_features: Features
    item_table: FloatArray | None
    has_order: bool
    _lock: Lock = field(default_factory=Lock, repr=False)

    @classmethod
    def of(cls, model: TwoTower, prepared: Prepared, config: Config) -> ColdStart:
        """Those of a trained model."""
        features, featurizer = prepared.item_features, prepared.item_featurizer
        if model.user_tower.encoder is None:
            features = featurizer.transform(NO_BOOKS)
        has_order = prepared.train.times is not None
        return cls(
            model=towers_without_ids(config.model, featurizer, _state_of(model), has_order),
            settings=config.model,
            item_featurizer=featurizer,
            user_featurizer=UserFeaturizer.fit(
                features, prepared.train, config.data.feature_params
            ),
            item_features=features,
            item_table=model.item_table(len(prepared.items)),
            has_order=has_order,
        )

    @property
    def state(self) -> dict[str, Tensor]:
        """The weights, without those of ids."""
        return _state_of(self.model)

    @property
    def encodes_users(self) -> bool:
        """Whether the user tower reads histories or metadata, so that liked items go through it."""
        tower = self.model.user_tower
        return tower.history is not None or tower.encoder is not None

    def user_vectors(self, histories: Histories) -> FloatArray:
        """Vectors of users by what they like, as they enter the product, (n, D) or (n, K, D).

        The histories go through the tower with an id that it does not know, and so do the items'
        features, aggregated as those of train were. Only where :attr:`encodes_users`.

        Args:
            histories: of each user, each item once.
        """
        encoder = self.model.user_tower.encoder
        with self._lock:  # one table at a time: the encoder holds it
            if encoder is not None:
                features = self.user_featurizer.transform(self.item_features, histories.bags)
                encoder.features = FeatureTable(features)
            return self.model.user_vectors(histories, self.item_table)

    def vectors_near(self, tastes: FloatArray) -> FloatArray:
        """Vectors of items, or means of such, as they enter the product for users, (n, D)."""
        own = torch.from_numpy(tastes[:, : self.model.user_tower.dim])  # as the tower gave them
        with torch.no_grad():
            matched: FloatArray = self.model.match_users(own).numpy()
        return matched

    def item_vectors(self, books: pa.Table) -> FloatArray:
        """Vectors of books by their metadata alone, (n, D) float32.

        Args:
            books: any of title, author, categories and the numeric columns; what is absent or
                null counts as missing.

        Raises:
            DataError: the item tower reads no metadata.
        """
        encoder = self.model.item_tower.encoder
        if encoder is None:
            raise DataError(
                "a new book needs a model whose item tower reads metadata; the item tower of this "
                "one is 'identity', which knows books by their ids alone"
            )
        features = self.item_featurizer.transform(books)
        with self._lock:
            encoder.features = FeatureTable(features)
            return self.model.item_vectors(len(features))


def towers_without_ids(
    settings: ModelConfig,
    item_featurizer: ItemFeaturizer,
    state: Mapping[str, Tensor],
    has_order: bool,
) -> TwoTower:
    """A model that knows no id, with the given weights.

    Raises:
        ArtifactError: the weights are not those of a model with these settings.
    """
    items = item_featurizer.transform(NO_BOOKS)
    users = Features(
        np.zeros((0, 1 + items.dense.shape[1]), dtype=np.float32),
        ("log_train_interactions", *items.dense_names),
        user_side(items.bags),
        user_side(items.bag_labels),
    )
    edges = state.get(_RATING_EDGES)
    with torch.random.fork_rng(devices=[]):  # the weights drawn here are replaced
        model = assemble(
            settings,
            n_warm=(0, 0),
            features=(users, items),
            has_order=has_order,
            rating_edges=None if edges is None else edges.numpy(),
            item_counts=np.zeros(0, dtype=np.int64),
        )
    fresh = model.state_dict()
    ids = {name: fresh[name].zero_() for name in fresh if name.endswith(_OF_KNOWN_IDS)}
    try:
        model.load_state_dict(ids | dict(state))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ArtifactError(f"the towers must fit their settings ({reason})") from error
    return model.requires_grad_(False).eval()


def _state_of(model: TwoTower) -> dict[str, Tensor]:
    """The weights, on the CPU, without those of ids."""
    held = model.state_dict().items()
    return {name: tensor.cpu() for name, tensor in held if not name.endswith(_OF_KNOWN_IDS)}
