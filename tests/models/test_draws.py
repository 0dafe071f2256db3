import numpy as np
import pytest

from recsys.models.draws import Draws, threshold


def test_draws_are_uniform_and_those_of_neighbours_are_independent():
    drawn = Draws(123).rows(0, 100_000) / 2**32
    # The standard error of a mean of so many uniform numbers is below 0.001.
    assert drawn.mean() == pytest.approx(0.5, abs=0.005)
    assert np.histogram(drawn, bins=10, range=(0, 1))[0] == pytest.approx(10_000, rel=0.05)
    for lag in (1, 2, 64):
        assert abs(np.corrcoef(drawn[lag:], drawn[:-lag])[0, 1]) < 0.02


def test_a_part_draws_what_the_whole_would():
    draws = Draws(5)
    whole = draws.rows(3, 50)
    assert np.array_equal(np.concatenate([draws.rows(3, 20), draws.after(20).rows(3, 30)]), whole)


def test_keys_and_streams_have_draws_of_their_own():
    assert not set(Draws(5).rows(0, 1000)) & set(Draws(6).rows(1, 1000)[:10])
    assert abs(np.corrcoef(Draws(5).rows(0, 10_000), Draws(5).rows(1, 10_000))[0, 1]) < 0.05
    assert abs(np.corrcoef(Draws(5).rows(0, 10_000), Draws(6).rows(0, 10_000))[0, 1]) < 0.05


def test_a_share_of_the_draws_lies_below_its_threshold():
    drawn = Draws(9).rows(0, 100_000)
    for share in (0.0, 0.1, 0.9):
        assert (drawn < threshold(share)).mean() == pytest.approx(share, abs=0.005)
