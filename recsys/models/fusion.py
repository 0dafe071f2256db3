"""How the collaborative part and the metadata embedding become the vector of a tower."""

from __future__ import annotations

from typing import Protocol, assert_never

import torch
from torch import Tensor, nn

from recsys.config import FusionName


class Fusion(Protocol):
    """Fuses what is known by id and history with the metadata; callable as a module."""

    def __call__(self, ids: Tensor, metadata: Tensor, is_known: Tensor) -> Tensor:
        """The fused vectors, (..., D).

        Args:
            ids: collaborative part, (..., D); zero where nothing is known.
            metadata: metadata embeddings, (..., E).
            is_known: whether there is a collaborative part, (...) bool.
        """
        ...


class SumFusion(nn.Module):
    """Collaborative part plus metadata embedding; an unknown id adds nothing."""

    def forward(self, ids: Tensor, metadata: Tensor, is_known: Tensor) -> Tensor:
        """The sum, (..., D)."""
        return ids + metadata


class ConcatFusion(nn.Module):
    """A linear layer over both side by side.

    Args:
        dim: length of the collaborative part and of the result, D.
        metadata_dim: length of the metadata embedding, E.
    """

    def __init__(self, dim: int, metadata_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim + metadata_dim, dim)

    def forward(self, ids: Tensor, metadata: Tensor, is_known: Tensor) -> Tensor:
        """The fused vectors, (..., D)."""
        fused: Tensor = self.linear(torch.cat([ids, metadata], dim=-1)).to(ids.dtype)
        return fused


class AdaptiveMimicFusion(nn.Module):
    """A learned gate for each dimension: 1 takes the collaborative part, 0 the metadata.

    The gate sees both. Where nothing collaborative is known it is 0 in every dimension, so the
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
        """The share of the collaborative part in each dimension, (..., D) in [0, 1)."""
        logits = self.linear(torch.cat([ids, metadata], dim=-1))
        return torch.sigmoid(logits.to(ids.dtype)) * is_known.unsqueeze(-1).to(ids.dtype)

    def forward(self, ids: Tensor, metadata: Tensor, is_known: Tensor) -> Tensor:
        """The fused vectors, (..., D)."""
        return torch.lerp(metadata, ids, self.gates(ids, metadata, is_known))


class DualAugmentedFusion(nn.Module):
    """A hidden layer with ReLU over the collaborative part, the metadata and the augmented vector.

    The tower of Yu et al. (DLP-KDD 2021, section 3.1) with one hidden layer: what theirs looks up
    for single features, the feature encoder has made one embedding of.

    Args:
        dim: length of the collaborative part, of the augmented vector and of the result, D.
        metadata_dim: length of the metadata embedding, E.
    """

    def __init__(self, dim: int, metadata_dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 * dim + metadata_dim, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, dim)
        )

    def forward(self, ids: Tensor, metadata: Tensor, is_known: Tensor) -> Tensor:
        """The fused vectors, (..., D); ``metadata`` and augmented vectors side by side."""
        fused: Tensor = self.layers(torch.cat([ids, metadata], dim=-1)).to(ids.dtype)
        return fused


def build_fusion(name: FusionName, dim: int, metadata_dim: int) -> Fusion | None:
    """The named fusion; None for ``identity``, which takes the collaborative part as it is."""
    match name:
        case "identity":
            return None
        case "sum":
            return SumFusion()
        case "concat":
            return ConcatFusion(dim, metadata_dim)
        case "adaptive_mimic":
            return AdaptiveMimicFusion(dim)
        case "dual_augmented":
            return DualAugmentedFusion(dim, metadata_dim)
        case _:
            assert_never(name)
