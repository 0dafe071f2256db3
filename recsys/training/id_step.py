"""The training step of two ``identity`` towers on the CPU, without autograd."""

from __future__ import annotations

import statistics
import time
from collections.abc import Generator
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from recsys.models.two_tower import MIN_TEMPERATURE, TwoTower
from recsys.training.batches import Draw
from recsys.training.optimizers import HybridOptimizer
from recsys.training.row_adam import RowAdam

POSITIVES_A_THREAD = 128
"""A thread that has less to do costs more than it saves."""
TRIAL_STEPS = 3
FEWEST_STEPS, MOST_STEPS = 256, 4096
"""Between two trials of :func:`choose_threads`."""


class IdStep:
    """Moves a model by ids alone, as the step through the towers does but for rounding.

    Weights stay in the model and moments in the optimizer: either step can go on where the other
    stopped. The same batches give the same bits, however many threads there are.

    Args:
        model: one that :meth:`supports` accepts.
        optimizer: over the model's parameters.
    """

    def __init__(self, model: TwoTower, optimizer: HybridOptimizer) -> None:
        dense, rows = _parts(optimizer)
        assert isinstance(rows, RowAdam)
        self._kernel = load_kernel()
        self._log_scale = model.log_scale
        towers = (model.user_tower, model.item_tower)
        self._weights = [tower.id_embedding.embedding.weight for tower in towers]
        self._rows = rows
        self._dense = dense
        self._seats = [np.full(len(weight), -1, dtype=np.int32) for weight in self._weights]
        self._matched = np.empty((0, self._weights[0].shape[1]), dtype=np.float32)
        self._choices = choose_threads()
        self._on_all_threads = next(self._choices)

    @staticmethod
    def supports(model: TwoTower, optimizer: HybridOptimizer, device: torch.device) -> bool:
        """Whether this step can do it: the CPU, two ``identity`` towers, and sparse rows."""
        return (
            device.type == "cpu"
            and model.user_tower.encoder is None
            and model.item_tower.encoder is None
            and isinstance(_parts(optimizer)[1], RowAdam)
        )

    def step(self, draw: Draw) -> dict[str, Tensor]:
        """Move the model by one batch of warm users and items.

        Returns:
            The loss before the move, by part: scalars, in nats.
        """
        n, k = draw.negatives.shape
        if len(self._matched) < n:
            self._matched = np.empty((n, self._matched.shape[1]), dtype=np.float32)
        numbers, kernel = self._next_numbers(), self._kernel
        started = time.perf_counter()
        positive, negative, pull = kernel.step(
            *(self._table(weight) for weight in self._weights),
            kernel.Drawn(draw.users, draw.items, draw.negatives),
            kernel.Scratch(*self._seats, self._matched),
            numbers,
            self._n_threads(n),
        )
        self._on_all_threads = self._choices.send((time.perf_counter() - started) / n)
        self._move_scale(pull)
        return {
            "bce_positive": torch.tensor(positive / n / 2),
            "bce_negative": torch.tensor(negative / (n * k) / 2),
        }

    def _table(self, weight: Tensor) -> Any:
        return self._kernel.Table(*(table.numpy() for table in self._rows.tables(weight)))

    def _next_numbers(self) -> Any:
        """Count the step, and give what is multiplied by in it."""
        (group,) = self._rows.param_groups
        (rates,) = {self._rows.count_step(weight, group) for weight in self._weights}
        return self._kernel.Numbers(np.float32(self._scale()), self._log_scale is not None, *rates)

    def _n_threads(self, n_positives: int) -> int:
        if not self._on_all_threads:
            return 1
        return min(torch.get_num_threads(), max(1, n_positives // POSITIVES_A_THREAD))

    def _scale(self) -> float:
        """What the product of two vectors of length 1 is multiplied by; 1 for ``dot``."""
        if self._log_scale is None:
            return 1.0
        return min(float(self._log_scale.detach().exp()), 1 / MIN_TEMPERATURE)

    def _move_scale(self, pull: float) -> None:
        """Move the learned temperature, if there is one, by the sum of slopes times logits."""
        if self._dense is None or self._log_scale is None:
            return
        is_held = float(self._log_scale.detach().exp()) > 1 / MIN_TEMPERATURE
        self._log_scale.grad = torch.tensor(0.0 if is_held else pull)
        self._dense.step()


def choose_threads() -> Generator[bool, float, None]:
    """Whether each step runs on all threads: not where one alone is faster.

    Where another process has the core of one thread, the others wait for it, and a step was seen
    to take twenty times as long as on one. So both are tried now and then, the rarer the longer
    one thread has been faster.

    Yields:
        For each step whether it runs on all; to be sent the seconds it took, a positive.
    """
    steps = FEWEST_STEPS
    while True:
        medians = {}
        for all_threads in (False, True):
            seconds = []
            for _ in range(TRIAL_STEPS):
                seconds.append((yield all_threads))
            medians[all_threads] = statistics.median(seconds)
        is_faster = medians[True] < medians[False]
        steps = FEWEST_STEPS if is_faster else min(2 * steps, MOST_STEPS)
        for _ in range(steps):
            yield is_faster


def _parts(optimizer: HybridOptimizer) -> tuple[Optimizer | None, Optimizer | None]:
    """What steps dense parameters, and what steps rows."""
    parts = optimizer._optimizers
    return parts.get("dense"), parts.get("sparse")


def load_kernel() -> ModuleType:
    """The compiled step, imported where it is used: it looks for threads."""
    from recsys.training import id_kernel

    return id_kernel
