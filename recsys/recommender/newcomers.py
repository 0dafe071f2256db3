"""Vectors of readers and books that training never saw: the towers with every id unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from recsys.config import Config, ModelConfig
from recsys.data.arrays import Bags, FloatArray
from recsys.data.dataset import Prepared
from recsys.data.features import Features, ItemFeaturizer, UserFeaturizer
from recsys.errors import ArtifactError, DataError
from recsys.models.feature_table import FeatureTable
from recsys.models.two_tower import Side, TwoTower, build_tower

CHUNK = 8192
"""Rows that a tower works on at once."""
_OF_KNOWN_IDS = "id_embedding.embedding.weight"


@dataclass(frozen=True, eq=False)
class Newcomers:
    """What vectors of new readers and new books are made with.

    Attributes:
        model: both towers, with no id that they know.
        settings: what the model is built from.
        item_featurizer: from a book's metadata to its features.
        reader_featurizer: from liked books to a reader's features.
        item_features: of the catalogue; of no items where the readers' tower reads no metadata.
    """

    model: TwoTower
    settings: ModelConfig
    item_featurizer: ItemFeaturizer
    reader_featurizer: UserFeaturizer
    item_features: Features
    _lock: Lock = field(default_factory=Lock, repr=False)

    @classmethod
    def of(cls, model: TwoTower, prepared: Prepared, config: Config) -> Newcomers:
        """Those of a trained model."""
        state = {
            name: tensor.detach().cpu()
            for name, tensor in model.state_dict().items()
            if not name.endswith(_OF_KNOWN_IDS)
        }
        features, featurizer = prepared.item_features, prepared.item_featurizer
        if model.user_tower.encoder is None:
            features = no_features(featurizer)
        readers = UserFeaturizer.fit(features, prepared.train, config.data.features)
        return cls.build(state, config.model, featurizer, readers, features)

    @classmethod
    def build(
        cls,
        state: Mapping[str, Tensor],
        settings: ModelConfig,
        item_featurizer: ItemFeaturizer,
        reader_featurizer: UserFeaturizer,
        item_features: Features,
    ) -> Newcomers:
        """Towers with the given weights.

        Raises:
            ArtifactError: the weights are not those of a model with these settings.
        """
        template = no_features(item_featurizer)
        with torch.random.fork_rng(devices=[]):  # the weights drawn here are replaced
            model = _unknowing_model(settings, template)
        complete = {name: torch.zeros(1, settings.embedding_dim) for name in _id_weights()}
        try:
            model.load_state_dict(complete | dict(state))
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise ArtifactError(f"the towers must fit their settings ({reason})") from error
        model.requires_grad_(False).eval()
        return cls(model, settings, item_featurizer, reader_featurizer, item_features)

    @property
    def state(self) -> dict[str, Tensor]:
        """The weights, without those of ids."""
        held = self.model.state_dict()
        return {name: tensor for name, tensor in held.items() if not name.endswith(_OF_KNOWN_IDS)}

    @property
    def reads_readers(self) -> bool:
        """Whether the tower of readers reads metadata, so that liked books can go through it."""
        return self.model.user_tower.encoder is not None

    def reader_vectors(self, liked: Bags) -> FloatArray:
        """Vectors of readers who like the given books, (n, D) float32.

        The books' features are aggregated as those of train were, and go through the tower with an
        id that it does not know. Only where :attr:`reads_readers`.

        Args:
            liked: items of each reader, each once, (n, I).
        """
        features = self.reader_featurizer.transform(self.item_features, liked)
        return self._vectors("user", features)

    def vectors_near(self, tastes: FloatArray) -> FloatArray:
        """Vectors of items, or means of such, as they enter the product for readers, (n, D)."""
        with torch.no_grad():
            matched: FloatArray = self.model.match_users(torch.from_numpy(tastes)).numpy()
        return matched

    def book_vectors(self, books: pa.Table) -> FloatArray:
        """Vectors of books by their metadata alone, (n, D) float32.

        Args:
            books: any of title, author, categories and the numeric columns; what is absent or
                null counts as missing.

        Raises:
            DataError: the tower of items reads no metadata.
        """
        if self.model.item_tower.encoder is None:
            raise DataError(
                "a new book needs a model whose item tower reads metadata; the item tower of this "
                "one is 'identity', which knows books by their ids alone"
            )
        return self._vectors("item", self.item_featurizer.transform(books))

    def _vectors(self, side: Side, features: Features) -> FloatArray:
        tower, matched = self.model.tower(side), []
        assert tower.encoder is not None
        with self._lock, torch.no_grad():  # one table at a time: the encoder holds it
            tower.encoder.features = FeatureTable(features)
            for start in range(0, len(features), CHUNK):
                rows = torch.arange(start, min(start + CHUNK, len(features)))
                match = self.model.match_users if side == "user" else self.model.match_items
                matched.append(match(tower(rows)).numpy())
        empty = np.zeros((0, self.settings.embedding_dim), dtype=np.float32)
        return np.concatenate([empty, *matched])


def _id_weights() -> list[str]:
    return [f"{side}_tower.{_OF_KNOWN_IDS}" for side in ("user", "item")]


def _unknowing_model(settings: ModelConfig, item_template: Features) -> TwoTower:
    user_template = Features(
        np.zeros((0, 1 + item_template.dense.shape[1]), dtype=np.float32),
        ("log_train_interactions", *item_template.dense_names),
        item_template.bags,
        item_template.bag_labels,
    )
    return TwoTower(
        build_tower(settings, settings.user_tower.fusion, 0, user_template),
        build_tower(settings, settings.item_tower.fusion, 0, item_template),
        similarity=settings.similarity,
        temperature=settings.temperature or 1.0,
        learn_temperature=bool(settings.learn_temperature),
    )


def no_features(featurizer: ItemFeaturizer) -> Features:
    """Features of no items, with all columns."""
    names = featurizer.dense_names
    nothing = np.zeros(0, dtype=np.int32)
    bags = {
        name: Bags(np.zeros(1, dtype=np.int64), nothing, columns.size)
        for name, columns in featurizer.bag_columns.items()
    }
    labels = {name: columns.labels for name, columns in featurizer.bag_columns.items()}
    return Features(np.zeros((0, len(names)), dtype=np.float32), names, bags, labels)
