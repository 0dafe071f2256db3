"""BPR: matrix factorisation by pairwise ranking (Rendle et al. 2009)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.baselines.package import implicit_module
from recsys.data.arrays import FloatArray
from recsys.data.histories import Histories
from recsys.evaluation.ranking import Vectors


@dataclass(frozen=True, eq=False)
class Factors:
    """Factors of the users and items that were learned from.

    Attributes:
        users: (U, D) float32.
        items: (I, D) float32, the bias of items among the D.
    """

    users: FloatArray
    items: FloatArray
    takes_recency: bool = False

    def scorer(self, histories: Histories, recency: float | None) -> Vectors:
        """The users as they were learned: a later history changes nothing."""
        return Vectors(users=self.users, items=self.items)


@dataclass(frozen=True)
class ImplicitBPR:
    """An item that a user has shall score higher than one drawn at random.

    Attributes:
        factors: length of the vectors.
        learning_rate: step size.
        l2: weight of the squared factors.
        epochs: passes over the interactions.
        seed: of first factors and draws.
    """

    factors: int
    learning_rate: float
    l2: float
    epochs: int = 100
    seed: int = 0

    @property
    def settings(self) -> str:
        """The settings in words."""
        return f"{self.factors} factors, learning rate {self.learning_rate:g}, l2 {self.l2:g}"

    def fit(self, histories: Histories) -> Factors:
        """Stochastic gradient steps, in one thread so that a seed gives the same factors."""
        model = implicit_module("bpr", "bpr").BayesianPersonalizedRanking(
            factors=self.factors,
            learning_rate=self.learning_rate,
            regularization=self.l2,
            iterations=self.epochs,
            random_state=self.seed,
            num_threads=1,
            use_gpu=False,
        )
        model.fit(histories.matrix, show_progress=False)
        return Factors(np.asarray(model.user_factors), np.asarray(model.item_factors))
