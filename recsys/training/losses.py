"""What training minimises."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from recsys.compiled import inner
from recsys.data.arrays import FloatArray

_ONE, _ZERO = np.float32(1), np.float32(0)
_LARGE = 1e200
"""A product of factors from 1 to 2 enters the loss by its logarithm before it can overflow."""


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


@inner
def judge(logits: FloatArray, slopes: FloatArray, place: int, sums: FloatArray, row: int) -> None:
    """The :func:`sampled_bce` of one positive and its negatives, and its slope in the logits.

    Args:
        logits: of the batch's positives, each before its negatives, (B, 1 + K) float32.
        slopes: of the same shape; filled in for this positive.
        place: of the positive, a row of both.
        sums: to one row are added the softplus of its positive, those of its negatives, and
            slopes times logits, (n, 3) float64.
        row: which.
    """
    n, width = logits.shape
    share = -np.float32(0.5 / n)
    odds = 1.0
    for column in range(width):
        logit = logits[place, column]
        part = min(column, 1)  # 0: of the positive; 1: of negatives
        wrong = logit if part else -logit
        fade = np.float32(math.exp(-abs(wrong)))
        slopes[place, column] = share * (_ONE if wrong >= 0 else fade) / (_ONE + fade)
        sums[row, 2] += slopes[place, column] * logit
        # softplus(x) is max(x, 0) + log(1 + exp(-|x|)); one logarithm serves many negatives.
        sums[row, part] += max(wrong, _ZERO)
        odds *= 1.0 + float(fade)
        if part == 0 or column == width - 1 or odds > _LARGE:
            sums[row, part] += math.log(odds)
            odds = 1.0
        share = np.float32(0.5 / (n * (width - 1)))


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
