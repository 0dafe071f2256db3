"""Cross-entropy against drawn or in-batch negatives."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from recsys.training.batches import Batch
from recsys.training.objectives.candidates import score
from recsys.training.ops import Scoring


def sampled_softmax(
    users: Tensor, items: Tensor, batch: Batch, *, log_q: bool, scoring: Scoring
) -> dict[str, Tensor]:
    """Mean of -log of the positive's share of the exponentials of itself and the negatives.

    With ``log_q`` a negative weighs one over how often it was to be expected, which makes the
    denominator an importance-sampled estimate of the one over the whole catalogue without the
    user's other items (Bengio and Senecal, "Adaptive Importance Sampling", 2008, eq. 11; with the
    batch's positives as negatives: Yi et al., "Sampling-Bias-Corrected Neural Modeling", RecSys
    2019). The correction comes after the temperature. Items that the user is known to have count
    for nothing, the positive itself among them. One part, in nats.
    """
    scored = score(users, items, batch, scoring)
    sums = scored.log_sums(batch.log_chance if log_q else None)
    return {"softmax": F.softplus(sums - scored.positives).mean()}
