"""Bayesian personalised ranking."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from recsys.training.batches import Batch
from recsys.training.objectives.candidates import score
from recsys.training.ops import Scoring


class Bpr:
    """Mean of -log sigmoid(positive - negative) over each positive's own negatives.

    Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009, eq. 5.

    Args:
        scoring: how scores are made.
    """

    def __init__(self, scoring: Scoring) -> None:
        self._scoring = scoring

    def __call__(self, users: Tensor, items: Tensor, batch: Batch) -> dict[str, Tensor]:
        """One part, in nats."""
        scored = score(users, items, batch, self._scoring)
        return {"bpr": F.softplus(scored.negatives - scored.positives.unsqueeze(1)).mean()}
