import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data.arrays import Interactions
from recsys.training.batches import BatchStream, Distinct
from recsys.training.sampling import NegativeSampler


@pytest.fixture
def train():
    rng = np.random.default_rng(0)
    cells = rng.permutation(20 * 30)[:100]
    return Interactions((cells // 30).astype(np.int32), (cells % 30).astype(np.int32), None, 20, 30)


def stream(train, batch_size=16, k=3):
    sampler = NegativeSampler(train, train.n_items, kind="uniform")
    return BatchStream(train, sampler, batch_size=batch_size, negatives_per_positive=k)


def pairs(batches):
    return [
        (int(user), int(item))
        for batch in batches
        for user, item in zip(
            batch.users[batch.user_of], batch.items[batch.positive_of], strict=True
        )
    ]


def test_an_epoch_holds_every_interaction_once(train):
    seen = pairs(stream(train).epoch(np.random.default_rng(1)))
    assert sorted(seen) == sorted(zip(train.users.tolist(), train.items.tolist(), strict=True))


def test_epochs_come_in_different_orders(train):
    rng, batches = np.random.default_rng(1), stream(train)
    assert pairs(batches.epoch(rng)) != pairs(batches.epoch(rng))


def test_the_number_of_batches_counts_the_last_partial_one(train):
    batches = stream(train, batch_size=16)
    assert len(batches) == 7 == sum(1 for _ in batches.epoch(np.random.default_rng(1)))


def test_negatives_belong_to_their_positives_user(train):
    known = set(zip(train.users.tolist(), train.items.tolist(), strict=True))
    for batch in stream(train).epoch(np.random.default_rng(1)):
        assert batch.negatives_of.shape == (len(batch), 3)
        users, negatives = batch.users[batch.user_of], batch.items[batch.negatives_of]
        drawn = {(int(u), int(i)) for u, row in zip(users, negatives, strict=True) for i in row}
        assert not drawn & known


def test_draws_are_the_same_batches_as_indices(train):
    batches = stream(train)
    named, drawn = (list(f(np.random.default_rng(1))) for f in (batches.epoch, batches.draws))
    for batch, draw in zip(named, drawn, strict=True):
        assert np.array_equal(batch.users[batch.user_of], draw.users)
        assert np.array_equal(batch.items[batch.positive_of], draw.items)
        assert np.array_equal(batch.items[batch.negatives_of], draw.negatives)


@given(st.lists(st.integers(0, 49), min_size=1), st.lists(st.integers(0, 49), min_size=1))
def test_distinct_agrees_with_numpy_unique_also_when_used_again(first, second):
    distinct = Distinct(50)
    for indices in (np.array(first), np.array(second)):
        values, positions = distinct(indices)
        expected, inverse = np.unique(indices, return_inverse=True)
        np.testing.assert_array_equal(values, expected)
        np.testing.assert_array_equal(positions, inverse)
