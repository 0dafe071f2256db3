"""ReLU and dropout in one, whose mask costs an eighth of a random number for each unit."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = 256


class ReluDropout(nn.Module):
    """ReLU, then leaves out units in training and scales the others up.

    The same as :class:`torch.nn.ReLU` before :class:`torch.nn.Dropout`, for which torch draws one
    Bernoulli number for each unit on one thread of the CPU and makes six passes over the units.
    One random byte is enough: the share is rounded to a multiple of 1/256, and the scale to what
    that share needs, so that the expected output is that of the ReLU exactly. The gradient passes
    where the output is above 0, since that is where the unit was active and kept.

    Args:
        share: share of units left out, in [0, 1).
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self._threshold = min(round(share * LEVELS), LEVELS - 1)
        self._scale = LEVELS / (LEVELS - self._threshold)

    def forward(self, units: Tensor) -> Tensor:
        """The active units, some of them zero; in evaluation mode all that are active.

        Args:
            units: of any shape; overwritten.
        """
        if not self.training or self.share == 0:
            return F.relu_(units)
        if units.is_cuda:
            return F.dropout(F.relu_(units), self.share)
        active: Tensor = _ActiveAndKept.apply(  # type: ignore[no-untyped-call]
            units, self._draw(units), self._scale
        )
        return active

    def _draw(self, units: Tensor) -> Tensor:
        """Which units are kept: 1 or 0 for each, of the units' type."""
        seed = int(torch.randint(2**63 - 1, ()))
        words = np.random.SFC64(seed).random_raw(-(-units.numel() // 8))
        kept = words.view(np.uint8)[: units.numel()] >= self._threshold
        return torch.from_numpy(kept.view(np.uint8)).to(units.dtype).view_as(units)


class _ActiveAndKept(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, units: Tensor, kept: Tensor, scale: float) -> Tensor:
        ctx.mark_dirty(units)
        ctx.scale = scale
        active = units.relu_().mul_(kept).mul_(scale)
        ctx.save_for_backward(active)
        return active

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (active,) = ctx.saved_tensors
        through: Tensor = torch.ops.aten.threshold_backward(gradient, active, 0)
        return through.mul_(ctx.scale), None, None
