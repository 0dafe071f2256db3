"""What an objective is, and which there are."""

from __future__ import annotations

from typing import Protocol, assert_never

from torch import Tensor

from recsys.config import TrainingConfig
from recsys.training.batches import Batch
from recsys.training.objectives.bpr import Bpr
from recsys.training.objectives.bsl import Bsl
from recsys.training.objectives.ccl import CosineContrastive
from recsys.training.objectives.sampled_bce import SampledBce
from recsys.training.objectives.sampled_softmax import SampledSoftmax
from recsys.training.objectives.softmax import Softmax
from recsys.training.ops import Scoring


class Objective(Protocol):
    """What training minimises."""

    def __call__(self, users: Tensor, items: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The loss by part, scalars; their sum is what is minimised.

        Args:
            users: vectors of the batch's rows as they enter the product, (R, D) or (R, K, D).
            items: vectors of the batch's items, (n, D).
            batch: positives and what they are held against.
        """
        ...


def build_objective(config: TrainingConfig, n_items: int, scoring: Scoring) -> Objective:
    """The named objective.

    Args:
        config: its name and settings.
        n_items: items with train interactions.
        scoring: how scores are made.
    """
    match config.objective:
        case "sampled_bce":
            return SampledBce(n_items, calibration=config.calibration or 0.0, scoring=scoring)
        case "bpr":
            return Bpr(scoring)
        case "sampled_softmax":
            return SampledSoftmax(log_q=bool(config.log_q), scoring=scoring)
        case "softmax":
            if n_items > config.softmax_max_items:
                return SampledSoftmax(log_q=True, scoring=scoring)
            return Softmax(scoring)
        case "ccl":
            assert config.margin is not None and config.negative_weight is not None
            return CosineContrastive(config.margin, config.negative_weight, scoring)
        case "bsl":
            return Bsl(config.positive_temperature or 1.0, scoring)
        case None:
            raise AssertionError("a checked configuration names its objective")
        case _:
            assert_never(config.objective)
