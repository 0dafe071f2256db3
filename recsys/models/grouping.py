"""Which entries share a key: what turns a scatter into a gather."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_RADIX_LIMIT = 2**16
"""numpy sorts 16-bit keys by radix, in a third of the time of torch's comparison sort."""


def group(keys: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The entries of each key side by side.

    Args:
        keys: (m,) integers from 0 to n - 1.
        n: number of keys.

    Returns:
        The entries in the order of their keys, those of one key as they came, (m,) int64; and
        where each key's begin, (n + 1,) int64: those of key ``i`` end where the next one's begin.
    """
    starts = torch.zeros(n + 1, dtype=torch.int64, device=keys.device)
    torch.cumsum(torch.bincount(keys, minlength=n), 0, out=starts[1:])
    if keys.is_cuda or n > _RADIX_LIMIT:
        return torch.argsort(keys, stable=True), starts
    order = np.argsort(keys.numpy().astype(np.uint16), kind="stable")
    return torch.from_numpy(order), starts
