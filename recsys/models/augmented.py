"""Augmented vectors: what the other tower would say of an id, learned beside it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recsys.models.id_embedding import IdEmbedding


class AugmentedVectors(nn.Module):
    """One vector an id that enters its tower and learns to be the other tower's output.

    The dual-augmented mechanism of Yu et al., "A Dual Augmented Two-tower Model for Online
    Large-scale Recommendation" (DLP-KDD 2021), section 3.2; the loss that draws the vectors is
    :func:`recsys.training.mimic.dual_mimic_loss`. An id that was not seen in training takes the
    mean of those that were.

    Args:
        table: with one vector an id, of the length of a tower's output, D.
    """

    mean: Tensor

    def __init__(self, table: IdEmbedding) -> None:
        super().__init__()
        self.table = table
        # Kept with the weights, since a bundle leaves out the vectors of known ids.
        self.register_buffer("mean", torch.zeros(table.dim))

    def forward(self, rows: Tensor) -> Tensor:
        """The vectors of the given weight rows, (n, D) float32."""
        vectors = self.table(rows)
        if self.table.n_warm:
            torch.mean(self.table.embedding.weight.detach()[1:], dim=0, out=self.mean)
        together: Tensor = torch.where((rows > 0).unsqueeze(1), vectors, self.mean)
        return together
