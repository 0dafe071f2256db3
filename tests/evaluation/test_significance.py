from itertools import product
from math import isnan, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest import approx

from recsys.evaluation import significance as module
from recsys.evaluation.significance import (
    compare,
    compare_metrics,
    holm,
    paired_effect_size,
    sign_flip_p_value,
)


def rng(seed=0):
    return np.random.default_rng(seed)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=8))
def test_few_users_are_tested_against_every_sign_pattern(differences):
    seen = abs(sum(differences))
    sums = [abs(np.dot(signs, differences)) for signs in product([-1, 1], repeat=len(differences))]
    expected = np.mean([total >= seen for total in sums])
    assert sign_flip_p_value(np.array(differences, float), rng=rng()) == approx(expected)


def test_the_exact_test_of_five_gains_is_two_in_thirty_two():
    assert sign_flip_p_value(np.array([0.1, 0.2, 0.3, 0.4, 0.5]), rng=rng()) == 2 / 32


def test_random_patterns_agree_with_the_exact_test(monkeypatch):
    differences = np.array([0.3, -0.1, 0.4, 0.2, -0.3, 0.5, 0.1, 0.1, -0.2, 0.3, 0.25, -0.15])
    exact = sign_flip_p_value(differences, rng=rng())
    monkeypatch.setattr(module, "_EXACT_UP_TO", 0)
    drawn = sign_flip_p_value(differences, rng=rng(), n_flips=99_999)
    assert drawn == approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 99_999))


@pytest.mark.parametrize("continuous", [False, True])
def test_p_values_are_uniform_where_there_is_no_difference(continuous):
    draws = rng(1)
    p_values = []
    for _ in range(300):
        differences = draws.normal(size=40)
        if not continuous:
            differences = np.round(differences)
        p_values.append(sign_flip_p_value(differences, rng=draws, n_flips=199))
    for level in (0.1, 0.5):
        share = np.mean(np.array(p_values) <= level)
        assert share < level + 4 * np.sqrt(level * (1 - level) / 300)
    assert np.mean(p_values) == approx(0.5, abs=0.1)


def test_a_p_value_of_random_patterns_is_never_zero():
    assert sign_flip_p_value(np.full(100, 0.5), rng=rng(), n_flips=999) == 1 / 1000


@pytest.mark.parametrize("at_once", [2**22, 7])
def test_every_random_pattern_is_as_far_as_no_difference(at_once, monkeypatch):
    monkeypatch.setattr(module, "_DRAWS_AT_ONCE", at_once)
    differences = np.repeat([0.5, -0.5], 10)
    assert sign_flip_p_value(differences, rng=rng(), n_flips=99) == 1


def test_users_who_do_not_differ_have_no_say():
    differences = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    padded = np.concatenate([differences, np.zeros(1000)])
    assert sign_flip_p_value(padded, rng=rng()) == sign_flip_p_value(differences, rng=rng())
    assert sign_flip_p_value(np.zeros(5), rng=rng()) == 1


def test_holm_multiplies_the_smallest_by_all_and_never_falls():
    corrected = holm(np.array([0.01, 0.04, 0.03]))
    assert corrected == approx([0.03, 0.06, 0.06])


def test_holm_stops_at_one_and_leaves_nan_uncounted():
    corrected = holm(np.array([0.9, np.nan, 0.8]))
    assert corrected[[0, 2]] == approx([1, 1])
    assert isnan(corrected[1])
    assert holm(np.array([0.2, np.nan]))[0] == approx(0.2)


def test_a_comparison_is_paired():
    """Users differ far more among themselves than between rankings, and that must not matter."""
    base = rng().random(200)
    found = compare(base + 0.01 * (1 + rng(1).random(200)), base, rng=rng())
    assert found.difference == approx(0.015, abs=0.002)
    assert found.interval[0] > 0.01
    assert found.p_value < 0.01


def test_the_interval_of_the_difference_holds_it():
    first, second = rng(1).random(100), rng(2).random(100)
    found = compare(first, second, rng=rng())
    assert found.interval[0] < found.difference < found.interval[1]
    assert found.difference == approx(first.mean() - second.mean())


def test_users_without_both_values_are_left_out():
    first, second = np.array([1.0, np.nan, 0.5, 2.0]), np.array([0.5, 1.0, np.nan, 1.0])
    found = compare(first, second, rng=rng())
    assert (found.n, found.first, found.second) == (2, 1.5, 0.75)


@pytest.mark.parametrize(
    ("differences", "size"),
    [
        ([1.0, 3.0], 2 / sqrt(2)),  # of a standard deviation sqrt(((1 - 2)^2 + (3 - 2)^2) / 1)
        ([0.0, 0.0], 0.0),
        ([1.0, 1.0], float("nan")),
        ([1.0], float("nan")),
    ],
)
def test_the_effect_size_is_mean_over_spread_where_there_is_any(differences, size):
    assert paired_effect_size(np.array(differences)) == approx(size, nan_ok=True)


def test_nobody_to_compare_gives_nan():
    found = compare(np.array([np.nan]), np.array([1.0]), rng=rng())
    assert found.n == 0
    assert isnan(found.p_value)


def test_one_metric_is_compared_as_several_are():
    first, second, how = rng(1).random(50), rng(2).random(50), {"n_samples": 80, "confidence": 0.5}
    several = compare_metrics({"a": first}, {"a": second}, rng=rng(), **how)
    assert compare(first, second, rng=rng(), **how) == several["a"]


def test_metrics_that_both_hold_are_compared():
    base = rng().random(100)
    first = {"a": base + 0.1, "b": base, "c": base}
    second = {"a": base, "b": rng(1).permutation(base), "d": base}
    found = compare_metrics(first, second, rng=rng(), n_samples=100)
    assert list(found) == ["a", "b"]
    assert found["a"].difference == approx(0.1)
    assert compare_metrics(first, {}, rng=rng()) == {}
