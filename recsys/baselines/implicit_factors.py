"""Matrix factorisations of the package ``implicit``: iALS (Hu et al. 2008) and BPR (Rendle 2009).

The package is imported where a baseline needs it.
"""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_limits

from recsys.baselines.baseline import Fitted
from recsys.baselines.names import settings_text
from recsys.config import BaselineName
from recsys.data.histories import Histories
from recsys.errors import BookendsError
from recsys.evaluation.ranking import Vectors

OF_IMPLICIT: tuple[BaselineName, ...] = ("ials", "bpr")


def fit_ials(
    histories: Histories, *, factors: int, l2: float, alpha: float, iterations: int, seed: int
) -> Fitted:
    """Squared loss over all users and items, what a user has weighing ``alpha``, the rest 1.

    Users and items alternate; the factors of a history to score are a least-squares fit.

    Args:
        histories: of users.
        factors: length of the vectors.
        l2: weight of the squared factors.
        alpha: weight of an interaction, at least 1.
        iterations: sweeps over users and items.
        seed: of the first factors.

    Raises:
        BookendsError: the factors are no numbers.
    """
    from implicit.als import AlternatingLeastSquares
    from implicit.recommender_base import ModelFitError

    with threadpool_limits(1, "blas"):  # it has threads of its own
        model = AlternatingLeastSquares(
            factors=factors,
            regularization=l2,
            alpha=alpha,
            iterations=iterations,
            random_state=seed,
            use_gpu=False,
        )
        try:
            model.fit(histories.matrix, show_progress=False)
        except ModelFitError as error:
            settings = {"factors": factors, "l2": l2, "alpha": alpha, "iterations": iterations}
            raise BookendsError(f"iALS with {settings_text('ials', settings)}: {error}") from None

    def scorer(known: Histories, _: float | None) -> Vectors:
        users = model.recalculate_user(np.arange(len(known)), known.matrix)
        return Vectors(np.asarray(users), np.asarray(model.item_factors))

    return scorer


def fit_bpr(
    histories: Histories, *, factors: int, learning_rate: float, l2: float, epochs: int, seed: int
) -> Fitted:
    """An item that a user has shall score higher than one drawn at random.

    Stochastic gradient steps, in one thread so that a seed gives the same factors. Users score as
    they were learned: a later history changes nothing.

    Args:
        histories: of users.
        factors: length of the vectors.
        learning_rate: step size.
        l2: weight of the squared factors.
        epochs: passes over the interactions.
        seed: of first factors and draws.
    """
    from implicit.bpr import BayesianPersonalizedRanking

    model = BayesianPersonalizedRanking(
        factors=factors,
        learning_rate=learning_rate,
        regularization=l2,
        iterations=epochs,
        random_state=seed,
        num_threads=1,
        use_gpu=False,
    )
    model.fit(histories.matrix, show_progress=False)
    vectors = Vectors(np.asarray(model.user_factors), np.asarray(model.item_factors))
    return lambda known, _: vectors
