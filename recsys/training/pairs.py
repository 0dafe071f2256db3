"""The loss of (user, item) pairs and its gradient; on the CPU no pair's vectors are copied."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recsys.compiled import compiled
from recsys.data.arrays import FloatArray, IntArray
from recsys.training.losses import judge, sampled_bce
from recsys.workers import Workers, even_parts


@dataclass(frozen=True, eq=False)
class PairLoss:
    """The :func:`recsys.training.losses.sampled_bce` of a batch.

    Attributes:
        positive: the share of the positives, a scalar, in nats.
        negative: the share of the negatives.
        to_users: the gradient of both together in the users' vectors, (Ub, D).
        to_items: in the items' vectors, (Ib, D).
    """

    positive: Tensor
    negative: Tensor
    to_users: Tensor
    to_items: Tensor


def pair_loss(
    users: Tensor, items: Tensor, user_of: Tensor, items_of: Tensor, workers: Workers | None = None
) -> PairLoss:
    """The loss of logits that are products of vectors, and its gradient.

    Args:
        users: vectors of distinct users, (Ub, D) float32.
        items: vectors of distinct items, (Ib, D) float32.
        user_of: row of ``users`` for each positive, (B,) int64.
        items_of: rows of ``items`` to pair it with, (B, 1 + K) int64: its own, then negatives.
        workers: threads that share the work on the CPU; None takes the calling one.
    """
    if users.is_cuda:
        return _by_autograd(users, items, user_of, items_of)
    workers = workers or Workers()
    vectors, rows = (users.numpy(), items.numpy()), (user_of.numpy(), items_of.numpy())
    slopes = np.empty(items_of.shape, dtype=np.float32)
    parts = even_parts(len(user_of), workers.n)
    jobs = [(*vectors, *rows, *part, slopes) for part in parts]
    of_positives, of_negatives, _ = np.sum(workers.run(_judge_pairs, jobs), axis=0)
    gradients = tuple(np.zeros_like(each) for each in vectors)
    # A job each, so that no row has two writers.
    pulls = ((gradients[0], vectors[1], True), (gradients[1], vectors[0], False))
    workers.run(_pull, [(*pull, *rows, slopes) for pull in pulls])
    n, width = items_of.shape
    return PairLoss(
        torch.tensor(float(of_positives / n / 2)),
        torch.tensor(float(of_negatives / (n * (width - 1)) / 2)),
        *(torch.from_numpy(gradient) for gradient in gradients),
    )


def _by_autograd(users: Tensor, items: Tensor, user_of: Tensor, items_of: Tensor) -> PairLoss:
    """The same for GPUs."""
    leaves = users.detach().requires_grad_(), items.detach().requires_grad_()
    logits = torch.einsum("bd,bcd->bc", leaves[0][user_of], leaves[1][items_of])
    losses = sampled_bce(logits[:, 0], logits[:, 1:])
    gradients = torch.autograd.grad(losses, leaves)
    return PairLoss(*(loss.detach() for loss in losses), *gradients)


@compiled
def _judge_pairs(
    users: FloatArray,
    items: FloatArray,
    user_of: IntArray,
    items_of: IntArray,
    start: int,
    stop: int,
    slopes: FloatArray,
) -> FloatArray:
    """Fill in the slopes of these positives; gives the sums of :func:`judge`."""
    sums, logits = np.zeros((1, 3)), np.empty_like(slopes)
    for positive in range(start, stop):
        user = user_of[positive]
        for column in range(items_of.shape[1]):
            item, product = items_of[positive, column], np.float32(0)
            for d in range(users.shape[1]):
                product += users[user, d] * items[item, d]
            logits[positive, column] = product
        judge(logits, slopes, positive, sums, 0)
    total: FloatArray = sums[0]
    return total


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
