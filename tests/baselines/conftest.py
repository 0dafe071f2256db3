import numpy as np
import pytest
from scipy import sparse

from recsys.baselines.build import fit_baseline
from recsys.data.arrays import Interactions
from recsys.data.histories import Histories


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def histories():
    """Makes histories of a matrix of users and items that is 1 where a user has an item."""

    def build(matrix):
        users, items = np.nonzero(matrix)
        return Histories.of(Interactions(users, items, np.arange(len(users)), *matrix.shape))

    return build


@pytest.fixture
def weights_of(histories):
    """The weights between items that a baseline fits to a matrix of users and items."""

    def fit(name, matrix, items=None, **settings):
        known = histories(matrix)
        weights = fit_baseline(name, settings, known, items, 0)(known, None).weights
        return weights.toarray() if sparse.issparse(weights) else weights

    return fit
