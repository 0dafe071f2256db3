"""The generated worlds are of the size that the table says; pandas keeps what the product keeps."""

import numpy as np
import pytest

from benchmarks.plain_pipeline import run_plain_pipeline
from benchmarks.shop import FEATURE_PARAMS, draw_distinct, write_distinct_shop, write_raw_shop
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


def test_pandas_and_the_product_keep_the_same(tmp_path):
    write_raw_shop(tmp_path, n_users=400, n_items=300, n_interactions=6000, seed=0)
    config = DataConfig(
        books_path=tmp_path / "books.csv",
        interactions_path=tmp_path / "users.csv",
        min_user_interactions=5,
        min_item_interactions=10,
    )
    prepared = prepare(config, 0)
    plain = run_plain_pipeline(
        tmp_path,
        tmp_path / "cache",
        min_user=5,
        min_item=10,
        numeric_columns=config.feature_params.numeric_columns,
    )
    assert plain["users"] == len(prepared.users) > 100
    assert plain["items"] == len(prepared.items) > 100
    assert plain["train"] == len(prepared.train) > 1000
