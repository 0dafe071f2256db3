"""Weighted sums of rows of a weight, one for each bag, without writing the bags out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

Bag = tuple[Tensor, Tensor, Tensor | None]
"""Where each row's entries begin and the end, (N + 1,) int64; the row of a weight that each entry
names, (m,) int32; and the entries' weights, (m,) float32, or None where each counts once."""


def sum_bags(weight: Tensor, bag: Bag, rows: Tensor) -> Tensor:
    """For each row the weighted sum of the rows of ``weight`` that its bag names.

    Args:
        weight: (n_columns, D) float32.
        bag: of N rows.
        rows: which of them, (n,) int64.

    Returns:
        (n, D) float32.
    """
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
