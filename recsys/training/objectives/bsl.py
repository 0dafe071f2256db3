"""Bilateral softmax loss."""

from __future__ import annotations

import torch
from torch import Tensor

from recsys.training.batches import Batch
from recsys.training.objectives.candidates import score
from recsys.training.ops import Scoring


def bsl(
    users: Tensor, items: Tensor, batch: Batch, *, positive_temperature: float, scoring: Scoring
) -> dict[str, Tensor]:
    """For each user -r log mean exp(positives / r) + log mean exp(negatives), of logits.

    Wu et al., "BSL: Understanding and Improving Softmax Loss for Recommendation", ICDE 2024,
    divided by the negatives' temperature, which the logits already hold; r is the positives' in
    multiples of it. A positive that fits the user badly, which may be noise, counts for less than
    under the softmax loss, the limit of a large r. A user weighs as the positives that the batch
    has of it; where each positive is a row of its own, both losses are the same.

    Returns:
        The share of the positives and of the negatives, in nats.
    """
    r = positive_temperature
    scored = score(users, items, batch, scoring)
    counts = torch.bincount(batch.rows, minlength=len(users))
    sums = _log_sums(scored.positives / r, batch.rows, len(users))
    means = (sums - counts.clamp(min=1).log())[batch.rows]
    return {"bsl_positive": -r * means.mean(), "bsl_negative": scored.log_means().mean()}


def _log_sums(logits: Tensor, rows: Tensor, n_rows: int) -> Tensor:
    """The logarithm of the sum of exponentials of each row's logits, (n_rows,)."""
    highest = logits.new_full((n_rows,), -torch.inf)
    highest = highest.scatter_reduce(0, rows, logits.detach(), "amax")
    highest = torch.where(highest.isfinite(), highest, 0.0)
    sums = logits.new_zeros(n_rows).index_add(0, rows, (logits - highest[rows]).exp())
    return sums.clamp(min=torch.finfo(sums.dtype).tiny).log() + highest
