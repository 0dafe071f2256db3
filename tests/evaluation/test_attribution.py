"""Shares of a difference, against their slow definition and worlds of known answer."""

from itertools import permutations

import numpy as np
import pandas as pd
import pytest

from recsys.evaluation.attribution import attribute, shapley_weights


def found(cells):
    return attribute(cells, confidence=0.95)


def constant(value, users):
    return pd.Series(float(value), index=[f"u{user}" for user in users])


@pytest.mark.parametrize("n_factors", [1, 2, 3, 4])
def test_a_share_is_the_mean_gain_over_all_orders_of_change(n_factors):
    values = np.random.default_rng(n_factors).normal(size=2**n_factors)
    slow = np.zeros(n_factors)
    orders = list(permutations(range(n_factors)))
    for order in orders:
        cell = 0
        for factor in order:
            slow[factor] += values[cell | 1 << factor] - values[cell]
            cell |= 1 << factor
    shares = shapley_weights(n_factors) @ values
    np.testing.assert_allclose(shares, slow / len(orders))
    assert shares.sum() == pytest.approx(values[-1] - values[0])


def test_factors_that_do_not_interact_get_what_each_gains_alone():
    cells = [constant(value, range(50)) for value in (0.1, 0.1 + 0.3, 0.1 - 0.2, 0.1 + 0.3 - 0.2)]
    (first, second), whole = found(cells)
    assert first.value == first.alone == first.last == pytest.approx(0.3)
    assert second.value == second.alone == second.last == pytest.approx(-0.2)
    assert whole.value == pytest.approx(0.1)


def test_what_only_both_together_do_is_halved():
    (first, second), _ = found([constant(value, range(9)) for value in (0, 0, 0, 1)])
    assert (first.value, first.alone, first.last) == (0.5, 0.0, 1.0)
    assert second.value == 0.5


def test_runs_of_the_same_users_are_compared_paired():
    """Users differ by much, and each gains 0.1: paired, nothing is left to chance."""
    old = pd.Series(np.linspace(0, 1, 100), index=[f"u{user}" for user in range(100)])
    shuffled = (old + 0.1).sample(frac=1, random_state=0)
    _, whole = found([old, shuffled])
    assert whole.interval == pytest.approx((0.1, 0.1))


def test_runs_of_other_users_are_compared_unpaired():
    """The variance of the difference is the sum of those of two independent means."""
    rng = np.random.default_rng(1)
    one, two = (pd.Series(rng.normal(size=400)) for _ in range(2))
    two.index += 400
    _, whole = found([one, two])
    low, high = whole.interval
    width = 2 * 1.96 * np.sqrt(one.var() / 400 + two.var() / 400)
    assert high - low == pytest.approx(width, rel=0.1)
    assert whole.value == pytest.approx(two.mean() - one.mean())


def test_users_without_a_value_are_left_out_of_the_means():
    old = pd.Series([0.2, np.nan], index=["a", "b"])
    _, whole = found([old, constant(0.5, range(2))])
    assert whole.value == pytest.approx(0.3)
