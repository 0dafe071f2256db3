"""ReLU and dropout in one pass, the units left out fixed by their place in the batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recsys.compiled import compiled
from recsys.data.arrays import FloatArray, IntArray
from recsys.models.draws import Draws, threshold


class ReluDropout(nn.Module):
    """ReLU, then leaves out units in training and scales the others up.

    The same as :class:`torch.nn.ReLU` before :class:`torch.nn.Dropout`, for which torch draws one
    Bernoulli number for each unit on one thread of the CPU and makes six passes over the units.
    Here a unit is left out by a hash of its place, computed where it is used. The gradient passes
    where the output is above 0, since that is where the unit was active and kept.

    Args:
        share: share of units left out, in [0, 1).
        stream: tells the layer's draws from those of other layers.
    """

    def __init__(self, share: float, stream: int = 0) -> None:
        super().__init__()
        self.share = share
        self.stream = stream

    def forward(self, units: Tensor, draws: Draws | None = None) -> Tensor:
        """The active units, some of them zero; in evaluation mode all that are active.

        Args:
            units: (n, width) float32; overwritten.
            draws: of the rows; None takes fresh ones.
        """
        if not self.training or self.share == 0:
            return F.relu_(units)
        if units.is_cuda:
            return F.dropout(F.relu_(units), self.share)
        keys = (draws or Draws.fresh()).rows(self.stream, len(units))
        active: Tensor = _ActiveAndKept.apply(  # type: ignore[no-untyped-call]
            units, keys, self.share
        )
        return active


class _ActiveAndKept(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, units: Tensor, keys: IntArray, share: float) -> Tensor:
        ctx.mark_dirty(units)
        ctx.scale = np.float32(1 / (1 - share))
        _keep_active(units.detach().numpy(), keys, np.uint32(threshold(share)), ctx.scale)
        ctx.save_for_backward(units)
        return units

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (active,) = ctx.saved_tensors
        through = torch.empty_like(active)
        _pass_active(
            gradient.contiguous().numpy(), active.detach().numpy(), ctx.scale, through.numpy()
        )
        return through, None, None


@compiled
def _keep_active(units: FloatArray, keys: IntArray, limit: np.uint32, scale: np.float32) -> None:
    """In place; the hash of a unit is MurmurHash3's last step over its row's key and its column."""
    for row in range(len(units)):
        key = keys[row]
        for column in range(units.shape[1]):
            mixed = np.uint32(key + np.uint32(np.uint32(column) * np.uint32(0x9E3779B1)))
            mixed = np.uint32((mixed ^ (mixed >> np.uint32(16))) * np.uint32(0x85EBCA6B))
            mixed = np.uint32((mixed ^ (mixed >> np.uint32(13))) * np.uint32(0xC2B2AE35))
            mixed = np.uint32(mixed ^ (mixed >> np.uint32(16)))
            unit = units[row, column]
            units[row, column] = unit * scale if mixed >= limit and unit > 0 else np.float32(0)


@compiled
def _pass_active(
    gradient: FloatArray, active: FloatArray, scale: np.float32, through: FloatArray
) -> None:
    for row in range(len(active)):
        for column in range(active.shape[1]):
            passed = gradient[row, column] * scale
            through[row, column] = passed if active[row, column] > 0 else np.float32(0)
