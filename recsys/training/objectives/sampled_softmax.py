"""Cross-entropy against drawn or in-batch negatives."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from recsys.config import QueryScore
from recsys.training.batches import Batch
from recsys.training.objectives.candidates import score


class SampledSoftmax:
    """Mean of -log of the positive's share of the exponentials of itself and the negatives.

    With ``log_q`` a negative weighs one over how often it was to be expected, which makes the
    denominator an importance-sampled estimate of the one over the whole catalogue without the
    user's other items (Bengio and Senecal, "Adaptive Importance Sampling", 2008, eq. 11; with the
    batch's positives as negatives: Yi et al., "Sampling-Bias-Corrected Neural Modeling", RecSys
    2019). The correction comes after the temperature. Items that the user is known to have count
    for nothing, the positive itself among them.

    Args:
        log_q: whether to correct.
        combine: how the scores of a user's K vectors become one.
    """

    def __init__(self, *, log_q: bool, combine: QueryScore) -> None:
        self._log_q = log_q
        self._combine = combine

    def __call__(self, users: Tensor, items: Tensor, batch: Batch) -> dict[str, Tensor]:
        """One part, in nats."""
        scored = score(users, items, batch, self._combine)
        logits = scored.negatives
        if self._log_q:
            assert batch.log_chance is not None
            logits = logits - batch.log_chance
        return {"softmax": F.softplus(scored.log_sums(logits) - scored.positives).mean()}
