"""Bayesian personalised ranking."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from recsys.training.batches import Batch
from recsys.training.objectives.candidates import score
from recsys.training.ops import Scoring


def bpr(users: Tensor, items: Tensor, batch: Batch, *, scoring: Scoring) -> dict[str, Tensor]:
    """Mean of -log sigmoid(positive - negative) over each positive's own negatives; one part, nats.

    Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009, eq. 5.
    """
    scored = score(users, items, batch, scoring)
    return {"bpr": F.softplus(scored.negatives - scored.positives.unsqueeze(1)).mean()}
