"""What is minimised beside the objective."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from recsys.config import TrainingConfig
from recsys.data.dataset import Prepared
from recsys.models.tower import TowerParts
from recsys.models.two_tower import TwoTower
from recsys.training.alignment import CategoryAlignment
from recsys.training.batches import Batch
from recsys.training.mimic import Mimic


class AuxiliaryLoss(Protocol):
    """A loss of what the towers are made of."""

    def __call__(self, users: TowerParts, items: TowerParts, batch: Batch) -> Tensor:
        """Scalar.

        Args:
            users: parts of the batch's rows of the user tower.
            items: parts of the batch's items.
            batch: positives, and the rows and items they name.
        """
        ...


Auxiliary = Mapping[str, tuple[float, AuxiliaryLoss]]
"""By name, the weight of each loss and the loss."""


def build_auxiliary(config: TrainingConfig, model: TwoTower, prepared: Prepared) -> Auxiliary:
    """The losses whose weight is above 0."""
    losses: dict[str, tuple[float, AuxiliaryLoss]] = {}
    if config.mimic_weight > 0:
        losses["mimic"] = (config.mimic_weight, Mimic(model))
    if config.alignment_weight > 0:
        categories = prepared.item_features.bags.get("categories")
        losses["alignment"] = (
            config.alignment_weight,
            CategoryAlignment(categories, is_cosine=model.matching.similarity == "cosine"),
        )
    return losses
