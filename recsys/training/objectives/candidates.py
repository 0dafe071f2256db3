"""Scores of positives and of what was drawn against them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recsys.config import QueryScore
from recsys.training.batches import Batch
from recsys.training.ops import combined, pair_scores


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores of P positives and their negatives.

    Attributes:
        positives: (P,).
        negatives: of each positive, (P, K), or of each row with the shared items, (R, M).
        is_counted: which of the shared ones are negatives of the row, (R, M) bool; None where
            each positive has its own.
        rows: row of each positive, (P,).
    """

    positives: Tensor
    negatives: Tensor
    is_counted: Tensor | None
    rows: Tensor

    @property
    def n_negatives(self) -> Tensor:
        """Negatives of each positive, at least 1, (P,)."""
        if self.is_counted is None:
            return self.rows.new_full((len(self.rows),), self.negatives.shape[1])
        return self.is_counted.sum(dim=1).clamp(min=1)[self.rows]

    def means(self, values: Tensor) -> Tensor:
        """The mean of a value a negative, for each positive, (P,).

        Args:
            values: of the form of ``negatives``.
        """
        if self.is_counted is None:
            return values.mean(dim=1)
        return (values * self.is_counted).sum(dim=1)[self.rows] / self.n_negatives

    def log_sums(self, logits: Tensor) -> Tensor:
        """The logarithm of the sum of exponentials over the negatives of each positive, (P,)."""
        if self.is_counted is None:
            return logits.logsumexp(dim=1)
        hidden = logits.masked_fill(~self.is_counted, torch.finfo(logits.dtype).min)
        return hidden.logsumexp(dim=1)[self.rows]

    def log_means(self, logits: Tensor) -> Tensor:
        """The logarithm of the mean of exponentials over the negatives of each positive, (P,).

        0 for a positive without negatives.
        """
        means = self.log_sums(logits) - self.n_negatives.log()
        if self.is_counted is None:
            return means
        return torch.where(self.is_counted.any(dim=1)[self.rows], means, 0.0)


def score(users: Tensor, items: Tensor, batch: Batch, combine: QueryScore) -> Scored:
    """The scores of a batch whose negatives are drawn."""
    if batch.negatives is not None:
        columns = torch.cat([batch.targets.unsqueeze(1), batch.negatives], dim=1)
        scores = pair_scores(users, items, batch.rows, columns, combine)
        return Scored(scores[:, 0], scores[:, 1:], None, batch.rows)
    assert batch.shared is not None
    positives = pair_scores(users, items, batch.rows, batch.targets.unsqueeze(1), combine)[:, 0]
    against = items[batch.shared]
    shared = users @ against.T  # (R, M) or (R, K, M)
    if users.ndim == 3:
        shared = combined(shared.transpose(1, 2), combine)
    return Scored(positives, shared, _counted(batch, len(users)), batch.rows)


def _counted(batch: Batch, n_rows: int) -> Tensor:
    """Which shared items are negatives of which row, (R, M) bool."""
    assert batch.shared is not None and not isinstance(batch.items, int)
    column = torch.full((len(batch.items),), -1, device=batch.shared.device)
    column[batch.shared] = torch.arange(len(batch.shared), device=batch.shared.device)
    columns = column[batch.masked_items]
    present = columns >= 0
    counted = torch.ones((n_rows, len(batch.shared)), dtype=torch.bool, device=columns.device)
    counted[batch.masked_rows[present], columns[present]] = False
    return counted
