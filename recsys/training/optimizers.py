"""One optimizer for dense parameters and one for sparse id embeddings, stepped together."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, assert_never

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from recsys.config import DenseOptimizer, TrainingConfig
from recsys.models.two_tower import TwoTower
from recsys.training.row_adam import RowAdam


class HybridOptimizer:
    """Steps a dense and, where there are sparse embeddings, a sparse optimizer as one.

    RowAdam moves only the rows that the batch touched and leaves the moments of all others as
    they are. Plain Adam decays every row's moments at every step and moves rows by momentum even
    where they have no gradient; both agree where every row is touched at every step.

    Args:
        dense: for the dense parameters.
        sparse: for the sparse embeddings, or None.
    """

    def __init__(self, dense: Optimizer | None, sparse: Optimizer | None) -> None:
        self._optimizers = {
            name: optimizer
            for name, optimizer in (("dense", dense), ("sparse", sparse))
            if optimizer is not None
        }

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for optimizer in self._optimizers.values():
            for group in optimizer.param_groups:
                for weight in group["params"]:
                    weight.grad = None

    def step(self) -> None:
        """Apply all gradients."""
        for job in self.jobs():
            job()

    def jobs(self) -> list[Callable[[], None]]:
        """What a step is made of: each job moves other weights, so they may run side by side."""
        jobs: list[Callable[[], None]] = []
        for optimizer in self._optimizers.values():
            if isinstance(optimizer, RowAdam):
                jobs += optimizer.jobs()
            elif isinstance(optimizer, Adam | AdamW):
                jobs.append(partial(step_fused, optimizer))
            else:
                jobs.append(optimizer.step)
        return jobs

    def state_dict(self) -> dict[str, Any]:
        """The state of each optimizer by name (``dense``, ``sparse``)."""
        return {name: optimizer.state_dict() for name, optimizer in self._optimizers.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state given by :meth:`state_dict`."""
        assert state.keys() == self._optimizers.keys()
        for name, optimizer in self._optimizers.items():
            optimizer.load_state_dict(state[name])


@torch.no_grad()
def step_fused(optimizer: Adam | AdamW) -> None:
    """The step of torch's fused Adam or AdamW, without the way to it.

    Their own sorts the weights by device and type again at every step, which for the small weights
    of towers takes longer than to move them.
    """
    for group in optimizer.param_groups:
        weights = [weight for weight in group["params"] if weight.grad is not None]
        if weights and (weights[0].is_cuda or any(each not in optimizer.state for each in weights)):
            optimizer.step()  # which makes the moments, too
            return
    move = torch._fused_adamw_ if isinstance(optimizer, AdamW) else torch._fused_adam_
    for group in optimizer.param_groups:
        weights = [weight for weight in group["params"] if weight.grad is not None]
        if not weights:
            continue
        states = [optimizer.state[weight] for weight in weights]
        steps = [state["step"] for state in states]
        torch._foreach_add_(steps, 1)
        move(
            weights,
            [weight.grad for weight in weights],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            steps,
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )


def build_optimizer(model: TwoTower, config: TrainingConfig) -> HybridOptimizer:
    """The configured optimizers over the model's parameters."""
    embeddings = [tower.id_embedding.embedding for tower in (model.user_tower, model.item_tower)]
    id_weights = [embedding.weight for embedding in embeddings]
    is_id = {id(weight) for weight in id_weights}
    others = [parameter for parameter in model.parameters() if id(parameter) not in is_id]
    id_rate = config.embedding_learning_rate or config.learning_rate
    if embeddings[0].sparse:
        dense = build_dense(config.optimizer, [{"params": others}], config) if others else None
        return HybridOptimizer(dense, RowAdam(id_weights, lr=id_rate))
    # Decay pulls every row at every step; ids a batch did not use have no gradient to hold them.
    groups: list[dict[str, Any]] = [{"params": id_weights, "lr": id_rate, "weight_decay": 0.0}]
    if others:
        groups.append({"params": others})
    return HybridOptimizer(build_dense(config.optimizer, groups, config), None)


def build_dense(
    name: DenseOptimizer, groups: list[dict[str, Any]], config: TrainingConfig
) -> Optimizer:
    """The named optimizer over the parameter groups."""
    rate, decay = config.learning_rate, config.weight_decay
    match name:
        case "adam":
            return Adam(groups, lr=rate, weight_decay=decay, fused=True)
        case "adamw":
            return AdamW(groups, lr=rate, weight_decay=decay, fused=True)
        case "sgd":
            return SGD(groups, lr=rate, weight_decay=decay)
        case _:
            assert_never(name)


def parameter_size(model: nn.Module) -> tuple[int, int]:
    """Number of parameters and their bytes."""
    parameters = list(model.parameters())
    n_bytes = sum(parameter.numel() * parameter.element_size() for parameter in parameters)
    return sum(parameter.numel() for parameter in parameters), n_bytes
