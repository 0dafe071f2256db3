"""Embeddings of ids seen in training; every other id shares the padding row, which stays zero."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from recsys.compiled import compiled
from recsys.data.arrays import IntArray
from recsys.models.draws import Draws, threshold

INITIAL_STD = 0.01
"""Small against the metadata embedding, so that an id with few interactions adds little noise."""


class IdEmbedding(nn.Module):
    """One vector for each warm id; zero for a cold or unknown one.

    Row 0 of the weight is ``padding_idx``: it is zero, gets no gradient, and serves every index
    without train interactions (``index >= n_warm`` or -1). Warm index ``i`` owns row ``i + 1``.

    Args:
        n_warm: how many indices have an embedding of their own.
        dim: length of a vector, D.
        sparse: give sparse gradients that name each row once, for RowAdam.
        max_norm: scale used rows back to this length in every forward pass, or None; not sparse.
    """

    def __init__(
        self, n_warm: int, dim: int, *, sparse: bool = True, max_norm: float | None = None
    ) -> None:
        super().__init__()
        assert not (sparse and max_norm is not None)
        self.n_warm = n_warm
        self.dim = dim
        self.embedding = nn.Embedding(
            n_warm + 1, dim, padding_idx=0, sparse=sparse, max_norm=max_norm
        )
        nn.init.normal_(self.embedding.weight, std=INITIAL_STD)
        with torch.no_grad():
            self.embedding.weight[0].zero_()

    def rows(self, indices: Tensor, draws: Draws | None = None, dropout: float = 0.0) -> Tensor:
        """The weight row of each index, (n,) int64; 0 where there is none.

        Args:
            indices: (n,) int64.
            draws: of these rows of a batch; needed for ``dropout``.
            dropout: share of the ids that are taken for unknown.
        """
        if draws is None or not dropout:
            is_warm = (indices >= 0) & (indices < self.n_warm)
            return torch.where(is_warm, indices + 1, 0)
        drawn, limit = draws.rows(0, len(indices)), np.uint32(threshold(dropout))
        rows = torch.empty(len(indices), dtype=torch.int64)
        _name_rows(indices.cpu().numpy(), self.n_warm, drawn, limit, rows.numpy())
        return rows.to(indices.device)

    def forward(self, rows: Tensor) -> Tensor:
        """The vectors of the given weight rows, (n, D) float32.

        Args:
            rows: (n,) int64; where the gradient is sparse, each but row 0 at most once.
        """
        if not self.embedding.sparse:
            vectors: Tensor = self.embedding(rows)
            return vectors
        vectors = _LookUp.apply(self.embedding.weight, rows)  # type: ignore[no-untyped-call]
        return vectors


class _LookUp(torch.autograd.Function):
    """The rows of a weight; the gradient leaves out row 0, so that all its rows are distinct."""

    @staticmethod
    def forward(ctx: FunctionCtx, weight: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(weight, rows)
        return weight.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        weight, rows = ctx.saved_tensors
        known = rows.nonzero()[:, 0]
        sparse = torch.sparse_coo_tensor(
            rows[known].unsqueeze(0),
            gradient.index_select(0, known),
            weight.shape,
            check_invariants=False,
        )
        return sparse, None


@compiled
def _name_rows(
    indices: IntArray, n_warm: int, drawn: IntArray, limit: np.uint32, rows: IntArray
) -> None:
    for place in range(len(indices)):
        index = indices[place]
        is_known = 0 <= index < n_warm and drawn[place] >= limit
        rows[place] = index + 1 if is_known else 0
