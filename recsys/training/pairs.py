"""Logits of (user, item) pairs, and their gradient, without writing the pairs' vectors out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from recsys.compiled import compiled
from recsys.data.arrays import FloatArray, IntArray
from recsys.workers import Workers, even_parts


def pair_logits(
    users: Tensor, items: Tensor, user_of: Tensor, items_of: Tensor, workers: Workers | None = None
) -> Tensor:
    """The product of each pair's vectors.

    Args:
        users: vectors of distinct users, (Ub, D) float32.
        items: vectors of distinct items, (Ib, D) float32.
        user_of: row of ``users`` for each positive, (B,) int64.
        items_of: rows of ``items`` to pair it with, (B, C) int64.
        workers: threads that share the work on the CPU; None takes the calling one.

    Returns:
        Logits, (B, C).
    """
    if users.is_cuda:
        return torch.einsum("bd,bcd->bc", users[user_of], items[items_of])
    logits: Tensor = _PairLogits.apply(  # type: ignore[no-untyped-call]
        users, items, user_of, items_of, workers or Workers()
    )
    return logits


class _PairLogits(torch.autograd.Function):
    """The gradients of users and of items are a job each, so that no row has two writers."""

    @staticmethod
    def forward(
        ctx: Any, users: Tensor, items: Tensor, user_of: Tensor, items_of: Tensor, workers: Workers
    ) -> Tensor:
        ctx.arrays = [each.detach().numpy() for each in (users, items, user_of, items_of)]
        ctx.workers = workers
        logits = users.new_empty(items_of.shape)
        parts = even_parts(len(user_of), workers.n)
        workers.run(_multiply, [(*ctx.arrays, *part, logits.numpy()) for part in parts])
        return logits

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        users, items, user_of, items_of = ctx.arrays
        slopes = gradient.contiguous().numpy()
        to_users, to_items = np.zeros_like(users), np.zeros_like(items)
        to_both = ((to_users, items, True), (to_items, users, False))
        ctx.workers.run(_pull, [(*each, user_of, items_of, slopes) for each in to_both])
        return torch.from_numpy(to_users), torch.from_numpy(to_items), None, None, None


@compiled
def _multiply(
    users: FloatArray,
    items: FloatArray,
    user_of: IntArray,
    items_of: IntArray,
    start: int,
    stop: int,
    logits: FloatArray,
) -> None:
    for positive in range(start, stop):
        user = user_of[positive]
        for column in range(items_of.shape[1]):
            item, product = items_of[positive, column], np.float32(0)
            for d in range(users.shape[1]):
                product += users[user, d] * items[item, d]
            logits[positive, column] = product


@compiled
def _pull(
    total: FloatArray,
    others: FloatArray,
    is_of_users: bool,
    user_of: IntArray,
    items_of: IntArray,
    slopes: FloatArray,
) -> None:
    """Add to each row the other vector of its pairs times the slope of the loss in their logit."""
    for positive in range(len(user_of)):
        for column in range(items_of.shape[1]):
            user, item = user_of[positive], items_of[positive, column]
            row, other = (user, item) if is_of_users else (item, user)
            for d in range(total.shape[1]):
                total[row, d] += slopes[positive, column] * others[other, d]
