"""Scores of positives and of what was drawn against them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from recsys.training.batches import Batch
from recsys.training.ops import Scoring, combined, log_sums, pair_scores


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores of P positives and their negatives.

    Attributes:
        positives: (P,).
        negatives: of each positive, (P, K), or of each row with the shared items, (R, M).
        masked: pairs of a row and a shared item that is no negative of it, two (m,) int64; None
            where each positive has negatives of its own.
        rows: row of each positive, (P,).
    """

    positives: Tensor
    negatives: Tensor
    masked: tuple[Tensor, Tensor] | None
    rows: Tensor

    @cached_property
    def is_counted(self) -> Tensor | None:
        """Which of the shared items are negatives of which row, (R, M) bool."""
        if self.masked is None:
            return None
        counted = torch.ones_like(self.negatives, dtype=torch.bool)
        counted[self.masked] = False
        return counted

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

    def log_sums(self, log_chance: Tensor | None = None) -> Tensor:
        """The logarithm of the sum of exponentials over the negatives of each positive, (P,).

        Args:
            log_chance: subtracted from the scores before; broadcast to ``negatives``.
        """
        sums = log_sums(self.negatives, log_chance, self.masked)
        return sums if self.masked is None else sums[self.rows]

    def log_means(self) -> Tensor:
        """The logarithm of the mean of exponentials over the negatives of each positive, (P,).

        0 for a positive without negatives.
        """
        means = self.log_sums() - self.n_negatives.log()
        if self.is_counted is None:
            return means
        return torch.where(self.is_counted.any(dim=1)[self.rows], means, 0.0)


def score(users: Tensor, items: Tensor, batch: Batch, scoring: Scoring) -> Scored:
    """The scores of a batch whose negatives are drawn."""
    combine = scoring.combine
    if batch.negatives is not None:
        columns = torch.cat([batch.targets.unsqueeze(1), batch.negatives], dim=1)
        scores = pair_scores(users, items, batch.rows, columns, combine)
        return Scored(scores[:, 0], scores[:, 1:], None, batch.rows)
    assert batch.shared is not None
    positives = pair_scores(users, items, batch.rows, batch.targets.unsqueeze(1), combine)[:, 0]
    dtype = torch.bfloat16 if scoring.bfloat16 else users.dtype
    shared = (users.to(dtype) @ items[batch.shared].to(dtype).T).to(users.dtype)
    if users.ndim == 3:  # (R, K, M) so far
        shared = combined(shared.transpose(1, 2), combine)
    return Scored(positives, shared, _masked(batch), batch.rows)


def _masked(batch: Batch) -> tuple[Tensor, Tensor]:
    """Pairs of a row and the place among the shared items of one that is no negative of it."""
    assert batch.shared is not None and not isinstance(batch.items, int)
    column = torch.full((len(batch.items),), -1, device=batch.shared.device)
    column[batch.shared] = torch.arange(len(batch.shared), device=batch.shared.device)
    columns = column[batch.masked_items]
    present = columns >= 0
    return batch.masked_rows[present], columns[present]
