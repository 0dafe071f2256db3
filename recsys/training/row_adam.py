"""Adam that moves only the rows a batch used."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from recsys.compiled import compiled
from recsys.data.arrays import FloatArray, IntArray
from recsys.workers import even_parts

LEAST_ROWS = 512
"""Of a job: fewer are moved before another thread has woken up."""


class Rates(NamedTuple):
    """What a step of Adam multiplies by.

    Attributes:
        step_size: learning rate with both bias corrections.
        new_mean: 1 - beta1.
        new_square: 1 - beta2.
        epsilon: added to the root of the uncorrected mean square.
    """

    step_size: np.float32
    new_mean: np.float32
    new_square: np.float32
    epsilon: np.float32


class RowAdam(Optimizer):
    """The step of :class:`torch.optim.SparseAdam`, for gradients that name each row once.

    SparseAdam sorts the rows, in case one is named twice, and writes moments and weights by sparse
    additions, each a pass of its own. Since :class:`recsys.models.id_embedding.IdEmbedding` looks
    each row up once, a row and its moments can be moved where they lie, in one pass.

    Moments of rows without a gradient stay as they are (Kingma and Ba 2015, algorithm 1, on the
    gradient's rows; the bias correction counts all steps).

    Args:
        params: weights, (n, D) float32, with sparse gradients of distinct rows.
        lr: learning rate.
        betas: decay of the two moments.
        eps: added to the root of the second moment *before* its bias is corrected, as in
            SparseAdam; dense Adam adds it after.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move the rows that have a gradient.

        Args:
            closure: must be None; the loss is never computed again.
        """
        assert closure is None
        for job in self.jobs():
            job()

    @torch.no_grad()
    def jobs(self) -> list[Callable[[], None]]:
        """What a step is made of: each job moves other rows, so they may run side by side."""
        return [
            job
            for group in self.param_groups
            for weight in group["params"]
            if weight.grad is not None
            for job in self._jobs(weight, group)
        ]

    def tables(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A weight and its two moments, which begin as zeros."""
        state = self.state[weight]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(weight)
            state["exp_avg_sq"] = torch.zeros_like(weight)
        return weight.detach(), state["exp_avg"], state["exp_avg_sq"]

    def count_step(self, weight: Tensor, group: dict[str, Any]) -> Rates:
        """Count a step of a weight, and give what Adam multiplies by in it."""
        self.tables(weight)
        state = self.state[weight]
        state["step"] += 1
        beta1, beta2 = group["betas"]
        step_size = (
            group["lr"] * math.sqrt(1 - beta2 ** state["step"]) / (1 - beta1 ** state["step"])
        )
        numbers = (step_size, 1 - beta1, 1 - beta2, group["eps"])
        return Rates(*(np.float32(number) for number in numbers))

    def _jobs(self, weight: Tensor, group: dict[str, Any]) -> list[Callable[[], None]]:
        rates = self.count_step(weight, group)
        rows, gradient = weight.grad._indices()[0], weight.grad._values()  # type: ignore[union-attr]
        if not len(rows):
            return []
        if weight.is_cuda:
            return [partial(self._move_by_torch, weight, rows, gradient, group)]
        values, means, squares = (table.numpy() for table in self.tables(weight))
        tables, slopes = (values, means, squares), gradient.contiguous().numpy()
        parts = even_parts(len(rows), max(1, len(rows) // LEAST_ROWS))
        return [partial(_move_rows, tables, rows.numpy(), slopes, rates, *part) for part in parts]

    @torch.no_grad()
    def _move_by_torch(
        self,
        weight: Tensor,
        rows: Tensor,
        gradient: Tensor,
        group: dict[str, Any],
    ) -> None:
        beta1, beta2 = group["betas"]
        tables, step = self.tables(weight), self.state[weight]["step"]
        values, mean, square = (table.index_select(0, rows) for table in tables)
        torch._fused_adam_(
            [values],
            [gradient],
            [mean],
            [square],
            [],
            [torch.tensor(float(step), device=weight.device)],
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=0.0,
            eps=group["eps"] / math.sqrt(1 - beta2**step),
            amsgrad=False,
            maximize=False,
        )
        for table, moved in zip(tables, (values, mean, square), strict=True):
            table.index_copy_(0, rows, moved)


@compiled
def _move_rows(
    tables: tuple[FloatArray, FloatArray, FloatArray],
    rows: IntArray,
    gradient: FloatArray,
    rates: Rates,
    start: int,
    stop: int,
) -> None:
    weight, means, squares = tables
    size, new_mean, new_square, epsilon = rates
    for place in range(start, stop):
        row = rows[place]
        for d in range(weight.shape[1]):
            slope = gradient[place, d]
            mean = means[row, d] + (slope - means[row, d]) * new_mean
            square = squares[row, d] + (slope * slope - squares[row, d]) * new_square
            means[row, d] = mean
            squares[row, d] = square
            weight[row, d] -= size * mean / (np.float32(math.sqrt(square)) + epsilon)
