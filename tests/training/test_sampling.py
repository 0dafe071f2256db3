import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.data.arrays import Interactions
from recsys.errors import DataError
from recsys.training import sampling
from recsys.training.sampling import KnownPairs, NegativeSampler


def interactions(pairs, n_users, n_items):
    users, items = (np.array(side, dtype=np.int32) for side in zip(*pairs, strict=True))
    return Interactions(users, items, None, n_users, n_items)


@st.composite
def worlds(draw):
    n_users, n_items = draw(st.integers(1, 6)), draw(st.integers(2, 12))
    cells = [(u, i) for u in range(n_users) for i in range(n_items - 1)]
    pairs = draw(st.lists(st.sampled_from(cells), min_size=1, unique=True))
    return interactions(pairs, n_users, n_items)


@settings(deadline=None)
@given(worlds(), st.sampled_from(["uniform", "popularity"]), st.integers(0, 2**32 - 1))
def test_a_known_positive_is_never_drawn(train, kind, seed):
    sampler = NegativeSampler(train.by_user, train.n_items, kind=kind)
    users = np.arange(train.n_users).repeat(3)
    negatives = sampler.sample(users, 4, np.random.default_rng(seed))
    known = set(zip(train.users.tolist(), train.items.tolist(), strict=True))
    drawn = {(u, i) for u, row in zip(users, negatives, strict=True) for i in row}
    assert negatives.shape == (len(users), 4)
    assert not known & {(int(u), int(i)) for u, i in drawn}


def test_a_user_who_knows_all_but_one_gets_that_one():
    train = interactions([(0, i) for i in range(999)], 1, 1000)
    sampler = NegativeSampler(train.by_user, 1000, kind="uniform")
    assert (sampler.sample(np.zeros(5, dtype=int), 3, np.random.default_rng(0)) == 999).all()


def test_a_user_who_knows_everything_is_refused():
    train = interactions([(0, 0), (1, 0), (1, 1)], 2, 2)
    with pytest.raises(DataError, match=r"1 users have interacted with all 2 train items"):
        NegativeSampler(train.by_user, 2, kind="uniform")


REDRAWS = pytest.mark.parametrize("rounds", [64, 0], ids=["redrawn", "from what is left"])


@REDRAWS
def test_uniform_negatives_are_uniform_over_what_is_unknown(rounds, monkeypatch):
    monkeypatch.setattr(sampling, "MAX_ROUNDS", rounds)
    train = interactions([(0, 0), (0, 1)], 1, 6)
    sampler = NegativeSampler(train.by_user, 6, kind="uniform")
    drawn = sampler.sample(np.zeros(1000, dtype=int), 40, np.random.default_rng(0))
    shares = np.bincount(drawn.ravel(), minlength=6) / drawn.size
    # 40,000 draws: the standard error of a share of 1/4 is 0.0022.
    np.testing.assert_allclose(shares, [0, 0, 0.25, 0.25, 0.25, 0.25], atol=0.011)


@REDRAWS
def test_popular_negatives_are_drawn_by_count_to_the_power_alpha(rounds, monkeypatch):
    monkeypatch.setattr(sampling, "MAX_ROUNDS", rounds)
    pairs = [(u, 0) for u in range(1, 17)] + [(u, 1) for u in range(1, 5)] + [(0, 2)]
    train = interactions(pairs, 17, 3)
    sampler = NegativeSampler(train.by_user, 3, kind="popularity", alpha=0.5)
    drawn = sampler.sample(np.zeros(1000, dtype=int), 40, np.random.default_rng(0))
    shares = np.bincount(drawn.ravel(), minlength=3) / drawn.size
    # counts 16 and 4, square roots 4 and 2; user 0 knows item 2
    np.testing.assert_allclose(shares, [4 / 6, 2 / 6, 0], atol=0.012)


def test_who_knows_all_that_is_ever_drawn_gets_what_is_left_evenly():
    train = interactions([(0, 0), (0, 1)], 1, 4)
    sampler = NegativeSampler(train.by_user, 4, kind="popularity")
    drawn = sampler.sample(np.zeros(1, dtype=int), 2000, np.random.default_rng(0))
    # 2,000 draws: the standard error of a share of 1/2 is 0.011.
    np.testing.assert_allclose(np.bincount(drawn[0]) / 2000, [0, 0, 0.5, 0.5], atol=0.05)


def test_items_without_train_interactions_are_never_negatives():
    train = interactions([(0, 0), (1, 1)], 2, 10)
    sampler = NegativeSampler(train.by_user, 2, kind="uniform")
    drawn = sampler.sample(np.array([0, 1]), 50, np.random.default_rng(0))
    assert (drawn[0] == 1).all() and (drawn[1] == 0).all()


@settings(deadline=None)
@given(worlds())
def test_bits_and_sorted_keys_know_the_same_pairs(train):
    users, items = np.divmod(np.arange(train.n_users * train.n_items), train.n_items)
    bits = KnownPairs(train.by_user).contains(users, items)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "BITMAP_LIMIT_BYTES", -1)
        keys = KnownPairs(train.by_user).contains(users, items)
    known = set(zip(train.users.tolist(), train.items.tolist(), strict=True))
    expected = [(u, i) in known for u, i in zip(users.tolist(), items.tolist(), strict=True)]
    assert bits.tolist() == keys.tolist() == expected


def test_the_chance_of_an_item_is_how_often_it_is_drawn_on_average():
    pairs = [(u, 0) for u in range(9)] + [(u, 1) for u in range(4)] + [(9, 2)]
    train = interactions(pairs, 10, 3)
    for kind, shares in (
        ("uniform", [1 / 3, 1 / 3, 1 / 3]),
        ("popularity", [3 / 6, 2 / 6, 1 / 6]),
        ("in_batch", [9 / 14, 4 / 14, 1 / 14]),
    ):
        sampler = NegativeSampler(train.by_user, 3, kind=kind, alpha=0.5)
        items = np.array([[0, 1, 2], [2, 1, 0]])
        wanted = 5 * np.array([shares, shares[::-1]])
        np.testing.assert_allclose(np.exp(sampler.log_chance(items, 5)), wanted, rtol=1e-5)
        assert sampler.log_chance(items, 5).dtype == np.float32
        assert sampler.log_inclusion(items, 5).dtype == np.float32
        drawn = sampler.draw(40_000, np.random.default_rng(0))
        # The standard error of a share is below 0.0025.
        np.testing.assert_allclose(np.bincount(drawn) / 40_000, shares, atol=0.0125)


def test_the_chance_of_being_drawn_at_least_once_is_that_of_many_trials():
    train = interactions([(u, 0) for u in range(9)] + [(0, 1), (1, 2)], 10, 3)
    sampler = NegativeSampler(train.by_user, 3, kind="popularity", alpha=1.0)
    rng, n_trials = np.random.default_rng(0), 20_000
    drawn = sampler.draw(n_trials * 4, rng).reshape(n_trials, 4)
    shares = [(drawn == item).any(axis=1).mean() for item in range(3)]
    # The standard error of a share is below 0.0036.
    found = np.exp(sampler.log_inclusion(np.arange(3), 4))
    np.testing.assert_allclose(found, shares, atol=0.018)


def test_the_only_item_there_is_is_always_drawn():
    by_user = interactions([(0, 0)], 3, 2).by_user  # item 1 is nobody's
    sampler = NegativeSampler(by_user, 2, kind="in_batch")
    assert sampler.log_inclusion(np.array([0]), 3).tolist() == [0.0]
