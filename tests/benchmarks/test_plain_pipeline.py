"""The pandas pipeline keeps what the product keeps."""

from benchmarks.plain_pipeline import run_plain_pipeline
from benchmarks.shop import write_raw_shop
from recsys.config import DataConfig
from recsys.data.dataset import prepare


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
