"""Embeddings of ids seen in training; every other id shares the padding row, which stays zero."""

from __future__ import annotations

import torch
from torch import Tensor, nn

INITIAL_STD = 0.01
"""Small against the metadata embedding, so that an id with few interactions adds little noise."""


class IdEmbedding(nn.Module):
    """One vector for each warm id; zero for a cold or unknown one.

    Row 0 of the weight is ``padding_idx``: it is zero, gets no gradient, and serves every index
    without train interactions (``index >= n_warm`` or -1). Warm index ``i`` owns row ``i + 1``.

    Args:
        n_warm: how many indices have an embedding of their own.
        dim: length of a vector, D.
        sparse: give sparse gradients, for SparseAdam.
        max_norm: scale used rows back to this length in every forward pass, or None.
    """

    def __init__(
        self, n_warm: int, dim: int, *, sparse: bool = True, max_norm: float | None = None
    ) -> None:
        super().__init__()
        self.n_warm = n_warm
        self.dim = dim
        self.embedding = nn.Embedding(
            n_warm + 1, dim, padding_idx=0, sparse=sparse, max_norm=max_norm
        )
        nn.init.normal_(self.embedding.weight, std=INITIAL_STD)
        with torch.no_grad():
            self.embedding.weight[0].zero_()

    def rows(self, indices: Tensor) -> Tensor:
        """The weight row of each index, (n,) int64; 0 where there is none."""
        is_warm = (indices >= 0) & (indices < self.n_warm)
        return torch.where(is_warm, indices + 1, 0)

    def forward(self, rows: Tensor) -> Tensor:
        """The vectors of the given weight rows, (n, D) float32."""
        vectors: Tensor = self.embedding(rows)
        return vectors
