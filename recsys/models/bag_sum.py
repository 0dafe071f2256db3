"""Weighted sums of rows of a weight, one for each bag, without writing the bags out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from recsys.compiled import compiled
from recsys.data.arrays import FloatArray, IntArray

Bag = tuple[Tensor, Tensor, Tensor | None]
"""Where each row's entries begin and the end, (N + 1,) int64; the row of a weight that each entry
names, (m,) int32; and the entries' weights, (m,) float32, or None where each counts once."""


def add_bags(start: Tensor, weight: Tensor, bag: Bag, rows: Tensor) -> Tensor:
    """Add to each row of ``start`` the weighted sum of the rows of ``weight`` that its bag names.

    Args:
        start: (n, D) float32; on the CPU overwritten.
        weight: (n_columns, D) float32.
        bag: of N rows.
        rows: which of them, (n,) int64.

    Returns:
        (n, D) float32.
    """
    if start.is_cuda:
        return start + _sum_bags(weight, bag, rows)
    total: Tensor = _AddBags.apply(start, weight, *bag, rows)  # type: ignore[no-untyped-call]
    return total


def _sum_bags(weight: Tensor, bag: Bag, rows: Tensor) -> Tensor:
    """The sums alone, by torch's own means."""
    offsets, columns, weights = entries(bag, rows)
    return F.embedding_bag(
        columns.to(offsets.dtype),
        weight,
        offsets,
        mode="sum",
        per_sample_weights=weights,
        include_last_offset=True,
    )


def entries(bag: Bag, rows: Tensor) -> Bag:
    """The given rows' entries as a bag of their own."""
    offsets, columns, weights = bag
    starts = offsets[rows]
    lengths = offsets[rows + 1] - starts
    ends = torch.zeros(len(rows) + 1, dtype=torch.int64, device=rows.device)
    torch.cumsum(lengths, 0, out=ends[1:])
    shift = torch.repeat_interleave(starts - ends[:-1], lengths)
    positions = torch.arange(len(shift), device=rows.device) + shift
    return ends, columns[positions], None if weights is None else weights[positions]


class _AddBags(torch.autograd.Function):
    """One pass over the entries each way, where torch would first write out those of the rows."""

    @staticmethod
    def forward(
        ctx: Any,
        start: Tensor,
        weight: Tensor,
        offsets: Tensor,
        columns: Tensor,
        weights: Tensor | None,
        rows: Tensor,
    ) -> Tensor:
        ctx.mark_dirty(start)
        shares = np.empty(0, dtype=np.float32) if weights is None else weights.numpy()
        ctx.arrays = (offsets.numpy(), columns.numpy(), shares, rows.numpy())
        ctx.shape = weight.shape
        arrays = (*ctx.arrays, weight.detach().numpy(), start.detach().numpy())
        _gather(*arrays)
        return start

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        to_weight = torch.zeros(ctx.shape)
        arrays = (*ctx.arrays, gradient.contiguous().numpy(), to_weight.numpy())
        _scatter(*arrays)
        return gradient, to_weight, None, None, None, None


@compiled
def _gather(
    offsets: IntArray,
    columns: IntArray,
    shares: FloatArray,
    rows: IntArray,
    weight: FloatArray,
    total: FloatArray,
) -> None:
    for place in range(len(rows)):
        for entry in range(offsets[rows[place]], offsets[rows[place] + 1]):
            share = shares[entry] if len(shares) else np.float32(1)
            column = columns[entry]
            for d in range(weight.shape[1]):
                total[place, d] += share * weight[column, d]


@compiled
def _scatter(
    offsets: IntArray,
    columns: IntArray,
    shares: FloatArray,
    rows: IntArray,
    gradient: FloatArray,
    to_weight: FloatArray,
) -> None:
    for place in range(len(rows)):
        for entry in range(offsets[rows[place]], offsets[rows[place] + 1]):
            share = shares[entry] if len(shares) else np.float32(1)
            column = columns[entry]
            for d in range(to_weight.shape[1]):
                to_weight[column, d] += share * gradient[place, d]
