"""ReLU with dropout that draws a byte a unit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

_PLACE: ContextVar[tuple[int, int] | None] = ContextVar("place of the rows", default=None)


@contextmanager
def rows_of_more(first: int, n: int) -> Iterator[None]:
    """Within, rows are some of n, from ``first`` on: each draws what it would draw among all n.

    The random state moves as it would for all of them.
    """
    token = _PLACE.set((first, n))
    try:
        yield
    finally:
        _PLACE.reset(token)


def draw_shares(n: int, device: torch.device) -> Tensor:
    """A uniform random number in [0, 1) for each of n rows, (n,) float32."""
    first, of = _PLACE.get() or (0, n)
    return torch.rand(of, device=device)[first : first + n]


class ReluDropout(nn.Module):
    """ReLU, then units left out in training and the others scaled up.

    On the CPU both are one operation each way, and a unit is kept or left out by one
    random byte, so ``share`` is rounded to a multiple of 1/256; torch's own draws take ten times as
    long, longer than the layer before them.

    Args:
        share: share of units left out, in [0, 1).
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, units: Tensor) -> Tensor:
        """The positive units, in training some of them zero."""
        if not self.training or self.share == 0:
            return F.relu(units)
        first, n = _PLACE.get() or (0, len(units))
        if units.is_cuda and n != len(units):
            factors = F.dropout(units.new_ones((n, *units.shape[1:])), self.share)
            return F.relu(units) * factors[first : first + len(units)]
        if units.is_cuda:
            return F.dropout(F.relu(units), self.share)
        limit = min(max(round(self.share * 256), 1), 255)
        kept: Tensor = _ReluDropout.apply(units, limit)  # type: ignore[no-untyped-call]
        return kept


class _ReluDropout(torch.autograd.Function):
    """A unit passes its gradient where its output is above 0: positive and kept."""

    @staticmethod
    def forward(ctx: FunctionCtx, units: Tensor, limit: int) -> Tensor:
        scale = 256 / (256 - limit)
        first, _ = _PLACE.get() or (0, 0)
        before = first * units[:1].numel()
        drawn = draw_bytes(before + units.numel())[before:].view(units.shape).to(units.dtype)
        # The units whose byte is at least the limit; torch's comparisons take ten times as long.
        kept: Tensor = torch.ops.aten.threshold_backward(units, drawn, limit - 1)
        kept.clamp_min_(0).mul_(scale)
        ctx.save_for_backward(kept)
        ctx.scale = scale  # type: ignore[attr-defined]
        return kept

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        passed: Tensor = torch.ops.aten.threshold_backward(gradient, kept, 0)
        return passed.mul_(ctx.scale), None


def draw_bytes(n: int) -> Tensor:
    """Uniform random bytes that follow from torch's current random state, (n,) uint8.

    SFC64 (of the PractRand suite), seeded by torch: half the time of torch's own generator.
    """
    seed = int(torch.randint(2**63 - 1, ()))
    words = np.random.SFC64(seed).random_raw(-(-n // 8))
    return torch.from_numpy(words).view(torch.uint8)[:n]
