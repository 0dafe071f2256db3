"""The loss that draws metadata embeddings to the id embeddings they are to stand in for."""

from __future__ import annotations

from torch import Tensor

from recsys.models.tower import TowerParts


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
