"""A run followed while it trains."""

import dataclasses
import json
import logging
import sqlite3
import threading
import time

import mlflow
import pytest
from mlflow.exceptions import MlflowException

from recsys.errors import ArtifactError, TrackingError
from recsys.reporting.record import RunRecord
from tracking.ledger import Ledger
from tracking.mirror import mirror
from tracking.processes import Owner
from tracking.tracker import open_run


@pytest.fixture(autouse=True)
def _every_epoch_at_once(monkeypatch):
    monkeypatch.setattr("tracking.tracker.PACE_SECONDS", 0.0)


def no_connection(*_):
    raise sqlite3.OperationalError("unable to open database file")


@pytest.fixture
def attached_id(client, store, monkeypatch):
    """A run that a launcher opened for this process."""
    run = client.create_run("0", run_name="amused-bee-123", tags={"mlflow.source.name": "project"})
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    return run.info.run_id


def test_a_run_made_here_shows_settings_data_and_origin_at_once(run_dir, store, client):
    tracked = open_run(run_dir, store)
    run = client.get_run(tracked.run_id)
    assert run.info.status == "RUNNING"
    assert run.info.run_name == run_dir.name
    assert run.data.params["cfg.model.user_encoder.id_embedding.params.embedding_dim"] == "128"
    assert run.inputs.dataset_inputs[0].dataset.digest.startswith("sha256:")
    assert run.data.tags["mlflow.source.git.commit"] == "c0ffee"
    assert run.data.tags["bookends.status"] == "running"
    assert run.data.tags["bookends.run_dir"] == str(run_dir)
    assert Owner.from_tags(run.data.tags).life() == "alive"
    assert client.get_experiment(run.info.experiment_id).name == "bookends"


@pytest.fixture
def steps_of_calls(client, monkeypatch):
    """The steps of each call that logs metrics."""
    calls = []
    log_batch = type(client).log_batch

    def counted(*arguments, metrics=(), **words):
        calls.append(sorted({metric.step for metric in metrics}))
        return log_batch(*arguments, metrics=metrics, **words)

    monkeypatch.setattr(type(client), "log_batch", counted)
    return calls


def test_an_epoch_is_one_call_at_its_own_step(run_dir, store, client, epochs, steps_of_calls):
    tracked = open_run(run_dir, store)
    steps_of_calls.clear()
    for epoch in epochs:
        tracked.log_epoch(epoch)
    assert steps_of_calls == [[1], [2], [3]]
    points = client.get_metric_history(tracked.run_id, "val/ndcg_at_10")
    assert [(point.step, point.value) for point in points] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert client.get_run(tracked.run_id).data.metrics["train/loss_bce"] == 1 / 3


def test_epochs_that_follow_each_other_fast_are_one_call(
    run_dir, store, client, epochs, steps_of_calls, monkeypatch
):
    monkeypatch.setattr("tracking.tracker.PACE_SECONDS", 100.0)
    tracked = open_run(run_dir, store)
    steps_of_calls.clear()
    started = time.time()
    for epoch in epochs:
        tracked.log_epoch(epoch)
        time.sleep(0.02)
    assert steps_of_calls == [[1]]  # the first is seen at once
    tracked.send_epochs()
    tracked.send_epochs()  # there is nothing left
    assert steps_of_calls == [[1], [2, 3]]
    points = client.get_metric_history(tracked.run_id, "train/loss")
    times = [point.timestamp for point in points]
    assert times[0] < times[1] < times[2] <= 1000 * time.time() and times[0] >= 1000 * started - 1
    for number in range(4, 120):  # no call is divided
        tracked.log_epoch(dataclasses.replace(epochs[0], number=number))
    tracked.send_epochs()
    assert [step for call in steps_of_calls[2:] for step in call] == [*range(4, 120)]


def test_under_mlflow_run_its_store_and_a_name_given_to_it_go_before_the_settings(
    run_dir, client, attached_id, tmp_path, caplog
):
    client.update_run(attached_id, name="my run")
    client.log_param(attached_id, "training.num_epochs", "'3'")  # as mlflow run logs it
    tracked = open_run(run_dir, f"sqlite:///{tmp_path}/other.db")
    assert tracked.is_live and tracked.run_id == attached_id
    assert not (tmp_path / "other.db").exists()
    assert "store" in caplog.text
    run = client.get_run(attached_id)
    assert (run.info.run_name, run.data.tags["mlflow.source.name"]) == ("my run", "project")
    assert client.get_experiment_by_name("bookends") is None


def test_a_store_beside_the_launcher_is_not_made_in_the_project(run_dir, tmp_path, monkeypatch):
    """A relative address means another file once 'mlflow run' has changed into the project."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///rel.db")
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    with pytest.raises(TrackingError, match=r"project/rel\.db, got .*whole path"):
        open_run(run_dir)
    assert list((tmp_path / "project").iterdir()) == []


def test_a_run_to_attach_to_that_does_not_exist_is_an_error(run_dir, store, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    with pytest.raises(TrackingError, match="MLFLOW_RUN_ID must name a run"):
        open_run(run_dir)


def test_a_run_whose_record_does_not_say_how_it_ended_is_not_closed(run_dir, store):
    with pytest.raises(ArtifactError, match="must say how it ended"):
        open_run(run_dir, store).close()


def test_a_resumed_run_goes_on_in_its_own_run(run_dir, store, client, epochs, finish):
    first = open_run(run_dir, store)
    first.log_epoch(epochs[0])
    first.log_epoch(epochs[1])
    finish(run_dir, status="interrupted", history=[])
    first.close()
    dataclasses.replace(RunRecord.read(run_dir), status="running").write(run_dir)
    second = open_run(run_dir, store)
    assert second.run_id == first.run_id
    assert client.get_run(second.run_id).info.status == "RUNNING"
    for epoch in epochs[1:]:  # the second epoch's checkpoint was not written any more
        second.log_epoch(epoch)
    points = client.get_metric_history(second.run_id, "train/loss")
    assert [point.step for point in points] == [1, 2, 3]


def test_a_setting_changed_on_resume_is_told_beside_the_first(run_dir, store, client):
    first = open_run(run_dir, store)
    record = RunRecord.read(run_dir)
    record.config["training"]["num_epochs"] = 99
    record.write(run_dir)
    open_run(run_dir, store)
    run = client.get_run(first.run_id)
    assert run.data.params["cfg.training.num_epochs"] == "20"
    assert run.data.tags["changed.cfg.training.num_epochs"] == "99"


def test_a_store_that_fails_is_warned_about_once_and_caught_up_at_the_end(
    run_dir, store, client, epochs, finish, monkeypatch, caplog
):
    tracked = open_run(run_dir, store)
    tracked.log_epoch(epochs[0])

    def away(*_, **__):
        raise MlflowException("connection refused\nand a page of details")

    with monkeypatch.context() as patch:
        patch.setattr(type(client), "log_batch", away)
        tracked.log_epoch(epochs[1])
        tracked.log_epoch(epochs[2])
    assert [record.levelno for record in caplog.records].count(logging.WARNING) == 1
    assert "log epoch 2 (connection refused)" in caplog.text
    delivery = next(iter(Ledger.read(run_dir).deliveries.values()))
    assert delivery.error == "log epoch 2: connection refused"
    finish(run_dir)
    assert tracked.close() is not None
    points = client.get_metric_history(tracked.run_id, "train/loss")
    assert [point.step for point in points] == [1, 2, 3]


def test_a_store_away_from_the_start_to_the_end_loses_nothing(
    run_dir, store, client, epochs, finish, monkeypatch, caplog
):
    with monkeypatch.context() as patch:
        patch.setattr("tracking.tracker.connect", no_connection)
        patch.setattr("tracking.mirror.connect", no_connection)
        tracked = open_run(run_dir, store)
        tracked.log_epoch(epochs[0])
        finish(run_dir)
        assert tracked.close() is None
    assert tracked.run_id is None
    assert f"bookends track {run_dir}" in caplog.text
    sent = mirror(run_dir, store)
    assert client.get_run(sent.run_id).info.status == "FINISHED"
    assert len(client.get_metric_history(sent.run_id, "train/loss")) == 3


def test_a_run_attached_while_the_store_was_away_is_found_again(
    run_dir, store, client, attached_id, finish, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr("tracking.remote_run.connect", no_connection)
        tracked = open_run(run_dir)
    assert tracked.run_id is None
    finish(run_dir)
    assert tracked.close().run_id == attached_id


def test_mlflows_own_address_of_a_store_is_left_alone(run_dir, store, bundle, finish):
    before = mlflow.get_tracking_uri()
    tracked = open_run(run_dir, store)
    finish(run_dir)
    bundle.save(run_dir / "model")
    assert tracked.close().model_id is not None
    assert mlflow.get_tracking_uri() == before


def test_a_ledger_read_again_equals_the_one_written_and_a_damaged_one_is_named(run_dir, store):
    open_run(run_dir, store)
    ledger = Ledger.read(run_dir)
    ledger.write(run_dir)
    assert Ledger.read(run_dir) == ledger
    content = json.loads((run_dir / "tracking.json").read_text())
    for damaged in ("{", json.dumps(content | {"format": 2}), json.dumps(content | {"new": 1})):
        (run_dir / "tracking.json").write_text(damaged)
        with pytest.raises(ArtifactError, match=r"tracking\.json: must be a tracking ledger"):
            Ledger.read(run_dir)


def test_the_use_of_the_machine_is_logged_where_the_setting_says_so(
    run_dir, store, client, finish, running_record, monkeypatch
):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    config = running_record.config
    for is_wanted in (False, True):
        config["experiment"]["system_metrics"] = is_wanted
        dataclasses.replace(running_record, config=config).write(run_dir)
        tracked = open_run(run_dir, store)
        for _ in range(200 if is_wanted else 5):
            time.sleep(0.05)
            if "system/cpu_utilization_percentage" in client.get_run(tracked.run_id).data.metrics:
                break
        finish(run_dir, config=config)
        tracked.close()
        metrics = client.get_run(tracked.run_id).data.metrics
        assert any(key.startswith("system/") for key in metrics) == is_wanted
    threads = [thread.name for thread in threading.enumerate()]
    assert "SystemMetricsMonitor" not in threads


def test_the_tags_of_the_settings_are_those_of_the_run(run_dir, store, client, running_record):
    config = running_record.config
    config["experiment"]["tags"] = {"team": "search"}
    dataclasses.replace(running_record, config=config).write(run_dir)
    tags = client.get_run(mirror(run_dir, store).run_id).data.tags
    assert tags["team"] == "search" and "bookends.status" in tags
