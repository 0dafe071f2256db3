from math import isnan

import numpy as np
import pytest
from pytest import approx

from recsys.evaluation import bootstrap as module
from recsys.evaluation.bootstrap import bootstrap_intervals, bootstrap_means, percentile_interval


def rng():
    return np.random.default_rng(0)


def test_means_equal_a_loop_over_resamples():
    values = np.random.default_rng(1).random((30, 3))
    values[::4, 1] = np.nan
    draws, expected = rng(), []
    for _ in range(50):
        expected.append(np.nanmean(values[draws.integers(30, size=30)], axis=0))
    np.testing.assert_allclose(bootstrap_means(values, n_samples=50, rng=rng()), expected)


def test_chunks_do_not_change_a_mean(monkeypatch):
    values = np.random.default_rng(1).random((30, 2))
    expected = bootstrap_means(values, n_samples=50, rng=rng())
    monkeypatch.setattr(module, "_WEIGHTS_AT_ONCE", 100)
    np.testing.assert_allclose(bootstrap_means(values, n_samples=50, rng=rng()), expected)


@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_intervals_hold_the_true_mean_as_often_as_they_say(confidence):
    """400 worlds of 200 users with true mean 0.3: coverage within 4 standard errors."""
    draws = np.random.default_rng(5)
    worlds = (draws.random((200, 400)) < 0.3).astype(float)
    intervals = bootstrap_intervals(
        {str(i): worlds[:, i] for i in range(400)},
        n_samples=1000,
        confidence=confidence,
        rng=rng(),
    )
    held = np.mean([low <= 0.3 <= high for low, high in intervals.values()])
    assert abs(held - confidence) < 4 * np.sqrt(confidence * (1 - confidence) / 400) + 0.02


def test_a_metric_without_spread_has_an_interval_without_width():
    values = {"a": np.full(10, 0.25)}
    intervals = bootstrap_intervals(values, n_samples=100, confidence=0.9, rng=rng())
    assert intervals["a"] == approx((0.25, 0.25))


def test_metrics_without_any_value_are_left_out():
    values = {"a": np.full(3, np.nan), "b": np.arange(3.0)}
    intervals = bootstrap_intervals(values, n_samples=100, confidence=0.9, rng=rng())
    assert set(intervals) == {"b"}


def test_nobody_has_no_interval():
    assert bootstrap_intervals({"a": np.empty(0)}, n_samples=100, confidence=0.9, rng=rng()) == {}
    assert np.isnan(bootstrap_means(np.empty((0, 2)), n_samples=5, rng=rng())).all()


def test_percentiles_are_cut_evenly_at_both_ends():
    assert percentile_interval(np.arange(101.0), 0.9) == approx((5, 95))
    assert all(isnan(end) for end in percentile_interval(np.array([np.nan]), 0.9))
