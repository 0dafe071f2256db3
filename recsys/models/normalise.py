"""Vectors of length 1."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

LEAST_LENGTH = 1e-12
"""A shorter vector is divided by this instead, so that zero stays zero."""


def normalise(vectors: Tensor) -> Tensor:
    """Each vector, over the last dimension, divided by its length; zero stays zero.

    The same as :func:`torch.nn.functional.normalize` with a third of its passes over memory, but
    for zero: it has no direction, and gets no gradient (torch gives 1e12 times the one passed in,
    from which the moments of Adam take thousands of steps to recover).
    """
    unit: Tensor = _Normalise.apply(vectors)  # type: ignore[no-untyped-call]
    return unit


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, vectors: Tensor) -> Tensor:
        lengths = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
        lengths.clamp_(min=LEAST_LENGTH)
        unit: Tensor = vectors / lengths
        ctx.save_for_backward(unit, lengths)
        return unit

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        unit, lengths = ctx.saved_tensors
        along = torch.linalg.vecdot(unit, gradient).unsqueeze(-1)  # what only changes the length
        scale = lengths.reciprocal().masked_fill_(lengths <= LEAST_LENGTH, 0.0)
        turned: Tensor = torch.addcmul(gradient, unit, along, value=-1).mul_(scale)
        return turned
