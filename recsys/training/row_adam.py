"""Adam that moves only the rows a batch used."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.adam import adam


class RowAdam(Optimizer):
    """The step of :class:`torch.optim.SparseAdam`, for gradients that name each row once.

    SparseAdam sorts the rows, in case one is named twice, and writes moments and weights by sparse
    additions, each a pass of its own. Since :class:`recsys.models.id_embedding.IdEmbedding` looks
    each row up once, rows and moments are gathered, moved in one pass by torch's dense Adam and
    put back.

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
    def step(self) -> None:  # type: ignore[override]
        """Move the rows that have a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, group)

    def _move(self, weight: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(weight)
            state["exp_avg_sq"] = torch.zeros_like(weight)
        state["step"] += 1
        assert weight.grad is not None and weight.grad.is_sparse
        rows, gradient = weight.grad._indices()[0], weight.grad._values()
        if not len(rows):
            return
        beta1, beta2 = group["betas"]
        tables = (weight, state["exp_avg"], state["exp_avg_sq"])
        values, mean, square = (table.index_select(0, rows) for table in tables)
        steps_before = torch.tensor(state["step"] - 1.0, device=weight.device)
        adam(
            [values],
            [gradient],
            [mean],
            [square],
            [],
            [steps_before],
            fused=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=0.0,
            eps=group["eps"] / math.sqrt(1 - beta2 ** state["step"]),  # it corrects the bias before
            maximize=False,
        )
        for table, moved in zip(tables, (values, mean, square), strict=True):
            table.index_copy_(0, rows, moved)
