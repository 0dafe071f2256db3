"""Training as a stream of epochs; whoever reads it decides what each is for and when to stop."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recsys.config import Schedule
from recsys.errors import BookendsError
from recsys.models.two_tower import TwoTower
from recsys.training.auxiliary import Auxiliary
from recsys.training.batches import Batch, Examples, drawn_ahead
from recsys.training.objectives.objective import Objective
from recsys.training.optimizers import HybridOptimizer
from recsys.training.processes import ALONE, Processes
from recsys.training.stopping import EarlyStopping

MOST_GROWTH = 100.0
"""A loss that is so many times what it was at the start says that training diverged."""
Validate = Callable[[TwoTower], dict[str, float]]


@dataclass(frozen=True)
class EpochResult:
    """What one epoch gave.

    Attributes:
        number: counted from 1.
        train_loss: mean loss of the epoch's positives, the sum of ``parts``.
        parts: the loss by part.
        validation: metrics by name; empty where there is no validation split.
        is_best: whether the monitored metric was the best so far.
        seconds: wall time, validation included; not part of equality.
    """

    number: int
    train_loss: float
    parts: dict[str, float]
    validation: dict[str, float]
    is_best: bool
    seconds: float = field(compare=False)


@dataclass(frozen=True)
class Step:
    """How far an epoch has come: for a progress bar.

    Attributes:
        epoch: its number, from 1.
        positives: positives done in this epoch.
        loss: running mean loss of the epoch; a tensor, so that a GPU is waited for only when shown.
    """

    epoch: int
    positives: int
    loss: Tensor


@dataclass(frozen=True)
class Plan:
    """How long to train, and on what.

    Attributes:
        num_epochs: so many make the whole of the schedule.
        last_epoch: stop after this one at the latest; None is ``num_epochs``.
        monitor: the validation metric that decides the best epoch; higher is better.
        patience: stop after so many epochs without a better value; None never does.
        min_delta: how much better a value must be to count.
        schedule: of the step size; ``linear`` rises over ``warmup_steps`` and falls to 0.
        warmup_steps: of ``linear``.
        seed: behind shuffling, negatives and dropout.
        bfloat16: multiply matrices in bfloat16, with sums, weights and optimizer states
            in float32 (Micikevicius et al. 2018, "Mixed Precision Training"; a bfloat16 has the
            range of a float32, so the loss needs no scaling).
        processes: that train the same model together.
    """

    num_epochs: int
    monitor: str
    last_epoch: int | None = None
    patience: int | None = None
    min_delta: float = 0.0
    schedule: Schedule = "constant"
    warmup_steps: int = 0
    seed: int = 0
    bfloat16: bool = False
    processes: Processes = ALONE

    @property
    def n_epochs(self) -> int:
        """Epochs to train, where nothing stops training earlier."""
        return self.num_epochs if self.last_epoch is None else self.last_epoch

    def rate(self, step: int, n_steps: int) -> float:
        """What the step size is multiplied by at a step, counted from 0, of so many."""
        if self.schedule == "constant":
            return 1.0
        rise = (step + 1) / max(self.warmup_steps, 1)
        fall = (n_steps - step) / max(n_steps - self.warmup_steps, 1)
        return max(0.0, min(1.0, rise, fall))


class Trainer:
    """Trains a two-tower model: the module that is defined is the module that is trained.

    The stream of epochs depends on the model, the data, the settings and the seed alone, never on
    who consumes it. The model is usable at every yield and the consumer may stop at any.

    Args:
        model: with fresh weights, on its device.
        examples: gives the batches.
        objective: what is minimised.
        optimizer: over the model's parameters.
        validate: metrics of the model by name; called after every epoch.
        plan: how long to train, and on what.
        auxiliary: losses beside the objective.
    """

    def __init__(
        self,
        model: TwoTower,
        examples: Examples,
        objective: Objective,
        optimizer: HybridOptimizer,
        validate: Validate,
        plan: Plan,
        auxiliary: Auxiliary | None = None,
    ) -> None:
        self.model = model
        self.history: list[EpochResult] = []
        self._examples = examples
        self._objective = objective
        self._optimizer = optimizer
        self._validate = validate
        self._plan = plan
        self._auxiliary = auxiliary or {}
        self._processes = plan.processes
        self._stopping = EarlyStopping(plan.patience, plan.min_delta)
        self._device = next(model.parameters()).device
        self._rng = np.random.default_rng(plan.seed)
        self._torch_state = torch.Generator().manual_seed(plan.seed).get_state()
        self._cuda_state: Tensor | None = None
        self._best_weights: dict[str, Tensor] | None = None

    @property
    def precision(self) -> str:
        """Of the towers' matrix products."""
        return "bfloat16" if self._plan.bfloat16 else "float32"

    @property
    def best_epoch(self) -> int | None:
        """Number of the best epoch so far; None before the first."""
        return self._stopping.best_epoch

    @property
    def n_positives(self) -> int:
        """Positives in an epoch; where they are drawn anew every epoch, on average."""
        return self._examples.n_positives

    @property
    def stop_reason(self) -> str | None:
        """Why there are no more epochs, or None while there are."""
        if self._stopping.should_stop:
            epochs = self._stopping.epochs_without_gain
            return f"{self._plan.monitor} did not improve for {epochs} epochs"
        if len(self.history) >= self._plan.n_epochs:
            return f"all {self._plan.n_epochs} epochs done"
        return None

    def epochs(
        self, on_step: Callable[[Step], None] | None = None
    ) -> Generator[EpochResult, None, None]:
        """Train and yield once an epoch, after its validation.

        Args:
            on_step: told of every step, for a progress bar; it cannot change the stream.

        On several processes each reads its stream; where one leaves it, it ends for all.
        """
        while self._processes.agree(self.stop_reason is None):
            result = self._run_epoch(len(self.history) + 1, on_step)
            self.history.append(result)
            with self._processes.leaving():
                yield result

    def restore_best(self) -> None:
        """Give the model the weights of the best epoch; valid after the first epoch."""
        assert self._best_weights is not None, "no epoch has been trained yet"
        self.model.load_state_dict(self._best_weights)

    def _run_epoch(self, number: int, on_step: Callable[[Step], None] | None) -> EpochResult:
        started = time.perf_counter()
        parts = self._train_epoch(number, on_step)
        self.model.eval()
        validation = self._processes.from_first(lambda: self._validate(self.model))
        self._processes.take_over(self.model)
        is_best = self._stopping.update(number, validation.get(self._plan.monitor))
        if is_best:
            self._best_weights = copy.deepcopy(self.model.state_dict())
        return EpochResult(
            number=number,
            train_loss=sum(parts.values()),
            parts=parts,
            validation=validation,
            is_best=is_best,
            seconds=time.perf_counter() - started,
        )

    def _train_epoch(self, number: int, on_step: Callable[[Step], None] | None) -> dict[str, float]:
        self.model.train()
        sums: dict[str, Tensor] = {}
        done, first = 0, None
        devices = [self._device] if self._device.type == "cuda" else []
        with (
            torch.random.fork_rng(devices=devices),
            closing(drawn_ahead(self._examples.epoch(self._rng))) as batches,  # type: ignore[type-var]
        ):
            self._set_random_state()
            for step, batch in enumerate(batches, start=(number - 1) * len(self._examples)):
                parts = self._step(batch.to(self._device), step)
                first = torch.stack(list(parts.values())).sum() if first is None else first
                for name, part in parts.items():
                    sums[name] = sums.get(name, 0.0) + part * len(batch)
                done += len(batch)
                if on_step is not None:
                    loss = torch.stack(list(sums.values())).sum() / done
                    state = torch.get_rng_state()
                    on_step(Step(number, done, loss))
                    torch.set_rng_state(state)  # whatever the listener drew
            self._keep_random_state()
        # .item() waits for a GPU: once an epoch, not once a batch.
        means = {name: total.item() / max(done, 1) for name, total in sums.items()}
        if first is not None:
            self._check_convergence(sum(means.values()), first.item())
        return means

    def _check_convergence(self, loss: float, first: float) -> None:
        """Refuse an epoch whose loss is far above the first epoch's, or above the first batch's."""
        start = self.history[0].train_loss if self.history else first
        if not loss < MOST_GROWTH * max(start, 1.0):  # nor is NaN
            raise BookendsError(
                f"training must not diverge, but the loss of epoch {len(self.history) + 1} is "
                f"{loss:.4g} after {start:.4g} at the start; a smaller 'training.learning_rate' "
                "may help"
            )

    def _step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Move the model by one batch; gives the loss by part."""
        plan, processes, auxiliary = self._plan, self._processes, self._auxiliary
        tower = self.model.item_tower
        with torch.autocast(self._device.type, torch.bfloat16, enabled=plan.bfloat16):
            items = processes.items(tower, batch.items, all_parts=bool(auxiliary))
            table = None
            if batch.history is not None:
                table = self.model.history_table(batch.items, items.vectors)
            own, users = processes.users(self.model.user_tower, batch, table)
        lengths = None if own.history is None else own.history.lengths
        parts = self._objective(
            self.model.match_users(users.vectors.float(), lengths),
            self.model.match_items(items.vectors.float(), batch.items),
            own,
        )
        parts = processes.of_own(parts, own, batch)
        if auxiliary:
            users = processes.all_users(users, len(batch.users))
        for name, (weight, loss) in auxiliary.items():
            parts[name] = processes.of_all(weight * loss(users, items, batch))
        torch.stack(list(parts.values())).sum().backward()  # type: ignore[no-untyped-call]
        sums = processes.sum_gradients(self.model.parameters(), parts)
        n_steps = plan.num_epochs * len(self._examples)
        self._optimizer.step(plan.rate(step, n_steps))
        self._optimizer.zero_grad()
        return sums

    def _set_random_state(self) -> None:
        torch.set_rng_state(self._torch_state)
        if self._device.type == "cuda":
            if self._cuda_state is None:
                torch.cuda.manual_seed(int(torch.randint(2**31, ())))
            else:
                torch.cuda.set_rng_state(self._cuda_state, self._device)

    def _keep_random_state(self) -> None:
        self._torch_state = torch.get_rng_state()
        if self._device.type == "cuda":
            self._cuda_state = torch.cuda.get_rng_state(self._device)

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the stream depends on: tensors, numbers and text only."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "numpy_state": json.dumps(self._rng.bit_generator.state),
            "torch_state": self._torch_state,
            "cuda_state": self._cuda_state,
            "best_weights": self._best_weights,
            "history": [asdict(result) for result in self.history],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where the given state was taken, bit for bit."""
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._rng.bit_generator.state = json.loads(state["numpy_state"])
        self._torch_state = state["torch_state"]
        self._cuda_state = state["cuda_state"]
        self._best_weights = state["best_weights"]
        self.history = [EpochResult(**result) for result in state["history"]]
        self._stopping = EarlyStopping(self._plan.patience, self._plan.min_delta)
        for result in self.history:
            self._stopping.update(result.number, result.validation.get(self._plan.monitor))
