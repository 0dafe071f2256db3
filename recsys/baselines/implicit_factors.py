"""Matrix factorisations of the package ``implicit``: iALS (Hu et al. 2008) and BPR (Rendle 2009).

The package is imported where a baseline needs it.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from recsys.baselines.baseline import Fitted
from recsys.config import BaselineName
from recsys.data.histories import Histories
from recsys.errors import BookendsError, ConfigError
from recsys.evaluation.ranking import Vectors

OF_IMPLICIT: tuple[BaselineName, ...] = ("ials", "bpr")


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
            f"{self.factors} factors, l2 {self.l2:.4g}, alpha {self.alpha:.4g}, "
            f"{self.iterations} sweeps"
        )

    def fit(self, histories: Histories) -> Fitted:
        """Alternate between users and items; the factors of a history are a least-squares fit."""
        with threadpool_limits(1, "blas"):  # it has threads of its own
            model = _implicit_module("als", "ials").AlternatingLeastSquares(
                factors=self.factors,
                regularization=self.l2,
                alpha=self.alpha,
                iterations=self.iterations,
                random_state=self.seed,
                use_gpu=False,
            )
            try:
                model.fit(histories.matrix, show_progress=False)
            except _implicit_module("recommender_base", "ials").ModelFitError as error:
                raise BookendsError(f"iALS with {self.settings}: {error}") from None

        def scorer(known: Histories, _: float | None) -> Vectors:
            users = model.recalculate_user(np.arange(len(known)), known.matrix)
            return Vectors(np.asarray(users), np.asarray(model.item_factors))

        return Fitted(scorer)


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
        return (
            f"{self.factors} factors, learning rate {self.learning_rate:.4g}, l2 {self.l2:.4g}, "
            f"{self.epochs} epochs"
        )

    def fit(self, histories: Histories) -> Fitted:
        """Stochastic gradient steps, in one thread so that a seed gives the same factors.

        Users score as they were learned: a later history changes nothing.
        """
        model = _implicit_module("bpr", "bpr").BayesianPersonalizedRanking(
            factors=self.factors,
            learning_rate=self.learning_rate,
            regularization=self.l2,
            iterations=self.epochs,
            random_state=self.seed,
            num_threads=1,
            use_gpu=False,
        )
        model.fit(histories.matrix, show_progress=False)
        vectors = Vectors(np.asarray(model.user_factors), np.asarray(model.item_factors))
        return Fitted(lambda known, _: vectors)


def check_installed(names: Iterable[BaselineName]) -> None:
    """Refuse baselines of the package where it is not installed.

    Raises:
        ConfigError: names the first of them.
    """
    for name in names:
        if name in OF_IMPLICIT:
            _implicit_module("als", name)


def _implicit_module(part: str, name: BaselineName) -> Any:
    """A module of the package.

    Raises:
        ConfigError: the package is not installed.
    """
    try:
        return importlib.import_module(f"implicit.{part}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "implicit":
            raise
        raise ConfigError(
            f"'evaluation.baselines' names '{name}', which needs the package 'implicit', but it "
            "is not installed; pip install implicit"
        ) from None
