"""ReLU and dropout, the units left out fixed by their place in the batch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recsys.data.arrays import BoolArray, IntArray
from recsys.models.draws import Draws, threshold


class ReluDropout(nn.Module):
    """ReLU, then leaves out units in training and scales the others up.

    On the CPU a unit is left out by a hash of its place, so that the parts of a batch lose the
    units that the whole would.

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
            units: (n, width).
            draws: of the rows; None takes fresh ones.
        """
        active = F.relu(units)
        if not self.training or self.share == 0:
            return active
        if units.is_cuda:
            return F.dropout(active, self.share)
        keys = (draws or Draws.fresh()).rows(self.stream, len(units))
        kept = torch.from_numpy(is_kept(keys, units.shape[1], self.share))
        return active * kept * (1 / (1 - self.share))


def is_kept(keys: IntArray, width: int, share: float) -> BoolArray:
    """Which units of each row are kept, (n, width) bool.

    The hash of a unit is MurmurHash3's last step over its row's key and its column.
    """
    columns = np.arange(width, dtype=np.uint32) * np.uint32(0x9E3779B1)
    mixed = keys[:, None] + columns
    mixed = (mixed ^ (mixed >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    mixed = (mixed ^ (mixed >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    mixed = mixed ^ (mixed >> np.uint32(16))
    kept: BoolArray = mixed >= np.uint32(threshold(share))
    return kept
