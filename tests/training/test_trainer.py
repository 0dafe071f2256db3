from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.settings import merge
from recsys import pipeline
from recsys.config import TIMED_SPLITS
from recsys.data.dataset import prepare
from recsys.data.histories import Histories
from recsys.errors import BookendsError
from recsys.pipeline import build_refit_trainer, build_trainer
from recsys.training.checkpoint import load_checkpoint, save_checkpoint
from recsys.training.trainer import Plan


def weights(trainer):
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def assert_same_weights(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def trainer(board_config, board_prepared):
    """Gives a fresh trainer on the checkerboard, with changes."""
    return lambda changes=None: build_trainer(board_config(changes), board_prepared)


def test_the_same_seed_gives_the_same_history_and_weights_bit_for_bit(trainer, model_form):
    first, second = trainer(model_form), trainer(model_form)
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


def test_who_reads_the_stream_does_not_change_it(trainer, board_prepared, classic):
    """Neither between epochs nor within, where dropout draws from torch's random state."""
    fresh = trainer(classic)
    history = []
    for result in fresh.epochs(on_step=lambda step: torch.rand(3)):
        torch.rand(7)
        fresh.model.user_vectors(Histories.of(board_prepared.train))
        history.append(result)
    assert history == list(trainer(classic).epochs())


def test_one_result_an_epoch_after_its_validation(trainer):
    results = list(trainer().epochs())
    assert [result.number for result in results] == [1, 2, 3]
    assert all("ndcg@10" in result.validation for result in results)


def test_the_loss_is_the_sum_of_its_parts(trainer, classic):
    for result in trainer(merge(classic, {"training": {"mimic_weight": 0.5}})).epochs():
        assert set(result.parts) == {"bce_positive", "bce_negative", "mimic"}
        assert result.train_loss == sum(result.parts.values())


@pytest.mark.parametrize("rate", [1e6, 1e30])
def test_training_that_diverges_is_told(trainer, rate):
    dot = {"model": {"similarity": "dot"}, "training": {"learning_rate": rate}}
    with pytest.raises(BookendsError, match=r"must not diverge|must be finite"):
        list(trainer(dot).epochs())


def test_a_resumed_training_knows_how_its_loss_began(trainer):
    fresh = trainer()
    next(fresh.epochs())
    fresh._check_convergence(99 * max(fresh.history[0].train_loss, 1.0), first=1e9)
    with pytest.raises(BookendsError, match="the loss of epoch 2 is"):
        fresh._check_convergence(101 * max(fresh.history[0].train_loss, 1.0), first=1e9)


def test_steps_tell_of_every_positive_and_of_the_mean_loss(trainer, model_form):
    steps = []
    fresh = trainer(model_form)
    next(fresh.epochs(on_step=steps.append))
    done = [step.positives for step in steps]
    assert done == sorted(set(done)) and {step.epoch for step in steps} == {1}
    assert steps[-1].loss.item() == pytest.approx(fresh.history[0].train_loss, rel=1e-5)
    # With pairs the number is exact; a random share of each history is so on average.
    assert done[-1] == pytest.approx(fresh.n_positives, rel=0.1)


def test_the_model_is_usable_at_every_yield(trainer):
    fresh = trainer()
    for _ in fresh.epochs():
        assert not fresh.model.training
        assert np.isfinite(fresh.model.item_vectors(60)).all()


def assert_resumes(trainer, changes, path, stop_at):
    whole = trainer(changes)
    history = list(whole.epochs())

    stopped = trainer(changes)
    assert list(islice(stopped.epochs(), stop_at)) == history[:stop_at]
    save_checkpoint(path, stopped.state_dict())
    resumed = trainer(changes)
    resumed.load_state_dict(load_checkpoint(path))

    assert resumed.history == history[:stop_at]
    assert list(resumed.epochs()) == history[stop_at:]
    assert_same_weights(weights(resumed), weights(whole))
    assert resumed.stop_reason == whole.stop_reason
    resumed.restore_best()
    whole.restore_best()
    assert_same_weights(weights(resumed), weights(whole))


def test_a_run_resumed_from_a_checkpoint_goes_on_bit_for_bit(trainer, model_form, tmp_path):
    assert_resumes(trainer, model_form, tmp_path / "checkpoint.pt", 1)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_any_optimizer_resumes_from_any_epoch(trainer, tmp_path, optimizer):
    changes = {"training": {"optimizer": optimizer}}
    for stop_at in (1, 2):
        assert_resumes(trainer, changes, tmp_path / f"{stop_at}.pt", stop_at)


def test_a_refit_trains_on_train_and_validation_for_the_best_number_of_epochs(
    board_config, board_prepared, model_form, monkeypatch
):
    seen, build = [], pipeline.build_examples

    def listen(config, histories, n_items):
        seen.append(histories)
        return build(config, histories, n_items)

    monkeypatch.setattr(pipeline, "build_examples", listen)
    trainer = build_refit_trainer(board_config(model_form), board_prepared, 2)
    results = list(trainer.epochs())
    assert [(result.number, result.validation) for result in results] == [(1, {}), (2, {})]
    assert trainer.best_epoch == 2 and trainer.stop_reason == "all 2 epochs done"
    last = weights(trainer)
    trainer.restore_best()
    assert_same_weights(last, weights(trainer))
    parts = (board_prepared.train, board_prepared.validation)
    wanted = [(u, i) for part in parts for u, i in zip(part.users, part.items, strict=True)]
    (histories,) = seen
    users = np.repeat(np.arange(len(histories)), histories.lengths)
    assert sorted(zip(users, histories.items, strict=True)) == sorted(wanted)


def without_two_items(board_prepared):
    """Train without the last two items, the first of which validation has five times."""
    train, validation = board_prepared.train, board_prepared.validation
    lacking = train.n_items - 2
    held_out = validation.select(validation.items < lacking)
    held_out.items[:5] = lacking
    return replace(
        board_prepared,
        train=train.select(train.items < lacking),
        validation=held_out,
        n_warm_items=lacking,
    )


def test_a_refit_learns_items_that_validation_alone_has(board_config, board_prepared):
    """An item that train lacks has an id embedding, and is as popular as it is in validation."""
    prepared = without_two_items(board_prepared)
    n_items = prepared.train.n_items
    lacking, unknown = n_items - 2, n_items - 1
    config = board_config(
        {"data": {"split": {"strategy": "random"}}, "model": {"popularity": True}}
    )
    first, refit = build_trainer(config, prepared), build_refit_trainer(config, prepared, 1)
    assert first.model.item_tower.id_embedding.n_warm == lacking
    table = refit.model.item_tower.id_embedding
    assert table.n_warm == unknown
    before = table(table.rows(torch.tensor([lacking]))).clone()
    list(refit.epochs())
    assert (table(table.rows(torch.tensor([lacking]))) != before).all()
    assert not table(table.rows(torch.tensor([unknown]))).any()
    logs = np.log1p([*prepared.train.item_counts[:lacking], 5])
    popularity = refit.model.popularity.of_items(n_items)[:, 0]
    assert popularity.tolist() == pytest.approx([*(logs - logs.mean()), 0], abs=1e-6)


@pytest.mark.parametrize("strategy", TIMED_SPLITS)
def test_a_refit_leaves_items_that_came_after_train_to_metadata(
    board_config, board_prepared, strategy, monkeypatch
):
    seen, build = [], pipeline.build_examples
    monkeypatch.setattr(
        pipeline, "build_examples", lambda *args: seen.append(args[1:]) or build(*args)
    )
    prepared = without_two_items(board_prepared)
    config = board_config({"data": {"split": {"strategy": strategy}}})
    refit = build_refit_trainer(config, prepared, 1)
    ((histories, n_items),) = seen
    assert n_items == refit.model.item_tower.id_embedding.n_warm == prepared.n_warm_items
    assert len(histories.items) == len(prepared.train) + len(prepared.validation) - 5
    assert histories.items.max() < n_items


def test_a_refit_steps_as_the_first_epochs_of_a_whole_training_would(board_config, board_prepared):
    """The schedule is not squeezed into fewer epochs."""
    prepared = replace(
        board_prepared, validation=board_prepared.validation.select(np.zeros(0, dtype=np.int64))
    )
    config = board_config({"training": {"num_epochs": 4, "warmup_steps": 2}})
    whole, refit = build_trainer(config, prepared), build_refit_trainer(config, prepared, 2)
    first = [result.train_loss for result in islice(whole.epochs(), 2)]
    assert [result.train_loss for result in refit.epochs()] == first
    assert_same_weights(weights(whole), weights(refit))


def test_the_step_size_rises_over_the_warm_up_and_falls_to_nothing():
    plan = Plan(num_epochs=1, monitor="", schedule="linear", warmup_steps=4)
    rates = [plan.rate(step, 10) for step in range(11)]
    rise, fall = [0.25, 0.5, 0.75, 1.0], [6 / 6, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0]
    assert rates == pytest.approx(rise + fall)
    assert [Plan(num_epochs=1, monitor="").rate(step, 10) for step in range(3)] == [1, 1, 1]


@pytest.mark.parametrize(("warmup_steps", "n_steps"), [(0, 3), (5, 3), (3, 3)])
def test_a_step_size_is_never_negative_nor_above_its_own(warmup_steps, n_steps):
    plan = Plan(num_epochs=1, monitor="", schedule="linear", warmup_steps=warmup_steps)
    rates = [plan.rate(step, n_steps) for step in range(n_steps)]
    assert all(0 < rate <= 1 for rate in rates)


def test_the_best_weights_are_those_of_the_best_epoch(trainer):
    fresh = trainer({"training": {"num_epochs": 6, "learning_rate": 0.5}})
    seen = {}
    for result in fresh.epochs():
        seen[result.number] = (result.validation["ndcg@10"], weights(fresh))
    best = max(seen, key=lambda number: (seen[number][0], -number))
    fresh.restore_best()
    assert fresh.best_epoch == best
    assert_same_weights(weights(fresh), seen[best][1])


def test_training_stops_when_patience_runs_out_also_where_it_is_resumed(trainer, tmp_path):
    stopping = {"monitor": "recall@20", "patience": 2, "min_delta": 10.0}
    changes = {"training": {"num_epochs": 9, "early_stopping": stopping}}
    fresh = trainer(changes)
    assert len(list(fresh.epochs())) == 3  # the first is the best; two more without a gain
    assert fresh.stop_reason == "recall@20 did not improve for 2 epochs"
    assert list(fresh.epochs()) == []
    assert_resumes(trainer, changes, tmp_path / "checkpoint.pt", 2)


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
    fresh = trainer({"model": {"device": "cuda"}, "training": {"num_epochs": 6}})
    assert list(fresh.epochs())[-1].validation["hit_rate@5"] > 0.9
