"""What training minimises."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def sampled_bce(positive: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
    """Mean binary cross-entropy of the positives and of their sampled negatives, halved each.

    The loss is the sum of both parts. A positive weighs as much as its K negatives together, so
    the number of negatives does not change the scale.

    Args:
        positive: logits, (B,) float32.
        negatives: logits, (B, K) float32, K at least 1.

    Returns:
        Two scalars, in nats: the share of the positives and of the negatives.
    """
    return F.softplus(-positive).mean() / 2, F.softplus(negatives).mean() / 2


def mimic_sum(ids: Tensor, metadata: Tensor, is_known: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squared distances of metadata embeddings to the id embeddings they are to mimic.

    Their mean over the known ids is the mimic loss, 0 without any. The id embedding is held fixed,
    so only the metadata side moves (Yu et al., DLP-KDD 2021, eq. 5). Rows whose id is not known
    have nothing to mimic.

    Args:
        ids: (n, D) float32.
        metadata: (n, D) float32.
        is_known: (n,) bool.

    Returns:
        The sum over the known ids and their number: scalars, so that parts can be added up.
    """
    distance = (metadata - ids.detach()).square().mean(dim=1)  # (n, D) -> (n,)
    return (distance * is_known).sum(), is_known.sum()
