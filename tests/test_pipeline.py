"""From prepared data to a trainer."""

import logging

import pytest

from recsys.config import Config
from recsys.data.dataset import prepare
from recsys.errors import DataError
from recsys.pipeline import build_trainer

N_ITEMS = 6


def world_of(tmp_path, n_users: int, objective: str):
    """User u0 has every item, each other user all but one; there is no order."""
    pairs = [
        (user, item)
        for user in range(n_users)
        for item in range(N_ITEMS)
        if user == 0 or item != user
    ]
    lines = ["user_id,item_id", *(f"u{user},b{item}" for user, item in pairs)]
    (tmp_path / "users.csv").write_text("\n".join(lines))
    config = Config.model_validate(
        {
            "data": {
                "books_path": None,
                "interactions_path": tmp_path / "users.csv",
                "min_user_interactions": 1,
                "min_item_interactions": 1,
            },
            "model": {
                "user_encoder": {"fusion": "identity", "history": {"pooling": "none"}},
                "item_encoder": {"fusion": "identity"},
            },
            "training": {"objective": objective, "num_epochs": 1, "examples": "pairs"},
        }
    )
    return config, prepare(config.data, seed=0)


@pytest.mark.parametrize("objective", ["sampled_bce", "bpr"])
def test_a_user_who_has_every_item_is_left_out_of_sampling_and_named(tmp_path, objective, caplog):
    with caplog.at_level(logging.WARNING):
        trainer = build_trainer(*world_of(tmp_path, 5, objective))
    assert "1 users have interacted with all 6 train items, the first is 'u0'" in caplog.text
    (epoch,) = trainer.epochs()
    assert epoch.train_loss > 0


def test_where_all_negatives_are_taken_nobody_is_left_out(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        build_trainer(*world_of(tmp_path, 5, "softmax"))
    assert "users have interacted with all" not in caplog.text


def test_where_every_user_has_every_item_nothing_can_be_learned(tmp_path):
    with pytest.raises(DataError, match=r"must have an item left .* the first is 'u0'"):
        build_trainer(*world_of(tmp_path, 1, "bpr"))
