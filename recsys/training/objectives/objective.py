"""What an objective is, and which there are."""

from __future__ import annotations

from functools import partial
from typing import Protocol, assert_never

from torch import Tensor

from recsys.config import TrainingConfig
from recsys.training.batches import Batch
from recsys.training.objectives.bpr import bpr
from recsys.training.objectives.bsl import bsl
from recsys.training.objectives.ccl import ccl
from recsys.training.objectives.sampled_bce import sampled_bce
from recsys.training.objectives.sampled_softmax import sampled_softmax
from recsys.training.objectives.softmax import softmax
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
            calibration = config.calibration or 0.0
            return partial(sampled_bce, n_items=n_items, calibration=calibration, scoring=scoring)
        case "bpr":
            return partial(bpr, scoring=scoring)
        case "sampled_softmax":
            return partial(sampled_softmax, log_q=bool(config.log_q), scoring=scoring)
        case "softmax":
            if n_items > config.softmax_max_items:
                return partial(sampled_softmax, log_q=True, scoring=scoring)
            return partial(softmax, scoring=scoring)
        case "ccl":
            margin, weight = config.margin, config.negative_weight
            assert margin is not None and weight is not None
            return partial(ccl, margin=margin, weight=weight, scoring=scoring)
        case "bsl":
            r = config.positive_temperature or 1.0
            return partial(bsl, positive_temperature=r, scoring=scoring)
        case None:
            raise AssertionError("a checked configuration names its objective")
        case _:
            assert_never(config.objective)
