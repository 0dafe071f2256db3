"""Weighted sums of the rows of a table, one for each bag, without writing the bags out."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F


@dataclass(frozen=True, eq=False)
class BagTensors:
    """Ragged rows of entries, each naming a row of a table; see :class:`recsys.data.arrays.Bags`.

    Attributes:
        offsets: where each row's entries begin, and the end, (n + 1,) int64.
        columns: the row of the table that each entry names, (m,) int32 or int64.
        weights: of the entries, (m,) float32, or None where each counts once.
    """

    offsets: Tensor
    columns: Tensor
    weights: Tensor | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def owners(self) -> Tensor:
        """The row of each entry, (m,) int64."""
        rows = torch.arange(len(self), device=self.offsets.device)
        return torch.repeat_interleave(rows, self.offsets.diff())

    def take(self, rows: Tensor | int) -> BagTensors:
        """The given rows; a number stands for the first so many."""
        if isinstance(rows, int):
            if rows == len(self):
                return self
            end = int(self.offsets[rows])
            weights = None if self.weights is None else self.weights[:end]
            return BagTensors(self.offsets[: rows + 1], self.columns[:end], weights)
        starts = self.offsets.index_select(0, rows)
        lengths = self.offsets.index_select(0, rows + 1) - starts
        ends = torch.zeros(len(rows) + 1, dtype=torch.int64, device=rows.device)
        torch.cumsum(lengths, 0, out=ends[1:])
        shift = torch.repeat_interleave(starts - ends[:-1], lengths)
        positions = torch.arange(len(shift), device=rows.device) + shift
        weights = None if self.weights is None else self.weights.index_select(0, positions)
        return BagTensors(ends, self.columns.index_select(0, positions), weights)


def repeated(bags: BagTensors, weights: Tensor) -> BagTensors:
    """Each bag K times, one after another, each time with other weights; n K bags.

    Args:
        bags: n, of m entries; their own weights do not count.
        weights: of each entry in each of its K bags, (m, K).
    """
    k, device = weights.shape[1], weights.device
    rows = torch.arange(len(bags), device=device).repeat_interleave(k)
    entries = torch.arange(len(bags.columns), device=device)
    taken = BagTensors(bags.offsets, entries).take(rows)
    which = torch.arange(k, device=device).repeat(len(bags)).repeat_interleave(taken.offsets.diff())
    return BagTensors(
        taken.offsets,
        bags.columns.index_select(0, taken.columns),
        weights.reshape(-1).index_select(0, taken.columns * k + which),
    )


def entry_products(rows: Tensor, table: Tensor, bags: BagTensors) -> Tensor:
    """The product of each bag's row with each row of ``table`` that its entries name, (m,); CPU.

    Args:
        rows: of each bag, (n, D).
        table: (n_columns, D).
        bags: of n rows, m entries.
    """
    # torch refuses a sparse matrix with more entries than cells, or with none.
    if not 0 < len(bags.columns) <= len(rows) * len(table):
        gathered = table.index_select(0, bags.columns)
        own = rows.index_select(0, bags.owners())
        return (own * gathered).sum(dim=1)
    _hear_beta_warning()
    pattern = torch.sparse_csr_tensor(
        bags.offsets,
        bags.columns.to(bags.offsets.dtype),
        rows.new_zeros(len(bags.columns)),
        (len(rows), len(table)),
        check_invariants=False,
    )
    found = torch.sparse.sampled_addmm(pattern, rows.contiguous(), table.T, beta=0)
    products: Tensor = found.values()
    return products


@cache
def _hear_beta_warning() -> None:
    """Make a first sparse matrix, at which torch warns once that their interface is in beta."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor([0, 0], [], [], (1, 1), check_invariants=False)


def sum_bags(table: Tensor, bags: BagTensors) -> Tensor:
    """For each bag the weighted sum of the rows of ``table`` that its entries name.

    Differentiable in the table and in the weights.

    Args:
        table: (n_columns, D) float32.
        bags: of n rows.

    Returns:
        (n, D) float32.
    """
    if table.is_cuda:
        return _sum(table, bags)
    weights = torch.ones(len(bags.columns)) if bags.weights is None else bags.weights
    total: Tensor = _SumBags.apply(table, weights, bags.offsets, bags.columns)  # type: ignore[no-untyped-call]
    return total


def _sum(table: Tensor, bags: BagTensors) -> Tensor:
    return F.embedding_bag(
        bags.columns.to(bags.offsets.dtype),
        table,
        bags.offsets,
        mode="sum",
        per_sample_weights=bags.weights,
        include_last_offset=True,
    )


class _SumBags(torch.autograd.Function):
    """Both passes as bags, the backward pass over the transposed matrix.

    torch's own backward pass sorts the entries and takes ten times as long as the forward pass.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, table: Tensor, weights: Tensor, offsets: Tensor, columns: Tensor
    ) -> Tensor:
        ctx.save_for_backward(table, weights, offsets, columns)
        return _sum(table.detach(), BagTensors(offsets, columns, weights.detach()))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        table, weights, offsets, columns = ctx.saved_tensors
        of_table = of_weights = None
        if ctx.needs_input_grad[0]:
            turned = transposed(BagTensors(offsets, columns, weights), len(table))
            of_table = _sum(gradient.contiguous(), turned)
        if ctx.needs_input_grad[1]:
            of_weights = entry_products(gradient, table.detach(), BagTensors(offsets, columns))
        return of_table, of_weights, None, None


def transposed(bags: BagTensors, n_columns: int) -> BagTensors:
    """The bags of columns, with weights: of each column the rows that name it, ascending; CPU."""
    assert bags.weights is not None
    weights, ends = bags.weights.detach().numpy(), bags.offsets.numpy()
    parts = (weights, bags.columns.numpy().astype(ends.dtype, copy=False), ends)
    turned = sparse.csr_matrix(parts, shape=(len(bags), n_columns), copy=False).tocsc()
    offsets, rows = turned.indptr.astype(np.int64), turned.indices.astype(np.int64)
    return BagTensors(*map(torch.from_numpy, (offsets, rows, turned.data)))


def sum_entries(values: Tensor, bags: BagTensors) -> Tensor:
    """The sum of each bag's values, (n, ...), of values an entry, (m, ...)."""
    total = values.new_zeros((len(bags), *values.shape[1:]))
    return total.index_add(0, bags.owners(), values)


def softmax_entries(logits: Tensor, bags: BagTensors) -> Tensor:
    """The softmax of each bag's logits over its entries, (m,)."""
    owners = bags.owners()
    highest = logits.new_full((len(bags),), -torch.inf)
    highest = highest.scatter_reduce(0, owners, logits.detach(), "amax")
    exponentials = (logits - highest[owners]).exp()
    return exponentials / sum_entries(exponentials, bags)[owners]


def as_tensor(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Tensor:
    """The array as a tensor over the same memory, so that workers share a memory-mapped file."""
    with warnings.catch_warnings():
        # Nothing here writes to features, and a copy would cost every worker the whole table.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
