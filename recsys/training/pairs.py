"""Logits of (user, item) pairs, their gradient by sparse matrix products."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def pair_logits(users: Tensor, items: Tensor, user_of: Tensor, items_of: Tensor) -> Tensor:
    """The product of each pair's vectors.

    Args:
        users: vectors of distinct users, (Ub, D).
        items: vectors of distinct items, (Ib, D).
        user_of: row of ``users`` for each positive, (B,) int64.
        items_of: rows of ``items`` to pair it with, (B, C) int64.

    Returns:
        Logits, (B, C).
    """
    gathered = F.embedding(items_of, items)  # (B, C, D)
    return torch.einsum("bd,bcd->bc", F.embedding(user_of, users), gathered)
