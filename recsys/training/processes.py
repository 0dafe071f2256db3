"""One training on several processes: each takes a share of every step, and all hold one model.

Every process draws the same batches. It encodes its share of the items, which all then exchange,
and its share of the rows of the user tower; it takes the loss of those rows, and the gradients are
summed before the step. What it drops out is a part of what one process would, so that the stream
of epochs is that of one process to rounding. Only the first process validates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from recsys.errors import BookendsError
from recsys.models.dropout import rows_of_more
from recsys.models.id_embedding import sparse_rows
from recsys.models.tower import Tower, TowerParts
from recsys.training.batches import Batch

Value = TypeVar("Value")
LONGEST_STEP = timedelta(minutes=5)
"""That a process waits for the others to be there, or within a step."""
LONGEST_WAIT = timedelta(hours=4)
"""That it waits between steps: while the first prepares data, or validates."""


@dataclass(frozen=True)
class Processes:
    """This process and those it trains with.

    Attributes:
        rank: of this one, from 0.
        size: how many there are; with 1 nothing is exchanged.
        local_size: how many of them are on this machine.
        waiting_group: for what is said between steps.
    """

    rank: int = 0
    size: int = 1
    local_size: int = 1
    waiting_group: distributed.ProcessGroup | None = None

    @property
    def is_first(self) -> bool:
        """Whether this process validates, writes and speaks."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """Which of n rows are this one's: the same number for each, but for the last ones."""
        width = math.ceil(n / self.size)
        return slice(min(self.rank * width, n), min((self.rank + 1) * width, n))

    # A step --------------------------------------------------------------------------------------

    def items(self, tower: Tower, items: Tensor | int, *, all_parts: bool) -> TowerParts:
        """The parts of a batch's items, each encoded by one process.

        A tower without features only looks rows up, which takes less time than an exchange.

        Args:
            tower: of items.
            items: indices, (n,); a number stands for the first so many.
            all_parts: exchange all parts, not the vectors alone.
        """
        if self.size == 1 or tower.encoder is None or tower.takes_all_rows:
            return tower.parts(items)
        n = items if isinstance(items, int) else len(items)
        own = self.share(n)
        if isinstance(items, int):
            items = torch.arange(items, device=next(tower.parameters()).device)
        with rows_of_more(own.start, n):
            parts = tower.parts(items[own])
        return self._exchanged(parts, n, all_parts=all_parts)

    def users(self, tower: Tower, batch: Batch, table: Tensor | None) -> tuple[Batch, TowerParts]:
        """What of the batch is this process's, and the parts of its rows, at least one.

        A process without a row of its own takes the first one, whose loss then counts 0 times.

        Args:
            tower: of users.
            batch: the whole batch.
            table: item vectors that histories name rows of.
        """
        if self.size == 1:
            return batch, tower.parts(batch.users, batch.history, table)
        n = len(batch.users)
        own = self.share(n)
        start, end = (own.start, own.stop) if own.start < own.stop else (0, 1)
        part = batch.part(start, end)
        if tower.takes_all_rows:
            return part, tower.parts(batch.users, batch.history, table).rows(start, end)
        with rows_of_more(start, n):
            return part, tower.parts(part.users, part.history, table)

    def all_users(self, users: TowerParts, n: int) -> TowerParts:
        """The parts of all n rows of a batch, of which ``users`` are this process's."""
        if self.size == 1:
            return users
        own = self.share(n)
        return self._exchanged(users.rows(0, own.stop - own.start), n, all_parts=True)

    def of_own(self, parts: dict[str, Tensor], own: Batch, batch: Batch) -> dict[str, Tensor]:
        """The share in a batch's loss of means over this process's positives."""
        if self.size == 1:
            return parts
        has_rows = self.share(len(batch.users)).start < len(batch.users)
        return {name: part * (len(own) / len(batch) * has_rows) for name, part in parts.items()}

    def of_all(self, loss: Tensor) -> Tensor:
        """The share of a loss that every process takes of the whole batch."""
        return loss if self.size == 1 else loss / self.size

    def sum_gradients(
        self, parameters: Iterable[Tensor], losses: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Give every process the sums of the gradients; the sums of the losses are the result."""
        parts = {name: loss.detach() for name, loss in losses.items()}
        if self.size == 1:
            return parts
        trained = [each for each in parameters if each.grad is not None]
        dense = [each.grad for each in trained if each.grad is not None and not each.grad.is_sparse]
        flat = torch.cat([each.reshape(-1) for each in (*dense, *parts.values())])
        with _peers():
            distributed.all_reduce(flat)
        sums = torch.split(flat, [each.numel() for each in (*dense, *parts.values())])
        for gradient, total in zip(dense, sums[: len(dense)], strict=True):
            gradient.copy_(total.view_as(gradient))
        for each in trained:
            if each.grad is not None and each.grad.is_sparse:
                each.grad = self._sum_rows(each.grad)
        return {name: total.view(()) for name, total in zip(parts, sums[len(dense) :], strict=True)}

    def _sum_rows(self, gradient: Tensor) -> Tensor:
        """The sum of sparse gradients, each row named once; only the rows named travel."""
        rows, values = gradient._indices()[0], gradient._values()
        counts = self._gathered(rows.new_tensor([len(rows)])).tolist()
        rows, values = (self._ragged(each, counts) for each in (rows, values))
        return sparse_rows(rows, values, gradient.shape)

    def _ragged(self, own: Tensor, counts: list[int]) -> Tensor:
        """The rows of all processes, so many of each."""
        width = max(*counts, 1)
        gathered = torch.split(self._gathered(_filled(own, width)), width)
        return torch.cat([each[:count] for each, count in zip(gathered, counts, strict=True)])

    def _gathered(self, own: Tensor) -> Tensor:
        """Tensors of one form of all processes, one below the other."""
        together = own.new_empty((self.size * len(own), *own.shape[1:]))
        parts = list(torch.split(together, len(own)))
        with _peers():
            distributed.all_gather(parts, own.contiguous())
        return together

    def _exchanged(self, own: TowerParts, n: int, *, all_parts: bool) -> TowerParts:
        held = vars(own) if all_parts else {"vectors": own.vectors}
        whole = {
            name: _Exchange.apply(part, n, self)  # type: ignore[no-untyped-call]
            for name, part in held.items()
            if part is not None
        }
        return replace(own, **whole)

    # Between steps -------------------------------------------------------------------------------

    def agree(self, opinion: bool) -> bool:
        """Whether all processes say so."""
        if self.size == 1:
            return opinion
        said = torch.tensor([int(opinion)])
        with _peers():
            distributed.all_reduce(said, distributed.ReduceOp.MIN, group=self.waiting_group)
        return bool(said.item())

    @contextmanager
    def leaving(self) -> Iterator[None]:
        """Tell the others where the caller leaves a stream of epochs within."""
        try:
            yield
        except GeneratorExit:
            with suppress(BookendsError):  # they are gone as well
                self.agree(False)
            raise

    def take_over(self, model: nn.Module) -> None:
        """Give all the first one's weights, which validation may scale under ``max_norm``."""
        if self.size > 1:
            with _peers():
                for weight in model.state_dict().values():
                    distributed.broadcast(weight, src=0)

    def after_first(self, make: Callable[[], Value]) -> Value:
        """What each process makes, the others once the first has: of what that puts on disk."""
        if self.is_first:
            made = make()
            self.agree(True)
            return made
        self.agree(True)
        return make()

    def from_first(self, make: Callable[[], Value]) -> Value:
        """What the first process makes; the others wait for it."""
        if self.size == 1:
            return make()
        held: list[Any] = [None]
        if self.is_first:
            with self.waiting():
                held = [make()]
        with _peers():
            distributed.broadcast_object_list(
                held, src=0, group=self.waiting_group, device=torch.device("cpu")
            )
        made: Value = held[0]
        return made

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within, the other processes wait or have ended: this one takes their threads as well."""
        threads = torch.get_num_threads()
        torch.set_num_threads(threads * self.local_size)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


ALONE = Processes()


@contextmanager
def joined(
    rank: int, size: int, address: str, device: torch.device, *, local_size: int
) -> Iterator[Processes]:
    """So many processes as one training, once all are there.

    Args:
        rank: of this one, from 0.
        size: how many there are.
        address: where they meet, an ``init_method`` of torch.distributed.
        device: that this one trains on.
        local_size: how many of them are on this machine.

    Raises:
        BookendsError: they do not meet.
    """
    backend = "nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
    with _peers():
        distributed.init_process_group(
            backend, init_method=address, rank=rank, world_size=size, timeout=LONGEST_STEP
        )
    try:
        with _peers():  # gloo waits without using a core
            group = distributed.new_group(backend="gloo", timeout=LONGEST_WAIT)
        yield Processes(rank, size, local_size, group)
    finally:
        distributed.destroy_process_group()


class _Exchange(torch.autograd.Function):
    """The rows of all processes; the gradient of a row is the sum over processes."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, n: int, processes: Processes) -> Tensor:
        ctx.share = processes.share(n)
        width = math.ceil(n / processes.size)
        together = processes._gathered(_filled(_sendable(own), width))[:n]
        return together.to(own.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        total = gradient.float().contiguous()
        total = total.clone() if total is gradient else total
        with _peers():
            distributed.all_reduce(total)
        return total[ctx.share].to(gradient.dtype), None, None


def _sendable(part: Tensor) -> Tensor:
    """The same values in a type that every backend sends."""
    if part.dtype == torch.bool:
        return part.to(torch.uint8)
    return part.float() if part.dtype == torch.bfloat16 else part


def _filled(part: Tensor, n: int) -> Tensor:
    """Rows of zeros below, up to n."""
    missing = part.new_zeros((n - len(part), *part.shape[1:]))
    return torch.cat([part, missing]) if len(missing) else part


@contextmanager
def _peers() -> Iterator[None]:
    """Say in one line that another process is gone.

    Raises:
        BookendsError: it is.
    """
    try:
        yield
    except RuntimeError as error:
        head = (str(error).splitlines() or [type(error).__name__])[0]
        raise BookendsError(
            "all training processes must stay to the end, but another one has ended or is out of "
            f"reach ({head:.200})"
        ) from error
