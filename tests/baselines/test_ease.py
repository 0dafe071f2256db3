"""EASE against the regressions that it stands for, one an item."""

import numpy as np
import pytest

from recsys.baselines import ease
from recsys.baselines.ease import ease_bytes


def slow_ease(matrix, l2):
    """For each item the ridge regression of its column on all other columns."""
    n_items = matrix.shape[1]
    weights = np.zeros((n_items, n_items))
    for item in range(n_items):
        others = [j for j in range(n_items) if j != item]
        inputs = matrix[:, others].astype(float)
        system = inputs.T @ inputs + l2 * np.eye(len(others))
        weights[others, item] = np.linalg.solve(system, inputs.T @ matrix[:, item])
    return weights


@pytest.mark.parametrize("shape", [(30, 8), (6, 20)])  # by items, by users
@pytest.mark.parametrize("at_once", [512, 3])  # one block, or several
@pytest.mark.parametrize("l2", [0.5, 30.0])
def test_weights_are_those_of_one_ridge_regression_an_item(
    rng, monkeypatch, shape, at_once, l2, weights_of
):
    monkeypatch.setattr(ease, "_AT_ONCE", at_once)
    matrix = (rng.random(shape) < 0.3).astype(int)
    weights = weights_of("ease", matrix, l2=l2)
    assert weights == pytest.approx(slow_ease(matrix, l2), abs=1e-5)
    assert weights.flags.c_contiguous


def test_single_precision_agrees_with_double(rng, monkeypatch, weights_of):
    matrix = (rng.random((60, 25)) < 0.3).astype(int)
    double = weights_of("ease", matrix, l2=2.0)
    monkeypatch.setattr(ease, "_DOUBLE_UP_TO", 10)
    assert weights_of("ease", matrix, l2=2.0) == pytest.approx(double, abs=1e-4)


def test_an_item_that_nobody_has_gets_and_gives_nothing(weights_of):
    weights = weights_of("ease", np.array([[1, 1, 0], [1, 1, 0], [0, 1, 0]]), l2=1.0)
    assert (weights[2] == 0).all() and (weights[:, 2] == 0).all()
    assert weights[0, 1] > 0


def test_memory_is_two_matrices_of_items_squared():
    assert ease_bytes(1000) == 2 * 1000**2 * 4
