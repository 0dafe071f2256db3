"""Rows of length 1."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

EPS = 1e-12
"""Shorter rows are divided by this, so that a row of zeros stays one."""


def unit_rows(vectors: Tensor) -> Tensor:
    """Each row divided by its length, (n, D), as :func:`torch.nn.functional.normalize` does."""
    units: Tensor = _UnitRows.apply(vectors)  # type: ignore[no-untyped-call]
    return units


class _UnitRows(torch.autograd.Function):
    """The gradient is the part of the incoming one across the row, over the row's length."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor) -> Tensor:
        inverse = torch.linalg.vector_norm(vectors, dim=1, keepdim=True).clamp_(min=EPS)
        inverse.reciprocal_()
        units: Tensor = vectors * inverse
        ctx.save_for_backward(units, inverse)
        return units

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        units, inverse = ctx.saved_tensors
        along = (gradient * units).sum(dim=1, keepdim=True)
        across: Tensor = torch.addcmul(gradient, units, along, value=-1).mul_(inverse)
        return across
