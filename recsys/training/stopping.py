"""Early stopping: when a validation metric has stopped getting better."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class EarlyStopping:
    """Watches a metric, higher being better.

    Args:
        patience: stop after so many epochs in a row without a better value; None never stops.
        min_delta: a value counts as better when it exceeds the best by more than this.
    """

    patience: int | None
    min_delta: float = 0.0
    best: float | None = None
    best_epoch: int | None = None
    epochs_without_gain: int = 0

    def update(self, epoch: int, value: float | None) -> bool:
        """Take in an epoch's value and say whether it is the best so far.

        NaN is never better. Without a metric (None) the latest epoch is always the best.
        """
        is_nan = value is not None and math.isnan(value)
        is_better = value is None or (
            not is_nan and (self.best is None or value > self.best + self.min_delta)
        )
        if is_better or self.best_epoch is None:
            self.best, self.best_epoch = None if is_nan else value, epoch
            self.epochs_without_gain = 0
            return True
        self.epochs_without_gain += 1
        return False

    @property
    def should_stop(self) -> bool:
        """Whether patience has run out."""
        return self.patience is not None and self.epochs_without_gain >= self.patience
