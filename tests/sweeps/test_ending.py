"""When a search ends: forecasts in worlds whose gains are known, and the error they are held to."""

import dataclasses
import itertools
import math

import numpy as np
import pandas as pd
import pytest

from sweeps.ending import (
    busy_seconds,
    difference_error,
    expected_best,
    expected_gain,
    forecast,
    merits,
    trials_left,
)
from sweeps.record import Constraint, Objective, TrialRecord
from sweeps.settings import build_settings

OBJECTIVE = Objective("ndcg@10")


def test_the_expected_best_of_some_is_that_over_all_choices_of_them():
    values = np.random.default_rng(0).normal(size=9)
    for k in range(1, 10):
        choices = [max(chosen) for chosen in itertools.combinations(values, k)]
        assert expected_best(values, k) == pytest.approx(np.mean(choices), rel=1e-12)
    between = 0.75 * expected_best(values, 4) + 0.25 * expected_best(values, 5)
    assert expected_best(values, 4.25) == pytest.approx(between)


def test_a_forecast_by_order_is_right_where_the_tail_is_exponential():
    """The best of n exponentials is expected at 1 + 1/2 + ... + 1/n."""
    n, further, rng = 20, 20, np.random.default_rng(0)
    k = n * n // (n + further)
    found = [
        float(draws.max()) - expected_best(draws, k) for draws in rng.exponential(size=(4000, n))
    ]
    wanted = sum(1 / i for i in range(k + 1, n + 1))
    assert np.mean(found) == pytest.approx(wanted, abs=4 * np.std(found) / math.sqrt(len(found)))


@pytest.mark.parametrize("further", [5, 20, 200])
@pytest.mark.parametrize("world", ["uniform", "normal", "exponential", "improving"])
def test_on_average_a_forecast_does_not_promise_less_than_comes(world, further):
    n, rng = 20, np.random.default_rng(1)
    promised, came = [], []
    for _ in range(300):
        draws = {
            "uniform": lambda: rng.uniform(size=n + further),
            "normal": lambda: rng.normal(size=n + further),
            "exponential": lambda: rng.exponential(size=n + further),
            "improving": lambda: (
                rng.normal(size=n + further) + np.log(np.arange(1, n + further + 1))
            ),
        }[world]()
        promised.append(expected_gain(draws[:n], further))
        came.append(draws.max() - draws[:n].max())
    error = np.std(np.subtract(promised, came)) / math.sqrt(len(came))
    assert np.mean(promised) > np.mean(came) - 3 * error


@pytest.mark.parametrize(
    ("draws", "further", "gain"),
    [
        ([4, 1, 2, 3], 4, 4 - 20 / 6),  # the best of two is 4 in three of six pairs, 3 in two
        ([3, 1], 1, 3 - (2 / 3 * 2 + 1 / 3 * 3)),  # between the best of one and of two
        ([1, 3], 6, 2 * (3 - 1)),  # four times as many: the doubling so far, twice, in time
        ([3, 1], 6, 2 * (3 - 2)),  # and by order, where the first draw was the best
    ],
)
def test_the_gain_is_that_of_the_last_stretch_of_the_same_ratio(draws, further, gain):
    assert expected_gain(np.array(draws, float), further) == pytest.approx(gain)


def test_nothing_is_gained_where_nothing_is_left_or_all_are_equal():
    assert expected_gain(np.arange(10.0), 0) == 0
    assert expected_gain(np.full(12, 0.3), 50) == pytest.approx(0, abs=1e-12)


def test_pruned_trials_count_by_what_they_reached_and_what_cannot_win_as_the_worst():
    trials = [
        TrialRecord(0, "complete", values=(0.3,), constraints={"epochs": 5}),
        TrialRecord(1, "pruned", intermediate={1: 0.1, 2: 0.2}),
        TrialRecord(2, "failed", intermediate={1: 0.8}, error="not a number"),
        TrialRecord(3, "failed", error="its process was lost"),
        TrialRecord(4, "running"),
        TrialRecord(5, "complete", values=(0.9,), constraints={"epochs": 50}),
    ]
    rules = (Constraint("epochs", maximum=9),)
    assert merits(trials, OBJECTIVE, rules) == [0.3, 0.2, 0.2, 0.2]
    smaller = dataclasses.replace(OBJECTIVE, direction="minimize")
    assert merits(trials, smaller, rules) == [-0.3, -0.2, -0.3, -0.3]
    assert merits(trials[2:3], OBJECTIVE, ()) == []


def test_a_forecast_waits_for_ten_draws_of_a_sampler_that_has_learned(make_sweep):
    given = {"objectives": [OBJECTIVE], "epoch_metrics": ["ndcg@10"], "startup_trials": 5}
    settings = build_settings(space={}, base={}, **given)
    for count, early, learned in ((10, 0, 0), (11, 10, 0), (15, 14, 0), (16, 10, 10)):
        trials = make_sweep(("complete",) * count).trials
        draws = np.array(merits(trials, OBJECTIVE, ()))
        wanted = [expected_gain(draws[-n:], 7) if n else None for n in (early, learned)]
        assert [forecast(settings, trials, 7, learned=each) for each in (False, True)] == wanted


def test_time_bounds_the_trials_that_are_left():
    assert [trials_left(n, 30, 100.0, None) for n in (10, 30, 31)] == [20, 0, 0]
    assert trials_left(10, 30, 100.0, 150.0) == 5  # ten seconds each, fifty are left
    assert trials_left(10, 12, 100.0, 150.0) == 2
    assert trials_left(10, 30, 200.0, 150.0) == trials_left(300, 400, 200.0, 150.0) == 0
    assert trials_left(1, 30, 1.0, 4.0) == 3
    assert [trials_left(0, 30, spent, 150.0) for spent in (9.0, 0.0)] == [30, 30]  # nothing known
    assert trials_left(3, 30, 0.0, 150.0) == 27


def test_the_error_of_a_difference_counts_seeds_and_users():
    """Means 0.2 and 0.4: variance 0.02. The users differ by 0.4 and 0: variance 0.08, of two."""
    one, other = pd.Series({"a": 0.1, "b": 0.3}), pd.Series({"a": 0.5, "b": 0.3})
    assert difference_error([one, other], 4) == pytest.approx(math.sqrt((2 * 0.02 + 0.08 / 2) / 4))
    assert difference_error([one], 4) is None


def test_the_predicted_error_is_that_of_differences_between_equal_configurations():
    """Two of the same merit, each a mean over 3 seeds: the spread of their difference is foretold.

    Noise between seeds alone, so that the users' part, counted besides, is what seeds do too.
    """
    rng, n_users, n_seeds = np.random.default_rng(0), 200, 3
    differences, predicted = [], []
    for _ in range(400):
        means = rng.normal(0, 0.02, (2, n_seeds))
        differences.append(means[0].mean() - means[1].mean())
        frames = [pd.Series(np.full(n_users, mean)) for mean in means[0]]
        predicted.append(difference_error(frames, n_seeds) ** 2)
    assert np.mean(predicted) == pytest.approx(np.var(differences), rel=0.15)


def test_time_of_trials_side_by_side_counts_once():
    assert busy_seconds([(0, 10), (2, 5), (8, 12), (20, 21)]) == 13
    assert busy_seconds([]) == 0
