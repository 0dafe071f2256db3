from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.data.dataset import prepare
from recsys.pipeline import build_trainer
from recsys.training.checkpoint import load_checkpoint, save_checkpoint


def weights(trainer):
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def assert_same_weights(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def trainer(board_config, board_prepared):
    """Gives a fresh trainer on the checkerboard, with changes."""
    return lambda changes=None: build_trainer(board_config(changes), board_prepared)


def test_the_same_seed_gives_the_same_history_and_weights_bit_for_bit(trainer):
    first, second = trainer(), trainer()
    assert list(first.epochs()) == list(second.epochs())
    assert_same_weights(weights(first), weights(second))


def test_another_seed_gives_another_history(trainer):
    assert list(trainer().epochs()) != list(trainer({"experiment": {"seed": 1}}).epochs())


def test_the_global_random_state_neither_matters_nor_changes(trainer):
    torch.manual_seed(1)
    np.random.seed(1)
    first = trainer()
    history = list(first.epochs())
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = trainer()
    assert list(second.epochs()) == history
    assert torch.equal(torch.get_rng_state(), before)


def test_who_reads_the_stream_does_not_change_it(trainer):
    reader = trainer()
    history = []
    for result in reader.epochs(on_step=lambda step: torch.rand(3)):
        torch.rand(7)
        reader.model.user_vectors(5)
        history.append(result)
    assert history == list(trainer().epochs())


def test_one_result_an_epoch_after_its_validation(trainer):
    results = list(trainer().epochs())
    assert [result.number for result in results] == [1, 2, 3]
    assert all("ndcg@10" in result.validation for result in results)


def test_the_loss_is_the_sum_of_its_parts(trainer):
    for result in trainer({"training": {"mimic_weight": 0.5}}).epochs():
        assert set(result.parts) == {"bce_positive", "bce_negative", "mimic"}
        assert result.train_loss == sum(result.parts.values())


def test_steps_tell_of_every_positive(trainer):
    steps = []
    fresh = trainer()
    next(fresh.epochs(on_step=steps.append))
    assert [step.positives for step in steps][-1] == fresh.n_positives
    assert steps[-1].loss.item() == pytest.approx(fresh.history[0].train_loss)


def test_the_model_is_usable_at_every_yield(trainer):
    fresh = trainer()
    for _ in fresh.epochs():
        assert not fresh.model.training
        assert np.isfinite(fresh.model.item_vectors(60)).all()


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("stop_at", [1, 2])
def test_a_run_resumed_from_a_checkpoint_goes_on_bit_for_bit(trainer, tmp_path, optimizer, stop_at):
    changes = {"training": {"optimizer": optimizer, "num_epochs": 4}}
    whole = trainer(changes)
    history = list(whole.epochs())

    stopped = trainer(changes)
    assert list(islice(stopped.epochs(), stop_at)) == history[:stop_at]
    save_checkpoint(tmp_path / "checkpoint.pt", stopped.state_dict())
    resumed = trainer(changes)
    resumed.load_state_dict(load_checkpoint(tmp_path / "checkpoint.pt"))

    assert resumed.history == history[:stop_at]
    assert list(resumed.epochs()) == history[stop_at:]
    assert_same_weights(weights(resumed), weights(whole))
    resumed.restore_best()
    whole.restore_best()
    assert_same_weights(weights(resumed), weights(whole))


def test_the_best_weights_are_those_of_the_best_epoch(trainer):
    fresh = trainer({"training": {"num_epochs": 6, "learning_rate": 0.2}})
    seen = {}
    for result in fresh.epochs():
        seen[result.number] = (result.validation["ndcg@10"], weights(fresh))
    best = max(seen, key=lambda number: (seen[number][0], -number))
    fresh.restore_best()
    assert fresh.best_epoch == best
    assert_same_weights(weights(fresh), seen[best][1])


def test_training_stops_when_patience_runs_out(trainer):
    stopping = {"monitor": "recall@20", "patience": 2, "min_delta": 10.0}
    fresh = trainer({"training": {"num_epochs": 9, "early_stopping": stopping}})
    assert len(list(fresh.epochs())) == 3  # the first is the best; two more without a gain
    assert fresh.stop_reason == "recall@20 did not improve for 2 epochs"
    assert list(fresh.epochs()) == []


def test_without_a_validation_split_all_epochs_are_trained_and_the_last_is_kept(
    board_config, board_settings, tmp_path
):
    bare = tmp_path / "users.csv"
    lines = Path(board_settings["data"]["interactions_path"]).read_text().splitlines()
    bare.write_text("\n".join(",".join(line.split(",")[:2]) for line in lines) + "\n")
    config = board_config(
        {
            "data": {"interactions_path": str(bare)},
            "training": {"early_stopping": {"patience": 1}},
        }
    )
    prepared = prepare(config.data, 0)
    assert prepared.split.skipped
    fresh = build_trainer(config, prepared)
    results = list(fresh.epochs())
    assert [result.validation for result in results] == [{}, {}, {}]
    assert fresh.best_epoch == 3


def test_gradients_are_not_kept_from_step_to_step(trainer):
    fresh = trainer()
    next(fresh.epochs())
    assert [name for name, each in fresh.model.named_parameters() if each.grad is not None] == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_learns_the_checkerboard(trainer):
    fresh = trainer({"training": {"device": "cuda", "num_epochs": 6}})
    assert list(fresh.epochs())[-1].validation["hit_rate@5"] > 0.9
