"""Sweeps on the checkerboard, their workers run in this process unless a test says otherwise."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from experiments import sweep_finish, sweep_session, trial
from experiments.cli import main
from experiments.signals import Interrupted
from experiments.sweep_delivery import deliver_trials, send_sweep
from experiments.sweep_request import read_request
from experiments.sweep_stages import agreement, mend, progress_points, promote
from experiments.trial import (
    SealedData,
    judge_lists,
    keep_users,
    measure,
    nest,
    seal,
    train,
    validation_vectors,
)
from experiments.watch import Watch
from recsys.errors import BookendsError, ConfigError, TrackingError
from recsys.pipeline import build_trainer
from recsys.reporting.formatting import number
from sweeps.record import SweepRecord, TrialRecord
from sweeps.storage import open_storage


def outcome(session):
    """What must be the same when a sweep is the same."""
    return [
        (trial.number, trial.state, trial.params, trial.values, trial.intermediate)
        for trial in session.trials(session.main)
    ]


# A trial ----------------------------------------------------------------------------------------


def test_a_sealed_data_set_has_no_test_interaction_and_is_otherwise_the_same(board_prepared):
    sealed = seal(board_prepared)
    assert len(board_prepared.test) > 0 and len(sealed.test) == 0
    assert sealed.train is board_prepared.train
    assert sealed.validation is board_prepared.validation


def test_no_trial_is_ever_given_the_test_split(open_sweep, monkeypatch, work):
    seen = []

    def spy(config, prepared):
        seen.append(len(prepared.test))
        return build_trainer(config, prepared)

    monkeypatch.setattr(trial, "build_trainer", spy)
    session = open_sweep(n_trials=3)
    work(session)
    assert seen == [0, 0, 0]
    assert len(session.prepared.test) > 0
    assert session.record("running").test_looks == ()


def test_the_outcome_of_trials_does_not_depend_on_what_is_in_test(
    open_sweep, sweep_shop, monkeypatch, work
):
    """The test split replaced by other interactions, every trial comes out the same."""
    first = open_sweep(name="as-it-is", n_trials=4)
    work(first)
    whole = trial.prepare_cached

    def other_test(config, seed):
        prepared = whole(config, seed)
        shuffled = np.random.default_rng(1).permutation(prepared.test.items)
        test = dataclasses.replace(prepared.test, items=shuffled)
        return dataclasses.replace(prepared, test=test)

    monkeypatch.setattr(trial, "prepare_cached", other_test)
    second = open_sweep(name="otherwise", n_trials=4)
    work(second)
    assert outcome(first) == outcome(second)


def test_keeping_a_share_of_users_drops_all_of_the_others(board_prepared):
    half = keep_users(board_prepared, 0.5, seed=0)
    users = set(half.train.users.tolist())
    assert len(users) == len(board_prepared.users) // 2
    assert set(half.validation.users.tolist()) <= users
    kept = np.isin(board_prepared.train.users, list(users))
    assert np.array_equal(half.train.items, board_prepared.train.items[kept])
    assert set(keep_users(board_prepared, 0.5, seed=1).train.users.tolist()) != users


def test_metrics_are_those_of_the_best_epoch(board_prepared, board_config):
    config = board_config()
    trained = train(build_trainer(config, board_prepared), keep_going=lambda _: True)
    metrics = measure(trained, board_prepared, config, ["ndcg@10"])
    values = [result.validation["ndcg@10"] for result in trained.trainer.history]
    assert metrics["ndcg@10"] == max(values)
    assert metrics["epochs"] == len(values) == 3
    assert metrics["model_parameters"] > 0 and metrics["train_seconds"] > 0


def test_lists_are_judged_as_epochs_are_with_histories_of_train_items_alone(
    board_prepared, board_config
):
    config = board_config()
    trained = train(build_trainer(config, board_prepared), keep_going=lambda _: True)
    trained.trainer.restore_best()
    model, best = trained.trainer.model, trained.trainer.history[trained.trainer.best_epoch - 1]
    lists = judge_lists(validation_vectors(model, board_prepared), board_prepared, config)
    for name, value in best.validation.items():
        assert lists.model.means[name] == pytest.approx(value, rel=1e-12), name


def test_stopping_to_read_is_pruning_and_reading_the_last_epoch_is_not(
    board_prepared, board_config
):
    for enough, is_pruned in ((1, True), (3, False)):
        trainer = build_trainer(board_config(), board_prepared)
        trained = train(trainer, keep_going=lambda result, n=enough: result.number < n)
        assert (trained.epochs, trained.is_pruned) == (enough, is_pruned)


def test_segment_metrics_are_had_where_they_are_asked_for(board_prepared, board_config):
    config = board_config({"evaluation": {"segments": {"cold_max": 40}}})
    trained = train(build_trainer(config, board_prepared), keep_going=lambda _: True)
    asked = measure(trained, seal(board_prepared), config, ["cold_items_ndcg@10"])
    assert 0 <= asked["cold_items_ndcg@10"] <= 1
    assert asked["head_users_ndcg@10"] is None  # all readers are alike
    assert "cold_items_ndcg@10" not in measure(trained, board_prepared, config, ["ndcg@10"])


def test_dotted_settings_become_a_tree():
    assert nest({"a.b.c": 1, "a.d": 2, "e": 3}) == {"a": {"b": {"c": 1}, "d": 2}, "e": 3}


def test_data_sets_are_prepared_once_for_all_trials(board_config):
    data = SealedData(seed=0)
    assert data.of(board_config()) is data.of(board_config({"model": {"temperature": 0.2}}))
    titled = board_config({"data": {"feature_params": {"title": True}}})
    assert data.of(titled) is not data.of(board_config())


# A sweep ----------------------------------------------------------------------------------------


def test_one_worker_and_one_seed_make_the_same_sweep(open_sweep, work):
    options = {"n_trials": 20, "pruner_startup_trials": 2}
    first, second = (open_sweep(name=name, **options) for name in ("one", "two"))
    for session in (first, second):
        assert work(session) == 20
    assert outcome(first) == outcome(second)
    states = [state for _, state, *_ in outcome(first)]
    assert "pruned" in states and "complete" in states


def test_the_default_configuration_is_trial_0(open_sweep, work):
    session = open_sweep(n_trials=1)
    work(session)
    (default,) = session.trials(session.main)
    assert default.params == {
        "training.learning_rate": session.base.training.learning_rate,
        "training.warmup_steps": session.base.training.warmup_steps,
    }
    trained = train(build_trainer(session.base, seal(session.prepared)), keep_going=lambda _: True)
    assert default.values == (measure(trained, session.prepared, session.base, ())["ndcg@10"],)


def test_the_default_is_run_even_where_the_space_does_not_hold_it(open_sweep, sweep_shop, work):
    space = {"training.learning_rate": {"float": [0.1, 0.5]}}
    (sweep_shop / "space.yaml").write_text(yaml.safe_dump(space))
    session = open_sweep(n_trials=2)
    work(session)
    default, other = session.trials(session.main)
    assert default.params == {"training.learning_rate": 0.02}
    assert other.params["training.learning_rate"] >= 0.1


def test_the_same_command_goes_on_and_with_more_trials_adds_some(open_sweep, work):
    first = open_sweep(n_trials=3)
    work(first)
    again = open_sweep(n_trials=5)
    assert again.directory == first.directory
    assert work(again) == 2
    assert outcome(again)[:3] == outcome(first)[:3]
    assert again.record("running").sessions == 2


def test_other_settings_make_another_sweep_unless_it_was_named(open_sweep):
    assert open_sweep().directory != open_sweep(seed=1).directory
    open_sweep(name="mine")
    with pytest.raises(ConfigError, match="the sweep 'mine' must keep 'seed': it was 0, got 1"):
        open_sweep(name="mine", seed=1)
    with pytest.raises(ConfigError, match=r"'base.training.batch_size': it was 16, got '8'"):
        open_sweep("--training.batch_size", "8", name="mine")


def foreign(storage, direction, trials=1):
    """A study of another program; gives what it holds."""
    study = optuna.create_study(
        study_name="fusion", storage=open_storage(storage).backend, direction=direction
    )
    for _ in range(trials):
        study.add_trial(optuna.trial.create_trial(value=5.89))
    return study


@pytest.mark.parametrize(
    ("direction", "message"),
    [
        ("maximize", "must be a sweep's, but another program made its 1 trials"),
        ("minimize", "must maximize, but it was made by another program to minimize"),
    ],
)
def test_a_study_of_another_program_is_refused_and_left_alone(
    open_sweep, tmp_path, direction, message
):
    storage = f"sqlite:///{tmp_path}/team.db"
    study = foreign(storage, direction)
    with pytest.raises(ConfigError, match=message):
        open_sweep(name="fusion", storage=storage)
    assert study.user_attrs == {} and len(study.trials) == 1


def test_other_data_are_refused_for_a_sweep_that_was_named(open_sweep, sweep_shop, board_settings):
    own = sweep_shop / "users.csv"
    content = Path(board_settings["data"]["interactions_path"]).read_text()
    own.write_text(content)
    open_sweep("--data.interactions_path", str(own), name="mine")
    own.write_text(content.replace(",5,", ",4,", 1))
    with pytest.raises(
        ConfigError, match=r"but the content of users.csv has changed; give another"
    ):
        open_sweep("--data.interactions_path", str(own), name="mine")
    lines = content.splitlines(keepends=True)
    own.write_text("".join(lines[:-1]))
    with pytest.raises(ConfigError, match=r"users.csv has changed, .* were [\d,]+, now [\d,]+"):
        open_sweep("--data.interactions_path", str(own), name="mine")
    other = sweep_shop / "others.csv"
    other.write_text("".join(lines[:-1]))
    with pytest.raises(ConfigError, match=r"base.data.interactions_path"):
        open_sweep("--data.interactions_path", str(other), name="mine")


def test_a_grid_ends_when_every_cell_was_run_once(open_sweep, sweep_shop, work):
    space = {"training.warmup_steps": {"choice": [1, 2, 3]}}
    (sweep_shop / "space.yaml").write_text(yaml.safe_dump(space))
    session = open_sweep(sampler="grid", n_trials=50)
    assert work(session) == 3
    drawn = [t.params["training.warmup_steps"] for t in session.trials(session.main)]
    assert drawn[0] == 2 and sorted(drawn) == [1, 2, 3]


def test_a_cell_that_only_fills_in_a_default_is_not_run_beside_it(open_sweep, sweep_shop, work):
    space = {"training.embedding_learning_rate": {"choice": [None, 0.05]}}
    (sweep_shop / "space.yaml").write_text(yaml.safe_dump(space))
    session = open_sweep(sampler="grid", n_trials=9)
    work(session)
    rates = [params["training.embedding_learning_rate"] for _, _, params, *_ in outcome(session)]
    assert len(rates) == 2 and rates[1] == 0.05


def test_a_grid_that_is_cut_short_goes_on_where_it_was(open_sweep, sweep_shop, work):
    space = {"training.warmup_steps": {"choice": [1, 2, 3, 4, 5]}}
    (sweep_shop / "space.yaml").write_text(yaml.safe_dump(space))
    assert work(open_sweep(sampler="grid", n_trials=2)) == 2
    session = open_sweep(sampler="grid", n_trials=9)
    assert work(session) == 3
    drawn = [t.params["training.warmup_steps"] for t in session.trials(session.main)]
    assert sorted(drawn) == [1, 2, 3, 4, 5]


def test_a_trial_that_fails_is_kept_with_its_reason_and_the_others_go_on(
    open_sweep, sweep_shop, work
):
    space = {"training.learning_rate": {"choice": [0.02, 1e300]}}
    (sweep_shop / "space.yaml").write_text(yaml.safe_dump(space))
    session = open_sweep(sampler="grid", n_trials=9)
    work(session)
    default, diverged = session.trials(session.main)
    assert default.state == "complete"
    assert diverged.state == "failed" and diverged.error


def test_several_objectives_and_constraints_are_judged_together(open_sweep, work):
    session = open_sweep(
        objectives=["ndcg@10", "model_bytes"],
        constraints=["train_seconds<=1000", "coverage@10>=0"],
        n_trials=4,
    )
    work(session)
    for record in session.trials(session.main):
        assert record.values == (record.metrics["ndcg@10"], record.metrics["model_bytes"])
        assert record.constraints["coverage@10"] > 0
        assert session.record("running").is_feasible(record)


def test_a_constraint_that_nothing_keeps_leaves_nothing_to_win(open_sweep, work):
    session = open_sweep(constraints=["model_bytes<=1"], n_trials=2)
    work(session)
    with pytest.raises(BookendsError, match="no trial was completed that keeps to the constraints"):
        sweep_finish.finish(session)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objectives": ["ndgc@10"]}, "got 'ndgc@10'"),
        ({"objectives": ["cold_users_ndcg@10"]}, "must have a value on validation"),
        ({"constraints": ["speed<=1"]}, "got 'speed'"),
        ({"objectives": ["model_bytes"], "finalists": 1}, "must have a value for each reader"),
        ({"storage": "sqlite:///mlflow.db"}, "must be a database of its own"),
    ],
)
def test_what_cannot_be_judged_is_refused_before_any_trial(open_sweep, options, message):
    with pytest.raises(ConfigError, match=message):
        open_sweep(**options)


def test_a_space_that_contradicts_the_base_is_refused_before_any_trial(open_sweep, sweep_shop):
    (sweep_shop / "space.yaml").write_text("model.temperature: {float: [0.1, 1.0]}")
    with pytest.raises(ConfigError, match="'temperature' has a meaning only with"):
        open_sweep("--model.similarity", "dot")
    assert not (sweep_shop / "sweeps").exists()


def test_data_without_validation_are_refused(open_sweep, monkeypatch):
    whole = sweep_session.prepare_cached

    def without(config, seed):
        prepared = whole(config, seed)
        return dataclasses.replace(prepared, validation=seal(prepared).test)

    monkeypatch.setattr(sweep_session, "prepare_cached", without)
    with pytest.raises(ConfigError, match="a sweep judges by validation, but there is none"):
        open_sweep()


def test_a_worker_on_other_data_is_refused(open_sweep, sweep_shop, board_settings, work):
    session = open_sweep()
    own = sweep_shop / "users.csv"
    content = Path(board_settings["data"]["interactions_path"]).read_text()
    own.write_text(content.replace(",5,", ",4,", 1))
    with pytest.raises(ConfigError, match="was begun on the data set"):
        work(session, changes={"data": {"interactions_path": str(own)}})


def test_an_interrupted_trial_is_queued_again(open_sweep, monkeypatch, work):
    session = open_sweep(n_trials=3)
    calls = iter([False] * 4 + [True] + [False] * 10_000)

    def check(self, _step=None):
        if next(calls):
            raise Interrupted(15)

    with monkeypatch.context() as patch:
        patch.setattr(Watch, "check", check)
        with pytest.raises(Interrupted):
            work(session)
    assert [t.state for t in session.trials(session.main)][-1] == "failed"
    assert work(session) >= 1
    record = session.record("running")
    assert len(record.in_state("complete")) == 3
    lost = next(trial for trial in record.trials if trial.state == "failed")
    retry = next(trial for trial in record.trials if trial.retry_of == lost.number)
    assert retry.params == lost.params or not lost.params


def test_a_worker_ends_when_its_parent_is_gone():
    Watch(parent=os.getppid()).check()
    with pytest.raises(Interrupted):
        Watch(parent=1 if os.getppid() != 1 else 2).check()


def test_a_share_of_the_readers_first_and_the_best_on_all(open_sweep, work, monkeypatch):
    seen = []

    def spy(config, prepared):
        seen.append(len(prepared.train))
        return build_trainer(config, prepared)

    monkeypatch.setattr(trial, "build_trainer", spy)
    session = open_sweep(user_share=0.5, n_trials=6, promoted=2)
    share = session.stage("share")
    assert work(session, "share") == 6
    promote(session, share)
    assert work(session) == 3
    whole = len(session.prepared.train)  # all readers have read equally many
    assert seen == [whole // 2] * 6 + [whole] * 3
    low = session.trials(share, 0.5)
    high = session.trials(session.main)
    ranked = sorted(low[1:], key=lambda t: (-t.values[0] if t.values else 1.0, t.number))
    assert [t.params for t in high] == [low[0].params, ranked[0].params, ranked[1].params]
    found = agreement(session, share)
    assert found.n == 3 and found.low_fidelity == "50% of the readers"


def test_the_series_of_a_sweep_follow_the_order_in_which_trials_ended(open_sweep):
    settings = open_sweep().settings
    ended = [
        TrialRecord(1, "complete", values=(0.2,), ended="2026-01-01T00:00:01+00:00"),
        TrialRecord(0, "pruned", ended="2026-01-01T00:00:02+00:00"),
        TrialRecord(3, "complete", values=(0.1,), ended="2026-01-01T00:00:03+00:00"),
        TrialRecord(2, "complete", values=(0.5,), ended="2026-01-01T00:00:04+00:00"),
        TrialRecord(4, "running"),
    ]
    points = progress_points(settings, ended)
    assert [point["best_so_far"] for point in points] == [0.2, 0.2, 0.2, 0.5]
    assert [point["n_complete"] for point in points] == [1, 1, 2, 3]
    assert [point["n_pruned"] for point in points] == [0, 1, 1, 1]


# The end of it ----------------------------------------------------------------------------------


def finished(session, work):
    work(session)
    return session


def end(session, monkeypatch, work):
    """Finish with the workers of the last round in this process."""

    def run_here(session, stage, study, title):
        work(session, stage)

    monkeypatch.setattr(sweep_finish, "run_stage", run_here)
    sweep_finish.finish(session)
    return SweepRecord.read(session.directory.path)


def test_finalists_are_named_on_validation_and_test_is_opened_once(open_sweep, monkeypatch, work):
    session = finished(open_sweep(n_trials=6, finalists=2, finalist_seeds=2), work)
    record = end(session, monkeypatch, work)
    assert record.finalists is not None
    assert len(record.finalists.rows) in (2, 3)  # the default is one of them
    assert any(row.is_default for row in record.finalists.rows)
    assert record.finalists.seeds == (1, 2)
    assert [look.trial for look in record.test_looks] == [record.finalists.winner]
    (look,) = record.test_looks
    assert {"popularity", "item_knn", "ease"} < set(look.baselines) and 0 <= look.metrics[
        "ndcg@10"
    ] <= 1
    assert end(session, monkeypatch, work).test_looks == record.test_looks
    assert not list(session.directory.finalists_dir.glob("*.npz"))


def test_a_new_winner_opens_test_again_and_that_is_counted(open_sweep, monkeypatch, work):
    options = {"finalists": 1, "finalist_seeds": 1, "name": "mine"}
    first = end(finished(open_sweep(n_trials=1, **options), work), monkeypatch, work)
    assert len(first.test_looks) == 1
    second = end(finished(open_sweep(n_trials=10, **options), work), monkeypatch, work)
    chosen = [row.trial for row in second.finalists.rows]
    assert len(second.test_looks) == (1 if chosen == [0] else 2)


def test_the_best_configuration_is_one_that_a_run_takes(open_sweep, monkeypatch, sweep_shop, work):
    session = finished(open_sweep(n_trials=6, finalists=1, finalist_seeds=1), work)
    record = end(session, monkeypatch, work)
    done = read_request(
        sweep_shop / "space.yaml", session.directory.best_path, [], {"n_trials": 1}
    ).settings.base
    winner = record.trial(record.finalists.winner)
    assert done["training"]["learning_rate"] == winner.params["training.learning_rate"]


def test_finalists_are_judged_by_histories_of_train_items_alone(open_sweep, monkeypatch, work):
    """What the best epoch of a training said on validation is the mean of the values kept."""
    session = finished(open_sweep(n_trials=1, finalists=1, finalist_seeds=1), work)
    end(session, monkeypatch, work)
    (finalist,) = session.stage("finalists").trials()
    values = pd.read_parquet(next(session.directory.finalists_dir.glob("*.parquet")))
    assert values["ndcg@10"].mean() == pytest.approx(finalist.value, rel=1e-12)


def test_a_training_of_the_last_round_that_failed_leaves_the_others(open_sweep, monkeypatch, work):
    session = finished(open_sweep(n_trials=4, finalists=1, finalist_seeds=2), work)

    def run_here(session, stage, study, title):
        work(session, stage)
        next(session.directory.finalists_dir.glob("*seed-1.parquet")).unlink()

    monkeypatch.setattr(sweep_finish, "run_stage", run_here)
    sweep_finish.finish(session)
    record = SweepRecord.read(session.directory.path)
    assert any(None in row.values for row in record.finalists.rows)


# The whole, with its processes and its tracker --------------------------------------------------


@pytest.mark.slow
def test_a_sweep_leaves_a_parent_its_trials_and_the_winners_run(sweep_shop, bookends):
    done = bookends(
        "sweep", "--space", "space.yaml", "--config", "config.yaml", "--trials", "5",
        "--workers", "2", "--finalists", "1", "--finalist-seeds", "1", "--name", "first",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    directory = sweep_shop / "artifacts" / "sweeps" / "first"
    record = SweepRecord.read(directory)
    assert record.status == "finished" and len(record.trials) == 5
    assert {trial.worker for trial in record.trials} <= {"worker-0", "worker-1"}
    assert record.best_run_name == "first-best"
    assert [look.purpose for look in record.test_looks][-1] == "winner, re-run in full"
    assert (sweep_shop / "artifacts" / "runs" / "first-best" / "report.md").is_file()
    for line in ("best.yaml", "mlflow ui", "trial   0  complete"):
        assert line in done.stdout
    client = MlflowClient(f"sqlite:///{sweep_shop}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "bookends"]
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    parent = runs["first"]
    assert parent.info.status == "FINISHED"
    note = parent.data.tags["mlflow.note.content"]
    heads = "".join(note.splitlines()[2].split())
    assert heads == "|metric|winner|default|popularity|item_knn|ease|"
    best = record.test_looks[0].metrics["ndcg@10"]
    assert f"| ndcg@10 on test | {number(best)} |" in note
    history = client.get_metric_history(parent.info.run_id, "sweep/n_complete")
    assert [point.step for point in history] == [1, 2, 3, 4, 5]
    child = runs["trial 0 default"]
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert (child.info.status, child.data.tags["optuna.state"]) == ("FINISHED", "COMPLETE")
    assert len(client.get_metric_history(child.info.run_id, "val/ndcg_at_10")) == 3
    assert runs["first-best"].info.status == "FINISHED"


def test_the_sweeps_run_shows_its_origin_and_what_is_known_from_the_start(open_sweep, sweep_shop):
    session = open_sweep(tracking=True, name="told")
    client = MlflowClient(f"sqlite:///{sweep_shop}/mlflow.db")
    run = client.get_run(session.tracked.run_id)
    popular = session.baselines["popularity"]["ndcg@10"]
    assert run.data.tags["mlflow.source.name"] == "bookends sweep"
    assert [i.dataset.digest for i in run.inputs.dataset_inputs] == [session.prepared.fingerprint]
    note = run.data.tags["mlflow.note.content"]
    assert note.startswith("The sweep searched 2 settings (learning rate and warmup steps)")
    assert f"| ndcg@10 on validation |  |  | {number(popular)} |" in note
    assert {"popularity", "item_knn", "ease"} == set(session.baselines)


def test_a_sweep_goes_on_in_its_store_wherever_one_stands(
    open_sweep, sweep_shop, monkeypatch, tmp_path_factory
):
    settings = yaml.safe_load((sweep_shop / "config.yaml").read_text())
    settings["experiment"].pop("tracking_uri")
    (sweep_shop / "config.yaml").write_text(yaml.safe_dump(settings))
    first = open_sweep(tracking=True, name="mine")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    again = open_sweep(tracking=True, name="mine")
    assert again.tracked.uri == first.tracked.uri == f"sqlite:///{sweep_shop}/mlflow.db"
    assert again.tracked.run_id == first.tracked.run_id
    assert not (elsewhere / "mlflow.db").exists()


def test_data_that_are_looked_for_in_the_wrong_place_are_told(open_sweep, tmp_path):
    with pytest.raises(ConfigError, match=f"^data/b.csv: no such file in {tmp_path}; what was"):
        open_sweep("--data.books_path", "data/b.csv")


def test_baselines_are_tuned_once_a_study(open_sweep, monkeypatch):
    first = open_sweep(name="again").baselines
    monkeypatch.setattr("experiments.sweep_session.tuned_baselines", None)
    assert open_sweep(name="again").baselines == first


def test_popularity_on_validation_cannot_be_taken_for_that_on_test(open_sweep, sweep_shop):
    session = open_sweep(tracking=True, name="named")
    client = MlflowClient(f"sqlite:///{sweep_shop}/mlflow.db")
    metrics = client.get_run(session.tracked.run_id).data.metrics
    popular = session.baselines["popularity"]["ndcg@10"]
    assert metrics["popularity_val/ndcg_at_10"] == popular
    assert not [key for key in metrics if key.startswith("popularity/")]


def test_pruned_and_failed_trials_are_told_apart_in_the_tracker(
    open_sweep, sweep_shop, work, space
):
    space = space | {"training.learning_rate": {"choice": [0.02, 1e-5, 1e300]}}
    (sweep_shop / "space.yaml").write_text(yaml.safe_dump(space))
    session = open_sweep(
        tracking=True, sampler="grid", n_trials=30, pruner_startup_trials=1, name="states"
    )
    work(session)
    client = MlflowClient(f"sqlite:///{sweep_shop}/mlflow.db")
    by_trial = {
        int(run.data.tags["optuna.trial"]): run
        for run in client.search_runs([session.tracked.experiment_id])
        if "optuna.trial" in run.data.tags
    }
    wanted = {
        "complete": ("FINISHED", "COMPLETE", "finished"),
        "pruned": ("KILLED", "PRUNED", "pruned"),
        "failed": ("FAILED", "FAIL", "failed"),
    }
    records = session.trials(session.main)
    assert {record.state for record in records} == set(wanted)
    for record in records:
        run = by_trial[record.number]
        tags = run.data.tags
        assert (
            run.info.status,
            tags["optuna.state"],
            tags["bookends.status"],
        ) == wanted[record.state]
        epochs = client.get_metric_history(run.info.run_id, "train/loss")
        assert len(epochs) == record.epochs
        assert record.mlflow_run_id == run.info.run_id
        assert record.overhead_seconds > 0


def shown(client, session):
    """What MLflow shows of each trial: status, state, parameters and metrics."""
    found = {}
    for run in client.search_runs([session.tracked.experiment_id], max_results=100):
        if run.data.tags.get("mlflow.parentRunId") == session.tracked.run_id:
            tags = run.data.tags
            ends = (run.info.status, tags["optuna.state"], tags["bookends.status"])
            kept = {key: v for key, v in run.data.metrics.items() if key.startswith("trial/")}
            trial = (tags["optuna.study"], tags["optuna.trial"])
            assert trial not in found and "bookends.reason" not in tags
            found[trial] = (run.info.run_name, ends, run.data.params, kept)
    return found


def test_what_the_store_missed_of_trials_is_delivered_and_what_is_there_stays(
    open_sweep, sweep_shop, work, monkeypatch
):
    session = open_sweep(tracking=True, n_trials=4, finalists=1, finalist_seeds=1)
    work(session)
    monkeypatch.setattr(sweep_finish, "run_stage", lambda of, stage, *_: work(of, stage))
    sweep_finish.retrain(session, sweep_finish.choose(session))
    client = MlflowClient(f"sqlite:///{sweep_shop}/mlflow.db")
    before = shown(client, session)
    assert {study for study, _ in before} == {session.main.name, f"{session.main.name}.finalists"}
    missed, hanging, killed, *_ = [
        run.info.run_id
        for run in client.search_runs([session.tracked.experiment_id], max_results=100)
        if "optuna.trial" in run.data.tags and run.info.status == "FINISHED"
    ]
    client.delete_run(missed)
    client.update_run(hanging, "RUNNING")
    client.set_tag(hanging, "optuna.state", "RUNNING")
    client.set_tag(killed, "bookends.status", "killed")  # by 'bookends reconcile'
    client.set_tag(killed, "bookends.reason", "its process is gone")
    client.set_terminated(killed, "FAILED")
    for _ in range(2):
        deliver_trials(session)
        assert shown(client, session) == before


def test_a_sweep_that_no_store_saw_is_sent_whole_once(open_sweep, sweep_shop, work, monkeypatch):
    tracked = open_sweep(tracking=True, name="seen", n_trials=4)
    unseen = open_sweep(name="unseen", n_trials=4)
    for session in (tracked, unseen):
        work(session)
    with pytest.raises(ConfigError, match="must have ended, but is running or was killed"):
        send_sweep(unseen.directory.path)
    unseen.record("interrupted", "received SIGINT").write(unseen.directory.path)
    unseen.storage.close()
    uri = f"sqlite:///{sweep_shop}/mlflow.db"
    client = MlflowClient(uri)
    for _ in range(2):
        unseen.tracked = send_sweep(unseen.directory.path, tracking_uri=uri)
        assert not unseen.tracked.failures
        sent, live = (list(shown(client, each).values()) for each in (unseen, tracked))
        for *_, metrics in sent + live:
            metrics.pop("trial/train_seconds", None)
        assert sent == live
        parent = client.get_run(unseen.tracked.run_id)
        assert (parent.info.status, parent.data.tags["bookends.status"]) == (
            "KILLED",
            "interrupted",
        )
        assert len(client.get_metric_history(parent.info.run_id, "sweep/n_ended")) == 4

    def refuse(*_):
        raise MlflowException("no more room")

    monkeypatch.setattr("tracking.sweep.deliver", refuse)
    with pytest.raises(TrackingError, match="could not take the trials it lacks; the same command"):
        send_sweep(unseen.directory.path, tracking_uri=uri)
    monkeypatch.setattr("tracking.remote_run.RemoteRun.send_settings", refuse)
    result = CliRunner().invoke(main, ["track", str(unseen.directory.path), "--tracking-uri", uri])
    assert result.exit_code == 2 and "could not be sent (no more room)" in result.output


def test_a_sweep_is_the_same_with_and_without_a_tracker(open_sweep, work):
    with_tracker = open_sweep(tracking=True, name="with", n_trials=4)
    without = open_sweep(name="without", n_trials=4)
    for session in (with_tracker, without):
        work(session)
    assert outcome(with_tracker) == outcome(without)


def test_a_trial_whose_process_died_is_marked_in_the_study_and_in_the_tracker(
    open_sweep, sweep_shop, work, environment
):
    session = open_sweep(tracking=True, n_trials=2)
    name, url = session.directory.name, session.storage.url
    script = (
        "import os, signal\n"
        "from experiments import sweep_worker as w\n"
        "w.train = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"w.join(w.Assignment({name!r}, {url!r}, 'search'), {{}})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=sweep_shop, check=False
    )
    assert done.returncode == -9
    assert [t.state for t in session.trials(session.main)] == ["running"]
    mend(session, session.main)
    (lost,) = session.trials(session.main)
    assert (lost.state, lost.error) == ("failed", "its process was lost")
    run = MlflowClient(f"sqlite:///{sweep_shop}/mlflow.db").get_run(lost.mlflow_run_id)
    assert run.info.status == "FAILED"
    assert run.data.tags["optuna.state"] == "FAIL"
    assert run.data.tags["bookends.status"] == "killed"
    assert work(session) == 2
    retry = session.trials(session.main)[1]
    assert retry.retry_of == 0 and retry.params == lost.params


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sampler", "tpee"), "'sampler': input should be 'tpe'"),
        (("--objective", "ndcg@7"), "got 'ndcg@7'"),
        (("--trainig.num_epochs", "3"), "did you mean 'training.num_epochs'?"),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_exit_code_2(sweep_shop, arguments, message):
    command = ["sweep", "--space", "space.yaml", "--config", "config.yaml", *arguments]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 2
    lines = [line for line in done.stderr.splitlines() if not line.startswith(("INFO", "WARN"))]
    assert len(lines) == 1 and lines[0].startswith("bookends: ") and message in lines[0]


def test_a_worker_of_no_study_is_told_so(sweep_shop):
    command = ["sweep", "worker", "--study", "none", "--storage", "journal.log"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 2 and "has no study 'none'" in done.stderr
