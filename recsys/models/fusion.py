"""How an id embedding and a metadata embedding become the vector of a tower."""

from __future__ import annotations

from typing import Any, Protocol, assert_never

import numpy as np
import torch
from torch import Tensor, nn

from recsys.compiled import compiled
from recsys.config import FusionName
from recsys.data.arrays import BoolArray, FloatArray


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
        if ids.is_cuda:
            return torch.lerp(metadata, ids, self.gates(ids, metadata, is_known))
        logits = self.linear(torch.cat([ids, metadata], dim=1))
        mixed: Tensor = _Mix.apply(  # type: ignore[no-untyped-call]
            logits.to(ids.dtype), ids, metadata, is_known
        )
        return mixed


class _Mix(torch.autograd.Function):
    """A gate of each logit between two embeddings, with all three gradients in one pass."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, ids: Tensor, metadata: Tensor, is_known: Tensor
    ) -> Tensor:
        gates, mixed = torch.sigmoid(logits), torch.empty_like(ids)
        ctx.arrays = [each.detach().numpy() for each in (gates, ids, metadata)]
        arrays = (*ctx.arrays, is_known.numpy(), mixed.numpy())
        _mix(*arrays)
        return mixed

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        given = [torch.empty_like(gradient, memory_format=torch.contiguous_format) for _ in "lim"]
        arrays = (*ctx.arrays, gradient.contiguous().numpy(), *(each.numpy() for each in given))
        _unmix(*arrays)
        to_logits, to_ids, to_metadata = given
        return to_logits, to_ids, to_metadata, None


@compiled
def _mix(
    gates: FloatArray, ids: FloatArray, metadata: FloatArray, is_known: BoolArray, mixed: FloatArray
) -> None:
    """Fill in what is mixed, and close the gates of ids that are not known."""
    for row in range(len(mixed)):
        known = np.float32(1) if is_known[row] else np.float32(0)
        for d in range(mixed.shape[1]):
            gate = gates[row, d] * known
            gates[row, d] = gate
            mixed[row, d] = metadata[row, d] + gate * (ids[row, d] - metadata[row, d])


@compiled
def _unmix(
    gates: FloatArray,
    ids: FloatArray,
    metadata: FloatArray,
    gradient: FloatArray,
    to_logits: FloatArray,
    to_ids: FloatArray,
    to_metadata: FloatArray,
) -> None:
    for row in range(len(gradient)):
        for d in range(gradient.shape[1]):
            gate, slope = gates[row, d], gradient[row, d]
            to_ids[row, d] = slope * gate
            to_metadata[row, d] = slope * (np.float32(1) - gate)
            apart = ids[row, d] - metadata[row, d]
            to_logits[row, d] = slope * apart * gate * (np.float32(1) - gate)


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
