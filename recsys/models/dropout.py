"""Dropout that draws a byte a unit."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Dropout(nn.Module):
    """Leaves out units in training and scales the others up.

    On the CPU a unit is kept or left out by one random byte, so ``share`` is rounded to a multiple
    of 1/256; torch's own draws take ten times as long, longer than the layer before them.

    Args:
        share: share of units left out, in [0, 1).
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, units: Tensor) -> Tensor:
        """The units, some of them zero; in evaluation mode as they are."""
        if not self.training or self.share == 0:
            return units
        if units.is_cuda:
            return F.dropout(units, self.share)
        limit = min(max(round(self.share * 256), 1), 255)
        is_kept = draw_bytes(units.numel()).view(units.shape) >= limit
        return units * is_kept * (256 / (256 - limit))


def draw_bytes(n: int) -> Tensor:
    """Uniform random bytes from torch's current random state, (n,) uint8."""
    words = torch.empty(-(-n // 8), dtype=torch.int64)
    return words.random_(-(2**63), None).view(torch.uint8)[:n]
