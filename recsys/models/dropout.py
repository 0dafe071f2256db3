"""Dropout whose mask costs an eighth of a random number for each unit."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = 256


class ByteDropout(nn.Module):
    """Leaves out units in training and scales the others up, as :class:`torch.nn.Dropout` does.

    On the CPU, torch draws one Bernoulli number for each unit on one thread, which took a seventh
    of a training step. One random byte is enough: the share is rounded to a multiple of 1/256, and
    the scale to what that share needs, so that the expected output is the input exactly.

    Args:
        share: share of units left out, in [0, 1).
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self._threshold = min(round(share * LEVELS), LEVELS - 1)

    def forward(self, units: Tensor) -> Tensor:
        """The units, some of them zero; in evaluation mode as they are."""
        if not self.training or self.share == 0:
            return units
        if units.is_cuda:
            return F.dropout(units, self.share)
        seed = int(torch.randint(2**63 - 1, ()))
        words = np.random.SFC64(seed).random_raw(-(-units.numel() // 8))
        drawn = torch.from_numpy(words.view(np.uint8)[: units.numel()]).view_as(units)
        kept = (drawn >= self._threshold).to(units.dtype)
        return units * kept.mul_(LEVELS / (LEVELS - self._threshold))
