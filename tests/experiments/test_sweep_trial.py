"""One training of a sweep: its sealed data, its metrics, and when it is pruned."""

import numpy as np
import pytest

from experiments.sweep.trial import (
    SealedData,
    evaluate_lists,
    keep_users,
    measure,
    seal,
    train,
    validation_vectors,
)
from recsys.pipeline import build_trainer


@pytest.fixture
def trained(board_prepared, board_config):
    """Trains to the end; gives the configuration and the trainer."""

    def build(changes=None):
        config = board_config(changes) if changes else board_config()
        trainer = build_trainer(config, board_prepared)
        assert not train(trainer, keep_going=lambda _: True)
        return config, trainer

    return build


def test_a_sealed_data_set_has_no_test_interaction_and_is_otherwise_the_same(board_prepared):
    sealed = seal(board_prepared)
    assert len(board_prepared.test) > 0 and len(sealed.test) == 0
    assert sealed.train is board_prepared.train
    assert sealed.validation is board_prepared.validation


def test_keeping_a_share_of_users_drops_all_of_the_others(board_prepared):
    half = keep_users(board_prepared, 0.5, seed=0)
    users = set(half.train.users.tolist())
    assert len(users) == len(board_prepared.users) // 2
    assert set(half.validation.users.tolist()) <= users
    kept = np.isin(board_prepared.train.users, list(users))
    assert np.array_equal(half.train.items, board_prepared.train.items[kept])
    assert set(keep_users(board_prepared, 0.5, seed=1).train.users.tolist()) != users


def test_metrics_are_those_of_the_best_epoch(board_prepared, trained):
    config, trainer = trained()
    metrics = measure(trainer, board_prepared, config, ["ndcg@10"])
    values = [result.validation["ndcg@10"] for result in trainer.history]
    assert metrics["ndcg@10"] == max(values)
    assert metrics["epochs"] == len(values) == 3
    assert metrics["model_parameters"] > 0 and metrics["train_seconds"] > 0
    assert "cold_items_ndcg@10" not in metrics


def test_lists_are_evaluated_as_epochs_are_with_histories_of_train_items_alone(
    board_prepared, trained
):
    config, trainer = trained()
    trainer.restore_best()
    model, best = trainer.model, trainer.history[trainer.best_epoch - 1]
    lists = evaluate_lists(validation_vectors(model, board_prepared), board_prepared, config)
    for name, value in best.validation.items():
        assert lists.model.means[name] == pytest.approx(value, rel=1e-12), name


@pytest.mark.parametrize(("last", "is_pruned"), [(1, True), (3, False)])
def test_ending_before_the_last_epoch_is_pruning(board_prepared, board_config, last, is_pruned):
    trainer = build_trainer(board_config(), board_prepared)
    assert train(trainer, keep_going=lambda result: result.number < last) == is_pruned
    assert len(trainer.history) == last


def test_segment_metrics_are_had_where_they_are_asked_for(board_prepared, trained):
    config, trainer = trained({"evaluation": {"segments": {"cold_max": 40}}})
    asked = measure(trainer, seal(board_prepared), config, ["cold_items_ndcg@10"])
    assert 0 <= asked["cold_items_ndcg@10"] <= 1
    assert asked["head_users_ndcg@10"] is None  # all users are alike


def test_data_sets_are_prepared_once_for_all_trials(board_config):
    data = SealedData(seed=0)
    assert data.of(board_config()) is data.of(board_config({"model": {"temperature": 0.2}}))
    titled = board_config({"data": {"feature_params": {"title": True}}})
    assert data.of(titled) is not data.of(board_config())
