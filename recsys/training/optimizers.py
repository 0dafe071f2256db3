"""One optimizer for dense parameters and one for sparse id embeddings, stepped together."""

from __future__ import annotations

from typing import Any, assert_never

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from recsys.config import TrainingConfig
from recsys.models.id_embedding import IdEmbedding
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
        self._rates = {
            name: [group["lr"] for group in optimizer.param_groups]
            for name, optimizer in self._optimizers.items()
        }

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for optimizer in self._optimizers.values():
            optimizer.zero_grad(set_to_none=True)

    def step(self, scale: float = 1.0) -> None:
        """Apply all gradients.

        Args:
            scale: the step sizes are multiplied by it.
        """
        for name, optimizer in self._optimizers.items():
            for group, rate in zip(optimizer.param_groups, self._rates[name], strict=True):
                group["lr"] = rate * scale
            optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """The state of each optimizer by name (``dense``, ``sparse``)."""
        return {name: optimizer.state_dict() for name, optimizer in self._optimizers.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state given by :meth:`state_dict`."""
        assert state.keys() == self._optimizers.keys()
        for name, optimizer in self._optimizers.items():
            optimizer.load_state_dict(state[name])


def build_optimizer(model: TwoTower, config: TrainingConfig) -> HybridOptimizer:
    """The configured optimizers over the model's parameters.

    Weight decay is for the dense weights other than id embeddings: it pulls every row at every
    step, and ids that a batch did not use have no gradient to hold them.
    """
    tables = [each.embedding for each in model.modules() if isinstance(each, IdEmbedding)]
    sparse = [table.weight for table in tables if table.sparse]
    id_weights = [table.weight for table in tables if not table.sparse]
    is_id = {id(table.weight) for table in tables}
    others = [parameter for parameter in model.parameters() if id(parameter) not in is_id]
    id_rate = config.embedding_learning_rate or 0.0
    assert id_rate > 0, "a checked configuration has step sizes"
    groups: list[dict[str, Any]] = []
    if id_weights:
        groups.append({"params": id_weights, "lr": id_rate, "weight_decay": 0.0})
    if others:
        groups.append({"params": others})
    dense = build_dense(groups, config) if groups else None
    betas = config.betas or (0.9, 0.999)
    return HybridOptimizer(dense, RowAdam(sparse, lr=id_rate, betas=betas) if sparse else None)


def build_dense(groups: list[dict[str, Any]], config: TrainingConfig) -> Optimizer:
    """The configured optimizer over the parameter groups."""
    rate, decay = config.learning_rate or 0.0, config.weight_decay
    betas = config.betas or (0.9, 0.999)
    match config.optimizer:
        case "adam":
            return Adam(groups, lr=rate, betas=betas, weight_decay=decay, fused=True)
        case "adamw":
            return AdamW(groups, lr=rate, betas=betas, weight_decay=decay, fused=True)
        case "sgd":
            return SGD(groups, lr=rate, weight_decay=decay)
        case _:
            assert_never(config.optimizer)


def parameter_size(model: nn.Module) -> tuple[int, int]:
    """Number of parameters and their bytes."""
    parameters = list(model.parameters())
    n_bytes = sum(parameter.numel() * parameter.element_size() for parameter in parameters)
    return sum(parameter.numel() for parameter in parameters), n_bytes
