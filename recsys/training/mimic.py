"""Losses that draw one part of a tower to what another part, or the other tower, makes."""

from __future__ import annotations

import torch
from torch import Tensor

from recsys.errors import DataError
from recsys.models.normalise import normalise
from recsys.models.tower import TowerParts
from recsys.models.two_tower import TwoTower
from recsys.training.batches import Batch


class Mimic:
    """The mimic loss of each tower that has one, summed.

    Args:
        model: whose fusions say which loss: of adaptive mimic :func:`mimic_loss`, of dual
            augmented :func:`dual_mimic_loss`.

    Raises:
        DataError: no tower has such a fusion, since the data has no metadata to fuse.
    """

    def __init__(self, model: TwoTower) -> None:
        towers = (model.user_tower, model.item_tower)
        if not any(tower.has_gates or tower.augmented is not None for tower in towers):
            raise DataError(
                "'training.mimic_weight' above 0 needs metadata, but the data has none for a tower "
                "whose fusion mimics"
            )
        self._model = model

    def __call__(self, users: TowerParts, items: TowerParts, batch: Batch) -> Tensor:
        """Scalar."""
        towers = ((self._model.user_tower, users), (self._model.item_tower, items))
        losses = [mimic_loss(parts) for tower, parts in towers if tower.has_gates]
        pairs = (
            (users, batch.rows, items, batch.targets),
            (items, batch.targets, users, batch.rows),
        )
        is_cosine = self._model.matching.similarity == "cosine"
        for own, rows, other, others in pairs:
            if own.augmented is not None:
                output = normalise(other.vectors) if is_cosine else other.vectors
                losses.append(dual_mimic_loss(own, rows, output, others))
        return torch.stack(losses).sum()


def mimic_loss(parts: TowerParts) -> Tensor:
    """Mean squared distance of the metadata embeddings to the id embeddings of known ids.

    0 without any. The id embedding is held fixed, so only the metadata side moves (after Yu et
    al., "A Dual Augmented Two-tower Model", DLP-KDD 2021, eq. 5). Rows whose id is not known have
    nothing to mimic.

    Args:
        parts: of n rows of a tower.

    Returns:
        Scalar.
    """
    assert parts.metadata is not None
    if parts.ids is None:
        return parts.metadata.new_zeros(())
    distance = (parts.metadata - parts.ids.detach()).square().mean(dim=1)  # (n, D) -> (n,)
    return (distance * parts.is_known).sum() / parts.is_known.sum().clamp(min=1)


def dual_mimic_loss(own: TowerParts, rows: Tensor, output: Tensor, others: Tensor) -> Tensor:
    """Mean squared distance of augmented vectors to the other tower's output, over positives.

    The other tower's output is held fixed and negatives add nothing (Yu et al., DLP-KDD 2021,
    eq. 5 and 6); the squares are summed over dimensions and averaged over the positives whose id
    is known. 0 without any.

    Args:
        own: of a tower's n rows, with augmented vectors.
        rows: row of each positive, (P,) int64.
        output: vectors of the other tower, (m, D).
        others: row of ``output`` of each positive, (P,) int64.

    Returns:
        Scalar.
    """
    assert own.augmented is not None
    is_known = own.is_known[rows]
    target = output.detach().index_select(0, others)
    distance = (own.augmented.index_select(0, rows) - target).square().sum(dim=1)  # (P,)
    return (distance * is_known).sum() / is_known.sum().clamp(min=1)
