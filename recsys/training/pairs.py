"""Logits of (user, item) pairs, their gradient by sparse matrix products."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
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
    logits: Tensor = _PairLogits.apply(users, items, user_of, items_of)  # type: ignore[no-untyped-call]
    return logits


class _PairLogits(torch.autograd.Function):
    """Gathers in both directions: autograd's own backward would scatter row by row."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, users: Tensor, items: Tensor, user_of: Tensor, items_of: Tensor
    ) -> Tensor:
        ctx.save_for_backward(users, items, user_of, items_of)
        gathered = items[items_of.view(-1)].view(*items_of.shape, -1)  # (B, C, D)
        return torch.bmm(gathered, users[user_of].unsqueeze(2)).squeeze(2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        users, items, user_of, items_of = ctx.saved_tensors
        n_pairs = items_of.shape[1]
        by_positive = F.embedding_bag(
            items_of, items, mode="sum", per_sample_weights=gradient.contiguous()
        )  # (B, D)
        to_users = torch.zeros_like(users).index_add_(0, user_of, by_positive)
        flat = items_of.view(-1)
        order = torch.argsort(flat, stable=True)
        offsets = torch.zeros(len(items) + 1, dtype=torch.int64, device=flat.device)
        torch.cumsum(torch.bincount(flat, minlength=len(items)), 0, out=offsets[1:])
        to_items = F.embedding_bag(
            user_of[order // n_pairs],
            users,
            offsets,
            mode="sum",
            per_sample_weights=gradient.reshape(-1)[order],
            include_last_offset=True,
        )
        return to_users, to_items, None, None
