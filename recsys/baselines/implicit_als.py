"""iALS: weighted matrix factorisation by alternating least squares (Hu, Koren, Volinsky 2008)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from recsys.baselines.package import implicit_module
from recsys.data.histories import Histories
from recsys.evaluation.ranking import Vectors


@dataclass(frozen=True, eq=False)
class ItemFactors:
    """Item factors, with which the factors of any history are a least-squares solution.

    Attributes:
        model: of the package ``implicit``.
    """

    model: Any
    takes_recency: bool = False

    def scorer(self, histories: Histories, recency: float | None) -> Vectors:
        """Factors of the given histories, not of those that were learned from."""
        matrix = histories.matrix
        users = self.model.recalculate_user(np.arange(matrix.shape[0]), matrix)
        return Vectors(users=np.asarray(users), items=np.asarray(self.model.item_factors))


@dataclass(frozen=True)
class ImplicitALS:
    """Squared loss over all users and items, what a user has weighing ``alpha``, the rest 1.

    Attributes:
        factors: length of the vectors.
        l2: weight of the squared factors.
        alpha: weight of an interaction, at least 1.
        iterations: sweeps over users and items.
        seed: of the first factors.
    """

    factors: int
    l2: float
    alpha: float
    iterations: int = 15
    seed: int = 0

    @property
    def settings(self) -> str:
        """The settings in words."""
        return (
            f"{self.factors} factors, l2 {self.l2:g}, alpha {self.alpha:g}, "
            f"{self.iterations} sweeps"
        )

    def fit(self, histories: Histories) -> ItemFactors:
        """Alternate between users and items."""
        with threadpool_limits(1, "blas"):  # it has threads of its own
            model = implicit_module("als", "ials").AlternatingLeastSquares(
                factors=self.factors,
                regularization=self.l2,
                alpha=self.alpha,
                iterations=self.iterations,
                random_state=self.seed,
                use_gpu=False,
            )
            model.fit(histories.matrix, show_progress=False)
        return ItemFactors(model)
