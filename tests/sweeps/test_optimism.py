import math

import numpy as np
import pytest
from pytest import approx

from sweeps.findings import Finalist
from sweeps.optimism import (
    estimate_optimism,
    expected_maximum,
    modelled_optimism,
    pooled_std,
)

NOISE = 0.01


def finalist(trial, values, search_value=None):
    kept = [value for value in values if value is not None]
    mean = float(np.mean(kept)) if kept else None
    return Finalist(trial, {}, False, search_value, tuple(values), mean, None)


def alike(rng, n):
    return np.zeros(n)


def spread_as_noise(rng, n):
    return NOISE * rng.normal(size=n)


def spread_wide(rng, n):
    return 3 * NOISE * rng.normal(size=n)


def half_hopeless(rng, n):
    return np.where(rng.random(n) < 0.5, 0.0, -20 * NOISE)


WORLDS = [alike, spread_as_noise, spread_wide, half_hopeless]


def true_optimism(world, n, rng, repeats=4000):
    lucks = []
    for _ in range(repeats):
        noise = NOISE * rng.normal(size=n)
        lucks.append(noise[(world(rng, n) + noise).argmax()])
    return np.mean(lucks)


def test_the_largest_of_two_draws_is_expected_at_one_over_root_pi():
    assert expected_maximum(2) == approx(1 / math.sqrt(math.pi), abs=1e-6)


def test_a_single_draw_has_no_luck():
    assert expected_maximum(1) == approx(0, abs=1e-9)


def test_the_expected_maximum_is_that_of_a_simulation():
    draws = np.random.default_rng(0).normal(size=(100_000, 30)).max(axis=1)
    error = draws.std() / math.sqrt(len(draws))
    assert expected_maximum(30) == approx(draws.mean(), abs=4 * error)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("n", [10, 40])
def test_the_model_finds_the_optimism_of_a_known_world(world, n):
    """On average within 0.35 of the noise, as its documentation says."""
    rng = np.random.default_rng(1)
    found = [
        modelled_optimism(world(rng, n) + NOISE * rng.normal(size=n), NOISE, rng) for _ in range(25)
    ]
    assert np.mean(found) == approx(true_optimism(world, n, rng), abs=0.35 * NOISE)


@pytest.mark.parametrize("world", WORLDS)
def test_retraining_is_right_on_average(world):
    """The estimate minus the luck that the best trial really had is zero but for chance."""
    rng, n = np.random.default_rng(2), 20
    errors = []
    for _ in range(1000):
        merits, luck = world(rng, n), NOISE * rng.normal(size=n)
        best = int((merits + luck).argmax())
        fresh = merits[best] + NOISE * rng.normal()
        row = finalist(best, [float(fresh)], float((merits + luck)[best]))
        found = estimate_optimism(
            [float((merits + luck)[best])], [row], direction="maximize", rng=rng
        )
        errors.append(found.retrained - luck[best])
    assert np.mean(errors) == approx(0, abs=4 * np.std(errors) / math.sqrt(len(errors)))
    assert np.std(errors) == approx(NOISE, rel=0.2)


def test_the_error_of_the_retrained_difference_falls_with_seeds():
    rows = [finalist(1, [0.1, 0.2, 0.3, 0.4], search_value=0.5), finalist(2, [0.2, 0.2])]
    found = estimate_optimism([0.5], rows, direction="maximize", rng=np.random.default_rng(0))
    assert found.retrained_error == approx(found.seed_std / 2)


def test_no_world_is_more_optimistic_than_the_bound():
    rng = np.random.default_rng(3)
    bound = NOISE * expected_maximum(20)
    assert all(true_optimism(world, 20, rng) < bound + 0.05 * NOISE for world in WORLDS)


def test_without_noise_nothing_is_luck():
    rng = np.random.default_rng(0)
    assert modelled_optimism(np.array([0.1, 0.2]), 0.0, rng) == 0


def test_noise_is_pooled_within_finalists():
    rows = [finalist(1, [0.1, 0.3]), finalist(2, [0.7, 0.7, None, 0.7]), finalist(3, [0.9])]
    assert pooled_std(rows) == (approx(math.sqrt(0.02 / 3)), 3)


def test_a_loss_is_too_good_when_it_is_too_low():
    row = finalist(4, [0.3, 0.4], search_value=0.2)
    found = estimate_optimism([0.2, 0.5], [row], direction="minimize", rng=np.random.default_rng(0))
    assert found.best_value == 0.2
    assert found.retrained == approx(0.15)
    assert found.modelled > 0


def test_with_one_seed_only_the_retrained_difference_is_known():
    row = finalist(4, [0.3], search_value=0.4)
    found = estimate_optimism([0.4], [row], direction="maximize", rng=np.random.default_rng(0))
    assert found.retrained == approx(0.1)
    assert (found.modelled, found.bound, found.seed_std, found.retrained_error) == (None,) * 4


def test_nothing_is_estimated_from_no_trials():
    assert estimate_optimism([], [], direction="maximize", rng=np.random.default_rng(0)) is None


def test_the_best_trial_is_compared_with_itself_not_with_the_winner():
    rows = [finalist(1, [0.5, 0.5], 0.4), finalist(2, [0.3, 0.3], 0.6)]
    found = estimate_optimism([0.4, 0.6], rows, direction="maximize", rng=np.random.default_rng(0))
    assert found.retrained == approx(0.3)
