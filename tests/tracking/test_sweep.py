import dataclasses
import json
import logging
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from recsys.evaluation.tables import Table
from recsys.reporting.record import write_tables
from tracking import sweep as sweep_module
from tracking.processes import Owner
from tracking.sweep import TrialTracker, open_sweep

SHOWN = ["ndcg@10", "recall@20"]
CREATED = "2026-01-02T03:04:05+00:00"


@pytest.fixture
def open_run(store):
    """Opens the parent run of one and the same sweep."""

    def build(run_id=None, **changes):
        given = {
            "experiment": "bookends",
            "name": "fusion-1",
            "created": CREATED,
            "params": {
                "cfg": {"model": {"item_encoder": {"id_embedding": {"params": {"sparse": True}}}}},
                "sweep": {"n_trials": 3},
            },
            "tags": {"bookends.kind": "sweep"},
            "run_id": run_id,
        } | changes
        return open_sweep(store, **given)

    return build


@pytest.fixture
def trials(store, open_run):
    """Tells the store of the trials of a sweep."""
    parent = open_run()
    return TrialTracker(store, parent.experiment_id, parent.run_id)


def test_the_parent_holds_the_settings_and_says_who_runs_it(open_run, client):
    run = client.get_run(open_run().run_id)
    assert run.data.params == {
        "cfg.model.item_encoder.id_embedding.params.sparse": "true",
        "sweep.n_trials": "3",
    }
    assert run.info.run_name == "fusion-1" and run.info.status == "RUNNING"
    assert Owner.from_tags(run.data.tags) == Owner.current()


def test_what_ended_an_earlier_session_is_forgotten_when_the_sweep_goes_on(open_run, client):
    first = open_run()
    first.finish("failed", "the disk is full")
    assert client.get_run(first.run_id).data.tags["bookends.error"] == "the disk is full"
    assert "bookends.error" not in client.get_run(open_run(first.run_id).run_id).data.tags


def test_a_run_whose_id_was_never_kept_is_found_by_its_key(open_run):
    assert open_run().run_id == open_run(None).run_id
    assert open_run().run_id != open_run(name="another").run_id


def test_a_run_that_mlflow_opened_is_used_and_used_up(open_run, store, client, monkeypatch):
    experiment_id = client.create_experiment("projects")
    opened = client.create_run(experiment_id).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", opened)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    parent = open_run()
    assert (parent.run_id, parent.experiment_id) == (opened, experiment_id)
    assert "MLFLOW_RUN_ID" not in sweep_module.os.environ


def test_a_resumed_sweep_keeps_its_run_where_mlflow_opened_another(
    open_run, store, client, monkeypatch
):
    first = open_run()
    opened = client.create_run(client.create_experiment("projects")).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", opened)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    assert open_run(first.run_id).run_id == first.run_id
    assert client.get_run(opened).data.tags["bookends.sweep_run"] == first.run_id


def test_points_of_a_series_are_sent_once(open_run, client):
    parent = open_run()
    points = [{"best_so_far": 0.1}, {"best_so_far": 0.2}]
    parent.send_progress(points)
    open_run(parent.run_id).send_progress([*points, {"best_so_far": 0.2}])
    history = client.get_metric_history(parent.run_id, "sweep/best_so_far")
    assert [(point.step, point.value) for point in history] == [(1, 0.1), (2, 0.2), (3, 0.2)]


def test_a_trial_is_one_run_under_the_parent_with_its_epochs(trials, client, epochs, open_run):
    trials.begin(7, "trial 7", {"bookends.stage": "search"})
    trials.params(
        {"model.user_encoder.feature_encoder.hidden_dims": [64], "training.learning_rate": 0.1}
    )
    for epoch in epochs:
        trials.log_epoch(epoch, SHOWN)
    assert not client.get_run(trials.run_id).data.metrics  # a call an epoch would cost too much
    trials.end("complete", summary={"ndcg@10": 0.3, "coverage@10": None}, tags={})
    run = client.get_run(trials.run_id)
    assert run.data.tags["mlflow.parentRunId"] == open_run().run_id
    assert run.data.params == {
        "cfg.model.user_encoder.feature_encoder.hidden_dims": "[64]",
        "cfg.training.learning_rate": "0.1",
    }
    losses = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in losses] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert run.data.metrics["trial/ndcg_at_10"] == 0.3
    assert "trial/coverage_at_10" not in run.data.metrics


def test_an_interrupted_trial_is_told_from_one_that_failed(trials, client):
    trials.begin(0, "trial 0", {})
    trials.end("interrupted", summary={}, tags={})
    run = client.get_run(trials.run_id)
    assert (run.info.status, run.data.tags["bookends.status"]) == ("FAILED", "interrupted")


def test_a_long_trial_shows_its_epochs_while_it_runs(trials, client, epochs, monkeypatch):
    monkeypatch.setattr(sweep_module, "FLUSH_SECONDS", 0.0)
    trials.begin(0, "trial 0", {})
    trials.log_epoch(epochs[0], SHOWN)
    assert client.get_run(trials.run_id).data.metrics["train/loss"] == 1.0


def test_a_trial_with_more_points_than_a_call_takes_is_sent_whole(trials, client, epochs):
    trials.begin(0, "trial 0", {})
    for number in range(1, 401):
        trials.log_epoch(dataclasses.replace(epochs[0], number=number), SHOWN)
    trials.end("complete", summary={}, tags={})
    assert len(client.get_metric_history(trials.run_id, "val/ndcg_at_10")) == 400


def test_trials_whose_process_is_gone_are_ended(open_run, trials, client):
    trials.begin(3, "trial 3", {"optuna.study": "fusion-1"})
    parent = open_run()
    parent.deliver([])
    assert client.get_run(trials.run_id).info.status == "RUNNING"  # its process lives
    client.set_tag(trials.run_id, "bookends.process_start", "0")
    parent.deliver([])
    run = client.get_run(trials.run_id)
    assert run.info.status == "FAILED"
    assert run.data.tags["bookends.reason"] == "the process of trial 3 is gone"
    parent.end_lost(trials.run_id, "worker-1 was lost")
    assert client.get_run(trials.run_id).data.tags["bookends.reason"] == "worker-1 was lost"
    parent.end_lost("0" * 32, "a run that was never made")


def test_files_are_sent_once_and_not_those_of_the_study(open_run, client, tmp_path, monkeypatch):
    directory = tmp_path / "sweep"
    (directory / "tables").mkdir(parents=True)
    for name in ("best.yaml", "journal.log", "journal.log.lock", "v.npz", ".lock"):
        (directory / name).write_text("{}")
    write_tables(directory, [Table("t", "Title", "note", ("n",), ((1 / 3,),))])
    parent = open_run()
    sent, send_file = [], parent.run.send_file

    def noted(source, place):
        sent.append(str(place))
        send_file(source, place)

    monkeypatch.setattr(parent.run, "send_file", noted)
    parent.send_files(directory)
    parent.send_files(directory)
    assert sent == ["best.yaml", "tables/t.json"]
    tags = client.get_run(parent.run_id).data.tags
    assert "tables/t.json" in tags["mlflow.loggedArtifacts"]
    shown = Path(client.download_artifacts(parent.run_id, "tables/t.json")).read_text()
    assert json.loads(shown) == {"columns": ["n"], "data": [[0.333333]]}  # all that its pages take


def test_a_store_that_goes_away_is_warned_about_once(tmp_path, epochs, caplog):
    (tmp_path / "file").write_text("")
    trials = TrialTracker(f"sqlite:///{tmp_path}/file/mlflow.db", "1", "0" * 32)
    with caplog.at_level(logging.WARNING, logger="tracking"):
        for number in range(3):
            trials.begin(number, f"trial {number}", {})
            trials.log_epoch(epochs[0], SHOWN)
            trials.end("complete", summary={"ndcg@10": 0.1}, tags={})
    assert trials.run_id is None
    assert caplog.text.count("trials go on without it") == 1


def test_a_store_that_answers_again_is_told_of_the_next_trial(trials, client, monkeypatch):
    """Three failures, after pauses of 30, 60 and 120 seconds, then it answers."""
    now, tries = [1000.0], []
    monkeypatch.setattr(sweep_module.time, "monotonic", lambda: now[0])
    connect = trials._connect

    def answers_at_the_fourth_try():
        tries.append(now[0])
        if len(tries) < 4:
            raise MlflowException("away")
        return connect()

    monkeypatch.setattr(trials, "_connect", answers_at_the_fourth_try)
    for second in range(211):
        now[0] = 1000.0 + second
        trials.begin(second, f"trial {second}", {})
        if trials.run_id is not None:
            break
    assert tries == [1000, 1030, 1090, 1210]
    assert client.get_run(trials.run_id).info.run_name == "trial 210"
