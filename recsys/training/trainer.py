"""Training as a stream of epochs; whoever reads it decides what each is for and when to stop."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recsys.models.two_tower import TwoTower
from recsys.training.batches import Batch, BatchStream
from recsys.training.id_step import IdStep
from recsys.training.optimizers import HybridOptimizer
from recsys.training.pairs import pair_loss
from recsys.training.stopping import EarlyStopping
from recsys.training.tower_pass import TowerPass
from recsys.workers import Workers, workers

Validate = Callable[[TwoTower], dict[str, float]]


@dataclass(frozen=True)
class EpochResult:
    """What one epoch gave.

    Attributes:
        number: counted from 1.
        train_loss: mean loss of the epoch's positives, the sum of ``parts``; nats for the BCE.
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
        num_epochs: at most so many.
        monitor: the validation metric that decides the best epoch; higher is better.
        patience: stop after so many epochs without a better value; None never does.
        min_delta: how much better a value must be to count.
        mimic_weight: weight of the mimic loss; 0 leaves it out.
        seed: behind shuffling, negatives and dropout.
        bfloat16: multiply the towers' matrices in bfloat16, with sums, weights and optimizer states
            in float32 (Micikevicius et al. 2018, "Mixed Precision Training"; a bfloat16 has the
            range of a float32, so the loss needs no scaling).
    """

    num_epochs: int
    monitor: str
    patience: int | None = None
    min_delta: float = 0.0
    mimic_weight: float = 0.0
    seed: int = 0
    bfloat16: bool = False


class Trainer:
    """Trains a two-tower model on sampled negatives.

    The stream of epochs depends on the model, the data, the settings and the seed alone, never on
    who reads it. The model is usable at every yield and the reader may stop at any.

    Args:
        model: with fresh weights, on its device.
        batches: the train interactions.
        optimizer: over the model's parameters.
        validate: metrics of the model by name; called after every epoch.
        plan: how long to train, and on what.
    """

    def __init__(
        self,
        model: TwoTower,
        batches: BatchStream,
        optimizer: HybridOptimizer,
        validate: Validate,
        plan: Plan,
    ) -> None:
        self.model = model
        self.history: list[EpochResult] = []
        self._batches = batches
        self._optimizer = optimizer
        self._validate = validate
        self._plan = plan
        self._stopping = EarlyStopping(plan.patience, plan.min_delta)
        self._device = next(model.parameters()).device
        self._by_ids = None
        if IdStep.supports(model, optimizer, self._device):
            self._by_ids = IdStep(model, optimizer)
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
        """Positives in an epoch."""
        return self._batches.n_positives

    @property
    def stop_reason(self) -> str | None:
        """Why there are no more epochs, or None while there are."""
        if self._stopping.should_stop:
            epochs = self._stopping.epochs_without_gain
            return f"{self._plan.monitor} did not improve for {epochs} epochs"
        if len(self.history) >= self._plan.num_epochs:
            return f"all {self._plan.num_epochs} epochs done"
        return None

    def epochs(self, on_step: Callable[[Step], None] | None = None) -> Iterator[EpochResult]:
        """Train and yield once an epoch, after its validation.

        Args:
            on_step: told of every step, for a progress bar; it cannot change the stream.
        """
        while self.stop_reason is None:
            result = self._run_epoch(len(self.history) + 1, on_step)
            self.history.append(result)
            yield result

    def restore_best(self) -> None:
        """Give the model the weights of the best epoch; valid after the first epoch."""
        assert self._best_weights is not None, "no epoch has been trained yet"
        self.model.load_state_dict(self._best_weights)

    def _run_epoch(self, number: int, on_step: Callable[[Step], None] | None) -> EpochResult:
        started = time.perf_counter()
        parts = self._train_epoch(number, on_step)
        self.model.eval()
        validation = self._validate(self.model)
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
        done = 0
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), self._team() as team:
            self._set_random_state()
            for n_positives, parts in self._steps(team):
                for name, part in parts.items():
                    sums[name] = sums.get(name, 0.0) + part.detach() * n_positives
                done += n_positives
                if on_step is not None:
                    loss = torch.stack(list(sums.values())).sum() / done
                    state = torch.get_rng_state()
                    on_step(Step(number, done, loss))
                    torch.set_rng_state(state)  # whatever the listener drew
            self._keep_random_state()
        # .item() waits for a GPU: once an epoch, not once a batch.
        return {name: total.item() / done for name, total in sums.items()}

    def _steps(self, team: Workers) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """Move the model batch by batch; gives the positives of each and the loss by part."""
        if self._by_ids is not None:
            for draw in self._batches.draws(self._rng):
                yield len(draw), self._by_ids.step(draw)
            return
        plan = self._plan
        towers = TowerPass(self.model, team, mimic_weight=plan.mimic_weight, bfloat16=plan.bfloat16)
        batches = self._batches.epoch(self._rng)
        batch = next(batches, None)
        while batch is not None:
            parts = self._differentiate(batch, towers, team)
            # While weights are moved, another thread draws the next batch: it needs none of them.
            jobs: list[Callable[[], Any]] = [*self._optimizer.jobs()]
            place = min(1, len(jobs))
            jobs.insert(place, partial(next, batches, None))
            upcoming = team.run_all(jobs)[place]
            self._optimizer.zero_grad()
            yield len(batch), parts
            batch = upcoming

    def _differentiate(self, batch: Batch, towers: TowerPass, team: Workers) -> dict[str, Tensor]:
        """Give the weights their gradients, and the loss by part."""
        users, items, mimic = towers.forward(self._tensor(batch.users), self._tensor(batch.items))
        loss = pair_loss(
            users,
            items,
            self._tensor(batch.user_of),
            self._tensor(np.column_stack([batch.positive_of, batch.negatives_of])),
            team,
        )
        towers.backward(loss.to_users, loss.to_items)
        parts = {"bce_positive": loss.positive, "bce_negative": loss.negative}
        return parts if mimic is None else parts | {"mimic": mimic}

    def _team(self) -> AbstractContextManager[Workers]:
        """The threads of a step through the towers: those of torch, on the CPU.

        Not where gradients are too large: a dense one of an id embedding is as large as its table,
        and each thread would have its own. The step by ids has threads of its own.
        """
        is_sparse = self.model.user_tower.id_embedding.embedding.sparse
        if self._device.type == "cpu" and is_sparse and self._by_ids is None:
            return workers()
        return nullcontext(Workers())

    def _tensor(self, array: np.ndarray[tuple[int, ...], np.dtype[np.integer]]) -> Tensor:
        return torch.from_numpy(array).to(self._device, non_blocking=True)

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
            "stopping": self._stopping.state_dict(),
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
        self._stopping.load_state_dict(state["stopping"])
        self._best_weights = state["best_weights"]
        self.history = [EpochResult(**result) for result in state["history"]]
