"""Sweeps on the checkerboard, up to their last trial; workers run in this process."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optuna
import pytest

from experiments.signals import Interrupted
from experiments.sweep import opening, trial, worker
from experiments.sweep.delivery import send_sweep
from experiments.sweep.parent import agreement, promote
from experiments.sweep.session import progress_points
from experiments.sweep.state import load_state
from experiments.sweep.trial import measure, seal, train
from experiments.sweep.worker import StopCheck
from recsys.errors import ConfigError
from recsys.pipeline import build_trainer
from sweeps.record import TrialRecord
from sweeps.storage import open_storage

COUNT = r"interactions were [\d,]+, now [\d,]+"


def test_no_trial_is_ever_given_the_test_split(open_sweep, monkeypatch, work):
    seen = []

    def spy(config, prepared):
        seen.append(len(prepared.test))
        return build_trainer(config, prepared)

    monkeypatch.setattr(worker, "build_trainer", spy)
    session = open_sweep(n_trials=3)
    work(session)
    assert seen == [0, 0, 0]
    assert len(session.prepared.test) > 0
    assert session.record("running").test_looks == ()


def test_the_outcome_of_trials_does_not_depend_on_what_is_in_test(
    open_sweep, monkeypatch, work, outcome
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


def test_one_worker_and_one_seed_make_the_same_sweep_with_and_without_a_tracker(
    open_sweep, work, outcome
):
    options = {"n_trials": 20, "pruner_startup_trials": 2}
    first, second = (open_sweep(name=str(each), tracking=each, **options) for each in (True, False))
    for session in (first, second):
        assert work(session) == 20
    assert outcome(first) == outcome(second)
    states = [state for _, state, *_ in outcome(first)]
    assert "pruned" in states and "complete" in states


def test_the_default_configuration_is_trial_0(open_sweep, work):
    session = open_sweep(n_trials=1)
    work(session)
    (default,) = session.main.records()
    assert default.params == {
        "training.learning_rate": session.base.training.learning_rate,
        "training.warmup_steps": session.base.training.warmup_steps,
    }
    trainer = build_trainer(session.base, seal(session.prepared))
    train(trainer, keep_going=lambda _: True)
    assert default.values == (measure(trainer, session.prepared, session.base, ())["ndcg@10"],)


def test_the_default_is_run_even_where_the_space_does_not_hold_it(open_sweep, work):
    space = {"training.learning_rate": {"float": [0.1, 0.5]}}
    session = open_sweep(space=space, n_trials=2)
    work(session)
    default, other = session.main.records()
    assert default.params == {"training.learning_rate": 0.02}
    assert other.params["training.learning_rate"] >= 0.1


def test_the_same_command_goes_on_and_with_more_trials_adds_some(open_sweep, work, outcome):
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
    with pytest.raises(ConfigError, match=r"'base.training.batch_size': it was 16, got 8;"):
        open_sweep("--training.batch_size", "8", name="mine")
    with pytest.raises(ConfigError, match=r"'base.training.weight_decay': it was 0.0, got 0.5;"):
        open_sweep("--training.weight_decay", "0.5", name="mine")


def test_a_setting_counts_by_its_value_however_it_is_given(open_sweep):
    begun = open_sweep(name="mine")
    again = open_sweep("--training.batch_size", "16", "--training.weight_decay", "0", name="mine")
    assert again.directory == begun.directory and again.state.sessions == 2


def test_long_values_are_shown_where_they_differ(open_sweep):
    rates = [step / 1024 for step in range(1, 101)]
    open_sweep(name="mine", space={"training.learning_rate": {"choice": rates}})
    rates[90] = 0.5
    with pytest.raises(ConfigError, match=r"it was \.{3}.{20}088867[\d., ]*\], got \.{3}.{20}5, "):
        open_sweep(name="mine", space={"training.learning_rate": {"choice": rates}})


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
    backend = open_storage(storage).backend
    study = optuna.create_study(study_name="fusion", storage=backend, direction=direction)
    study.add_trial(optuna.trial.create_trial(value=5.89))
    with pytest.raises(ConfigError, match=message):
        open_sweep(name="fusion", storage=storage)
    assert study.user_attrs == {} and len(study.trials) == 1


@pytest.mark.parametrize("stage", ["share", "finalists"])
def test_a_stage_of_a_new_sweep_takes_no_trials_of_another_program(open_sweep, tmp_path, stage):
    storage = f"sqlite:///{tmp_path}/team.db"
    backend = open_storage(storage).backend
    study = optuna.create_study(study_name=f"own.{stage}", storage=backend, direction="maximize")
    study.add_trial(optuna.trial.create_trial(value=5.89))
    with pytest.raises(
        ConfigError, match=f"must be new, but there is one of the name 'own.{stage}"
    ):
        open_sweep(name="own", storage=storage)
    assert len(study.trials) == 1


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_a_study_with_settings_of_another_program_is_refused_in_one_line(
    open_sweep, tmp_path, direction
):
    storage = f"sqlite:///{tmp_path}/team.db"
    backend = open_storage(storage).backend
    study = optuna.create_study(study_name="own", storage=backend, direction=direction)
    study.set_user_attr("settings", {"lr": 1})
    said = r"^the study 'own' must be a sweep's of this version, but .* give another --name$"
    with pytest.raises(ConfigError, match=said):
        open_sweep(name="own", storage=storage)
    with pytest.raises(ConfigError, match=said):
        load_state(open_storage(storage), "own")


def test_other_data_are_refused_for_a_sweep_that_was_named(open_sweep, sweep_shop, board_settings):
    own = sweep_shop / "users.csv"
    content = Path(board_settings["data"]["interactions_path"]).read_text()
    own.write_text(content)
    begun = open_sweep("--data.interactions_path", str(own), name="mine")
    begun.record("interrupted", "received SIGINT").write(begun.directory.path)
    own.write_text(content.replace(",5,", ",4,", 1))
    changed = rf"but the content of '{own}' has changed; a new sweep needs"
    with pytest.raises(ConfigError, match=changed):
        send_sweep(begun.directory.path)
    with pytest.raises(ConfigError, match=changed):
        open_sweep("--data.interactions_path", str(own), name="mine")
    lines = content.splitlines(keepends=True)
    own.write_text("".join(lines[:-1]))
    with pytest.raises(ConfigError, match=f"users.csv' has changed, .*{COUNT}"):
        open_sweep("--data.interactions_path", str(own), name="mine")
    other = sweep_shop / "others.csv"
    other.write_text("".join(lines[:-1]))
    said = rf"interactions_path': it was '{own}', got '{other}' \('{other}' is new to it, .*{COUNT}"
    with pytest.raises(ConfigError, match=said):
        open_sweep("--data.interactions_path", str(other), name="mine")
    setting = ("--data.interactions_path", str(own), "--data.min_user_interactions", "6")
    with pytest.raises(ConfigError, match=r"min_user_interactions': it was \d, got 6;"):
        open_sweep(*setting, name="mine")


@pytest.mark.parametrize("first", [50, 2])
def test_a_grid_ends_when_every_cell_was_run_once_and_goes_on_where_it_was(open_sweep, work, first):
    space = {"training.warmup_steps": {"choice": [1, 2, 3, 4, 5]}}
    assert work(open_sweep(space=space, sampler="grid", n_trials=first)) == min(first, 5)
    session = open_sweep(sampler="grid", n_trials=50)
    assert work(session) == 5 - min(first, 5)
    drawn = [t.params["training.warmup_steps"] for t in session.main.records()]
    assert drawn[0] == 2 and sorted(drawn) == [1, 2, 3, 4, 5]


def test_a_cell_that_only_fills_in_a_default_is_not_run_beside_it(open_sweep, work):
    space = {"training.embedding_learning_rate": {"choice": [None, 0.05]}}
    session = open_sweep(space=space, sampler="grid", n_trials=9)
    work(session)
    rates = [t.params["training.embedding_learning_rate"] for t in session.main.records()]
    assert len(rates) == 2 and rates[1] == 0.05


def test_several_objectives_and_constraints_are_judged_together(open_sweep, work):
    session = open_sweep(
        objectives=["ndcg@10", "model_bytes"],
        constraints=["train_seconds<=1000", "coverage@10>=0"],
        n_trials=4,
    )
    work(session)
    for record in session.main.records():
        assert record.values == (record.metrics["ndcg@10"], record.metrics["model_bytes"])
        assert record.constraints["coverage@10"] > 0
        assert session.record("running").is_feasible(record)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objectives": ["ndgc@10"]}, "got 'ndgc@10'"),
        ({"objectives": ["cold_users_ndcg@10"]}, "must have a value on validation"),
        ({"constraints": ["speed<=1"]}, "got 'speed'"),
        ({"objectives": ["model_bytes"], "finalists": 1}, "must have a value for each user"),
        ({"storage": "sqlite:///mlflow.db"}, "must be a database of its own"),
    ],
)
def test_what_cannot_be_judged_is_refused_before_any_trial(open_sweep, options, message):
    with pytest.raises(ConfigError, match=message):
        open_sweep(**options)


def test_a_space_that_contradicts_the_base_is_refused_before_any_trial(open_sweep, sweep_shop):
    with pytest.raises(ConfigError, match="'temperature' has a meaning only with"):
        open_sweep("--model.similarity", "dot", space={"model.temperature": {"float": [0.1, 1.0]}})
    assert not (sweep_shop / "sweeps").exists()


def test_data_without_validation_are_refused(open_sweep, monkeypatch):
    whole = opening.prepare_cached

    def without(config, seed):
        prepared = whole(config, seed)
        return dataclasses.replace(prepared, validation=seal(prepared).test)

    monkeypatch.setattr(opening, "prepare_cached", without)
    with pytest.raises(ConfigError, match="compares trials on validation, but there is none"):
        open_sweep()


def test_data_that_are_looked_for_in_the_wrong_place_are_told(open_sweep, tmp_path):
    with pytest.raises(ConfigError, match=f"^data/b.csv: no such file in {tmp_path}; what was"):
        open_sweep("--data.books_path", "data/b.csv")


def test_a_worker_on_other_data_is_refused(open_sweep, sweep_shop, board_settings, work):
    session = open_sweep()
    own = sweep_shop / "users.csv"
    content = Path(board_settings["data"]["interactions_path"]).read_text()
    own.write_text("".join(content.splitlines(keepends=True)[:-1]))
    place = session.base.data.interactions_path
    said = (
        f"must have the data .*, but '{own}' is new to it, '{place}' is no longer read, .*{COUNT}"
    )
    with pytest.raises(ConfigError, match=said) as refused:
        work(session, changes={"data": {"interactions_path": str(own)}})
    assert "test interactions" not in str(refused.value)  # a worker has none


def test_an_interrupted_trial_is_queued_again(open_sweep, monkeypatch, work):
    session = open_sweep(n_trials=3)
    calls = iter([False] * 4 + [True] + [False] * 10_000)

    def check(self, _step=None):
        if next(calls):
            raise Interrupted(15)

    with monkeypatch.context() as patch:
        patch.setattr(StopCheck, "check", check)
        with pytest.raises(Interrupted):
            work(session)
    assert [t.state for t in session.main.records()][-1] == "failed"
    assert work(session) >= 1
    record = session.record("running")
    assert len(record.in_state("complete")) == 3
    lost = next(trial for trial in record.trials if trial.state == "failed")
    retry = next(trial for trial in record.trials if trial.retry_of == lost.number)
    assert retry.params == lost.params or not lost.params


def test_a_worker_ends_when_its_parent_is_gone(monkeypatch):
    parent = SimpleNamespace(is_alive=lambda: True)
    monkeypatch.setattr("multiprocessing.parent_process", lambda: parent)
    StopCheck(has_parent=True).check()
    parent.is_alive = lambda: False
    StopCheck().check()
    with pytest.raises(Interrupted):
        StopCheck(has_parent=True).check()


def test_a_share_of_the_users_first_and_the_best_on_all(open_sweep, work, monkeypatch):
    seen = []

    def spy(config, prepared):
        seen.append(len(prepared.train))
        return build_trainer(config, prepared)

    monkeypatch.setattr(worker, "build_trainer", spy)
    session = open_sweep(user_share=0.5, n_trials=6, promoted=2)
    share = session.stage("share")
    assert work(session, "share") == session.n_ended == 6
    promote(session, share)
    assert work(session) == 3
    assert session.n_ended == 9
    whole = len(session.prepared.train)  # all users have equally many interactions
    assert seen == [whole // 2] * 6 + [whole] * 3
    low = share.records()
    high = session.main.records()
    ranked = sorted(low[1:], key=lambda t: (-t.values[0] if t.values else 1.0, t.number))
    assert [t.params for t in high] == [low[0].params, ranked[0].params, ranked[1].params]
    found = agreement(session, share)
    assert found.n == 3 and found.low_fidelity == "50% of the users"


def test_a_grid_on_a_share_of_the_users_promotes_the_best_alone(open_sweep, work):
    """Three cells and the default on half of the users; what is promoted is the best of them."""
    space = {"training.warmup_steps": {"choice": [1, 2, 3, 4]}}
    options = {"sampler": "grid", "user_share": 0.5, "n_trials": 9, "promoted": 2}
    session = open_sweep(space=space, name="grid", **options)
    share = session.stage("share")
    assert work(session, "share") == 4
    for again in (session, open_sweep(name="grid", **options)):
        promote(again, share)
        assert again.main.limit == again.state.limits["search"] == 3
    assert work(session) == 3
    low, high = share.records(), session.main.records()
    ranked = sorted(low[1:], key=lambda trial: (-trial.values[0], trial.number))
    assert [trial.params for trial in high[1:]] == [trial.params for trial in ranked[:2]]


def test_a_default_that_was_lost_on_the_share_is_compared_all_the_same(open_sweep, work):
    session = open_sweep(user_share=0.5, n_trials=3, promoted=1)
    share = session.stage("share")
    share.lose(share.next_trial().number)
    work(session, "share")
    promote(session, share)
    work(session)
    assert agreement(session, share).n == 2


def test_the_series_of_a_sweep_follow_the_order_in_which_trials_ended(open_sweep):
    record = open_sweep().record("running")
    trials = (
        TrialRecord(1, "complete", values=(0.2,), ended="2026-01-01T00:00:01+00:00"),
        TrialRecord(0, "pruned", ended="2026-01-01T00:00:02+00:00"),
        TrialRecord(3, "complete", values=(0.1,), ended="2026-01-01T00:00:03+00:00"),
        TrialRecord(2, "complete", values=(0.5,), ended="2026-01-01T00:00:04+00:00"),
        TrialRecord(4, "running"),
    )
    points = progress_points(dataclasses.replace(record, trials=trials))
    assert [point["best_so_far"] for point in points] == [0.2, 0.2, 0.2, 0.5]
    assert [point["n_complete"] for point in points] == [1, 1, 2, 3]
    assert [point["n_pruned"] for point in points] == [0, 1, 1, 1]
