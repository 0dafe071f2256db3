"""Weighted sums of rows of a weight, one for each bag, with a gradient that gathers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from recsys.models.grouping import group


def sum_rows(weight: Tensor, offsets: Tensor, columns: Tensor, weights: Tensor | None) -> Tensor:
    """The weighted sum of the rows of ``weight`` named by each bag.

    Args:
        weight: (n_columns, D) float32.
        offsets: entries of bag ``i`` are ``offsets[i]`` to ``offsets[i + 1]``, (n + 1,) int64.
        columns: row of ``weight`` of each entry, (m,) int32 or int64.
        weights: of each entry, (m,) float32; None where each counts once.

    Returns:
        (n, D) float32; zero for an empty bag.
    """
    total: Tensor = _SumRows.apply(weight, offsets, columns, weights)  # type: ignore[no-untyped-call]
    return total


def _sum(weight: Tensor, offsets: Tensor, columns: Tensor, weights: Tensor | None) -> Tensor:
    return F.embedding_bag(
        columns.to(offsets.dtype),
        weight,
        offsets,
        mode="sum",
        per_sample_weights=weights,
        include_last_offset=True,
    )


class _SumRows(torch.autograd.Function):
    """torch's own gradient scatters row by row on one thread; this sums each column's bags."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, offsets: Tensor, columns: Tensor, weights: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(weight, offsets, columns, weights)
        return _sum(weight, offsets, columns, weights)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        weight, offsets, columns, weights = ctx.saved_tensors
        order, starts = group(columns, len(weight))
        bags = torch.arange(len(offsets) - 1, device=columns.device)
        bag_of = torch.repeat_interleave(bags, offsets.diff(), output_size=len(columns))
        shares = None if weights is None else weights[order]
        return _sum(gradient.contiguous(), starts, bag_of[order], shares), None, None, None
