"""Features of new users are those that train would have given them."""

from dataclasses import replace

import numpy as np
import pytest

from recsys.config import FeatureParams
from recsys.data.arrays import Bags, Interactions
from recsys.data.features import Features
from recsys.data.user_features import UserFeaturizer, aggregate_user_features

N_USERS, N_ITEMS = 50, 30
DAY = 86_400


@pytest.fixture(scope="module", params=["ones", "weights"])
def item_features(request):
    rng = np.random.default_rng(3)
    pairs = np.argwhere(rng.random((N_ITEMS, 7)) < 0.3)
    bags = Bags.from_pairs(pairs[:, 0], pairs[:, 1], n_rows=N_ITEMS, n_columns=7)
    if request.param == "weights":
        bags = replace(bags, weights=rng.random(len(pairs)).astype(np.float32))
    dense = rng.standard_normal((N_ITEMS, 4)).astype(np.float32)
    dense[:, 3] = 0.5  # says nothing
    names = ("a", "b", "c", "d")
    return Features(dense, names, {"categories": bags}, {"categories": tuple("qrstuvw")})


@pytest.fixture(scope="module")
def train():
    """Sorted by user and time; the last user has read nothing, all of user 7 was on one day."""
    rng = np.random.default_rng(4)
    pairs = np.argwhere(rng.random((N_USERS, N_ITEMS)) < 0.2)
    pairs = pairs[pairs[:, 0] != N_USERS - 1]
    times = np.sort(rng.integers(0, 400 * DAY, len(pairs)))
    times[pairs[:, 0] == 7] = 100 * DAY
    users, items = pairs[:, 0].astype(np.int32), pairs[:, 1].astype(np.int32)
    return Interactions(users, items, times, N_USERS, N_ITEMS)


def assert_same_rows(found, expected, rows):
    np.testing.assert_array_equal(found.dense[rows], expected.dense[rows])
    assert found.dense_names == expected.dense_names
    held, wanted = (each.bags["categories"].take(rows) for each in (found, expected))
    np.testing.assert_array_equal(held.to_scipy().toarray(), wanted.to_scipy().toarray())
    assert (held.weights is None) == (wanted.weights is None)


@pytest.mark.parametrize("aggregate", ["mean", "sum", "max"])
def test_users_of_the_books_of_train_have_the_features_of_train(item_features, train, aggregate):
    config = FeatureParams(user_aggregation=aggregate)
    expected = aggregate_user_features(item_features, train, config)
    featurizer = UserFeaturizer.fit(item_features, train, config)
    found = featurizer.transform(item_features, train.by_user)
    assert_same_rows(found, expected, np.arange(N_USERS))
    assert not found.dense[-1, 1:].any() and found.dense[-1, 0] != 0


def test_with_decay_books_of_one_day_count_alike(item_features, train):
    config = FeatureParams(user_aggregation="time_decayed_mean", half_life_days=30)
    expected = aggregate_user_features(item_features, train, config)
    featurizer = UserFeaturizer.fit(item_features, train, config)
    found = featurizer.transform(item_features, train.by_user)
    assert_same_rows(found, expected, np.array([7]))
    assert not np.allclose(found.dense, expected.dense)


def test_one_users_features_do_not_depend_on_who_else_is_asked_about(item_features, train):
    featurizer = UserFeaturizer.fit(item_features, train, FeatureParams())
    alone = featurizer.transform(item_features, train.by_user.take(np.array([9])))
    among = featurizer.transform(item_features, train.by_user)
    np.testing.assert_allclose(alone.dense[0], among.dense[9], rtol=1e-6)
    held, wanted = alone.bags["categories"], among.bags["categories"].take(np.array([9]))
    assert held.indices.tolist() == wanted.indices.tolist()
    np.testing.assert_allclose(held.weights, wanted.weights, rtol=1e-6)
