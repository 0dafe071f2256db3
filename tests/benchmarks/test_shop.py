"""The generated worlds are the size that the table says."""

import numpy as np
import pytest

from benchmarks.shop import FEATURE_PARAMS, draw_distinct, write_distinct_shop
from recsys.config import DataConfig
from recsys.data.dataset import prepare


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    write_distinct_shop(folder, n_users=300, n_items=2000, n_train=9000, seed=0)
    config = DataConfig(
        books_path=folder / "books.csv",
        interactions_path=folder / "users.csv",
        feature_params=FEATURE_PARAMS,
        min_user_interactions=1,
        min_item_interactions=1,
    )
    return prepare(config, 0)


def test_train_holds_exactly_the_interactions_asked_for(prepared):
    assert len(prepared.train) == 9000
    assert len(prepared.users) == len(prepared.test) == len(prepared.validation) == 300


def test_an_item_is_614_columns_wide(prepared):
    features = prepared.item_features
    widths = {name: bags.n_columns for name, bags in features.bags.items()}
    assert widths == {"categories": 300, "authors": 300}
    assert features.dense.shape[1] == 14


def test_the_same_seed_draws_the_same_log():
    first, second = (draw_distinct(40, 200, 500, np.random.default_rng(7)) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
