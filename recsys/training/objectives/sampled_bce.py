"""Binary cross-entropy against drawn negatives."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from recsys.training.batches import Batch
from recsys.training.objectives.candidates import score
from recsys.training.ops import Scoring


def sampled_bce(
    users: Tensor,
    items: Tensor,
    batch: Batch,
    *,
    n_items: int,
    calibration: float,
    scoring: Scoring,
) -> dict[str, Tensor]:
    """Mean binary cross-entropy of each positive against its drawn negatives, halved each.

    A positive weighs as much as its negatives together, so their number does not change the scale.

    With a ``calibration`` t above 0 (plain), up to 1 (full), the positive's probability is raised
    to beta, so that overconfidence from seeing a share alpha = K / (I - 1) of the negatives only is
    made up for, where ``n_items``, I, could be drawn: beta = alpha (t (1 - 1/alpha) + 1/alpha)
    (gBCE; Petrov and Macdonald, "gSASRec", RecSys 2023, eq. 7 and 13).

    Returns:
        The share of the positives and of the negatives, in nats.
    """
    scored = score(users, items, batch, scoring)
    alpha = min(1.0, scored.negatives.shape[1] / max(n_items - 1, 1))
    beta = alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)
    return {
        "bce_positive": beta * F.softplus(-scored.positives).mean() / 2,
        "bce_negative": scored.means(F.softplus(scored.negatives)).mean() / 2,
    }
