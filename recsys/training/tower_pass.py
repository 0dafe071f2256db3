"""Both towers over a batch, forwards and backwards, its rows shared among threads.

Each thread takes its part of the users and of the items through the towers from end to end,
without meeting the others in between. The gradients of the weights are added up in the order of
the parts, and what is drawn for a row depends on its place in the batch: the number of threads
changes no more than the rounding.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from recsys.models.draws import Draws
from recsys.models.tower import Tower
from recsys.models.two_tower import TwoTower
from recsys.training.compiled_tower import CompiledTower
from recsys.training.encoded import Encoded, Gradients, Length, TowerSteps
from recsys.training.losses import mimic_sum
from recsys.workers import Workers, even_parts

ROWS_A_PART = 1500
"""Each part has calls of its own, which one thread at a time can make: with fewer rows they would
cost more than the other threads save."""


class AutogradTower:
    """A tower as its module says, with the graph that torch makes of it.

    Args:
        tower: in training mode.
        match: makes its vectors those that enter the product.
        scale: a parameter of ``match``, or None.
        has_mimic: sum up the mimic loss.
        bfloat16: multiply matrices in bfloat16.
    """

    def __init__(
        self,
        tower: Tower,
        match: Callable[[Tensor], Tensor],
        scale: nn.Parameter | None,
        *,
        has_mimic: bool,
        bfloat16: bool,
    ) -> None:
        self._has_mimic = has_mimic
        self.parameters = [each for each in tower.parameters() if each.requires_grad]
        self.parameters += [] if scale is None else [scale]
        self._tower = tower
        self._match = match
        self._bfloat16 = bfloat16

    def prepare(self) -> None:
        """Nothing: the modules look at their weights themselves."""

    def forward(self, indices: Tensor, draws: Draws) -> Encoded:
        """The vectors, with the graph behind them."""
        with torch.autocast(indices.device.type, torch.bfloat16, enabled=self._bfloat16):
            parts = self._tower.parts(indices, draws)
        vectors = self._match(parts.vectors)
        if not self._has_mimic or parts.metadata is None:
            nothing = vectors.new_zeros(())
            return Encoded(vectors.detach(), nothing, nothing, (vectors,))
        total, n_known = mimic_sum(parts.ids, parts.metadata, parts.is_known)
        return Encoded(vectors.detach(), total.detach(), n_known, (vectors, total))

    def backward(self, encoded: Encoded, to_vectors: Tensor, mimic_share: Tensor) -> Gradients:
        """The gradients by the graph."""
        slopes = [to_vectors, mimic_share][: len(encoded.trace)]
        return list(torch.autograd.grad(encoded.trace, self.parameters, slopes, allow_unused=True))


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
        self._towers = tower_steps(model, has_mimic=mimic_weight > 0, bfloat16=bfloat16)
        self._workers = workers
        self._mimic_weight = mimic_weight
        self._parts: list[tuple[Encoded, Encoded]] = []
        self._mimic_shares: tuple[Tensor, ...] = ()

    def forward(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """The vectors of distinct users and items as they enter the product.

        Args:
            users: indices, (Ub,) int64, on the model's device.
            items: indices, (Ib,) int64.

        Returns:
            Vectors of the users, (Ub, D) float32, and of the items, (Ib, D), and the mimic loss,
            weighted, or None where it is left out; all without a graph.
        """
        n_rows = len(users) + len(items)
        n_parts = min(self._workers.n, 1 + n_rows // ROWS_A_PART, len(users), len(items))
        draws = Draws.fresh(), Draws.fresh()
        spans = zip(even_parts(len(users), n_parts), even_parts(len(items), n_parts), strict=True)
        jobs = [
            (users[slice(*u)], draws[0].after(u[0]), items[slice(*i)], draws[1].after(i[0]))
            for u, i in spans
        ]
        for tower in self._towers:
            tower.prepare()
        self._parts = self._workers.run(self._encode, jobs)
        self._mimic_shares = tuple(
            self._mimic_weight / torch.stack([each.n_known for each in of_tower]).sum().clamp(min=1)
            for of_tower in zip(*self._parts, strict=True)
        )
        of_users, of_items = (
            torch.cat([encoded.vectors for encoded in of_tower])
            for of_tower in zip(*self._parts, strict=True)
        )
        return of_users, of_items, self._mimic() if self._mimic_weight > 0 else None

    def backward(self, to_users: Tensor, to_items: Tensor) -> None:
        """Give the weights their gradients, from those of the vectors last given."""
        slopes = (
            torch.split(each, [len(encoded.vectors) for encoded in of_tower])
            for each, of_tower in zip(
                (to_users, to_items), zip(*self._parts, strict=True), strict=True
            )
        )
        jobs = list(zip(self._parts, *slopes, strict=True))
        of_parts = self._workers.run(self._differentiate, jobs)
        parameters = [each for tower in self._towers for each in tower.parameters]
        for parameter, gradient in zip(parameters, _add_up(of_parts), strict=True):
            parameter.grad = gradient

    def _mimic(self) -> Tensor:
        """The mimic loss of the batch."""
        shares = zip(self._mimic_shares, zip(*self._parts, strict=True), strict=True)
        return torch.stack(
            [share * each.mimic for share, of_tower in shares for each in of_tower]
        ).sum()

    def _encode(
        self, users: Tensor, user_draws: Draws, items: Tensor, item_draws: Draws
    ) -> tuple[Encoded, Encoded]:
        of_users, of_items = self._towers
        return of_users.forward(users, user_draws), of_items.forward(items, item_draws)

    def _differentiate(
        self, part: tuple[Encoded, Encoded], to_users: Tensor, to_items: Tensor
    ) -> Gradients:
        given = zip(self._towers, part, (to_users, to_items), self._mimic_shares, strict=True)
        return [
            gradient
            for tower, encoded, to_vectors, share in given
            for gradient in tower.backward(encoded, to_vectors, share)
        ]


def tower_steps(
    model: TwoTower, *, has_mimic: bool, bfloat16: bool
) -> tuple[TowerSteps, TowerSteps]:
    """The towers of users and of items, compiled where that is supported."""
    scale, dtype = model.log_scale, torch.bfloat16 if bfloat16 else torch.float32
    found: list[TowerSteps] = []
    for tower, logarithm, match in (
        (model.user_tower, scale, model.match_users),
        (model.item_tower, None, model.match_items),
    ):
        with_mimic = has_mimic and tower.has_gates
        if CompiledTower.supports(tower):
            length = None if scale is None else Length(logarithm)
            found.append(CompiledTower(tower, length, has_mimic=with_mimic, dtype=dtype))
        else:
            learned = logarithm if isinstance(logarithm, nn.Parameter) else None
            found.append(
                AutogradTower(tower, match, learned, has_mimic=with_mimic, bfloat16=bfloat16)
            )
    of_users, of_items = found
    return of_users, of_items


def _add_up(of_parts: list[Gradients]) -> Gradients:
    """The sums, in the order of the parts; of sparse ones, whose rows are distinct, all rows."""
    totals = list(of_parts[0])
    dense: list[list[Tensor]] = []
    for place, gradients in enumerate(zip(*of_parts, strict=True)):
        there = [each for each in gradients if each is not None]
        totals[place] = there[0] if there else None
        if len(there) < 2:
            continue
        if there[0].is_sparse:
            totals[place] = _joined(there)
        else:
            dense.append(there)
    first, *others = zip(*dense, strict=True) if dense else ((),)
    for other in others:
        torch._foreach_add_(first, other)
    return totals


def _joined(gradients: list[Tensor]) -> Tensor:
    indices = torch.cat([each._indices() for each in gradients], dim=1)
    values = torch.cat([each._values() for each in gradients])
    return torch.sparse_coo_tensor(indices, values, gradients[0].shape, check_invariants=False)
