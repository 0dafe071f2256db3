"""Batches of examples: which users, with which history, are to find which items."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from recsys.data.arrays import IntArray
from recsys.models.history import HistoryRows
from recsys.training.sampling import NegativeSampler

Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class Batch:
    """P positives of R rows of the user tower, and what they are held against.

    Each distinct item is encoded once, however often the batch uses it.

    Attributes:
        users: user index of each row, (R,) int64.
        items: item index of each encoded row, (n,) int64; a number stands for the first so many.
        rows: row of each positive, not falling, (P,) int64.
        targets: place in ``items`` of each positive, (P,) int64.
        masked_rows: row of each pair that is no negative, not falling, (m,) int64.
        masked_items: its place in ``items``, (m,) int64.
        history: of each row, items as places in ``items``; None where there are no histories.
        negatives: places in ``items`` of those drawn for each positive, (P, K) int64, or None.
        shared: places in ``items`` of those drawn for the whole batch, (M,) int64, or None.
        log_chance: of each drawn item, the logarithm of how often it was to be expected: of the
            form of ``negatives`` or ``shared``, float32; None where nothing is drawn.
    """

    users: Tensor
    items: Tensor | int
    rows: Tensor
    targets: Tensor
    masked_rows: Tensor
    masked_items: Tensor
    history: HistoryRows | None = None
    negatives: Tensor | None = None
    shared: Tensor | None = None
    log_chance: Tensor | None = None

    @classmethod
    def of(
        cls,
        n_items: int,
        users: IntArray,
        rows: IntArray,
        targets: IntArray,
        masked: tuple[IntArray, IntArray],
        history: HistoryRows | None,
    ) -> Batch:
        """Positives against items 0 to n - 1, each of which is named by its index."""
        return cls(
            users=_tensor(users),
            items=n_items,
            rows=_tensor(rows),
            targets=_tensor(targets),
            masked_rows=_tensor(masked[0]),
            masked_items=_tensor(masked[1]),
            history=history,
        )

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, start: int, end: int) -> Batch:
        """The rows from ``start`` to before ``end`` with their positives, against all items."""
        bounds = torch.tensor([start, end], device=self.rows.device)
        own = slice(*torch.searchsorted(self.rows, bounds).tolist())
        masked = slice(*torch.searchsorted(self.masked_rows, bounds).tolist())
        negatives, log_chance = self.negatives, self.log_chance
        if negatives is not None and log_chance is not None:
            negatives, log_chance = negatives[own], log_chance[own]
        return replace(
            self,
            users=self.users[start:end],
            rows=self.rows[own] - start,
            targets=self.targets[own],
            negatives=negatives,
            log_chance=log_chance,
            masked_rows=self.masked_rows[masked] - start,
            masked_items=self.masked_items[masked],
            history=None if self.history is None else self.history.part(start, end),
        )

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        moved: dict[str, Any] = {
            name: part.to(device)
            for name, part in vars(self).items()
            if isinstance(part, Tensor | HistoryRows)
        }
        return replace(self, **moved)


class Examples(Protocol):
    """Gives the batches of an epoch."""

    @property
    def n_positives(self) -> int:
        """Positives in an epoch, at most."""
        ...

    def __len__(self) -> int:
        """Batches in an epoch."""
        ...

    def epoch(self, rng: np.random.Generator) -> Iterator[Batch]:
        """The batches of one epoch, in an order and with draws from ``rng``."""
        ...


def drawn_ahead(batches: Iterator[Item]) -> Iterator[Item]:
    """The same, each drawn by a thread of its own while the one before is worked on."""
    nothing = object()
    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(next, batches, nothing)
        while (batch := upcoming.result()) is not nothing:
            upcoming = pool.submit(next, batches, nothing)
            yield batch  # type: ignore[misc]


@dataclass(frozen=True)
class Negatives:
    """What is drawn beside the positives.

    Attributes:
        sampler: draws them; None where the whole catalogue is the candidates.
        per_positive: so many for each positive, or None.
        shared: so many for the whole batch; where this and ``per_positive`` are None, the batch's
            own positives are shared.
    """

    sampler: NegativeSampler | None = None
    per_positive: int | None = None
    shared: int | None = None

    def draw(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """The batch, of the whole catalogue, against what is drawn for it."""
        sampler = self.sampler
        if sampler is None:
            return batch
        assert isinstance(batch.items, int)
        targets, own, shared, history = batch.targets.numpy(), None, None, batch.history
        if self.per_positive is not None:
            own = sampler.sample(batch.users[batch.rows].numpy(), self.per_positive, rng)
            log_chance = sampler.log_chance(own, self.per_positive)
        else:
            n_draws = self.shared or len(targets)
            shared = np.unique(targets if self.shared is None else sampler.draw(n_draws, rng))
            log_chance = sampler.log_inclusion(shared, n_draws)
        is_used = np.zeros(batch.items, dtype=bool)
        for used in (targets, own, shared, None if history is None else history.items.numpy()):
            if used is not None:
                is_used[used] = True
        items, place = np.flatnonzero(is_used), np.empty(batch.items, dtype=np.int64)
        place[items] = np.arange(len(items))
        masked = batch.masked_items.numpy()
        present = is_used[masked]
        if history is not None:
            history = replace(history, items=_tensor(place[history.items.numpy()]))
        return replace(
            batch,
            items=_tensor(items),
            targets=_tensor(place[targets]),
            masked_rows=_tensor(batch.masked_rows.numpy()[present]),
            masked_items=_tensor(place[masked[present]]),
            history=history,
            negatives=None if own is None else _tensor(place[own]),
            shared=None if shared is None else _tensor(place[shared]),
            log_chance=torch.from_numpy(log_chance),
        )


def _tensor(indices: IntArray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(indices, dtype=np.int64))
