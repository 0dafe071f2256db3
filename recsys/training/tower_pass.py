"""Both towers over a batch, forwards and backwards, its rows shared among threads.

Each thread takes its part of the users and of the items through the towers from end to end,
without meeting the others in between. The gradients of the weights are added up in the order of
the parts, and what is drawn for a row depends on its place in the batch: the number of threads
changes no more than the rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recsys.models.draws import Draws
from recsys.models.two_tower import TwoTower
from recsys.training.losses import mimic_sum
from recsys.workers import Workers, even_parts

ROWS_A_PART = 3000
"""Each layer of each part is called by the interpreter, which one thread has at a time: with so
many rows a part, the calls of few threads fit beside the work of the others."""


@dataclass(frozen=True, eq=False)
class _Part:
    """What one thread made of its users and items, with the graph behind it.

    Attributes:
        users: vectors as they enter the product.
        items: likewise.
        mimics: for each tower with a mimic loss, its sum over the part's known ids.
        n_known: how many those are.
    """

    users: Tensor
    items: Tensor
    mimics: tuple[Tensor, ...]
    n_known: tuple[Tensor, ...]


class TowerPass:
    """The vectors of a batch's distinct users and items, and the way back from their gradients.

    Args:
        model: in training mode.
        workers: threads that share the rows.
        mimic_weight: weight of the mimic loss; 0 leaves it out.
        bfloat16: multiply matrices in bfloat16.
    """

    def __init__(
        self,
        model: TwoTower,
        workers: Workers,
        *,
        mimic_weight: float = 0.0,
        bfloat16: bool = False,
    ) -> None:
        self._model = model
        self._parameters = [each for each in model.parameters() if each.requires_grad]
        self._workers = workers
        self._mimic_weight = mimic_weight
        self._bfloat16 = bfloat16
        self._parts: list[_Part] = []
        self._mimic_shares: list[Tensor] = []

    def forward(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """The vectors of distinct users and items as they enter the product.

        Args:
            users: indices, (Ub,) int64, on the model's device.
            items: indices, (Ib,) int64.

        Returns:
            Vectors of the users, (Ub, D) float32, and of the items, (Ib, D): leaves that take a
            gradient. And the mimic loss, weighted, without a gradient; None where it is left out.
        """
        n_rows = len(users) + len(items)
        n_parts = min(self._workers.n, 1 + n_rows // ROWS_A_PART, len(users), len(items))
        draws = Draws.fresh(), Draws.fresh()
        spans = zip(even_parts(len(users), n_parts), even_parts(len(items), n_parts), strict=True)
        jobs = [
            (users[slice(*u)], draws[0].after(u[0]), items[slice(*i)], draws[1].after(i[0]))
            for u, i in spans
        ]
        self._parts = self._workers.run(self._encode, jobs)
        vectors = (
            torch.cat([part.users.detach() for part in self._parts]).requires_grad_(),
            torch.cat([part.items.detach() for part in self._parts]).requires_grad_(),
        )
        return *vectors, self._mimic() if self._mimic_weight > 0 else None

    def backward(self, to_users: Tensor, to_items: Tensor) -> None:
        """Give the weights their gradients, from those of the vectors last given."""
        of_users = torch.split(to_users, [len(part.users) for part in self._parts])
        of_items = torch.split(to_items, [len(part.items) for part in self._parts])
        jobs = list(zip(self._parts, of_users, of_items, strict=True))
        of_parts = self._workers.run(self._differentiate, jobs)
        for parameter, gradients in zip(self._parameters, zip(*of_parts, strict=True), strict=True):
            parameter.grad = _add_up([each for each in gradients if each is not None])

    def _mimic(self) -> Tensor:
        """The mimic loss of the batch; keeps what a unit of each tower's sum weighs in it."""
        sums = zip(*(part.mimics for part in self._parts), strict=True)
        counts = zip(*(part.n_known for part in self._parts), strict=True)
        self._mimic_shares = [
            self._mimic_weight / torch.stack(of_tower).sum().clamp(min=1) for of_tower in counts
        ]
        totals = [torch.stack(of_tower).sum().detach() for of_tower in sums]
        return torch.stack(
            [total * share for total, share in zip(totals, self._mimic_shares, strict=True)]
        ).sum()

    def _encode(self, users: Tensor, user_draws: Draws, items: Tensor, item_draws: Draws) -> _Part:
        model = self._model
        with torch.autocast(users.device.type, torch.bfloat16, enabled=self._bfloat16):
            of_users = model.user_tower.parts(users, user_draws)
            of_items = model.item_tower.parts(items, item_draws)
        sums = [
            mimic_sum(parts.ids, parts.metadata, parts.is_known)
            for parts, tower in ((of_users, model.user_tower), (of_items, model.item_tower))
            if self._mimic_weight > 0 and parts.metadata is not None and tower.has_gates
        ]
        return _Part(
            model.match_users(of_users.vectors),
            model.match_items(of_items.vectors),
            tuple(total for total, _ in sums),
            tuple(count for _, count in sums),
        )

    def _differentiate(
        self, part: _Part, to_users: Tensor, to_items: Tensor
    ) -> tuple[Tensor | None, ...]:
        return torch.autograd.grad(
            [part.users, part.items, *part.mimics],
            self._parameters,
            [to_users, to_items, *self._mimic_shares],
            allow_unused=True,
        )


def _add_up(gradients: list[Tensor]) -> Tensor | None:
    """The sum, in this order; sparse gradients, whose rows are distinct, one after the other."""
    if len(gradients) < 2:
        return gradients[0] if gradients else None
    if gradients[0].is_sparse:
        indices = torch.cat([each._indices() for each in gradients], dim=1)
        values = torch.cat([each._values() for each in gradients])
        return torch.sparse_coo_tensor(indices, values, gradients[0].shape, check_invariants=False)
    total = gradients[0]
    for gradient in gradients[1:]:
        total = total + gradient
    return total
