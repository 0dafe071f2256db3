"""How an id embedding and a metadata embedding become the vector of a tower."""

from __future__ import annotations

from typing import Protocol, assert_never

import torch
from torch import Tensor, nn

from recsys.config import FusionName


class Fusion(Protocol):
    """Fuses id and metadata embeddings; callable as a module."""

    def __call__(self, ids: Tensor, metadata: Tensor, is_known: Tensor) -> Tensor:
        """The fused vectors, (n, D).

        Args:
            ids: id embeddings, (n, D); zero where the id is not known.
            metadata: metadata embeddings, (n, D).
            is_known: whether the id has an embedding of its own, (n,) bool.
        """
        ...


class SumFusion(nn.Module):
    """Id embedding plus metadata embedding; an unknown id adds nothing."""

    def forward(self, ids: Tensor, metadata: Tensor, is_known: Tensor) -> Tensor:
        """The sum, (n, D)."""
        return ids + metadata


class ConcatFusion(nn.Module):
    """A linear layer over both embeddings side by side.

    Args:
        dim: length of each embedding and of the result, D.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * dim, dim)

    def forward(self, ids: Tensor, metadata: Tensor, is_known: Tensor) -> Tensor:
        """The fused vectors, (n, D)."""
        fused: Tensor = self.linear(torch.cat([ids, metadata], dim=1))
        return fused


class AdaptiveMimicFusion(nn.Module):
    """A learned gate for each dimension: 1 takes the id embedding, 0 the metadata embedding.

    The gate sees both embeddings. For an id that is not known it is 0 in every dimension, so the
    metadata embedding stands in alone; dropping ids in training teaches it to. The idea of a
    metadata vector that mimics what interactions would have taught is the adaptive-mimic
    mechanism of Yu et al., "A Dual Augmented Two-tower Model for Online Large-scale
    Recommendation" (DLP-KDD 2021); the gate is ours.

    Args:
        dim: length of each embedding and of the result, D.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * dim, dim)

    def gates(self, ids: Tensor, metadata: Tensor, is_known: Tensor) -> Tensor:
        """The share of the id embedding in each dimension, (n, D) in [0, 1)."""
        logits = self.linear(torch.cat([ids, metadata], dim=1))
        return torch.sigmoid(logits.to(ids.dtype)) * is_known.unsqueeze(1)

    def forward(self, ids: Tensor, metadata: Tensor, is_known: Tensor) -> Tensor:
        """The fused vectors, (n, D)."""
        return torch.lerp(metadata, ids, self.gates(ids, metadata, is_known))


def build_fusion(name: FusionName, dim: int) -> Fusion | None:
    """The named fusion; None for ``identity``, which takes the id embedding as it is."""
    match name:
        case "identity":
            return None
        case "sum":
            return SumFusion()
        case "concat":
            return ConcatFusion(dim)
        case "adaptive_mimic":
            return AdaptiveMimicFusion(dim)
        case _:
            assert_never(name)
