"""Logits of (user, item) pairs, their gradient by sparse matrix products."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

from recsys.models.grouping import group

BLOCK = 256
"""Positives whose pairs are gathered at once: what is gathered stays in the processor's cache."""


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
        logits = users.new_empty(items_of.shape)
        for start in range(0, len(user_of), BLOCK):
            block = slice(start, start + BLOCK)
            paired = items_of[block]
            gathered = items.index_select(0, paired.reshape(-1)).view(*paired.shape, -1)
            by_user = users.index_select(0, user_of[block]).unsqueeze(2)
            torch.bmm(gathered, by_user, out=logits[block].unsqueeze(2))  # (b, C, D) x (b, D, 1)
        return logits

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        users, items, user_of, items_of = ctx.saved_tensors
        n_pairs = items_of.shape[1]
        by_positive = F.embedding_bag(
            items_of, items, mode="sum", per_sample_weights=gradient.contiguous()
        )  # (B, D)
        to_users = torch.zeros_like(users).index_add_(0, user_of, by_positive)
        order, starts = group(items_of.view(-1), len(items))
        to_items = F.embedding_bag(
            user_of[order // n_pairs],
            users,
            starts,
            mode="sum",
            per_sample_weights=gradient.reshape(-1)[order],
            include_last_offset=True,
        )
        return to_users, to_items, None, None
