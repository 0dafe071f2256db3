"""Embeddings of ids seen in training; every other id shares the padding row, which stays zero."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from recsys.models.dropout import draw_shares


class IdEmbedding(nn.Module):
    """One vector for each warm id; zero for a cold or unknown one.

    Row 0 of the weight is ``padding_idx``: it is zero, gets no gradient, and serves every other
    index (``index >= n_warm`` or -1). Warm index ``i`` owns row ``i + 1``.

    Args:
        n_warm: how many indices have an embedding of their own.
        dim: length of a vector, D.
        sparse: give sparse gradients that name each row once, for RowAdam.
        max_norm: scale used rows back to this length in every forward pass, or None; not sparse.
        dropout: share of ids that are taken for unknown in training.
        std: standard deviation of the initial vectors.
    """

    def __init__(
        self,
        n_warm: int,
        dim: int,
        *,
        sparse: bool = False,
        max_norm: float | None = None,
        dropout: float = 0.0,
        std: float = 0.1,
    ) -> None:
        super().__init__()
        assert not (sparse and max_norm is not None)
        self.n_warm, self.dim, self.dropout = n_warm, dim, dropout
        self.embedding = nn.Embedding(
            n_warm + 1, dim, padding_idx=0, sparse=sparse, max_norm=max_norm
        )
        nn.init.normal_(self.embedding.weight, std=std)
        with torch.no_grad():
            self.embedding.weight[0].zero_()

    def rows(self, indices: Tensor) -> Tensor:
        """The weight row of each index, (n,) int64; 0 where there is none or it is dropped."""
        known = (indices >= 0) & (indices < self.n_warm)
        if self.training and self.dropout > 0:
            known &= draw_shares(len(indices), indices.device) >= self.dropout
        return torch.where(known, indices + 1, 0)

    def forward(self, rows: Tensor) -> Tensor:
        """The vectors of the given weight rows, (n, D) float32.

        Args:
            rows: (n,) int64.
        """
        if not self.embedding.sparse:
            vectors: Tensor = self.embedding(rows)
            return vectors
        vectors = _LookUp.apply(self.embedding.weight, rows)  # type: ignore[no-untyped-call]
        return vectors


class _LookUp(torch.autograd.Function):
    """The rows of a weight; the sparse gradient names each row once, and row 0 never."""

    @staticmethod
    def forward(ctx: FunctionCtx, weight: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(weight, rows)
        return weight.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        weight, rows = ctx.saved_tensors
        known = rows.nonzero()[:, 0]
        return sparse_rows(rows[known], gradient.index_select(0, known), weight.shape), None


def sparse_rows(rows: Tensor, values: Tensor, shape: torch.Size) -> Tensor:
    """A sparse tensor (n, D) that names each row once; values (m, D) of the same are summed."""
    if not bool((rows[1:] > rows[:-1]).all()):  # a user may have several rows in a batch
        rows, places = torch.unique(rows, return_inverse=True)
        values = values.new_zeros((len(rows), values.shape[1])).index_add(0, places, values)
    return torch.sparse_coo_tensor(
        rows.unsqueeze(0), values, shape, check_invariants=False, is_coalesced=True
    )
